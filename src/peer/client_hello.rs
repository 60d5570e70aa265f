//! Which SRTP profiles a client offers, read from its `ClientHello` before the library sees it
//! (RFC 5246 §7.4.1.2, RFC 6347 §4.2.1, RFC 5764 §4.1.1).
//!
//! The library follows the client's order, and Chromium puts AES-CM first; who knows the offer
//! beforehand can let AES-GCM win. A hello with post-quantum key shares spans datagrams, so its
//! fragments are put together here. Not here: anything else the hello says.
//! Fuzz target: `client_hello`.

use super::record::{FRAGMENT_HEADER, HANDSHAKE, RECORD_HEADER, Record, fragments};
use super::srtp::SrtpProfile;

/// The handshake type of a `ClientHello`.
pub(super) const CLIENT_HELLO: u8 = 1;
/// The extension `use_srtp` (RFC 5764 §9).
const USE_SRTP: u16 = 14;
/// The longest hello that is put together. Browsers need 1.5 KiB with post-quantum key shares.
const HELLO_MAX: usize = 16 * 1024;
/// The most separate stretches of an incomplete hello that are remembered.
const GAPS_MAX: usize = 32;

/// Puts a client's first `ClientHello` together.
#[derive(Debug, Default)]
pub struct ClientHello {
    message: Vec<u8>,
    /// What of it has arrived: disjoint stretches in order, as (start, end).
    arrived: Vec<(usize, usize)>,
}

impl ClientHello {
    /// Takes what a record holds of the hello; once complete, gives the whole as one record with
    /// one fragment, which the library reads like any other.
    pub(super) fn take(&mut self, record: Record<'_>) -> Option<Vec<u8>> {
        if record.content != HANDSHAKE || record.epoch != 0 {
            return None;
        }
        for part in fragments(record.body)? {
            if part.kind == CLIENT_HELLO && part.message == 0 && part.length <= HELLO_MAX {
                self.insert(part.length, part.offset, part.bytes);
            }
        }
        let complete = self.arrived == [(0, self.message.len())] && !self.message.is_empty();
        complete.then(|| self.as_record(record.whole))
    }

    fn insert(&mut self, length: usize, offset: usize, bytes: &[u8]) {
        // The first fragment fixes the length, unless a later one is complete in itself.
        if self.message.is_empty() || (bytes.len() == length && self.message.len() != length) {
            self.message = vec![0; length];
            self.arrived.clear();
        }
        let end = offset + bytes.len();
        let full = self.arrived.len() >= GAPS_MAX;
        if self.message.len() != length || bytes.is_empty() || full {
            return;
        }
        self.message[offset..end].copy_from_slice(bytes);
        let (mut start, mut end) = (offset, end);
        self.arrived.retain(|&(from, to)| {
            let apart = to < start || from > end;
            if !apart {
                (start, end) = (start.min(from), end.max(to));
            }
            apart
        });
        let at = self.arrived.partition_point(|&(from, _)| from < start);
        self.arrived.insert(at, (start, end));
    }

    /// The whole hello behind the headers of its last record.
    fn as_record(&self, last: &[u8]) -> Vec<u8> {
        let length = self.message.len();
        let three = &(length as u32).to_be_bytes()[1..];
        let mut record = Vec::with_capacity(RECORD_HEADER + FRAGMENT_HEADER + length);
        record.extend_from_slice(&last[..RECORD_HEADER - 2]);
        record.extend_from_slice(&((FRAGMENT_HEADER + length) as u16).to_be_bytes());
        record.push(CLIENT_HELLO);
        record.extend_from_slice(three);
        record.extend_from_slice(&[0, 0, 0, 0, 0]); // message 0, offset 0
        record.extend_from_slice(three);
        record.extend_from_slice(&self.message);
        record
    }

    /// The profile the server takes: AES-GCM if the client has it.
    pub(super) fn best_profile(&self) -> SrtpProfile {
        if offers(&self.message, SrtpProfile::AeadAes128Gcm) {
            SrtpProfile::AeadAes128Gcm
        } else {
            SrtpProfile::Aes128CmHmacSha1_80
        }
    }
}

/// Whether the body of a `ClientHello` offers a profile; what cannot be read offers none.
pub fn offers(hello: &[u8], profile: SrtpProfile) -> bool {
    let profiles = use_srtp(hello).unwrap_or_default();
    profiles.chunks_exact(2).any(|id| id == profile.id().to_be_bytes())
}

/// The profile list of the hello's `use_srtp`.
fn use_srtp(hello: &[u8]) -> Option<&[u8]> {
    let rest = hello.get(2 + 32..)?; // version, random
    let (_session, rest) = short(rest)?;
    let (_cookie, rest) = short(rest)?;
    let (_suites, rest) = long(rest)?;
    let (_compression, rest) = short(rest)?;
    let (mut extensions, _) = long(rest)?;
    while let Some((kind, tail)) = extensions.split_first_chunk::<2>() {
        let (value, next) = long(tail)?;
        if u16::from_be_bytes(*kind) == USE_SRTP {
            return long(value).map(|(profiles, _)| profiles);
        }
        extensions = next;
    }
    None
}

/// A field with a one-byte length, and what follows it.
fn short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(len))
}

/// A field with a two-byte length, and what follows it.
fn long(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
}

#[cfg(test)]
mod tests {
    use super::super::record::records;
    use super::*;
    use proptest::prelude::*;

    /// Orders that browsers send: Chromium 156 and Firefox ESR 153.
    const CHROMIUM: [u16; 3] = [1, 8, 7];
    const FIREFOX: [u16; 3] = [7, 8, 1];

