//! Handshake messages put together from their fragments, bounded (RFC 6347 §4.2.3).
//!
//! The library gets whole messages only, each once. Left to itself it keeps repeated fragments,
//! and takes half of a `ClientHello` with a cookie (one with post-quantum key shares spans two
//! datagrams) for the first one repeated, which it answers for ever.
//! Fuzz target: `dtls_record`.

use super::record::{FRAGMENT_HEADER, Fragment, HANDSHAKE, RECORD_HEADER};

/// Messages of one handshake that are, or were, put together.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    unfinished: Vec<Unfinished>,
    /// One bit per message that was complete.
    finished: u64,
}

/// A complete handshake message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) number: u16,
    pub(super) body: Vec<u8>,
}

impl Message {
    /// An unencrypted record with the whole message as one fragment.
    pub(super) fn as_record(&self, record_number: u64) -> Vec<u8> {
        let length = self.body.len();
        let three = &(length as u32).to_be_bytes()[1..];
        let mut record = Vec::with_capacity(RECORD_HEADER + FRAGMENT_HEADER + length);
        record.extend_from_slice(&[HANDSHAKE, 0xfe, 0xfd, 0, 0]);
        record.extend_from_slice(&record_number.to_be_bytes()[2..]);
        record.extend_from_slice(&((FRAGMENT_HEADER + length) as u16).to_be_bytes());
        record.push(self.kind);
        record.extend_from_slice(three);
        record.extend_from_slice(&self.number.to_be_bytes());
        record.extend_from_slice(&[0, 0, 0]);
        record.extend_from_slice(three);
        record.extend_from_slice(&self.body);
        record
    }
}

impl Assembly {
    /// The longest message: certificate chains and hellos have a few KiB.
    const LENGTH_MAX: usize = 16 * 1024;
    /// Messages under way at a time; a flight has at most six.
    const UNFINISHED_MAX: usize = 8;
    /// Messages of a handshake; it has about a dozen.
    const NUMBER_MAX: u16 = 63;

    /// Takes a fragment; gives the message it completes.
    pub(super) fn take(&mut self, part: &Fragment<'_>) -> Option<Message> {
        if part.message > Self::NUMBER_MAX || part.length > Self::LENGTH_MAX {
            return None;
        }
        let bit = 1 << part.message;
        if self.finished & bit != 0 {
            return None;
        }
        let known = self.unfinished.iter().position(|message| message.number == part.message);
        let at = match known {
            Some(at) => at,
            None if self.unfinished.len() < Self::UNFINISHED_MAX => {
                self.unfinished.push(Unfinished::new(part));
                self.unfinished.len() - 1
            }
            None => return None,
        };
        if !self.unfinished[at].insert(part) {
            return None;
        }
        let Unfinished { kind, number, body, .. } = self.unfinished.swap_remove(at);
        self.finished |= bit;
        Some(Message { kind, number, body })
    }
}

#[derive(Debug)]
struct Unfinished {
    kind: u8,
    number: u16,
    body: Vec<u8>,
    /// What of it has arrived: disjoint stretches, as (start, end).
    arrived: Vec<(usize, usize)>,
}

impl Unfinished {
    /// The most separate stretches that are remembered.
    const STRETCHES_MAX: usize = 32;

    fn new(part: &Fragment<'_>) -> Self {
        let body = vec![0; part.length];
        Self { kind: part.kind, number: part.message, body, arrived: Vec::new() }
    }

