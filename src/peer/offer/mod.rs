//! What is answered to an offer: codecs, directions, simulcast, ICE lite, DTLS roles.
//!
//! Pure: text in, text and plain data out. The offer is hostile; every count in it has a bound,
//! and what is echoed from it cannot add lines to the answer. Fuzz target: `sdp_offer`.
//!
//! - `parse`: the offer's text taken apart (RFC 8866)
//! - `transport`: BUNDLE, ICE and DTLS (RFC 9143, RFC 8839, RFC 8842)
//! - `formats`: payload types, their feedback, parameters and retransmission
//! - `extensions`: header extensions (RFC 8285)
//! - `sources`: simulcast layers and announced SSRCs (RFC 8853, RFC 5576)
//! - `answer`: the answer's text

mod answer;
mod extensions;
mod formats;
mod parse;
mod sources;
mod transport;

use super::agreement::{
    Credentials, Feedback, Fingerprint, PublisherAgreement, ReceivedMedia, SentMedia,
    TransportAgreement, ViewerAgreement,
};
use crate::codec::descriptor::Descriptor;
use crate::media::arena::TransportAddress;
use crate::media::codec::{Codec, Format, Kind};
use answer::{Accepted, Answer};
use parse::{Offer, Section};
use transport::Bundle;

/// Our side of a session, of which the answer tells.
#[derive(Debug, Clone)]
pub struct LocalDescription<'a> {
    /// Our ICE credentials for this session.
    pub credentials: Credentials,
    /// The hash of our certificate.
    pub fingerprint: &'a Fingerprint,
    /// The announced addresses: first those of UDP, and of them the public one, since ffmpeg uses
    /// no other.
    pub candidates: &'a [TransportAddress],
    /// For the `o=` line; 63 bits of it are used.
    pub session_id: u64,
    /// Random: audio, audio retransmission, video, video retransmission.
    pub ssrcs: [u32; 4],
    /// Names us in RTCP and beside our SSRCs.
    pub cname: &'a str,
    /// Names the stream to a viewer (`a=msid`).
    pub stream_id: &'a str,
}

/// Why an offer gets no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// It has none of the codecs that are wanted.
    #[error("no codec in common: the offer has {offered}, {wanted}")]
    NoCommonCodec {
        /// The offer's codecs.
        offered: String,
        /// What this server forwards, or what the stream carries.
        wanted: String,
    },
    /// It can be read but not served; the text says what is missing.
    #[error("{0}")]
    Unservable(String),
}

/// Which way media goes, seen from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// From a publisher to us.
    Receives,
    /// From us to a viewer.
    Sends,
}

/// What both kinds of answer are made of.
struct Negotiated<'a> {
    accepted: Vec<Accepted<'a>>,
    offer: Offer<'a>,
    transport: TransportAgreement,
    order: Vec<usize>,
    bundled: bool,
    trickle: bool,
}

/// Answers a WHIP offer. Codecs are listed in the order of `codec_preference`, those it does not
/// name after it in the order of the offer: browsers send the first.
///
/// # Errors
///
/// [`AnswerError`] in plain words.
pub fn answer_publisher(
    offer: &str,
    codec_preference: &[Codec],
    local: &LocalDescription<'_>,
) -> Result<(PublisherAgreement, String), AnswerError> {
    let side = Side::Receives;
    let negotiated = negotiate(Offer::parse(offer)?, side, codec_preference, local)?;
    let answer = negotiated.answer(side, local);
    let received = |accepted: &Accepted<'_>| {
        let section = negotiated.offer.sections.get(accepted.index)?;
        let mut ssrcs = sources::ssrcs(section);
        if accepted.formats.iter().all(|format| format.rtx.is_none()) {
            for announced in &mut ssrcs {
                announced.rtx = None;
            }
        }
        Some(ReceivedMedia {
            kind: accepted.kind,
            mid: section.mid().to_owned(),
            formats: accepted.formats.iter().map(formats::OfferedFormat::agreed).collect(),
            extensions: extensions::ids(&accepted.extensions),
            feedback: formats::common_feedback(&accepted.formats),
            ssrcs,
            rids: accepted.layers.iter().map(|layer| layer.rid.to_owned()).collect(),
        })
    };
    let media = negotiated.accepted.iter().filter_map(received).collect();
    Ok((PublisherAgreement { transport: negotiated.transport, media }, answer))
}

