//! The SDP offers of a light client: every line is the test's to choose.

use super::feedback::Feedback;
use super::identity::random_text;
use crate::codec::{Codec, Kind};
use std::fmt;

/// Which way media flows, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// WHIP.
    SendOnly,
    /// WHEP.
    RecvOnly,
}

/// The DTLS roles the client can take (RFC 8842 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// Either; the answer decides.
    ActPass,
    /// The client sends the `ClientHello`.
    Active,
    /// The server does.
    Passive,
}

/// One payload type of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The number on the wire.
    pub payload_type: u8,
    /// The `a=rtpmap` value.
    pub rtpmap: String,
    /// The `a=fmtp` value.
    pub parameters: Option<String>,
    /// `a=rtcp-fb` values.
    pub feedback: Vec<String>,
}

/// One `m=` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Audio or video.
    pub kind: Kind,
    /// Its payload types, the preferred one first.
    pub payloads: Vec<Payload>,
    /// Header extensions: id and URI.
    pub extensions: Vec<(u8, String)>,
    /// The SSRC it sends with.
    pub ssrc: Option<u32>,
    /// The SSRC it retransmits with (RFC 4588 §8.1), announced by an FID group.
    pub rtx_ssrc: Option<u32>,
    /// Further lines, without `a=`.
    pub attributes: Vec<String>,
}

/// The feedback a browser offers for video.
pub const VIDEO_FEEDBACK: [&str; 5] = ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"];

/// `a=extmap` URI of transport-wide congestion control.
pub const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// `a=extmap` URI of the absolute send time.
pub const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
/// `a=extmap` URI of the media identification (RFC 9143).
pub const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
/// `a=extmap` URI of the name of a layer (RFC 8852 §4.1).
pub const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
/// `a=extmap` URI of the name of the layer that is repaired (RFC 8852 §4.2).
pub const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";

impl Section {
    /// An empty section.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            payloads: Vec::new(),
            extensions: Vec::new(),
            ssrc: None,
            rtx_ssrc: None,
            attributes: Vec::new(),
        }
    }

    /// Adds a codec with a browser's parameters and feedback.
    #[must_use]
    pub fn codec(mut self, codec: Codec, payload_type: u8) -> Self {
        let feedback: &[&str] = match codec.kind() {
            Kind::Audio => &["transport-cc"],
            Kind::Video => &VIDEO_FEEDBACK,
        };
        self.payloads.push(Payload {
            payload_type,
            rtpmap: codec.rtpmap().to_owned(),
            parameters: codec.parameters().map(str::to_owned),
            feedback: feedback.iter().map(|value| (*value).to_owned()).collect(),
        });
        self
    }

    /// Adds a codec and its retransmission format (RFC 4588).
    #[must_use]
    pub fn codec_with_rtx(self, codec: Codec, payload_type: u8, rtx: u8) -> Self {
        let mut section = self.codec(codec, payload_type);
        section.payloads.push(Payload {
            payload_type: rtx,
            rtpmap: format!("rtx/{}", codec.clock_rate()),
            parameters: Some(format!("apt={payload_type}")),
            feedback: Vec::new(),
        });
        section
    }

    /// Replaces the feedback of every codec but RTX.
    #[must_use]
    pub fn feedback(mut self, feedback: &[&str]) -> Self {
        for payload in &mut self.payloads {
            if !payload.rtpmap.starts_with("rtx") {
                payload.feedback = feedback.iter().map(|value| (*value).to_owned()).collect();
            }
        }
        self
    }

    /// Adds a header extension.
    #[must_use]
    pub fn extension(mut self, id: u8, uri: &str) -> Self {
        self.extensions.push((id, uri.to_owned()));
        self
    }

    /// Sends with this SSRC.
    #[must_use]
    pub fn ssrc(mut self, ssrc: u32) -> Self {
        self.ssrc = Some(ssrc);
        self
    }

    /// Retransmits with this one.
    #[must_use]
    pub fn rtx_ssrc(mut self, ssrc: u32) -> Self {
        self.rtx_ssrc = Some(ssrc);
        self
    }

    fn write(&self, offer: &Offer, mid: usize, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "m={} 9 UDP/TLS/RTP/SAVPF", self.kind)?;
        for payload in &self.payloads {
            write!(out, " {}", payload.payload_type)?;
        }
        write!(out, "\r\nc=IN IP4 0.0.0.0\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=mid:{mid}\r\n")?;
        write!(out, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", offer.ufrag, offer.password)?;
        if let Some(fingerprint) = &offer.fingerprint {
            write!(out, "a=fingerprint:{fingerprint}\r\n")?;
        }
        let setup = match offer.setup {
            Setup::ActPass => "actpass",
            Setup::Active => "active",
            Setup::Passive => "passive",
        };
        let direction = match offer.direction {
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
        };
        write!(out, "a=setup:{setup}\r\na={direction}\r\n")?;
        for (id, uri) in &self.extensions {
            write!(out, "a=extmap:{id} {uri}\r\n")?;
        }
        for payload in &self.payloads {
            let number = payload.payload_type;
            write!(out, "a=rtpmap:{number} {}\r\n", payload.rtpmap)?;
            for value in &payload.feedback {
                write!(out, "a=rtcp-fb:{number} {value}\r\n")?;
            }
            if let Some(parameters) = &payload.parameters {
                write!(out, "a=fmtp:{number} {parameters}\r\n")?;
            }
        }
        self.write_sources(out)?;
        for attribute in &self.attributes {
            write!(out, "a={attribute}\r\n")?;
        }
        Ok(())
    }

    fn write_sources(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind;
        let Some(ssrc) = self.ssrc else { return Ok(()) };
        write!(out, "a=msid:loadtest loadtest-{kind}\r\n")?;
        if let Some(rtx) = self.rtx_ssrc {
            write!(out, "a=ssrc-group:FID {ssrc} {rtx}\r\n")?;
        }
        for ssrc in [Some(ssrc), self.rtx_ssrc].into_iter().flatten() {
            write!(out, "a=ssrc:{ssrc} cname:loadtest\r\n")?;
        }
        Ok(())
    }
}