    /// Adds a fragment; true once the message is complete.
    fn insert(&mut self, part: &Fragment<'_>) -> bool {
        if part.bytes.len() == part.length {
            // Complete in itself, whatever was there before.
            *self = Self::new(part);
        }
        let fits = self.kind == part.kind && self.body.len() == part.length;
        let (mut start, mut end) = (part.offset, part.offset + part.bytes.len());
        let Some(place) = self.body.get_mut(start..end).filter(|_| fits) else { return false };
        place.copy_from_slice(part.bytes);
        self.arrived.retain(|&(from, to)| {
            let apart = to < start || from > end;
            if !apart {
                (start, end) = (start.min(from), end.max(to));
            }
            apart
        });
        if self.arrived.len() < Self::STRETCHES_MAX {
            self.arrived.push((start, end));
        }
        self.arrived == [(0, self.body.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{fragments, records};
    use super::*;
    use proptest::prelude::*;

    fn parts(body: &[u8], size: usize) -> Vec<Fragment<'_>> {
        let part = |(at, bytes)| Fragment {
            kind: 1,
            length: body.len(),
            message: 1,
            offset: at * size,
            bytes,
        };
        body.chunks(size).enumerate().map(part).collect()
    }

    fn body() -> Vec<u8> {
        (0..1_500_u32).map(|byte| byte as u8).collect()
    }

    #[test]
    fn a_message_is_put_together_in_any_order_and_given_once() {
        let body = body();
        let parts = parts(&body, 600);
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
            let mut assembly = Assembly::default();
            assert_eq!(assembly.take(&parts[order[0]]), None);
            assert_eq!(assembly.take(&parts[order[0]]), None, "a repeat adds nothing");
            assert_eq!(assembly.take(&parts[order[1]]), None);
            let whole = assembly.take(&parts[order[2]]).expect("complete");
            assert_eq!((whole.kind, whole.number, &whole.body), (1, 1, &body));
            assert!(parts.iter().all(|part| assembly.take(part).is_none()));
            assert!(assembly.unfinished.is_empty());
        }
    }

    #[test]
    fn a_whole_message_reads_back_from_its_record() {
        let message = Message { kind: 1, number: 7, body: body() };
        let bytes = message.as_record(5);
        let record = records(&bytes).next().expect("a record");
        let parts = fragments(record.body).expect("well-formed");
        let part = Fragment { kind: 1, length: 1_500, message: 7, offset: 0, bytes: &message.body };
        assert_eq!(parts, [part]);
    }

    #[test]
    fn an_empty_message_is_complete_at_once() {
        let part = Fragment { kind: 14, length: 0, message: 4, offset: 0, bytes: &[] };
        assert!(Assembly::default().take(&part).is_some());
    }

    #[test]
    fn overlapping_fragments_are_joined() {
        let body = body();
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(&parts(&body, 800)[0]), None);
        assert_eq!(assembly.take(&parts(&body, 500)[1]), None);
        assert!(assembly.take(&parts(&body, 500)[2]).is_some());
    }

    #[test]
    fn a_claimed_length_reserves_no_more_than_the_limit() {
        let mut assembly = Assembly::default();
        let part = Fragment { kind: 1, length: 0xff_ffff, message: 0, offset: 0, bytes: &[1] };
        assert_eq!(assembly.take(&part), None);
        for message in 0..1_000 {
            let length = Assembly::LENGTH_MAX;
            assembly.take(&Fragment { kind: 1, length, message, offset: 0, bytes: &[1] });
        }
        assert_eq!(assembly.unfinished.len(), Assembly::UNFINISHED_MAX);
    }

    #[test]
    fn a_forged_first_fragment_does_not_keep_a_complete_message_out() {
        let body = body();
        let mut assembly = Assembly::default();
        let forged = Fragment { kind: 1, length: 9_999, message: 1, offset: 0, bytes: &[1] };
        assert_eq!(assembly.take(&forged), None);
        assert!(assembly.take(&parts(&body, 5_000)[0]).is_some());
    }

    proptest! {
        #[test]
        fn any_fragments_stay_within_bounds(
            fragments in prop::collection::vec((0_u16..3, 0_usize..300, 0_usize..300), 0..200),
        ) {
            let mut assembly = Assembly::default();
            for (message, offset, len) in fragments {
                let (offset, len) = (offset, len.min(300 - offset));
                let bytes = vec![1; len];
                let part = Fragment { kind: 1, length: 300, message, offset, bytes: &bytes };
                if let Some(whole) = assembly.take(&part) {
                    prop_assert_eq!(whole.body, vec![1; 300]);
                }
                for message in &assembly.unfinished {
                    prop_assert!(message.arrived.len() <= Unfinished::STRETCHES_MAX);
                }
            }
        }
    }
}
