//! The text of an answer, and of the fragment that answers an ICE restart.
//!
//! ICE credentials, fingerprint, setup and rtcp-mux stand in every accepted section although
//! RFC 9143 §7.1.3 asks for them in the tagged one only: Chromium refuses a bundled section
//! without `a=rtcp-mux`, aiortc one without credentials. They are equal in all of them.
//! Candidates stand in the tagged section alone.

use super::extensions::Extension;
use super::formats::{self, OfferedFormat};
use super::parse::{Offer, Section, is_token_byte};
use super::sources::{self, Layer};
use super::{LocalDescription, Side};
use crate::media::arena::{Protocol, TransportAddress};
use crate::media::codec::Kind;
use crate::peer::agreement::{
    Credentials, DtlsRole, Fingerprint, HashAlgorithm, TransportAgreement,
};
use std::fmt::Write as _;
use std::net::IpAddr;

/// The longest part of an `a=msid` (RFC 8830 §2).
const MSID_PART_MAX: usize = 64;

/// An accepted section, ready to be written.
#[derive(Debug)]
pub(super) struct Accepted<'a> {
    /// Which section of the offer.
    pub(super) index: usize,
    pub(super) kind: Kind,
    /// Best first.
    pub(super) formats: Vec<OfferedFormat<'a>>,
    pub(super) extensions: Vec<Extension>,
    /// Empty without simulcast.
    pub(super) layers: Vec<Layer<'a>>,
    /// Whether the offer is libwebrtc's.
    pub(super) libwebrtc: bool,
}

/// All that an answer is made of.
#[derive(Debug)]
pub(super) struct Answer<'o, 'a> {
    pub(super) side: Side,
    pub(super) offer: &'o Offer<'a>,
    pub(super) accepted: &'o [Accepted<'a>],
    /// Indices of accepted sections, the tagged one first.
    pub(super) order: &'o [usize],
    pub(super) bundled: bool,
    pub(super) trickle: bool,
    pub(super) transport: &'o TransportAgreement,
    pub(super) local: &'o LocalDescription<'o>,
}

/// Text that grows by whole lines (RFC 8866 §5: each ends with CRLF).
#[derive(Debug, Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = self.0.write_fmt(line); // a `String` takes everything
        self.0.push_str("\r\n");
    }
}

/// Adds one line, written as for `format!`.
macro_rules! add {
    ($lines:expr, $($line:tt)*) => { $lines.add(format_args!($($line)*)) };
}

impl Answer<'_, '_> {
    /// The answer's SDP.
    pub(super) fn write(&self) -> String {
        let mut lines = Lines::default();
        // RFC 9429 §5.2.1: 63 bits; the address tells nothing.
        let id = self.local.session_id & (u64::MAX >> 1);
        add!(lines, "v=0");
        add!(lines, "o=- {id} 1 IN IP4 127.0.0.1");
        add!(lines, "s=-");
        add!(lines, "t=0 0");
        if self.bundled {
            let mid = |index: &usize| self.offer.sections.get(*index).map(Section::mid);
            let mids: Vec<&str> = self.order.iter().filter_map(mid).collect();
            add!(lines, "a=group:BUNDLE {}", mids.join(" "));
        }
        if self.offer.session.has("extmap-allow-mixed") {
            add!(lines, "a=extmap-allow-mixed");
        }
        add!(lines, "a=ice-lite");
        let trickle = if self.trickle { " trickle" } else { "" };
        add!(lines, "a=ice-options:ice2{trickle}");
        for (index, section) in self.offer.sections.iter().enumerate() {
            match self.accepted.iter().find(|accepted| accepted.index == index) {
                Some(accepted) => self.write_accepted(&mut lines, section, accepted),
                None => write_rejected(&mut lines, section),
            }
        }
        lines.0
    }

