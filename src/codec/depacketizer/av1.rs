//! OBUs out of packets (AOM "RTP Payload Format For AV1" 1.0 §4). Fuzz target: `depacketizer`.

use super::{FRAME_MAX, Frame};
use crate::codec::av1::{TEMPORAL_DELIMITER, elements};
use crate::codec::packetizer::av1::{PADDING, TILE_LIST, obus};

/// The aggregation header (§4.4): the first element goes on with the last of the packet before; the
/// last goes on in the next packet.
const CONTINUES: u8 = 0x80;
const CONTINUED: u8 = 0x40;

pub(super) fn put_together<'a>(
    payloads: impl Iterator<Item = &'a [u8]>,
    frame: &mut Frame,
) -> Option<()> {
    // The element that goes on in the next packet.
    let mut open: Option<Vec<u8>> = None;
    for payload in payloads {
        let head = payload.first()?;
        if (head & CONTINUES != 0) != open.is_some() {
            return None;
        }
        let mut elements = elements(payload).peekable();
        elements.peek()?;
        while let Some(element) = elements.next() {
            let element = element?;
            let is_continued = head & CONTINUED != 0 && elements.peek().is_none();
            if let Some(begun) = &mut open {
                if begun.len() + element.len() > FRAME_MAX {
                    return None;
                }
                begun.extend_from_slice(element);
            }
            match (open.take(), is_continued) {
                (Some(begun), true) => open = Some(begun),
                (None, true) => open = Some(element.to_vec()),
                (Some(begun), false) => push_obu(&begun, frame)?,
                (None, false) => push_obu(element, frame)?,
            }
        }
    }
    open.is_none().then_some(())
}

/// One element is one OBU, with or without its size field (§4.3).
fn push_obu(element: &[u8], frame: &mut Frame) -> Option<()> {
    // An element of nothing is allowed, and is none.
    if element.is_empty() {
        return Some(());
    }
    let obu = obus(element).next()?;
    if matches!(obu.kind(), TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
        return Some(());
    }
    obu.write(&mut frame.bytes);
    (frame.bytes.len() <= FRAME_MAX).then_some(())
}
