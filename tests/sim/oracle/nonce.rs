//! The nonce rule: with AES-GCM, the same (SSRC, rollover counter, sequence number) under the same
//! key must never protect different bytes.

use super::{Rule, Verdict, broken};
use millrace::media::time::Unwrapper;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What was sealed under which number.
#[derive(Debug, Default)]
pub(crate) struct Nonces {
    numberings: HashMap<(usize, u32), Unwrapper>,
    /// What was sent to a client under an SSRC and an extended sequence number.
    sealed: HashMap<(usize, u32, u64), u64>,
    /// Packets that were sent again as they were.
    pub(super) repeated: u64,
    /// Their bytes.
    pub(super) repeated_bytes: u64,
}

impl Nonces {
    /// Looks at an SRTP packet to a client.
    pub(super) fn note(&mut self, client: usize, datagram: &[u8]) -> Verdict {
        let (header, _) = datagram.split_first_chunk::<12>().expect("a packet has a header");
        let sequence = u16::from_be_bytes([header[2], header[3]]);
        let ssrc = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        let numbering = self.numberings.entry((client, ssrc)).or_default();
        let index = numbering.extend(u32::from(sequence), 16);
        let mut hasher = DefaultHasher::new();
        datagram.hash(&mut hasher);
        let bytes = hasher.finish();
        let Some(before) = self.sealed.insert((client, ssrc, index), bytes) else { return Ok(()) };
        self.repeated += 1;
        self.repeated_bytes += datagram.len() as u64;
        if before != bytes {
            return broken(Rule::Nonce, format!("SSRC {ssrc}, number {index}: other bytes"));
        }
        Ok(())
    }

    /// How many different packets it has seen.
    pub(super) fn packets(&self) -> usize {
        self.sealed.len()
    }

    /// How many numberings have come around.
    pub(super) fn rollovers(&self) -> usize {
        // They begin with one turn already done.
        let newest = self.numberings.values().filter_map(Unwrapper::newest);
        newest.filter(|newest| newest >> 16 > 1).count()
    }
}
