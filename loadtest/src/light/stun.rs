//! The four STUN messages an ICE agent needs (RFC 8489, RFC 8445 §7).

use super::identity::crypto_provider;
use rtc_stun::attributes::{
    ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId,
};
use rtc_stun::xoraddr::XorMappedAddress;
use std::net::SocketAddr;

/// A connectivity check's fixed parts.
#[derive(Debug, Clone)]
pub(crate) struct CheckParameters {
    /// `server's ufrag:our ufrag` (RFC 8445 §7.2.2).
    pub(crate) username: String,
    /// The server's password.
    pub(crate) password: String,
    /// Settles who controls when both sides claim to.
    pub(crate) tie_breaker: u64,
}

/// A check that also nominates the pair.
pub(crate) fn check(transaction: [u8; 12], parameters: &CheckParameters) -> Option<Vec<u8>> {
    /// 2^24 * 110 (peer reflexive) + 2^8 * 65535 + 255 (RFC 8445 §5.1.2.1).
    const PRIORITY: u32 = 0x6EFF_FFFF;
    let mut message = Message::new();
    message.build(&[Box::new(BINDING_REQUEST), Box::new(TransactionId(transaction))]).ok()?;
    message.add(ATTR_USERNAME, parameters.username.as_bytes());
    message.add(ATTR_PRIORITY, &PRIORITY.to_be_bytes());
    message.add(ATTR_ICE_CONTROLLING, &parameters.tie_breaker.to_be_bytes());
    message.add(ATTR_USE_CANDIDATE, &[]);
    seal(message, &parameters.password)
}

/// The answer to a check of the server's.
pub(crate) fn success(
    transaction: TransactionId,
    mapped: SocketAddr,
    password: &str,
) -> Option<Vec<u8>> {
    let mut message = Message::new();
    message.build(&[Box::new(BINDING_SUCCESS), Box::new(transaction)]).ok()?;
    XorMappedAddress { ip: mapped.ip(), port: mapped.port() }.add_to(&mut message).ok()?;
    seal(message, password)
}

fn seal(mut message: Message, password: &str) -> Option<Vec<u8>> {
    let provider = crypto_provider();
    MessageIntegrity::new_short_term_integrity_with_provider(
        password.to_owned(),
        provider.crypto(),
    )
    .add_to(&mut message)
    .ok()?;
    FINGERPRINT.add_to(&mut message).ok()?;
    Some(message.raw)
}

/// What came in.
pub(crate) enum Incoming {
    /// A check, authenticated with our password.
    Request(TransactionId),
    /// An answer to our check, authenticated with the server's password.
    Success(TransactionId),
    /// A refusal of our check; these need not be authenticated.
    Refused(TransactionId),
}

/// Reads a STUN message; `None` where it is not valid, or not authentic.
pub(crate) fn read(bytes: &[u8], ours: &str, theirs: &str) -> Option<Incoming> {
    let mut message = Message::new();
    message.unmarshal_binary(bytes).ok()?;
    let provider = crypto_provider();
    let id = message.transaction_id;
    let kind = message.typ;
    if kind == BINDING_ERROR {
        return Some(Incoming::Refused(id));
    }
    let password = match kind {
        BINDING_REQUEST => ours,
        BINDING_SUCCESS => theirs,
        _ => return None,
    };
    MessageIntegrity::check(&mut message, password.as_bytes(), provider.crypto()).ok()?;
    match kind {
        BINDING_REQUEST => Some(Incoming::Request(id)),
        _ => Some(Incoming::Success(id)),
    }
}
