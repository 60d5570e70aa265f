//! The ICE-lite side of STUN: reads connectivity checks and answers them (RFC 8445 §7.3).
//!
//! A check costs two HMACs, a forged one with a wrong ufrag none, so that a flood costs little.
//! What is not authentic gets no answer: it could have been sent in another's name.
//! Not here: which pair is used, and consent; that is `transport`.
//! Fuzz target: `stun`.

use super::agreement::Credentials;
use super::srtp::{SHA1_LEN, hmac_sha1, sign};
use rtc_stun::attributes::{
    ATTR_ERROR_CODE, ATTR_FINGERPRINT, ATTR_ICE_CONTROLLED, ATTR_MESSAGE_INTEGRITY,
    ATTR_USE_CANDIDATE, ATTR_USERNAME, ATTR_XORMAPPED_ADDRESS, AttrType,
};
use rtc_stun::fingerprint::{FINGERPRINT_SIZE, fingerprint_value};
use rtc_stun::message::{
    ATTRIBUTE_HEADER_SIZE, BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, MAGIC_COOKIE,
    MESSAGE_HEADER_SIZE, MessageType,
};
use std::net::{IpAddr, SocketAddr};

/// What a datagram is, told by its first bytes (RFC 7983 §7, RFC 5761 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatagramKind {
    /// STUN.
    Stun,
    /// A DTLS record.
    Dtls,
    /// SRTP.
    Rtp,
    /// SRTCP.
    Rtcp,
    /// None of these.
    Other,
}

/// Tells what a datagram is, without looking at more than two bytes.
pub fn classify(datagram: &[u8]) -> DatagramKind {
    match datagram {
        [0..=3, ..] => DatagramKind::Stun,
        [20..=63, ..] => DatagramKind::Dtls,
        [128..=191, 192..=223, ..] => DatagramKind::Rtcp,
        [128..=191, _, ..] => DatagramKind::Rtp,
        _ => DatagramKind::Other,
    }
}

/// The ufrag under which a binding request seeks us: what its USERNAME says before the colon.
///
/// Nothing is proven by it; it only finds the session whose credentials are then checked.
pub fn local_ufrag(datagram: &[u8]) -> Option<&str> {
    Check::read(datagram).map(|check| check.ufrag)
}

/// Whether this is a binding request made with our credentials.
pub fn authentic_check(datagram: &[u8], local: &Credentials) -> bool {
    Check::read(datagram).is_some_and(|check| check.is_authentic(local))
}

/// A binding request as it was read, not yet authenticated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check<'d> {
    transaction: [u8; 12],
    ufrag: &'d str,
    /// The message up to the integrity attribute, and the attribute's value.
    signed: &'d [u8],
    integrity: &'d [u8; SHA1_LEN],
    /// The client nominates the pair this came on.
    pub(super) nominates: bool,
    /// The client says it is controlled, which only we are.
    pub(super) role_conflict: bool,
}

impl<'d> Check<'d> {
    /// Reads a binding request that has a USERNAME and a MESSAGE-INTEGRITY; what comes after the
    /// latter is not protected and is passed over (RFC 8489 §14.5).
    pub(super) fn read(datagram: &'d [u8]) -> Option<Self> {
        let (header, mut rest) = datagram.split_first_chunk::<MESSAGE_HEADER_SIZE>()?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let is_request = header[..2] == BINDING_REQUEST.value().to_be_bytes()
            && header[4..8] == MAGIC_COOKIE.to_be_bytes()
            && rest.len() == length;
        if !is_request {
            return None;
        }
        let mut ufrag = None;
        let (mut nominates, mut role_conflict) = (false, false);
        let mut at = MESSAGE_HEADER_SIZE;
        while let Some((head, tail)) = rest.split_first_chunk::<ATTRIBUTE_HEADER_SIZE>() {
            let kind = AttrType(u16::from_be_bytes([head[0], head[1]]));
            let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let value = tail.get(..len)?;
            match kind {
                ATTR_MESSAGE_INTEGRITY => {
                    let transaction = header[8..].try_into().ok()?;
                    let signed = datagram.get(..at)?;
                    let (ufrag, integrity) = (ufrag?, value.try_into().ok()?);
                    let check =
                        Self { transaction, ufrag, signed, integrity, nominates, role_conflict };
                    return Some(check);
                }
                ATTR_USERNAME => {
                    let (local, _) = std::str::from_utf8(value).ok()?.split_once(':')?;
                    ufrag = Some(local);
                }
                ATTR_USE_CANDIDATE => nominates = true,
                ATTR_ICE_CONTROLLED => role_conflict = true,
                _ => {}
            }
            let padded = len.next_multiple_of(4);
            rest = tail.get(padded..)?;
            at += ATTRIBUTE_HEADER_SIZE + padded;
        }
        None
    }

