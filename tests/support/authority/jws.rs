//! The signed requests of ACME (RFC 8555 §6.2), read and checked.

use super::Fault;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// A request that is what it says.
pub(crate) struct Request {
    /// What is asked; null where something is only read.
    pub(crate) payload: Value,
    /// The asker's public key, where it came with the request.
    pub(crate) key: Option<Value>,
    /// The digest of that key (RFC 7638), which is part of every proof.
    pub(crate) thumbprint: String,
}

impl Request {
    /// Checks URL, nonce and signature. The nonce is used up.
    pub(crate) fn read(
        body: &[u8],
        url: &str,
        nonces: &mut HashSet<String>,
        accounts: &HashMap<String, Value>,
    ) -> Result<Self, Fault> {
        let outer: Value = serde_json::from_slice(body).map_err(|_| Fault::bad("no JSON"))?;
        let text = |name: &str| outer[name].as_str().ok_or(Fault::bad("a part is missing"));
        let (protected, payload) = (text("protected")?, text("payload")?);
        let part = |encoded: &str| decoded(encoded).ok_or(Fault::bad("not base64url"));
        let header: Value =
            serde_json::from_slice(&part(protected)?).map_err(|_| Fault::bad("no header"))?;
        if header["url"] != url {
            return Err(Fault::bad("signed for another URL"));
        }
        if !header["nonce"].as_str().is_some_and(|nonce| nonces.remove(nonce)) {
            return Err(Fault::bad_nonce());
        }
        let sent = header.get("jwk").cloned();
        let known = header["kid"].as_str().and_then(|url| accounts.get(url)).cloned();
        let key = match (&sent, known) {
            (Some(key), None) => key.clone(),
            (None, Some(key)) => key,
            _ => return Err(Fault::bad("neither a key nor an account, or both")),
        };
        if header["alg"] != "ES256" || key["kty"] != "EC" || key["crv"] != "P-256" {
            return Err(Fault::bad("only ES256 is understood"));
        }
        let number = |name: &str| part(key[name].as_str().unwrap_or_default());
        let point = [vec![4], number("x")?, number("y")?].concat();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(format!("{protected}.{payload}").as_bytes(), &part(text("signature")?)?)
            .map_err(|_| Fault::bad("the signature is wrong"))?;
        let payload = part(payload)?;
        let payload = if payload.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&payload).map_err(|_| Fault::bad("the payload is no JSON"))?
        };
        // The members that make the key, in this order, without spaces (RFC 7638 §3).
        let canonical =
            format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, key["x"], key["y"]);
        Ok(Self { payload, key: sent, thumbprint: encoded(&digest(&canonical)) })
    }
}

pub(crate) fn digest(text: &str) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref().to_vec()
}

pub(crate) fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn decoded(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
