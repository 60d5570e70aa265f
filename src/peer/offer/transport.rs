//! ICE, DTLS and BUNDLE: over what an offer's sections travel (RFC 8839, RFC 8842, RFC 9143).

use super::AnswerError;
use super::parse::{Attributes, Offer, Section};
use crate::peer::agreement::{
    Credentials, DtlsRole, Fingerprint, HashAlgorithm, TransportAgreement,
};

/// The most fingerprints taken from one offer; aiortc lists three.
const FINGERPRINTS_MAX: usize = 8;

/// The sections that share one transport, by their `a=mid`.
#[derive(Debug)]
pub(super) struct Bundle<'a>(Option<Vec<&'a str>>);

impl<'a> Bundle<'a> {
    /// Reads the first BUNDLE group; a second one would be a second transport.
    pub(super) fn read(offer: &Offer<'a>) -> Self {
        let group = offer.session.all("group").find_map(|value| value.strip_prefix("BUNDLE"));
        Self(group.map(|mids| mids.split(' ').filter(|mid| !mid.is_empty()).collect()))
    }

    /// Whether there is a group at all.
    pub(super) fn is_offered(&self) -> bool {
        self.0.is_some()
    }

    /// Whether this section is in the group; without a group each section is on its own.
    pub(super) fn has(&self, section: &Section<'_>) -> bool {
        self.0.as_ref().is_none_or(|mids| mids.contains(&section.mid()))
    }

    /// The accepted sections in the order of the group, the tagged one first (RFC 9143 §7.3.1):
    /// the first of the offer's group that is accepted and has an address of its own.
    pub(super) fn order(
        &self,
        offer: &Offer<'_>,
        accepted: &[usize],
    ) -> Result<Vec<usize>, AnswerError> {
        let mut order = accepted.to_vec();
        if let Some(mids) = &self.0 {
            let rank = |index: &usize| {
                let mid = offer.sections.get(*index).map(Section::mid);
                mids.iter().position(|other| Some(*other) == mid)
            };
            order.sort_by_key(rank);
        } else if order.len() > 1 {
            return Err(AnswerError::Unservable(
                "the offer does not put its sections into one BUNDLE group (a=group:BUNDLE)"
                    .to_owned(),
            ));
        }
        let has_address =
            |index: &usize| offer.sections.get(*index).is_some_and(|section| section.port != 0);
        let Some(tagged) = order.iter().position(has_address) else {
            return Err(AnswerError::Unservable(
                "every section of the offer that could be served is bundle-only".to_owned(),
            ));
        };
        if let Some(head) = order.get_mut(..=tagged) {
            head.rotate_right(1);
        }
        Ok(order)
    }
}

/// Reads what the client says of ICE and DTLS, from the tagged section, else from the session.
///
/// # Errors
///
/// [`AnswerError`] in plain words.
pub(super) fn agree(
    offer: &Offer<'_>,
    tagged: &Section<'_>,
    local: Credentials,
) -> Result<TransportAgreement, AnswerError> {
    let get = |name| tagged.attributes.get(name).or_else(|| offer.session.get(name));
    let missing = |name: &str| AnswerError::Unservable(format!("the offer has no a={name}"));
    if offer.session.has("ice-lite") {
        return Err(AnswerError::Unservable(
            "the offer says a=ice-lite, as this server does, so that nobody would begin (RFC 8445)"
                .to_owned(),
        ));
    }
    if !tagged.attributes.has("rtcp-mux") {
        return Err(missing("rtcp-mux"));
    }
    let remote = Credentials {
        ufrag: get("ice-ufrag").ok_or_else(|| missing("ice-ufrag"))?.to_owned(),
        pwd: get("ice-pwd").ok_or_else(|| missing("ice-pwd"))?.to_owned(),
    };
    // RFC 8839 §5.4.
    let is_ice_text = |text: &str, least: usize| {
        (least..=256).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
    };
    if !is_ice_text(&remote.ufrag, 4) || !is_ice_text(&remote.pwd, 22) {
        return Err(AnswerError::Malformed(
            "a=ice-ufrag has 4 to 256, a=ice-pwd 22 to 256 letters, digits, + or /".to_owned(),
        ));
    }
    let role = match get("setup").unwrap_or("active") {
        "actpass" | "active" => DtlsRole::Server,
        "passive" => DtlsRole::Client,
        _ => {
            return Err(AnswerError::Unservable(
                "a=setup of the offer is none of actpass, active, passive".to_owned(),
            ));
        }
    };
    let own = fingerprints(&tagged.attributes)?;
    let fingerprints = match own {
        Some(own) => own,
        None => fingerprints(&offer.session)?.ok_or_else(|| missing("fingerprint"))?,
    };
    if fingerprints.is_empty() {
        return Err(AnswerError::Unservable(
            "no a=fingerprint of the offer is of sha-256, sha-384 or sha-512".to_owned(),
        ));
    }
    Ok(TransportAgreement { local, remote, fingerprints, role })
}

/// Whether the client may send candidates later (RFC 8840 §4.1.3).
pub(super) fn offers_trickle(offer: &Offer<'_>, tagged: &Section<'_>) -> bool {
    let values = tagged.attributes.all("ice-options").chain(offer.session.all("ice-options"));
    // libdatachannel writes a comma where RFC 8839 §5.6 has a space.
    values.flat_map(|value| value.split([' ', ','])).any(|option| option == "trickle")
}

/// The fingerprints of one level that prove something; `None` where the level has none at all.
fn fingerprints(level: &Attributes<'_>) -> Result<Option<Vec<Fingerprint>>, AnswerError> {
    if !level.has("fingerprint") {
        return Ok(None);
    }
    let mut read = Vec::new();
    for value in level.all("fingerprint").take(FINGERPRINTS_MAX) {
        let (name, digest) = value.split_once(' ').unwrap_or((value, ""));
        let Some((algorithm, len)) = hash(name) else { continue };
        let digest: Option<Vec<u8>> = digest.trim().split(':').map(hex_byte).collect();
        match digest {
            Some(digest) if digest.len() == len => read.push(Fingerprint { algorithm, digest }),
            _ => {
                return Err(AnswerError::Malformed(format!(
                    "a=fingerprint of {} is not {len} bytes in hexadecimal",
                    name.to_ascii_lowercase()
                )));
            }
        }
    }
    Ok(Some(read))
}

/// The hashes that prove something, with the length of their digests (RFC 8122 §5).
fn hash(name: &str) -> Option<(HashAlgorithm, usize)> {
    let known = [
        ("sha-256", HashAlgorithm::Sha256, 32),
        ("sha-384", HashAlgorithm::Sha384, 48),
        ("sha-512", HashAlgorithm::Sha512, 64),
    ];
    known
        .into_iter()
        .find(|(known, ..)| name.eq_ignore_ascii_case(known))
        .map(|(_, algorithm, len)| (algorithm, len))
}

fn hex_byte(text: &str) -> Option<u8> {
    let two_digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    two_digits.then(|| u8::from_str_radix(text, 16).ok()).flatten()
}