    /// Whether it was made with our credentials: the first half of the USERNAME is our ufrag
    /// (RFC 8445 §7.3) and the integrity is keyed with our password.
    pub(super) fn is_authentic(&self, local: &Credentials) -> bool {
        if self.ufrag != local.ufrag {
            return false;
        }
        rtc_crypto::constant_time_eq(&integrity(self.signed, local), self.integrity)
    }

    /// Writes the answer to an authentic check and returns its length.
    ///
    /// A client that claims to be controlled is told to change its role (487, RFC 8445
    /// §7.3.1.1): a lite agent never is the controlling one.
    pub(super) fn answer(
        &self,
        from: SocketAddr,
        local: &Credentials,
        out: &mut [u8],
    ) -> Option<usize> {
        let kind = if self.role_conflict { BINDING_ERROR } else { BINDING_SUCCESS };
        let mut answer = Writer::start(out, kind, &self.transaction)?;
        if self.role_conflict {
            answer.attribute(ATTR_ERROR_CODE, b"\0\0\x04\x57Role Conflict")?;
        } else {
            let (value, len) = self.mapped_address(from);
            answer.attribute(ATTR_XORMAPPED_ADDRESS, value.get(..len)?)?;
        }
        answer.finish(local)
    }

    /// The value of XOR-MAPPED-ADDRESS and its length (RFC 8489 §14.2).
    fn mapped_address(&self, from: SocketAddr) -> ([u8; 20], usize) {
        let mut mask = [0; 16];
        mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
        mask[4..].copy_from_slice(&self.transaction);
        let mut value = [0; 20];
        let port = from.port() ^ (MAGIC_COOKIE >> 16) as u16;
        value[2..4].copy_from_slice(&port.to_be_bytes());
        let len = match from.ip() {
            IpAddr::V4(ip) => {
                value[1] = 1;
                value[4..8].copy_from_slice(&ip.octets());
                8
            }
            IpAddr::V6(ip) => {
                value[1] = 2;
                value[4..].copy_from_slice(&ip.octets());
                20
            }
        };
        value[4..len].iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        (value, len)
    }
}

/// The integrity of a message that ends just before that attribute: the header's length counts
/// the attribute too, and nothing after it (RFC 8489 §14.5).
fn integrity(signed: &[u8], local: &Credentials) -> [u8; SHA1_LEN] {
    let length = signed.len() - MESSAGE_HEADER_SIZE + ATTRIBUTE_HEADER_SIZE + SHA1_LEN;
    let length = (length as u16).to_be_bytes();
    let mut mac = hmac_sha1(local.pwd.as_bytes());
    sign(&mut *mac, &[&signed[..2], &length, &signed[4..]])
}

/// Writes a message into memory it is lent.
struct Writer<'o> {
    out: &'o mut [u8],
    len: usize,
}

