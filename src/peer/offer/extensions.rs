//! Header extensions: which are agreed, under the offer's ids (RFC 8285 §6).

use super::Side;
use super::parse::{Offer, Section, number};
use crate::peer::agreement::ExtensionIds;

const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
const DEPENDENCY_DESCRIPTOR: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
/// Offered by libwebrtc and nobody else.
const VIDEO_TIMING: &str = "http://www.webrtc.org/experiments/rtp-hdrext/video-timing";

/// One agreed extension as the answer writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) id: u8,
    pub(super) uri: &'static str,
    /// Where the offer names a direction, the answer names the mirrored one.
    pub(super) has_direction: bool,
}

/// The extensions of a section that both sides know, in the order of their ids in the offer.
///
/// One id means one thing in a BUNDLE group (RFC 9143 §9.2): what contradicts `agreed_before`,
/// the extensions of the sections above, is left out.
pub(super) fn agree(
    offer: &Offer<'_>,
    section: &Section<'_>,
    side: Side,
    agreed_before: &[Extension],
) -> Vec<Extension> {
    let known: &[&'static str] = match side {
        Side::Receives => {
            &[MID, RID, REPAIRED_RID, ABS_SEND_TIME, TRANSPORT_CC, DEPENDENCY_DESCRIPTOR]
        }
        // It may be too long for the one-byte form.
        Side::Sends if allows_mixed(offer, section) => {
            &[MID, ABS_SEND_TIME, TRANSPORT_CC, PLAYOUT_DELAY, DEPENDENCY_DESCRIPTOR]
        }
        Side::Sends => &[MID, ABS_SEND_TIME, TRANSPORT_CC, PLAYOUT_DELAY],
    };
    // We write the one-byte form where that can be; reading the other needs the offer's word that
    // it may come.
    let two_byte = side == Side::Receives && allows_mixed(offer, section);
    let mut agreed: Vec<Extension> = Vec::new();
    for value in section.attributes.all("extmap").chain(offer.session.all("extmap")) {
        let Some((id, direction, uri)) = read(value) else { continue };
        let Some(&uri) = known.iter().find(|known| **known == uri) else { continue };
        let valid = matches!(id, 1..=14) || (two_byte && id > 15);
        let flows = match side {
            Side::Receives => matches!(direction, None | Some("sendrecv" | "sendonly")),
            Side::Sends => matches!(direction, None | Some("sendrecv" | "recvonly")),
        };
        let mut others =
            agreed_before.iter().filter(|other| (other.id == id) != (other.uri == uri));
        let contradicts = others.next().is_some();
        let taken = agreed.iter().any(|other| other.id == id || other.uri == uri);
        if valid && flows && !contradicts && !taken {
            agreed.push(Extension { id, uri, has_direction: direction.is_some() });
        }
    }
    agreed
}

/// The ids as plain data.
pub(super) fn ids(agreed: &[Extension]) -> ExtensionIds {
    let id = |uri| agreed.iter().find(|extension| extension.uri == uri).map(|found| found.id);
    ExtensionIds {
        mid: id(MID),
        rid: id(RID),
        repaired_rid: id(REPAIRED_RID),
        abs_send_time: id(ABS_SEND_TIME),
        transport_cc: id(TRANSPORT_CC),
        playout_delay: id(PLAYOUT_DELAY),
        dependency_descriptor: id(DEPENDENCY_DESCRIPTOR),
    }
}

/// Leaves out transport-wide sequence numbers: without the feedback they are for they say nothing.
pub(super) fn remove_transport_cc(agreed: &mut Vec<Extension>) {
    agreed.retain(|extension| extension.uri != TRANSPORT_CC);
}

/// Leaves out the dependency descriptor.
pub(super) fn remove_dependency_descriptor(agreed: &mut Vec<Extension>) {
    agreed.retain(|extension| extension.uri != DEPENDENCY_DESCRIPTOR);
}

/// Whether one-byte and two-byte extensions may be mixed (RFC 8285 §4.1.2).
pub(super) fn allows_mixed(offer: &Offer<'_>, section: &Section<'_>) -> bool {
    offer.session.has("extmap-allow-mixed") || section.attributes.has("extmap-allow-mixed")
}

/// Whether the offer is libwebrtc's, that is Chromium's or that of an app built on the same code.
pub(super) fn is_libwebrtc(section: &Section<'_>) -> bool {
    section.attributes.all("extmap").filter_map(read).any(|(_, _, uri)| uri == VIDEO_TIMING)
}

/// `<id>[/<direction>] <uri> [<attributes>]`.
fn read(value: &str) -> Option<(u8, Option<&str>, &str)> {
    let mut words = value.split(' ').filter(|word| !word.is_empty());
    let id = words.next()?;
    let (id, direction) = match id.split_once('/') {
        Some((id, direction)) => (id, Some(direction)),
        None => (id, None),
    };
    Some((number(id)?, direction, words.next()?))
}