/// Answers a WHEP offer: every codec both sides know, whatever is `live` now, since the publisher
/// may come back with another.
///
/// # Errors
///
/// [`AnswerError`] in plain words; [`AnswerError::NoCommonCodec`] also where the viewer can play
/// nothing of what is live, or asks for a picture and can play none of those.
pub fn answer_viewer(
    offer: &str,
    live: &[Format],
    local: &LocalDescription<'_>,
) -> Result<(ViewerAgreement, String), AnswerError> {
    let side = Side::Sends;
    let negotiated = negotiate(Offer::parse(offer)?, side, &[], local)?;
    let sent = |accepted: &Accepted<'_>| {
        let section = negotiated.offer.sections.get(accepted.index)?;
        let (ssrc, rtx_ssrc) = answer::ssrcs(local, accepted);
        Some(SentMedia {
            kind: accepted.kind,
            mid: section.mid().to_owned(),
            formats: accepted.formats.iter().map(formats::OfferedFormat::agreed).collect(),
            extensions: extensions::ids(&accepted.extensions),
            feedback: formats::common_feedback(&accepted.formats),
            ssrc,
            rtx_ssrc,
        })
    };
    let media: Vec<SentMedia> = negotiated.accepted.iter().filter_map(sent).collect();
    let plays = |format: &Format| media.iter().any(|media| media.payload_for(format).is_some());
    // Sound without the picture that was asked for looks like a fault, and says nothing of it.
    let is_blind = media.iter().any(|media| media.kind == Kind::Video)
        && live.iter().any(|format| format.codec.kind() == Kind::Video)
        && !live.iter().any(|format| format.codec.kind() == Kind::Video && plays(format));
    if is_blind || (!live.is_empty() && !live.iter().any(plays)) {
        let carried: Vec<String> = live.iter().map(|format| format.codec.to_string()).collect();
        let wanted = format!("the stream carries {}", carried.join(", "));
        return Err(no_common_codec(&negotiated.offer, wanted));
    }
    let answer = negotiated.answer(side, local);
    Ok((ViewerAgreement { transport: negotiated.transport, media }, answer))
}

/// Our fragment (RFC 8840) in answer to an ICE restart by PATCH: new credentials, our candidates,
/// and the accepted sections by kind and `a=mid`.
pub fn ice_fragment(
    credentials: &Credentials,
    candidates: &[TransportAddress],
    sections: &[(Kind, &str)],
) -> String {
    answer::fragment(credentials, candidates, sections)
}

impl Negotiated<'_> {
    fn answer(&self, side: Side, local: &LocalDescription<'_>) -> String {
        let Self { accepted, offer, transport, order, bundled, trickle } = self;
        let (bundled, trickle) = (*bundled, *trickle);
        Answer { side, offer, accepted, order, bundled, trickle, transport, local }.write()
    }
}

/// Accepts the first section of each kind that can be served.
fn negotiate<'a>(
    offer: Offer<'a>,
    side: Side,
    preference: &[Codec],
    local: &LocalDescription<'_>,
) -> Result<Negotiated<'a>, AnswerError> {
    let bundle = Bundle::read(&offer);
    let mut accepted: Vec<Accepted<'a>> = Vec::new();
    let mut refusal = None;
    for (index, section) in offer.sections.iter().enumerate() {
        let kind = match section.media {
            "audio" => Kind::Audio,
            "video" => Kind::Video,
            _ => continue,
        };
        if accepted.iter().any(|accepted| accepted.kind == kind) {
            continue;
        }
        if let Err(why) = check(&offer, section, &bundle, side) {
            refusal.get_or_insert(why);
            continue;
        }
        let mut formats = formats::read(section, kind, side);
        if formats.is_empty() {
            // Tells more than a reason that concerns another section.
            refusal = Some(no_common_codec(&offer, forwarded()));
            continue;
        }
        formats::sort(&mut formats, preference);
        let before: Vec<_> = accepted.iter().flat_map(|a| a.extensions.clone()).collect();
        let mut extensions = extensions::agree(&offer, section, side, &before);
        agree_transport_cc(&mut formats, &mut extensions);
        if !takes_dependencies(&formats, side) {
            extensions::remove_dependency_descriptor(&mut extensions);
        }
        let has_rid = extensions::ids(&extensions).rid.is_some();
        let layers = match kind {
            Kind::Video if side == Side::Receives && has_rid => sources::layers(section, &formats)?,
            _ => Vec::new(),
        };
        let libwebrtc = extensions::is_libwebrtc(section);
        accepted.push(Accepted { index, kind, formats, extensions, layers, libwebrtc });
    }
    if accepted.is_empty() {
        return Err(refusal.unwrap_or_else(|| unservable("the offer has neither audio nor video")));
    }
    check_payload_types(&accepted)?;
    let indices: Vec<usize> = accepted.iter().map(|accepted| accepted.index).collect();
    let order = bundle.order(&offer, &indices)?;
    let tagged = order.first().and_then(|index| offer.sections.get(*index));
    let tagged = tagged.ok_or_else(|| unservable("the offer has neither audio nor video"))?;
    let transport = transport::agree(&offer, tagged, local.credentials.clone())?;
    let trickle = transport::offers_trickle(&offer, tagged);
    let bundled = bundle.is_offered();
    Ok(Negotiated { accepted, offer, transport, order, bundled, trickle })
}