impl<'o> Writer<'o> {
    fn start(out: &'o mut [u8], kind: MessageType, transaction: &[u8; 12]) -> Option<Self> {
        let header = out.get_mut(..MESSAGE_HEADER_SIZE)?;
        header[..2].copy_from_slice(&kind.value().to_be_bytes());
        header[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
        header[8..].copy_from_slice(transaction);
        Some(Self { out, len: MESSAGE_HEADER_SIZE })
    }

    fn attribute(&mut self, kind: AttrType, value: &[u8]) -> Option<()> {
        let padded = value.len().next_multiple_of(4);
        let room = self.out.get_mut(self.len..self.len + ATTRIBUTE_HEADER_SIZE + padded)?;
        room[..2].copy_from_slice(&kind.value().to_be_bytes());
        room[2..4].copy_from_slice(&(value.len() as u16).to_be_bytes());
        let (written, padding) = room[ATTRIBUTE_HEADER_SIZE..].split_at_mut(value.len());
        written.copy_from_slice(value);
        padding.fill(0);
        self.len += ATTRIBUTE_HEADER_SIZE + padded;
        Some(())
    }

    /// Adds MESSAGE-INTEGRITY and FINGERPRINT.
    fn finish(mut self, local: &Credentials) -> Option<usize> {
        let integrity = integrity(&self.out[..self.len], local);
        self.attribute(ATTR_MESSAGE_INTEGRITY, &integrity)?;
        let whole = self.len + ATTRIBUTE_HEADER_SIZE + FINGERPRINT_SIZE;
        let length = (whole - MESSAGE_HEADER_SIZE) as u16;
        self.out[2..4].copy_from_slice(&length.to_be_bytes());
        let fingerprint = fingerprint_value(&self.out[..self.len]);
        self.attribute(ATTR_FINGERPRINT, &fingerprint.to_be_bytes())?;
        Some(self.len)
    }
}

/// Bytes of the longest answer: header, error code, integrity and fingerprint.
pub(super) const ANSWER_MAX: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtc_stun::error_code::ErrorCodeAttribute;
    use rtc_stun::fingerprint::FINGERPRINT;
    use rtc_stun::integrity::MessageIntegrity;
    use rtc_stun::message::{Getter, Message, Setter, TransactionId};
    use rtc_stun::textattrs::TextAttribute;
    use rtc_stun::xoraddr::XorMappedAddress;

    fn local() -> Credentials {
        Credentials { ufrag: "local".into(), pwd: "a password of twenty-two".into() }
    }

