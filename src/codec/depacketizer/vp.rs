//! VP8 and VP9 frames out of packets (RFC 7741, RFC 9628). Fuzz target: `depacketizer`.

use super::Frame;
use crate::codec::descriptor::Descriptor;
use crate::codec::vp9;
use crate::media::codec::Codec;
use crate::media::layer::SPATIAL_MAX;

/// Puts together what follows the descriptors; of VP9 a superframe where there are several spatial
/// layers.
pub(super) fn put_together<'a>(
    codec: Codec,
    payloads: impl Iterator<Item = &'a [u8]>,
    frame: &mut Frame,
) -> Option<()> {
    // Where the frames of spatial layers begin.
    let mut begins: Vec<usize> = Vec::new();
    for payload in payloads {
        let descriptor = Descriptor::read(codec, payload)?;
        if descriptor.begins && (codec == Codec::Vp9 || begins.is_empty()) {
            begins.push(frame.bytes.len());
        }
        if begins.is_empty() || begins.len() > SPATIAL_MAX {
            return None;
        }
        frame.push(match codec {
            Codec::Vp9 => vp9::data(payload, &descriptor)?,
            _ => payload.get(usize::from(descriptor.len)..)?,
        })?;
    }
    if begins.len() > 1 { push_index(&begins, frame) } else { Some(()) }
}

/// Appends a superframe's index (VP9 bitstream specification, Annex B): by that a decoder knows
/// where its frames begin.
fn push_index(begins: &[usize], frame: &mut Frame) -> Option<()> {
    /// `superframe_header`, with sizes of 4 bytes.
    const HEAD: u8 = 0b1101_1000;
    let ends = begins.iter().skip(1).copied().chain([frame.bytes.len()]);
    let sizes = begins.iter().zip(ends).map(|(begin, end)| (end - begin) as u32);
    let head = HEAD | (begins.len() - 1) as u8;
    let mut index = vec![head];
    index.extend(sizes.flat_map(u32::to_le_bytes));
    index.push(head);
    frame.push(&index)
}
