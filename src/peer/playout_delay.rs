//! The playout-delay header extension (webrtc.org, experiments/rtp-hdrext/playout-delay): how long
//! a receiver of video may keep a picture before it shows it.
//!
//! While a viewer catches up it is told to keep nothing, so that it shows the past as fast as it
//! decodes it. What it is told stays in force at the receiver until it is told otherwise: the
//! packets after that lift it.

/// Says which packets of a track carry which limits, by nothing but their sequence numbers: a
/// packet that is sent again carries what it carried before.
#[derive(Debug, Clone)]
pub struct PlayoutDelay {
    blocks: Option<Blocks>,
    /// Packets before this extended sequence number are of the past.
    lifts_from: u64,
    /// Packets from this extended sequence number on carry nothing.
    ends_at: u64,
    /// What packets before this extended sequence number carried is not known any more.
    known_from: u64,
}

/// An extension block with its header.
pub type Block = [u8; 8];

/// Both extension blocks, ready to be copied (RFC 8285 §4.2).
#[derive(Debug, Clone, Copy)]
struct Blocks {
    /// Nothing is kept.
    at_once: Block,
    /// The receiver decides.
    lifted: Block,
}

impl PlayoutDelay {
    /// The largest delay that lifts the limit, in units of 10 ms: ten seconds, as libwebrtc has
    /// it by itself.
    const MAX: u16 = 1_000;
    /// So many packets carry the lifted limits: one that arrives is enough.
    const LIFTING: u64 = 64;

    /// For a track that is sent from live on; `id` is the extension's, where it was agreed.
    pub fn new(id: Option<u8>) -> Self {
        let block = |id: u8, max: u16| {
            let [high, low] = max.to_be_bytes();
            // Twelve bits each for the least and the largest delay.
            [0xbe, 0xde, 0, 1, id << 4 | 2, 0, high & 0x0f, low]
        };
        let blocks = |id| Blocks { at_once: block(id, 0), lifted: block(id, Self::MAX) };
        Self { blocks: id.map(blocks), lifts_from: 0, ends_at: 0, known_from: 0 }
    }

    /// The viewer begins in the past: all that it is sent from this extended sequence number on is
    /// to be shown at once.
    pub const fn catches_up(&mut self, next: u64) {
        self.known_from = next;
        self.lifts_from = u64::MAX;
        self.ends_at = u64::MAX;
    }

    /// What the viewer is sent from this extended sequence number on is live.
    pub const fn is_live(&mut self, next: u64) {
        self.lifts_from = next;
    }

    /// A batch of live packets begins with this extended sequence number. Whether packets carry
    /// limits changes between batches only: their sizes differ, and one message takes equal ones.
    pub const fn batch_begins(&mut self, next: u64) {
        if self.ends_at == u64::MAX && next >= self.lifts_from.saturating_add(Self::LIFTING) {
            self.ends_at = next;
        }
    }

    /// Whether a packet would carry now what it has carried.
    pub const fn knows(&self, sequence: u64) -> bool {
        self.blocks.is_none() || sequence >= self.known_from
    }

    /// The extension block of a packet, if it carries one.
    pub fn extension(&self, sequence: u64) -> Option<Block> {
        let Blocks { at_once, lifted } = self.blocks?;
        if sequence < self.lifts_from {
            return Some(at_once);
        }
        (sequence < self.ends_at).then_some(lifted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Option<Block> = Some([0xbe, 0xde, 0, 1, 0x52, 0, 0, 0]);
    const LIFTED: Option<Block> = Some([0xbe, 0xde, 0, 1, 0x52, 0, 0x03, 0xe8]);

    #[test]
    fn the_past_is_shown_at_once_and_the_first_of_the_present_lift_that() {
        let mut delay = PlayoutDelay::new(Some(5));
        assert_eq!(delay.extension(7), None, "who begins live is told nothing");
        delay.catches_up(0);
        assert_eq!(delay.extension(1_000), AT_ONCE);
        delay.is_live(1_100);
        for next in [1_100, 1_160, 1_170] {
            delay.batch_begins(next);
        }
        delay.batch_begins(1_180);
        let of = |sequence| delay.extension(sequence);
        assert_eq!((of(1_099), of(1_100), of(1_169)), (AT_ONCE, LIFTED, LIFTED));
        assert_eq!(of(1_170), None);
    }

    /// Else it could be sent again with other bytes under the same number.
    #[test]
    fn what_was_sent_before_the_viewer_began_again_is_not_known() {
        let mut delay = PlayoutDelay::new(Some(5));
        assert!(delay.knows(10));
        delay.catches_up(100);
        assert!(!delay.knows(99) && delay.knows(100));
    }

    #[test]
    fn a_viewer_that_did_not_agree_is_told_nothing() {
        let mut delay = PlayoutDelay::new(None);
        delay.catches_up(0);
        assert_eq!(delay.extension(1_000), None);
    }
}