    fn from(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().expect("an address"), 5_000)
    }

    /// A check as `rtc-stun` makes it, with one more attribute.
    fn check(username: &str, password: &str, extra: &[(AttrType, &[u8])]) -> Message {
        let provider = rtc_crypto::default_provider().expect("ring is built in");
        let password = password.to_owned();
        let integrity =
            MessageIntegrity::new_short_term_integrity_with_provider(password, provider.crypto());
        let mut message = Message::new();
        let username = TextAttribute::new(ATTR_USERNAME, username.into());
        let start: [Box<dyn Setter>; 3] =
            [Box::new(BINDING_REQUEST), Box::new(TransactionId([7; 12])), Box::new(username)];
        message.build(&start).expect("a message");
        for (kind, value) in extra {
            message.add(*kind, value);
        }
        integrity.add_to(&mut message).expect("integrity");
        FINGERPRINT.add_to(&mut message).expect("a fingerprint");
        message
    }

    fn answer_to(request: &Message, from: SocketAddr) -> Message {
        let mut out = [0; ANSWER_MAX];
        let check = Check::read(&request.raw).expect("a check");
        let len = check.answer(from, &local(), &mut out).expect("it fits");
        let mut answer = Message::new();
        answer.unmarshal_binary(&out[..len]).expect("a message");
        let provider = rtc_crypto::default_provider().expect("ring is built in");
        MessageIntegrity::check(&mut answer, local().pwd.as_bytes(), provider.crypto())
            .expect("integrity");
        FINGERPRINT.check(&answer).expect("a fingerprint");
        assert_eq!(answer.transaction_id, request.transaction_id);
        answer
    }

    #[test]
    fn datagrams_are_told_apart_by_their_first_bytes() {
        assert_eq!(classify(&[0, 1]), DatagramKind::Stun);
        assert_eq!(classify(&[22, 0xfe]), DatagramKind::Dtls);
        assert_eq!(classify(&[0x80, 96]), DatagramKind::Rtp);
        assert_eq!(classify(&[0x80, 0xef]), DatagramKind::Rtp);
        assert_eq!(classify(&[0x81, 201]), DatagramKind::Rtcp);
        assert_eq!(classify(&[0x40, 0]), DatagramKind::Other);
        assert_eq!(classify(&[0x80]), DatagramKind::Other);
        assert_eq!(classify(&[]), DatagramKind::Other);
    }

    #[test]
    fn a_check_is_authentic_with_our_ufrag_and_password_only() {
        let good = check("local:remote", &local().pwd, &[]);
        assert_eq!(local_ufrag(&good.raw), Some("local"));
        assert!(authentic_check(&good.raw, &local()));
        assert!(!authentic_check(&check("local:remote", "wrong", &[]).raw, &local()));
        assert!(!authentic_check(&check("other:remote", &local().pwd, &[]).raw, &local()));
        assert_eq!(local_ufrag(&check("colonless", &local().pwd, &[]).raw), None);
    }

    #[test]
    fn the_answer_names_the_clients_address() {
        for ip in ["192.0.2.7", "2001:db8::7"] {
            let request = check("local:remote", &local().pwd, &[]);
            let answer = answer_to(&request, from(ip));
            assert_eq!(answer.typ, BINDING_SUCCESS);
            let mut mapped = XorMappedAddress::default();
            mapped.get_from(&answer).expect("an address");
            assert_eq!(SocketAddr::new(mapped.ip, mapped.port), from(ip));
        }
    }

    #[test]
    fn a_client_that_claims_to_be_controlled_is_told_of_the_conflict() {
        let request = check("local:r", &local().pwd, &[(ATTR_ICE_CONTROLLED, &[1; 8])]);
        let answer = answer_to(&request, from("192.0.2.7"));
        assert_eq!(answer.typ, BINDING_ERROR);
        let mut error = ErrorCodeAttribute::default();
        error.get_from(&answer).expect("an error code");
        assert_eq!(error.code.0, 487);
    }

    #[test]
    fn a_nomination_counts_only_where_the_integrity_covers_it() {
        let inside = check("local:r", &local().pwd, &[(ATTR_USE_CANDIDATE, &[])]);
        assert!(Check::read(&inside.raw).expect("a check").nominates);
        let mut outside = check("local:r", &local().pwd, &[]);
        outside.add(ATTR_USE_CANDIDATE, &[]);
        assert!(authentic_check(&outside.raw, &local()));
        assert!(!Check::read(&outside.raw).expect("a check").nominates);
    }

    proptest! {
        #[test]
        fn no_mutation_of_a_check_is_authentic(at in 0_usize..60, bit in 0_u8..8) {
            let mut datagram = check("local:remote", &local().pwd, &[]).raw;
            datagram[at] ^= 1 << bit;
            prop_assert!(!authentic_check(&datagram, &local()));
        }

        #[test]
        fn hostile_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let mut datagram = bytes;
            prop_assert!(!authentic_check(&datagram, &local()));
            if datagram.len() >= MESSAGE_HEADER_SIZE {
                let length = (datagram.len() - MESSAGE_HEADER_SIZE) as u16;
                datagram[..2].copy_from_slice(&[0, 1]);
                datagram[2..4].copy_from_slice(&length.to_be_bytes());
                datagram[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
                prop_assert!(!authentic_check(&datagram, &local()));
            }
        }

        #[test]
        fn a_check_cut_short_is_refused(end in 0_usize..80) {
            let datagram = check("local:remote", &local().pwd, &[]).raw;
            prop_assume!(end < datagram.len());
            prop_assert!(!authentic_check(&datagram[..end], &local()));
        }
    }
}