    fn write_accepted(&self, lines: &mut Lines, section: &Section<'_>, accepted: &Accepted<'_>) {
        let media = accepted.kind;
        let mut payload_types = String::new();
        for format in &accepted.formats {
            let _ = write!(payload_types, " {}", format.payload_type);
            if let Some(rtx) = format.rtx {
                let _ = write!(payload_types, " {rtx}");
            }
        }
        // RFC 9143 §7.1.1: every bundled section has the tagged section's address, which is that
        // of the default candidate (RFC 8839 §4.2.1.2).
        let default = self.local.candidates.first();
        let port = default.map_or(9, |default| default.address.port());
        add!(lines, "m={media} {port} {}{payload_types}", section.protocol);
        match default.map(|default| default.address.ip()) {
            Some(IpAddr::V6(address)) => add!(lines, "c=IN IP6 {address}"),
            Some(IpAddr::V4(address)) => add!(lines, "c=IN IP4 {address}"),
            None => add!(lines, "c=IN IP4 0.0.0.0"),
        }
        if section.attributes.has("mid") {
            add!(lines, "a=mid:{}", section.mid());
        }
        match self.side {
            Side::Receives => add!(lines, "a=recvonly"),
            Side::Sends => {
                add!(lines, "a=sendonly");
                add!(lines, "a=msid:{} {media}", token(self.local.stream_id));
            }
        }
        self.write_transport(lines, section);
        self.write_formats(lines, section, accepted);
        for layer in &accepted.layers {
            add!(lines, "a=rid:{}", layer.answer());
        }
        if !accepted.layers.is_empty() {
            add!(lines, "a=simulcast:{}", sources::answer(&accepted.layers));
        }
        if self.side == Side::Sends {
            self.write_ssrcs(lines, accepted);
        }
        if self.order.first() == Some(&accepted.index) {
            write_candidates(lines, self.local.candidates);
        }
    }

    fn write_transport(&self, lines: &mut Lines, section: &Section<'_>) {
        add!(lines, "a=rtcp-mux");
        if section.attributes.has("rtcp-rsize") {
            add!(lines, "a=rtcp-rsize");
        }
        write_credentials(lines, &self.transport.local);
        add!(lines, "a=fingerprint:{}", fingerprint(self.local.fingerprint));
        match self.transport.role {
            DtlsRole::Client => add!(lines, "a=setup:active"),
            DtlsRole::Server => add!(lines, "a=setup:passive"),
        }
    }

    fn write_formats(&self, lines: &mut Lines, section: &Section<'_>, accepted: &Accepted<'_>) {
        if section.attributes.has("extmap-allow-mixed") {
            add!(lines, "a=extmap-allow-mixed");
        }
        for Extension { id, uri, has_direction } in &accepted.extensions {
            match (has_direction, self.side) {
                (false, _) => add!(lines, "a=extmap:{id} {uri}"),
                (true, Side::Receives) => add!(lines, "a=extmap:{id}/recvonly {uri}"),
                (true, Side::Sends) => add!(lines, "a=extmap:{id}/sendonly {uri}"),
            }
        }
        for format in &accepted.formats {
            let payload_type = format.payload_type;
            add!(lines, "a=rtpmap:{payload_type} {}", format.encoding);
            for value in formats::feedback_values(format.feedback) {
                add!(lines, "a=rtcp-fb:{payload_type} {value}");
            }
            let parameters = format.answer_parameters(self.side, accepted.libwebrtc);
            if !parameters.is_empty() {
                add!(lines, "a=fmtp:{payload_type} {parameters}");
            }
            if let Some(rtx) = format.rtx {
                add!(lines, "a=rtpmap:{rtx} rtx/{}", format.codec.clock_rate());
                add!(lines, "a=fmtp:{rtx} apt={payload_type}");
            }
        }
    }

    fn write_ssrcs(&self, lines: &mut Lines, accepted: &Accepted<'_>) {
        let (ssrc, rtx) = ssrcs(self.local, accepted);
        let cname = token(self.local.cname);
        if let Some(rtx) = rtx {
            add!(lines, "a=ssrc-group:FID {ssrc} {rtx}");
        }
        for ssrc in [Some(ssrc), rtx].into_iter().flatten() {
            add!(lines, "a=ssrc:{ssrc} cname:{cname}");
        }
    }
}

/// The SSRCs on which a section's media and retransmissions are sent.
pub(super) fn ssrcs(local: &LocalDescription<'_>, accepted: &Accepted<'_>) -> (u32, Option<u32>) {
    let [audio, audio_rtx, video, video_rtx] = local.ssrcs;
    let (ssrc, rtx) = match accepted.kind {
        Kind::Audio => (audio, audio_rtx),
        Kind::Video => (video, video_rtx),
    };
    (ssrc, accepted.formats.iter().any(|format| format.rtx.is_some()).then_some(rtx))
}

