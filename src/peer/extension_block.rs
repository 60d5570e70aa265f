//! The header extensions of one packet to a viewer (RFC 8285): limits of its playout delay, what
//! lets the viewer, or us, learn of the path, and the dependency descriptor, by which it knows
//! which frames a frame needs.
//!
//! Elements have the one-byte form (§4.2). A descriptor with a structure is longer than that
//! allows: all elements of its packet have the two-byte form then (§4.3), to which the viewer has
//! agreed.

use super::agreement::SentMedia;
use super::estimate::history::SendHistory;
use super::playout_delay::Block;
use super::seal::Extensions;
use crate::codec::dependency::{self, NUMBERS_LEN};
use crate::media::patch::DependencyMoved;
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

/// The dependency descriptor of a packet, as its publisher wrote it, and by what its numbers are
/// moved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Described<'a> {
    /// The extension's id.
    pub(super) id: u8,
    pub(super) value: &'a [u8],
    pub(super) moved: DependencyMoved,
}

/// Both elements in the two-byte form, with the header before them and that of a third one.
const HEAD_MAX: usize = 16;

/// The extension block of one packet, or nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ExtensionBlock<'a> {
    bytes: [u8; HEAD_MAX],
    len: usize,
    last: &'a [u8],
    head: [u8; NUMBERS_LEN],
}

impl<'a> ExtensionBlock<'a> {
    /// Both elements with the header before them, in whole words.
    pub(super) const MAX: usize = 12;
    /// A longer value does not go into the one-byte form.
    const SHORT_MAX: usize = 16;

    /// The most bytes that one takes with a dependency descriptor of this length, or without.
    pub(super) const fn room(dependency: usize) -> usize {
        if dependency == 0 { Self::MAX } else { (HEAD_MAX + dependency).next_multiple_of(4) }
    }

    pub(super) fn new(playout_delay: Option<Block>, telling: Option<Element>) -> Self {
        let mut block = Self::default();
        if let Some(of_delay) = playout_delay {
            block.push(&of_delay);
        }
        if let Some(element) = telling {
            block.len = block.len.max(4);
            block.push(&element);
            block.set_header([0xbe, 0xde]);
        }
        block
    }

    /// The same with a dependency descriptor, of up to 255 bytes.
    pub(super) fn described(
        playout_delay: Option<Block>,
        telling: Option<Element>,
        described: Described<'a>,
    ) -> Self {
        let Described { id, value, moved } = described;
        let mut block = Self { len: 4, last: value, ..Self::default() };
        block.head = dependency::moved(value, moved);
        let of_delay = playout_delay.map(|[_, _, _, _, element @ ..]| element);
        let others = [of_delay, telling].into_iter().flatten();
        if value.len() <= Self::SHORT_MAX {
            others.for_each(|element| block.push(&element));
            block.push(&[id << 4 | (value.len() - 1) as u8]);
            block.set_header([0xbe, 0xde]);
        } else {
            for [head, element @ ..] in others {
                let len = (head & 0x0f) + 1;
                block.push(&[head >> 4, len]);
                block.push(&element[..usize::from(len)]);
            }
            block.push(&[id, value.len() as u8]);
            block.set_header([0x10, 0]);
        }
        block
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    /// What says in which form the elements are, and how many words they take.
    fn set_header(&mut self, [high, low]: [u8; 2]) {
        let words = (self.fields().len() / 4 - 1) as u8;
        self.bytes[..4].copy_from_slice(&[high, low, 0, words]);
    }

    pub(super) fn fields(&self) -> Extensions<'_> {
        Extensions { block: &self.bytes[..self.len], last: self.last, head: self.head }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::dependency::Numbers;
    use crate::peer::header::RtpHeader;
    use crate::peer::seal::{RtpFields, Sealer};
    use crate::peer::srtp::{MasterKey, SrtpProfile};
    use proptest::prelude::*;

    const OF_DELAY: Block = [0xbe, 0xde, 0, 1, 0x52, 0, 0x03, 0xe8];
    const NUMBER: Element = [0x31, 7, 8, 0];
    const TIME: Element = [0x22, 7, 8, 9];

    /// The clear header of a packet with this block.
    fn sealed(block: &ExtensionBlock<'_>) -> Vec<u8> {
        let master = MasterKey::new(SrtpProfile::AeadAes128Gcm, &[1; 16], &[2; 12]);
        let mut sealer = Sealer::new(&master.expect("fitting lengths"));
        let extensions = block.fields();
        let mut out = vec![0; Sealer::OVERHEAD_MAX + extensions.len()];
        let fields = RtpFields { extensions, ..RtpFields::default() };
        sealer.seal(&fields, &mut out).expect("it fits");
        out
    }

    proptest! {
        /// Whatever goes with it, and however long it is.
        #[test]
        fn a_descriptor_arrives_with_its_numbers_moved_and_the_others_with_it(
            value in prop_oneof![
                prop::collection::vec(any::<u8>(), 3..20),
                prop::collection::vec(any::<u8>(), 3..256),
            ],
            id in 1_u8..15,
            of_delay: bool,
            telling in prop_oneof![Just(None), Just(Some(NUMBER)), Just(Some(TIME))],
            frame: u16,
        ) {
            prop_assume!(id != 5 && telling.is_none_or(|element| element[0] >> 4 != id));
            let of_delay = of_delay.then_some(OF_DELAY);
            let described =
                Described { id, value: &value, moved: DependencyMoved { frame, template: 0 } };
            let block = ExtensionBlock::described(of_delay, telling, described);
            prop_assert!(block.fields().len() <= ExtensionBlock::room(value.len()));
            let packet = sealed(&block);
            let header = RtpHeader::read(&packet).expect("a header");
            prop_assert_eq!(header.len, RtpHeader::FIXED + block.fields().len());
            let found = header.extension(&packet, id).expect("a descriptor");
            let numbers = |value: &[u8]| Numbers::read(value).expect("whole").frame;
            prop_assert_eq!(numbers(found), numbers(&value).wrapping_add(frame));
            let others = |value: &[u8]| value.iter().skip(NUMBERS_LEN).copied().collect::<Vec<_>>();
            prop_assert_eq!(found.len(), value.len());
            prop_assert_eq!(others(found), others(&value));
            let of_delay = of_delay.map(|block| block[5..].to_vec());
            prop_assert_eq!(header.extension(&packet, 5).map(<[u8]>::to_vec), of_delay);
            if let Some([head, element @ ..]) = telling {
                let element = &element[..=usize::from(head & 0x0f)];
                prop_assert_eq!(header.extension(&packet, head >> 4), Some(element));
            }
        }
    }

    #[test]
    fn the_form_is_the_one_that_the_longest_element_needs() {
        for (len, form) in
            [(3, [0xbe, 0xde]), (16, [0xbe, 0xde]), (17, [0x10, 0]), (255, [0x10, 0])]
        {
            let value = vec![0; len];
            let described = Described { id: 12, value: &value, moved: DependencyMoved::NONE };
            let block = ExtensionBlock::described(None, Some(NUMBER), described);
            assert_eq!(sealed(&block)[12..14], form, "{len}");
        }
        let plain = ExtensionBlock::new(Some(OF_DELAY), Some(TIME));
        assert_eq!(plain.fields().block, [&[0xbe, 0xde, 0, 2], &OF_DELAY[4..], &TIME].concat());
        assert!(ExtensionBlock::new(None, None).fields().block.is_empty());
    }
}