    /// The body of a hello with these profiles behind a key share of `share` bytes.
    fn hello(profiles: &[u16], share: usize) -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend([5; 32]);
        body.extend([0, 0]); // no session, no cookie
        body.extend([0, 2, 0xc0, 0x2b, 1, 0]); // one suite, no compression
        let mut extensions = vec![0, 51];
        extensions.extend((share as u16).to_be_bytes());
        extensions.extend(vec![0xcc; share]);
        let list = profiles.len() as u16 * 2;
        extensions.extend([0, 14]);
        extensions.extend((list + 3).to_be_bytes());
        extensions.extend(list.to_be_bytes());
        for profile in profiles {
            extensions.extend(profile.to_be_bytes());
        }
        extensions.push(0); // no MKI
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        body
    }

    /// Datagrams with the fragments of a hello, in order.
    fn datagrams(body: &[u8], size: usize) -> Vec<Vec<u8>> {
        let three = |number: usize| [(number >> 16) as u8, (number >> 8) as u8, number as u8];
        let datagram = |(number, bytes): (usize, &[u8])| {
            let mut datagram = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, number as u8];
            datagram.extend(((FRAGMENT_HEADER + bytes.len()) as u16).to_be_bytes());
            datagram.push(CLIENT_HELLO);
            datagram.extend(three(body.len()));
            datagram.extend([0, 0]);
            datagram.extend(three(number * size));
            datagram.extend(three(bytes.len()));
            datagram.extend(bytes);
            datagram
        };
        body.chunks(size).enumerate().map(datagram).collect()
    }

    fn feed(hello: &mut ClientHello, datagram: &[u8]) -> Option<Vec<u8>> {
        records(datagram).find_map(|record| hello.take(record))
    }

    #[test]
    fn gcm_wins_whatever_the_browsers_order() {
        for (offer, best) in [
            (CHROMIUM.as_slice(), SrtpProfile::AeadAes128Gcm),
            (&FIREFOX, SrtpProfile::AeadAes128Gcm),
            (&[1], SrtpProfile::Aes128CmHmacSha1_80),
            (&[2, 1, 8], SrtpProfile::Aes128CmHmacSha1_80),
            (&[], SrtpProfile::Aes128CmHmacSha1_80),
        ] {
            let mut peek = ClientHello::default();
            let whole = datagrams(&hello(offer, 32), 5_000).remove(0);
            assert_eq!(feed(&mut peek, &whole).as_ref(), Some(&whole));
            assert_eq!(peek.best_profile(), best, "{offer:?}");
        }
    }

    #[test]
    fn a_hello_with_post_quantum_key_shares_is_put_together_in_any_order() {
        let body = hello(&CHROMIUM, 1_216);
        let parts = datagrams(&body, 500);
        assert_eq!(parts.len(), 3);
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
            let mut peek = ClientHello::default();
            assert_eq!(feed(&mut peek, &parts[order[0]]), None);
            assert_eq!(feed(&mut peek, &parts[order[0]]), None, "a repeat adds nothing");
            assert_eq!(feed(&mut peek, &parts[order[1]]), None);
            let whole = feed(&mut peek, &parts[order[2]]).expect("complete");
            let record = records(&whole).next().expect("a record");
            let parts = fragments(record.body).expect("well-formed");
            assert_eq!((parts[0].offset, parts[0].bytes), (0, body.as_slice()));
            assert_eq!(peek.best_profile(), SrtpProfile::AeadAes128Gcm);
        }
    }

    #[test]
    fn overlapping_fragments_are_joined() {
        let body = hello(&FIREFOX, 700);
        let (coarse, fine) = (datagrams(&body, 600), datagrams(&body, 350));
        let mut peek = ClientHello::default();
        assert_eq!(feed(&mut peek, &coarse[0]), None);
        assert!(feed(&mut peek, &fine[1]).is_none());
        assert!(fine[2..].iter().any(|part| feed(&mut peek, part).is_some()));
    }

    #[test]
    fn a_claimed_length_reserves_no_more_than_the_limit() {
        let mut datagram = datagrams(&hello(&FIREFOX, 32), 5_000).remove(0);
        datagram[14] = 0xff; // sixteen million bytes to come
        let mut peek = ClientHello::default();
        assert_eq!(feed(&mut peek, &datagram), None);
        assert_eq!(peek.message.capacity(), 0);
    }

    #[test]
    fn a_forged_first_fragment_does_not_keep_a_complete_hello_out() {
        let mut peek = ClientHello::default();
        assert_eq!(feed(&mut peek, &datagrams(&hello(&FIREFOX, 99), 20)[0]), None);
        assert!(feed(&mut peek, &datagrams(&hello(&FIREFOX, 32), 5_000)[0]).is_some());
    }

    proptest! {
        #[test]
        fn hostile_hellos_do_no_harm(
            changes in prop::collection::vec((0_usize..600, any::<u8>()), 0..8),
            cut in 0_usize..600,
            order in Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut peek = ClientHello::default();
            let mut parts = datagrams(&hello(&CHROMIUM, 400), 41);
            for (at, byte) in changes {
                let part = at % parts.len();
                let place = at % parts[part].len();
                parts[part][place] = byte;
            }
            for at in order {
                if let Some(part) = parts.get(at) {
                    feed(&mut peek, &part[..cut.min(part.len())]);
                    feed(&mut peek, part);
                }
            }
            prop_assert!(peek.message.len() <= HELLO_MAX && peek.arrived.len() <= GAPS_MAX);
            let _ = offers(&peek.message, SrtpProfile::AeadAes128Gcm);
        }

        #[test]
        fn a_hello_cut_short_offers_nothing(cut in 0_usize..100) {
            let body = hello(&FIREFOX, 30);
            prop_assume!(cut < body.len());
            prop_assert!(!offers(&body[..cut], SrtpProfile::AeadAes128Gcm));
        }
    }
}