/// The server's side of an ICE restart (RFC 9725 §4.3.3, RFC 8840 §9): credentials and candidates
/// for the BUNDLE group of these sections, the tagged one first.
pub(super) fn fragment(
    credentials: &Credentials,
    candidates: &[TransportAddress],
    sections: &[(Kind, &str)],
) -> String {
    let mut lines = Lines::default();
    add!(lines, "a=ice-lite");
    add!(lines, "a=ice-options:ice2 trickle");
    let mids: Vec<&str> = sections.iter().map(|(_, mid)| *mid).filter(|m| !m.is_empty()).collect();
    if !mids.is_empty() {
        add!(lines, "a=group:BUNDLE {}", mids.join(" "));
    }
    if let Some((kind, mid)) = sections.first() {
        // RFC 8840 §9: a pseudo m= line; its protocol and format mean nothing.
        add!(lines, "m={kind} 9 RTP/AVP 0");
        if !mid.is_empty() {
            add!(lines, "a=mid:{mid}");
        }
    }
    write_credentials(&mut lines, credentials);
    write_candidates(&mut lines, candidates);
    lines.0
}

/// RFC 3264 §6: port zero, and one format since the line needs one.
fn write_rejected(lines: &mut Lines, section: &Section<'_>) {
    let format = section.formats.first().copied().unwrap_or("0");
    add!(lines, "m={} 0 {} {format}", section.media, section.protocol);
    add!(lines, "c=IN IP4 0.0.0.0");
    if section.attributes.has("mid") {
        add!(lines, "a=mid:{}", section.mid());
    }
    if matches!(section.media, "audio" | "video") {
        add!(lines, "a=inactive");
    }
}

fn write_credentials(lines: &mut Lines, credentials: &Credentials) {
    add!(lines, "a=ice-ufrag:{}", credentials.ufrag);
    add!(lines, "a=ice-pwd:{}", credentials.pwd);
}

/// Host candidates (RFC 8839 §5.1) in the order given, which is that of their priorities; those of
/// one address and protocol share a foundation (RFC 8445 §5.1.1.3). Over TCP the client connects:
/// a lite agent has one address for all who come (RFC 6544 §4.1).
fn write_candidates(lines: &mut Lines, candidates: &[TransportAddress]) {
    for (index, candidate) in candidates.iter().enumerate() {
        let ip = candidate.address.ip();
        let is_same =
            |c: &TransportAddress| c.address.ip() == ip && c.protocol == candidate.protocol;
        let foundation = candidates.iter().position(is_same).unwrap_or(index) + 1;
        let (name, kind) = match candidate.protocol {
            Protocol::Udp => ("udp", ""),
            Protocol::Tcp => ("tcp", " tcptype passive"),
        };
        let (priority, port) = (priority(candidate.protocol, index), candidate.address.port());
        add!(lines, "a=candidate:{foundation} 1 {name} {priority} {ip} {port} typ host{kind}");
    }
    if !candidates.is_empty() {
        add!(lines, "a=end-of-candidates");
    }
}

/// The priority of the host candidate at a place of the list (RFC 8445 §5.1.2.1). TCP comes after
/// all UDP, by a lower preference of its type, as browsers have it; of the local preference the
/// first three bits tell that it is passive (RFC 6544 §4.2).
fn priority(protocol: Protocol, index: usize) -> u32 {
    let index = index as u32;
    let (type_preference, local_preference) = match protocol {
        Protocol::Udp => (126, u32::from(u16::MAX).saturating_sub(index)),
        Protocol::Tcp => (90, (4 << 13) | 0x1fff_u32.saturating_sub(index)),
    };
    (type_preference << 24) | (local_preference << 8) | 255
}

/// The value of `a=fingerprint` (RFC 8122 §5).
fn fingerprint(fingerprint: &Fingerprint) -> String {
    let mut value = match fingerprint.algorithm {
        HashAlgorithm::Sha256 => "sha-256 ",
        HashAlgorithm::Sha384 => "sha-384 ",
        HashAlgorithm::Sha512 => "sha-512 ",
    }
    .to_owned();
    for (index, byte) in fingerprint.digest.iter().enumerate() {
        let separator = if index == 0 { "" } else { ":" };
        let _ = write!(value, "{separator}{byte:02X}");
    }
    value
}

/// A name as a token (RFC 8830 §2): stream names may hold a slash, which is none.
fn token(name: &str) -> String {
    let legal = |byte: u8| if is_token_byte(byte) { char::from(byte) } else { '-' };
    let token: String = name.bytes().take(MSID_PART_MAX).map(legal).collect();
    if token.is_empty() { "-".to_owned() } else { token }
}
