//! Packets whose dependency descriptors alone say what frames are, and a receiver that reads them.

use super::model::Stay;
use super::*;
use crate::codec::dependency::{self, Dependency, Structure};

/// A template for each of three temporal layers of three spatial ones.
const TEMPLATES: u8 = 9;

/// Bits one after the other, filled up with zeros to bytes.
#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn put(mut self, value: u32, count: u32) -> Self {
        self.0.extend((0..count).rev().map(|at| value >> at & 1 == 1));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
        self.0.chunks(8).map(|bits| byte(bits) << (8 - bits.len())).collect()
    }
}

/// What a packet says of its frame (AOM "RTP Payload Format For AV1" 1.0, §A.8): whether it is the
/// first and the last of it, of which layers it is, and what number it has. With it may come the
/// structure, of templates from this number on.
pub(super) fn descriptor(
    [first, last]: [bool; 2],
    Scale { spatial, temporal, .. }: Scale,
    frame: u16,
    offset: u8,
    has_structure: bool,
) -> Vec<u8> {
    let template = (offset + 3 * spatial + temporal) % 64;
    let bits = Bits::default().put(first.into(), 1).put(last.into(), 1);
    let bits = bits.put(template.into(), 6).put(frame.into(), 16);
    if !has_structure {
        return bits.bytes();
    }
    // One decode target; from template to template the next temporal layer, or spatial one.
    let bits = bits.put(0b1_0000, 5).put(offset.into(), 6).put(0, 5);
    let bits = bits.put(0b01_01_10_01_01_10_01_01_11, 2 * u32::from(TEMPLATES));
    // Each is required for it, refers to nothing here and is in no chain; no sizes.
    let bits = bits.put(0b11_11_11_11_11_11_11_11_11, 18).put(0, 9).put(0, 1);
    bits.put(0, 1).bytes()
}

/// What a receiver has seen of frames and structures over all stays.
#[derive(Default)]
pub(super) struct Receiver {
    /// The highest number of a frame; it never wraps.
    newest: Option<u64>,
    /// Where the templates of the stay before ended.
    templates: Option<u8>,
}

impl Receiver {
    /// Each frame has a number of its own, as far from that of others of its stay as the publisher
    /// has it, and behind those of stays before; what it is can still be read.
    pub(super) fn reads(&mut self, stay: &Stay) {
        let before = self.newest;
        let (mut known, mut moved): (Option<Box<Structure>>, Option<u64>) = (None, None);
        let mut first = None;
        for (index, frame) in stay.frames.iter().enumerate() {
            for packet in frame.packets.iter().filter(|packet| stay.is_sent(packet)) {
                let Verdict::Send(_, patch) = stay.sent[&packet.sequence] else { continue };
                let mut value = packet.dependency.clone();
                let head = dependency::moved(&value, patch.dependency);
                let len = head.len().min(value.len());
                value[..len].copy_from_slice(&head[..len]);
                let numbers = dependency::Numbers::read(&value).expect("whole");
                if let Some(templates) = numbers.templates {
                    first.get_or_insert(templates);
                }
                if known.is_some() || numbers.templates.is_some() {
                    let read = Dependency::read(&value, &mut known).expect("a known template");
                    assert_eq!((read.spatial, read.temporal, read.ends), {
                        let Scale { spatial, temporal, ends, .. } = packet.scale;
                        (spatial, temporal, ends)
                    });
                }
                let near = self.newest.unwrap_or(u64::from(numbers.frame));
                let ahead = i64::from(numbers.frame.wrapping_sub(near as u16).cast_signed());
                let number = near.wrapping_add_signed(ahead);
                assert!(before.is_none_or(|before| number > before), "{number} came before");
                let by = number.wrapping_sub(index as u64);
                assert_eq!(*moved.get_or_insert(by), by, "another frame's number");
                self.newest = self.newest.max(Some(number));
            }
        }
        let (first, end) = first.expect("the keyframe was sent");
        assert!(self.templates.is_none_or(|before| before == first));
        self.templates = Some(end);
        let after = stay.rewriter.after().numbers;
        assert_eq!(after.frame, self.newest.map(|newest| newest as u16));
    }
}
