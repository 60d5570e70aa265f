//! The header extensions of one packet to a viewer, in the one-byte form (RFC 8285 §4.2): limits of
//! its playout delay, and what lets the viewer, or us, learn of the path.

use super::agreement::SentMedia;
use super::estimate::history::SendHistory;
use super::playout_delay::Block;
use std::time::Instant;

/// By what packets tell of their path, with the id of that extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    /// A transport-wide number, of which the viewer reports when it came.
    Number(u8),
    /// The time at which it was sent, from which the viewer's own estimate is made (abs-send-time);
    /// it is told as REMB.
    Time(u8),
}

impl Telling {
    /// What was agreed. Who takes transport-wide feedback needs no times.
    pub(super) fn of(media: &SentMedia) -> Option<Self> {
        let number = media.extensions.transport_cc.map(Self::Number);
        let takes_times = media.feedback.remb;
        let time = media.extensions.abs_send_time.filter(|_| takes_times).map(Self::Time);
        number.or(time)
    }

    /// The element of a packet that is sent now.
    pub(super) fn element(self, history: &SendHistory, now: Instant) -> Element {
        match self {
            Self::Number(id) => {
                let [high, low] = history.next_number().to_be_bytes();
                [id << 4 | 1, high, low, 0]
            }
            Self::Time(id) => {
                let [_, high, middle, low] = history.send_time(now).to_be_bytes();
                [id << 4 | 2, high, middle, low]
            }
        }
    }
}

/// One extension with its header and padding: a whole word.
pub(super) type Element = [u8; 4];

/// The extension block of one packet, or nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ExtensionBlock {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl ExtensionBlock {
    /// Both elements with the header before them, in whole words.
    pub(super) const MAX: usize = 12;

    pub(super) fn new(playout_delay: Option<Block>, telling: Option<Element>) -> Self {
        let mut block = Self::default();
        if let Some(of_delay) = playout_delay {
            block.len = of_delay.len();
            block.bytes[..block.len].copy_from_slice(&of_delay);
        }
        if let Some(element) = telling {
            let at = block.len.max(4);
            block.bytes[at..at + 4].copy_from_slice(&element);
            block.len = at + 4;
            let words = (block.len / 4 - 1) as u8;
            block.bytes[..4].copy_from_slice(&[0xbe, 0xde, 0, words]);
        }
        block
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
