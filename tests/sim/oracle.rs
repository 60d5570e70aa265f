//! What must always hold of what the server sends, checked with each datagram.

use millrace::media::time::Unwrapper;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The nonce rule: with AES-GCM, the same (SSRC, rollover counter, sequence number) under the same
/// key must never protect different bytes.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    numberings: HashMap<(usize, u32), Unwrapper>,
    /// What was sent to a client under an SSRC and an extended sequence number.
    sealed: HashMap<(usize, u32, u64), u64>,
    /// Packets that were sent again as they were.
    pub(crate) repeated: u64,
    /// Their bytes.
    pub(crate) repeated_bytes: u64,
}

impl Oracle {
    /// Looks at an SRTP packet to a client.
    pub(crate) fn note(&mut self, client: usize, datagram: &[u8]) {
        let (header, _) = datagram.split_first_chunk::<12>().expect("a packet has a header");
        let sequence = u16::from_be_bytes([header[2], header[3]]);
        let ssrc = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        let numbering = self.numberings.entry((client, ssrc)).or_default();
        let index = numbering.extend(u32::from(sequence), 16);
        let mut hasher = DefaultHasher::new();
        datagram.hash(&mut hasher);
        let bytes = hasher.finish();
        match self.sealed.insert((client, ssrc, index), bytes) {
            None => {}
            Some(before) => {
                self.repeated += 1;
                self.repeated_bytes += datagram.len() as u64;
                assert_eq!(before, bytes, "client {client}, {ssrc}, {index}: a nonce twice");
            }
        }
    }

    /// How many different packets it has seen.
    pub(crate) fn packets(&self) -> usize {
        self.sealed.len()
    }

    /// How many numberings have come around.
    pub(crate) fn rollovers(&self) -> usize {
        // They begin with one turn already done.
        let newest = self.numberings.values().filter_map(Unwrapper::newest);
        newest.filter(|newest| newest >> 16 > 1).count()
    }
}