/// A whole offer; its `Display` is the SDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Publish or view.
    pub direction: Direction,
    /// DTLS roles.
    pub setup: Setup,
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub password: String,
    /// `a=fingerprint`; filled in truthfully when the peer is made, unless it is a lie already.
    pub fingerprint: Option<String>,
    /// The sections, in order.
    pub sections: Vec<Section>,
}

impl Offer {
    /// An offer with fresh ICE credentials and no sections.
    pub fn new(direction: Direction) -> Self {
        Self {
            direction,
            setup: Setup::ActPass,
            ufrag: random_text(8),
            password: random_text(24),
            fingerprint: None,
            sections: Vec::new(),
        }
    }

    /// Opus and one video codec with RTX, as a browser publishes them.
    pub fn publish(video: Codec) -> Self {
        Self::new(Direction::SendOnly).section(publish_audio()).section(publish_video(video))
    }

    /// Opus and every video codec with RTX, as a browser watches.
    pub fn view() -> Self {
        let video = Codec::VIDEO
            .iter()
            .zip((96_u8..).step_by(2))
            .fold(extensions(Section::new(Kind::Video)), |section, (codec, number)| {
                section.codec_with_rtx(*codec, number, number + 1)
            });
        let audio = extensions(Section::new(Kind::Audio)).codec(Codec::Opus, 111);
        Self::new(Direction::RecvOnly).section(audio).section(video)
    }

    /// Offers only the feedback on congestion that is given.
    #[must_use]
    pub fn congestion(mut self, feedback: Feedback) -> Self {
        let left_out: &[&str] = match feedback {
            Feedback::None => &["transport-cc", "goog-remb"],
            Feedback::Remb(_) => &["transport-cc"],
            Feedback::TransportCc => &[],
        };
        for section in &mut self.sections {
            let payloads = section.payloads.iter_mut();
            payloads.for_each(|it| it.feedback.retain(|word| !left_out.contains(&word.as_str())));
            if feedback != Feedback::TransportCc {
                section.extensions.retain(|(_, uri)| uri != TRANSPORT_CC);
            }
        }
        self
    }

    /// Adds a section.
    #[must_use]
    pub fn section(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    /// Chooses the DTLS roles.
    #[must_use]
    pub fn setup(mut self, setup: Setup) -> Self {
        self.setup = setup;
        self
    }
}

/// The SSRCs [`Offer::publish`] uses: audio, video, and the video's retransmissions.
pub const PUBLISHED_SSRCS: [u32; 3] = [0x0A0D_1001, 0x0B1D_E001, 0x0B1D_E002];

/// An audio section to publish Opus by.
pub fn publish_audio() -> Section {
    extensions(Section::new(Kind::Audio)).codec(Codec::Opus, 111).ssrc(PUBLISHED_SSRCS[0])
}

/// A video section to publish `codec` by, with RTX.
pub fn publish_video(codec: Codec) -> Section {
    extensions(Section::new(Kind::Video))
        .codec_with_rtx(codec, 102, 103)
        .ssrc(PUBLISHED_SSRCS[1])
        .rtx_ssrc(PUBLISHED_SSRCS[2])
}

fn extensions(section: Section) -> Section {
    section.extension(2, ABS_SEND_TIME).extension(3, TRANSPORT_CC).extension(4, MID)
}

impl fmt::Display for Offer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n")?;
        write!(out, "a=group:BUNDLE")?;
        for mid in 0..self.sections.len() {
            write!(out, " {mid}")?;
        }
        write!(out, "\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n")?;
        for (mid, section) in self.sections.iter().enumerate() {
            section.write(self, mid, out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_names_its_retransmission_format_and_its_fid_group() {
        let offer = Offer::publish(Codec::H264).to_string();
        assert!(offer.contains("a=fmtp:103 apt=102\r\n"));
        assert!(offer.contains("a=ssrc-group:FID "));
        assert!(offer.contains("a=sendonly\r\n"));
    }

    #[test]
    fn two_offers_never_share_ice_credentials() {
        assert_ne!(Offer::view().ufrag, Offer::view().ufrag);
        assert!(Offer::view().password.len() >= 22, "RFC 8839 §5.4 asks for 22 characters");
    }
}