/// Whether the dependency descriptor is of use.
fn takes_dependencies(formats: &[formats::OfferedFormat<'_>], side: Side) -> bool {
    let codecs = || formats.iter().map(|format| format.codec);
    match side {
        // What a publisher sends is the first of the answer. From the payloads of VP8 libwebrtc
        // would take away the picture ids and layers, by which viewers know what they can do
        // without.
        Side::Receives => !codecs().next().is_some_and(Descriptor::is_of),
        Side::Sends => codecs().any(Codec::needs_dependencies),
    }
}

/// Whether a section can be served at all, its codecs apart.
fn check(
    offer: &Offer<'_>,
    section: &Section<'_>,
    bundle: &Bundle<'_>,
    side: Side,
) -> Result<(), AnswerError> {
    let media = section.media;
    let refuse = |why: &str| Err(unservable(&format!("the offer's {media} {why}")));
    if section.is_rejected() {
        return refuse("has port 0");
    }
    // The second one stands where the default candidate is TCP (RFC 8839 §4.2.1.2).
    if !matches!(section.protocol, "UDP/TLS/RTP/SAVPF" | "TCP/DTLS/RTP/SAVPF") {
        return refuse(&format!("is {}, this server needs UDP/TLS/RTP/SAVPF", section.protocol));
    }
    if !bundle.has(section) {
        return refuse("is not in its BUNDLE group (a=group:BUNDLE)");
    }
    let direction = direction(offer, section);
    match (side, direction) {
        (_, "sendrecv") | (Side::Receives, "sendonly") | (Side::Sends, "recvonly") => Ok(()),
        (Side::Receives, _) => refuse(&format!("is {direction}: a publisher sends")),
        (Side::Sends, _) => refuse(&format!("is {direction}: a viewer receives")),
    }
}

/// The direction attribute of a section, else of the session, else `sendrecv` (RFC 8866 §6.7).
fn direction<'a>(offer: &Offer<'a>, section: &Section<'a>) -> &'a str {
    let is_direction =
        |name: &&str| matches!(*name, "sendrecv" | "sendonly" | "recvonly" | "inactive");
    let own = section.attributes.names().find(is_direction);
    own.or_else(|| offer.session.names().find(is_direction)).unwrap_or("sendrecv")
}

/// Transport-wide feedback needs the header extension and the RTCP message: both or neither.
fn agree_transport_cc(
    formats: &mut [formats::OfferedFormat<'_>],
    extensions: &mut Vec<extensions::Extension>,
) {
    if extensions::ids(extensions).transport_cc.is_none() {
        for format in formats {
            format.feedback = Feedback { transport_cc: false, ..format.feedback };
        }
    } else if !formats.iter().any(|format| format.feedback.transport_cc) {
        extensions::remove_transport_cc(extensions);
    }
}

/// In a BUNDLE group a payload type has one meaning (RFC 9143 §9.1).
fn check_payload_types(accepted: &[Accepted<'_>]) -> Result<(), AnswerError> {
    let mut seen: Vec<u8> = Vec::new();
    let formats = accepted.iter().flat_map(|accepted| &accepted.formats);
    for payload_type in formats.flat_map(|f| [Some(f.payload_type), f.rtx]).flatten() {
        if seen.contains(&payload_type) {
            return Err(unservable(&format!(
                "payload type {payload_type} of the offer stands for two things"
            )));
        }
        seen.push(payload_type);
    }
    Ok(())
}

fn forwarded() -> String {
    let names: Vec<String> = Codec::ALL.iter().map(Codec::to_string).collect();
    format!("this server forwards {}", names.join(", "))
}

fn no_common_codec(offer: &Offer<'_>, wanted: String) -> AnswerError {
    let media = |section: &&Section<'_>| matches!(section.media, "audio" | "video");
    let mut offered: Vec<String> = Vec::new();
    for name in offer.sections.iter().filter(media).flat_map(formats::names) {
        if !offered.contains(&name) && offered.len() < 32 {
            offered.push(name);
        }
    }
    let offered =
        if offered.is_empty() { "none that it names".to_owned() } else { offered.join(", ") };
    AnswerError::NoCommonCodec { offered, wanted }
}

fn unservable(why: &str) -> AnswerError {
    AnswerError::Unservable(why.to_owned())
}
