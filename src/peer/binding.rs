//! One question to a STUN server: what address do you see? (RFC 8489 §2, the binding method.)
//!
//! Bytes only; who asks, when and how often is the caller's. Not here: the checks of ICE, which
//! are a client's (`stun`).
//! Fuzz target: `stun_answer`.

use rtc_stun::error_code::ErrorCodeAttribute;
use rtc_stun::message::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, TransactionId,
};
use rtc_stun::xoraddr::XorMappedAddress;
use std::net::SocketAddr;

/// What a STUN server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The address and port that the question came from, as it arrived there.
    Seen(SocketAddr),
    /// It does not want to tell: an error code of RFC 8489 §14.8.
    Refused(u16),
}

/// The question. Its number is to be random: whoever cannot guess it cannot answer it.
pub fn question(transaction: [u8; 12]) -> Vec<u8> {
    let mut message = Message::new();
    message.typ = BINDING_REQUEST;
    message.transaction_id = TransactionId(transaction);
    message.write_header();
    message.raw
}

/// Reads the answer to that question; `None` where it is none, or says no address of a host.
pub fn read_answer(datagram: &[u8], transaction: [u8; 12]) -> Option<Answer> {
    let mut message = Message::new();
    message.unmarshal_binary(datagram).ok()?;
    if message.transaction_id.0 != transaction {
        return None;
    }
    match message.typ {
        BINDING_SUCCESS => {
            let mut seen = XorMappedAddress::default();
            seen.get_from(&message).ok()?;
            let is_host = !seen.ip.is_unspecified() && !seen.ip.is_multicast() && seen.port != 0;
            is_host.then(|| Answer::Seen(SocketAddr::new(seen.ip.to_canonical(), seen.port)))
        }
        BINDING_ERROR => {
            let mut refusal = ErrorCodeAttribute::default();
            refusal.get_from(&message).ok()?;
            Some(Answer::Refused(refusal.code.0))
        }
        _ => None,
    }
}

/// The answer of a server that saw the question come from there; for tests.
#[cfg(test)]
pub(crate) fn answer(transaction: [u8; 12], seen: SocketAddr) -> Vec<u8> {
    use rtc_stun::fingerprint::FINGERPRINT;
    use rtc_stun::message::Setter;
    let seen = XorMappedAddress { ip: seen.ip(), port: seen.port() };
    let parts: [Box<dyn Setter>; 4] = [
        Box::new(BINDING_SUCCESS),
        Box::new(TransactionId(transaction)),
        Box::new(seen),
        Box::new(FINGERPRINT),
    ];
    let mut message = Message::new();
    message.build(&parts).expect("tests write good messages");
    message.raw
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtc_stun::error_code::{CODE_TRY_ALTERNATE, ErrorCode};
    use rtc_stun::message::Setter;

    const NUMBER: [u8; 12] = [7; 12];

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_question_is_a_binding_request_with_its_number() {
        let mut message = Message::new();
        message.unmarshal_binary(&question(NUMBER)).expect("a message");
        assert_eq!((message.typ, message.transaction_id.0), (BINDING_REQUEST, NUMBER));
    }

    #[test]
    fn the_answer_names_an_address_of_either_family() {
        for seen in ["203.0.113.7:8189", "[2001:db8::7]:1"].map(address) {
            assert_eq!(read_answer(&answer(NUMBER, seen), NUMBER), Some(Answer::Seen(seen)));
        }
    }

    #[test]
    fn what_does_not_answer_this_question_is_no_answer() {
        let good = answer(NUMBER, address("203.0.113.7:8189"));
        assert_eq!(read_answer(&good, [8; 12]), None, "another's number");
        assert_eq!(read_answer(&question(NUMBER), NUMBER), None, "our own question");
        for odd in ["0.0.0.0:1", "224.0.0.1:1", "203.0.113.7:0", "[::]:1"] {
            assert_eq!(read_answer(&answer(NUMBER, address(odd)), NUMBER), None, "{odd}");
        }
        for end in 0..good.len() {
            assert_eq!(read_answer(&good[..end], NUMBER), None, "cut at {end}");
        }
    }

    #[test]
    fn a_refusal_is_told_by_its_code() {
        let reason = ErrorCodeAttribute { code: CODE_TRY_ALTERNATE, reason: b"elsewhere".to_vec() };
        let parts: [Box<dyn Setter>; 3] =
            [Box::new(BINDING_ERROR), Box::new(TransactionId(NUMBER)), Box::new(reason)];
        let mut message = Message::new();
        message.build(&parts).expect("a message");
        let ErrorCode(code) = CODE_TRY_ALTERNATE;
        assert_eq!(read_answer(&message.raw, NUMBER), Some(Answer::Refused(code)));
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read_answer(&bytes, NUMBER);
        }

        #[test]
        fn a_mutated_answer_names_a_host_or_nothing(
            at in 0_usize..40,
            byte: u8,
            end in 20_usize..60,
        ) {
            let mut datagram = answer(NUMBER, address("203.0.113.7:8189"));
            let at = at % datagram.len();
            datagram[at] = byte;
            datagram.truncate(end);
            if let Some(Answer::Seen(seen)) = read_answer(&datagram, NUMBER) {
                prop_assert!(!seen.ip().is_unspecified() && seen.port() != 0);
            }
        }
    }
}
