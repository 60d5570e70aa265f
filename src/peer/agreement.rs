//! What offer and answer agreed on: plain data, made by `offer`, read by the peers.

use crate::media::codec::{Codec, Format, Kind};

/// ICE credentials of one side (RFC 8839 §5.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub pwd: String,
}

/// A hash of a certificate (RFC 8122 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Which hash.
    pub algorithm: HashAlgorithm,
    /// Its bytes.
    pub digest: Vec<u8>,
}

/// The hashes that are checked; others (MD5, SHA-1) prove nothing and are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// `sha-256`.
    Sha256,
    /// `sha-384`.
    Sha384,
    /// `sha-512`.
    Sha512,
}

/// Our side in the DTLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// We send the `ClientHello`: the answer says `a=setup:active`.
    Client,
    /// The client does: the answer says `a=setup:passive`.
    Server,
}

/// What both sides need for ICE and DTLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportAgreement {
    /// Ours.
    pub local: Credentials,
    /// The client's.
    pub remote: Credentials,
    /// The client's certificate has one of these; never empty.
    pub fingerprints: Vec<Fingerprint>,
    /// Our side.
    pub role: DtlsRole,
}

/// One payload type of an `m=` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadFormat {
    /// The number on the wire.
    pub payload_type: u8,
    /// What it stands for.
    pub format: Format,
    /// The payload type of its retransmissions (RFC 4588), if agreed.
    pub rtx: Option<u8>,
}

/// Ids of the header extensions that were agreed (RFC 8285); `None` where one was not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`.
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`.
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`.
    pub repaired_rid: Option<u8>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`.
    pub abs_send_time: Option<u8>,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`.
    pub transport_cc: Option<u8>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`.
    pub playout_delay: Option<u8>,
    /// The dependency descriptor (AOM "RTP Payload Format For AV1" 1.0, Appendix A.9).
    pub dependency_descriptor: Option<u8>,
}

/// RTCP feedback that was agreed for an `m=` section (RFC 4585, RFC 5104).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Feedback {
    /// Generic NACK.
    pub nack: bool,
    /// Picture loss indication.
    pub pli: bool,
    /// Full intra request.
    pub fir: bool,
    /// Transport-wide congestion control.
    pub transport_cc: bool,
    /// Receiver-estimated maximum bitrate.
    pub remb: bool,
    /// The receiver's reference time, said back to it (RFC 3611 §4.4; libwebrtc's name of it).
    pub rrtr: bool,
}

/// An SSRC that the offer announces, with its retransmission SSRC (`a=ssrc-group:FID`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnnouncedSsrc {
    /// Media.
    pub ssrc: u32,
    /// Its retransmissions.
    pub rtx: Option<u32>,
}

/// One accepted `m=` section of a publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedMedia {
    /// Audio or video.
    pub kind: Kind,
    /// `a=mid`; empty where the offer has none.
    pub mid: String,
    /// What may arrive, best first.
    pub formats: Vec<PayloadFormat>,
    /// Header extensions.
    pub extensions: ExtensionIds,
    /// RTCP feedback.
    pub feedback: Feedback,
    /// SSRCs the offer announces; simulcast offers announce none.
    pub ssrcs: Vec<AnnouncedSsrc>,
    /// The simulcast layers (RFC 8853) in the offer's order; empty without simulcast.
    pub rids: Vec<String>,
}

/// One accepted `m=` section of a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMedia {
    /// Audio or video.
    pub kind: Kind,
    /// `a=mid`; empty where the offer has none.
    pub mid: String,
    /// What may be sent: every codec both know, whatever is live now.
    pub formats: Vec<PayloadFormat>,
    /// Header extensions.
    pub extensions: ExtensionIds,
    /// RTCP feedback.
    pub feedback: Feedback,
    /// The SSRC of our media.
    pub ssrc: u32,
    /// The SSRC of our retransmissions, where RTX was agreed.
    pub rtx_ssrc: Option<u32>,
}

impl SentMedia {
    /// The payload type on which a publisher's format goes out to this viewer.
    ///
    /// A difference of profile alone is never a refusal: encoders say 42e01f whatever they send.
    /// Among several payload types of the codec the best match of the parameters that decide how
    /// packets are built (`packetization-mode`, `profile-id`, `profile`) wins; of H.264 then that
    /// of the same profile, since browsers choose decoders by it, whatever its level.
    pub fn payload_for(&self, format: &Format) -> Option<&PayloadFormat> {
        let deciding: &[&str] = match format.codec {
            Codec::H264 => &["packetization-mode", "profile-level-id"],
            Codec::H265 | Codec::Vp9 => &["profile-id"],
            Codec::Av1 => &["profile"],
            Codec::Vp8 | Codec::Opus => &[],
        };
        // The first of the three bytes of the profile and level (RFC 6184 §8.1).
        let profile = |format: &Format| {
            format.parameter("profile-level-id")?.get(..2).map(str::to_ascii_lowercase)
        };
        let score = |candidate: &PayloadFormat| {
            let score = deciding.iter().fold(0, |score, name| {
                let same = candidate.format.parameter(name) == format.parameter(name);
                score * 2 + u32::from(same)
            });
            score * 2 + u32::from(profile(&candidate.format) == profile(format))
        };
        let same_codec = self.formats.iter().filter(|f| f.format.codec == format.codec);
        // `max_by_key` keeps the last of equals; the offer's first is the one wanted.
        same_codec.rev().max_by_key(|candidate| score(candidate))
    }
}

/// What a WHIP offer and our answer agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherAgreement {
    /// ICE and DTLS.
    pub transport: TransportAgreement,
    /// At most one section per kind, at least one in all.
    pub media: Vec<ReceivedMedia>,
}

/// What a WHEP offer and our answer agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewerAgreement {
    /// ICE and DTLS.
    pub transport: TransportAgreement,
    /// At most one section per kind, at least one in all.
    pub media: Vec<SentMedia>,
}
