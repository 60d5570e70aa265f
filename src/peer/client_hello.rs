//! Which SRTP profiles a client offers, read from its `ClientHello` before the library sees it
//! (RFC 5246 §7.4.1.2, RFC 6347 §4.2.1, RFC 5764 §4.1.1).
//!
//! The library follows the client's order, and Chromium puts AES-CM first; who knows the offer
//! beforehand can let AES-GCM win. Not here: putting the hello's fragments together, which is
//! `assembly`'s, and anything else the hello says.
//! Fuzz target: `client_hello`.

use super::srtp::SrtpProfile;

/// The extension `use_srtp` (RFC 5764 §9).
const USE_SRTP: u16 = 14;

/// The profile the server takes, told the body of a `ClientHello`: AES-GCM if the client has it.
pub fn best_profile(hello: &[u8]) -> SrtpProfile {
    if offers(hello, SrtpProfile::AeadAes128Gcm) {
        SrtpProfile::AeadAes128Gcm
    } else {
        SrtpProfile::Aes128CmHmacSha1_80
    }
}

/// Whether the body of a `ClientHello` offers a profile; what cannot be read offers none.
fn offers(hello: &[u8], profile: SrtpProfile) -> bool {
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

    #[test]
    fn gcm_wins_whatever_the_browsers_order() {
        for (offer, best) in [
            (CHROMIUM.as_slice(), SrtpProfile::AeadAes128Gcm),
            (&FIREFOX, SrtpProfile::AeadAes128Gcm),
            (&[1], SrtpProfile::Aes128CmHmacSha1_80),
            (&[2, 1, 8], SrtpProfile::Aes128CmHmacSha1_80),
            (&[], SrtpProfile::Aes128CmHmacSha1_80),
        ] {
            // 1,216 bytes: the key shares of X25519 and ML-KEM-768.
            for share in [32, 1_216] {
                assert_eq!(best_profile(&hello(offer, share)), best, "{offer:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_hello_cut_short_offers_nothing(cut in 0_usize..100) {
            let body = hello(&FIREFOX, 30);
            prop_assume!(cut < body.len());
            prop_assert!(!offers(&body[..cut], SrtpProfile::AeadAes128Gcm));
        }

        #[test]
        fn hostile_hellos_do_no_harm(
            changes in prop::collection::vec((0_usize..100, any::<u8>()), 0..8),
        ) {
            let mut body = hello(&CHROMIUM, 20);
            for (at, byte) in changes {
                let place = at % body.len();
                body[place] = byte;
            }
            let _ = best_profile(&body);
        }
    }
}
