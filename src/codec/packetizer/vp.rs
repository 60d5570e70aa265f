//! VP8 and VP9 frames into packets (RFC 7741, RFC 9628): cut where a packet is full.

use super::payloads::Payloads;
use crate::codec::vp9;

/// Numbers pictures: by that a receiver tells a lost picture from none.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    /// 15 bits.
    next: u16,
    vp9_profile: Option<u32>,
}

/// A payload descriptor of VP8 (RFC 7741 §4.2): X; then I, and a picture id of 15 bits.
const VP8_EXTENDED: u8 = 0x80;
const VP8_START: u8 = 0x10;
const VP8_PICTURE_ID: u8 = 0x80;
/// A payload descriptor of VP9 (RFC 9628 §4.2).
const VP9_PICTURE_ID: u8 = 0x80;
const VP9_PREDICTED: u8 = 0x40;
const VP9_START: u8 = 0x08;
const VP9_END: u8 = 0x04;
const VP9_STRUCTURE: u8 = 0x02;
/// A scalability structure (RFC 9628 §4.2.1) of one layer, whose size it tells.
const ONE_LAYER: u8 = 0x10;
/// The picture id has 15 bits.
const LONG_ID: u8 = 0x80;

impl Pictures {
    pub(super) fn packetize_vp8(&mut self, frame: &[u8], payloads: &mut Payloads<'_>) {
        if frame.is_empty() {
            return;
        }
        let [high, low] = self.take_id();
        for (index, piece) in frame.chunks(payloads.max() - 4).enumerate() {
            let start = if index == 0 { VP8_START } else { 0 };
            payloads.begin();
            payloads.push(&[VP8_EXTENDED | start, VP8_PICTURE_ID, high, low]);
            payloads.push(piece);
        }
    }

    /// Not in flexible mode, without layers: each picture may refer to the one before.
    pub(super) fn packetize_vp9(&mut self, frame: &[u8], payloads: &mut Payloads<'_>) {
        if frame.is_empty() {
            return;
        }
        let keyframe = vp9::read_keyframe(frame);
        let [high, low] = self.take_id();
        let mut head = VP9_PICTURE_ID | VP9_START;
        if keyframe.is_none() {
            head |= VP9_PREDICTED;
        }
        let mut structure: &[u8] = &[];
        let mut sized = [ONE_LAYER, 0, 0, 0, 0];
        if let Some(keyframe) = keyframe {
            self.vp9_profile = Some(keyframe.profile);
            if let Some((width, height)) = keyframe.size {
                sized[1..3].copy_from_slice(&width.to_be_bytes());
                sized[3..5].copy_from_slice(&height.to_be_bytes());
                (head, structure) = (head | VP9_STRUCTURE, &sized);
            }
        }
        let mut rest = frame;
        while !rest.is_empty() {
            payloads.begin();
            payloads.push(&[head, high, low]);
            payloads.push(structure);
            let (piece, tail) = rest.split_at(rest.len().min(payloads.room()));
            payloads.push(piece);
            rest = tail;
            (head, structure) = (head & !(VP9_START | VP9_STRUCTURE), &[]);
        }
        if let Some(head) = payloads.written().first_mut() {
            *head |= VP9_END;
        }
    }

    fn take_id(&mut self) -> [u8; 2] {
        let [high, low] = self.next.to_be_bytes();
        self.next = self.next.wrapping_add(1) & 0x7fff;
        [high | LONG_ID, low]
    }

    /// What `a=fmtp` says of VP9 (RFC 9628 §6).
    pub(super) fn vp9_parameters(&self) -> Option<String> {
        self.vp9_profile.map(|profile| format!("profile-id={profile}"))
    }
}
