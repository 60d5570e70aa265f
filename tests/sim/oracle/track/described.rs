//! What must hold of dependency descriptors (AOM "RTP Payload Format For AV1" 1.0, Appendix A):
//! numbers of frames and templates are the publisher's, moved by a constant from run to run, and
//! nothing else differs.

use super::{Opened, Source, Track, Verdict};
use crate::oracle::{Rule, broken};
use millrace::media::codec::Codec;
use millrace::media::layer::Lane;

/// The numbers in a descriptor.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    template: u8,
    frame: u16,
    /// The number of the first template that it brings.
    offset: Option<u8>,
}

/// By how much a run's numbers are moved: of templates, and of frames.
pub(super) type Moved = (u8, u16);

/// What a viewer knows of all that was described to it.
#[derive(Debug, Default)]
pub(super) struct Described {
    newest: Option<u16>,
    /// The newest templates: the first one's number, and how many there are.
    templates: Option<(u8, u8)>,
}

/// The first bits of a descriptor that has a structure: start, end, template and frame number, five
/// flags, the number of the first template.
const HEAD: usize = 5;

fn read(value: &[u8]) -> Option<Numbers> {
    let (&[first, high, low], rest) = value.split_first_chunk::<3>()?;
    let bits = rest.first_chunk::<2>().map_or(0, |two| u16::from_be_bytes(*two));
    let offset = (bits >> 15 == 1).then_some((bits >> 5 & 63) as u8);
    Some(Numbers { template: first & 63, frame: u16::from_be_bytes([high, low]), offset })
}

/// The same descriptor with these numbers.
fn with(value: &[u8], numbers: Numbers) -> Vec<u8> {
    let mut all = value.to_vec();
    all[0] = all[0] & 0xc0 | numbers.template;
    all[1..3].copy_from_slice(&numbers.frame.to_be_bytes());
    if let Some(offset) = numbers.offset {
        let bits = u16::from_be_bytes([all[3], all[4]]) & !(63 << 5) | u16::from(offset) << 5;
        all[3..HEAD].copy_from_slice(&bits.to_be_bytes());
    }
    all
}

impl Track {
    /// Looks at the descriptor of a packet that lies in a run.
    pub(super) fn is_described(
        &mut self,
        number: u64,
        (lane, index): (Lane, usize),
        publisher: &Source,
        opened: &Opened<'_>,
        what: &str,
    ) -> Verdict {
        let id = self.agreed.extensions.dependency_descriptor;
        let found = id.and_then(|id| opened.header.extension(opened.plain, id));
        let is_of = publisher.codec(lane.kind()) == Codec::Av1;
        let expected = publisher.descriptor(lane, index).filter(|_| is_of && id.is_some());
        let (found, original) = match (found, expected) {
            (None, None) => return Ok(()),
            (Some(found), Some(original)) => (found, original),
            _ => return broken(Rule::Numbers, format!("{what} is described: {found:?}")),
        };
        let run = self.runs.iter_mut().rfind(|run| run.first.1 <= number);
        let (Some(run), Some(seen), Some(own)) = (run, read(found), read(original)) else {
            return broken(Rule::Numbers, format!("{what} has half a descriptor"));
        };
        let by =
            (seen.template.wrapping_sub(own.template) & 63, seen.frame.wrapping_sub(own.frame));
        let known = &mut self.described;
        if run.moved.is_none() {
            let next = known.newest.map_or(seen.frame, |newest| newest.wrapping_add(1));
            if seen.offset.is_none() || seen.frame != next {
                return broken(Rule::Numbers, format!("{what} begins with {seen:?}, not {next}"));
            }
        }
        let moved = *run.moved.get_or_insert(by);
        let expected = Numbers {
            template: own.template.wrapping_add(moved.0) & 63,
            frame: own.frame.wrapping_add(moved.1),
            offset: own.offset.map(|offset| offset.wrapping_add(moved.0) & 63),
        };
        // The zeros that fill up the last byte may come to one more.
        let expected_bytes = with(original, expected);
        let (same, rest) = found.split_at(found.len().min(expected_bytes.len()));
        if same != expected_bytes || !matches!(rest, [] | [0]) {
            return broken(Rule::Numbers, format!("{what}: {found:?}, not {expected:?}"));
        }
        if let Some((offset, count)) = seen.offset.zip(publisher.template_count(lane, index))
            && let Some((before, others)) = known.templates.replace((offset, count))
            && before != offset
        {
            let ahead = offset.wrapping_sub(before) & 63;
            let overlaps = others + count <= 64 && (ahead < others || ahead + count > 64);
            if overlaps {
                return broken(Rule::Numbers, format!("{what}: templates of before, {before}"));
            }
        }
        let is_newest = |newest: u16| seen.frame.wrapping_sub(newest) < 1 << 15;
        if known.newest.is_none_or(is_newest) {
            known.newest = Some(seen.frame);
        }
        Ok(())
    }
}
