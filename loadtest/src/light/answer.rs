//! What a light client reads from the server's answer.

use super::dtls::DtlsRole;
use crate::codec::{Codec, Kind};
use std::net::{IpAddr, SocketAddr};

/// Why an answer is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// A line that must be there is not.
    #[error("the answer has no {0}")]
    Missing(&'static str),
    /// `a=setup` is not one an answer may have.
    #[error("the answer has setup {0}")]
    BadSetup(String),
}

/// One payload type the server agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgreedPayload {
    /// The number on the wire.
    pub payload_type: u8,
    /// The `a=rtpmap` value.
    pub rtpmap: String,
    /// The `a=fmtp` value.
    pub parameters: Option<String>,
    /// `a=rtcp-fb` values.
    pub feedback: Vec<String>,
}

impl AgreedPayload {
    /// The payload type this one retransmits, where it is an RTX format.
    pub fn apt(&self) -> Option<u8> {
        let parameters = self.parameters.as_deref()?;
        parameters.split(';').find_map(|pair| pair.trim().strip_prefix("apt=")?.parse().ok())
    }
}

/// One agreed `m=` section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgreedSection {
    /// `audio` or `video`.
    pub media: String,
    /// 0 means refused.
    pub port: u16,
    /// `a=mid`.
    pub mid: String,
    /// `sendonly`, `recvonly`, `inactive`.
    pub direction: String,
    /// Its payload types, in order.
    pub payloads: Vec<AgreedPayload>,
    /// Header extensions: id and URI.
    pub extensions: Vec<(u8, String)>,
    /// Every SSRC announced, in order, once.
    pub ssrcs: Vec<u32>,
    /// All its `a=` lines, without the `a=`.
    pub attributes: Vec<String>,
}

impl AgreedSection {
    /// The first payload type of a codec.
    pub fn payload_type(&self, codec: Codec) -> Option<u8> {
        self.payloads
            .iter()
            .find(|payload| Codec::from_rtpmap(&payload.rtpmap) == Some(codec))
            .map(|payload| payload.payload_type)
    }

    /// The RTX payload type that goes with one.
    pub fn rtx_of(&self, payload_type: u8) -> Option<u8> {
        let rtx = self.payloads.iter().find(|payload| payload.apt() == Some(payload_type))?;
        Some(rtx.payload_type)
    }

    /// The id agreed for a header extension.
    pub fn extension(&self, uri: &str) -> Option<u8> {
        self.extensions.iter().find(|(_, agreed)| agreed == uri).map(|(id, _)| *id)
    }
}

/// A server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub password: String,
    /// `a=fingerprint`.
    pub fingerprint: String,
    /// Our role, the opposite of the server's.
    pub role: DtlsRole,
    /// UDP candidates, in order.
    pub candidates: Vec<SocketAddr>,
    /// TCP candidates to connect to, in order.
    pub tcp_candidates: Vec<SocketAddr>,
    /// The sections, in order.
    pub sections: Vec<AgreedSection>,
}

impl Answer {
    /// Reads an answer's SDP.
    ///
    /// # Errors
    ///
    /// [`AnswerError`] where something needed is missing.
    pub fn parse(sdp: &str) -> Result<Self, AnswerError> {
        let mut sections: Vec<AgreedSection> = Vec::new();
        let mut lines = Vec::new();
        for line in sdp.lines() {
            if let Some(media) = line.strip_prefix("m=") {
                sections.push(start_section(media));
            } else if let Some(attribute) = line.strip_prefix("a=") {
                lines.push(attribute);
                if let Some(section) = sections.last_mut() {
                    section_line(section, attribute);
                }
            }
        }
        let value =
            |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let required = |name: &'static str| value(name).ok_or(AnswerError::Missing(name));
        let role = match required("setup")? {
            "passive" => DtlsRole::Client,
            "active" => DtlsRole::Server,
            other => return Err(AnswerError::BadSetup(other.to_owned())),
        };
        let (mut candidates, mut tcp_candidates) = (Vec::new(), Vec::new());
        for (is_tcp, address) in lines.iter().filter_map(|line| candidate(line)) {
            let list = if is_tcp { &mut tcp_candidates } else { &mut candidates };
            if !list.contains(&address) {
                list.push(address);
            }
        }
        Ok(Self {
            ufrag: required("ice-ufrag")?.to_owned(),
            password: required("ice-pwd")?.to_owned(),
            fingerprint: required("fingerprint")?.to_owned(),
            role,
            candidates,
            tcp_candidates,
            sections,
        })
    }

    /// The first section of a kind that was not refused.
    pub fn section(&self, kind: Kind) -> Option<&AgreedSection> {
        let kind = kind.to_string();
        self.sections.iter().find(|section| section.media == kind && section.port != 0)
    }

    /// The payload type of a codec.
    pub fn payload_type(&self, codec: Codec) -> Option<u8> {
        self.section(codec.kind())?.payload_type(codec)
    }
}

fn start_section(line: &str) -> AgreedSection {
    let mut words = line.split_whitespace();
    let media = words.next().unwrap_or_default().to_owned();
    let port = words.next().and_then(|port| port.parse().ok()).unwrap_or(0);
    let payloads = words
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .map(|payload_type| AgreedPayload {
            payload_type,
            rtpmap: String::new(),
            parameters: None,
            feedback: Vec::new(),
        })
        .collect();
    AgreedSection { media, port, payloads, ..AgreedSection::default() }
}

fn section_line(section: &mut AgreedSection, attribute: &str) {
    section.attributes.push(attribute.to_owned());
    if ["sendonly", "recvonly", "sendrecv", "inactive"].contains(&attribute) {
        attribute.clone_into(&mut section.direction);
    }
    let Some((name, value)) = attribute.split_once(':') else { return };
    let numbered = value.split_once(' ').and_then(|(number, rest)| {
        Some((number.split('/').next()?.parse::<u8>().ok()?, rest.to_owned()))
    });
    let mut payload = |number: u8, change: &mut dyn FnMut(&mut AgreedPayload)| {
        section.payloads.iter_mut().filter(|it| it.payload_type == number).for_each(change);
    };
    match (name, numbered) {
        ("mid", _) => value.clone_into(&mut section.mid),
        ("rtpmap", Some((number, rest))) => payload(number, &mut |it| it.rtpmap.clone_from(&rest)),
        ("fmtp", Some((number, rest))) => {
            payload(number, &mut |it| it.parameters = Some(rest.clone()));
        }
        ("rtcp-fb", Some((number, rest))) => {
            payload(number, &mut |it| it.feedback.push(rest.clone()));
        }
        ("rtcp-fb", None) => {
            if let Some(rest) = value.strip_prefix("* ") {
                section.payloads.iter_mut().for_each(|it| it.feedback.push(rest.to_owned()));
            }
        }
        ("extmap", Some((id, uri))) => section.extensions.push((id, uri)),
        ("ssrc", _) => {
            let ssrc = value.split_whitespace().next().and_then(|number| number.parse().ok());
            if let Some(ssrc) = ssrc.filter(|ssrc| !section.ssrcs.contains(ssrc)) {
                section.ssrcs.push(ssrc);
            }
        }
        _ => {}
    }
}

/// The address of a candidate of component 1 (RFC 8839 §5.1), and whether it is one of TCP to
/// connect to (RFC 6544 §4.5).
fn candidate(line: &str) -> Option<(bool, SocketAddr)> {
    let words: Vec<&str> = line.strip_prefix("candidate:")?.split_whitespace().collect();
    let [_, "1", transport, _, address, port, ..] = words.as_slice() else { return None };
    let is_tcp = transport.eq_ignore_ascii_case("tcp")
        && words.windows(2).any(|pair| pair == ["tcptype", "passive"]);
    if !is_tcp && !transport.eq_ignore_ascii_case("udp") {
        return None;
    }
    Some((is_tcp, SocketAddr::new(address.parse::<IpAddr>().ok()?, port.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n\
        a=group:BUNDLE 0 1\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=recvonly\r\na=ice-ufrag:abcd\r\n\
        a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 AA:BB\r\na=setup:passive\r\n\
        a=candidate:1 1 udp 2130706431 127.0.0.1 8189 typ host\r\na=rtpmap:111 opus/48000/2\r\n\
        a=candidate:2 1 tcp 1518280447 127.0.0.1 8190 typ host tcptype passive\r\n\
        a=candidate:3 1 tcp 1518280447 127.0.0.1 9 typ host tcptype active\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 102 103\r\na=mid:1\r\na=recvonly\r\na=rtpmap:102 H264/90000\r\n\
        a=rtcp-fb:102 nack pli\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n\
        a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
        a=ssrc:77 cname:x\r\na=ssrc:78 cname:x\r\n";

    #[test]
    fn an_answer_is_read() {
        let answer = Answer::parse(ANSWER).expect("it is whole");
        assert_eq!(answer.role, DtlsRole::Client);
        assert_eq!(answer.candidates, [SocketAddr::from(([127, 0, 0, 1], 8189))]);
        assert_eq!(answer.tcp_candidates, [SocketAddr::from(([127, 0, 0, 1], 8190))]);
        let video = answer.section(Kind::Video).expect("video");
        assert_eq!(video.payload_type(Codec::H264), Some(102));
        assert_eq!(video.rtx_of(102), Some(103));
        assert_eq!(video.payloads[0].feedback, ["nack pli"]);
        assert_eq!(video.extension(crate::light::MID), Some(4));
        assert_eq!(video.ssrcs, [77, 78]);
    }

    #[test]
    fn an_answer_without_a_fingerprint_is_refused() {
        let sdp = ANSWER.replace("a=fingerprint", "a=other");
        assert_eq!(Answer::parse(&sdp), Err(AnswerError::Missing("fingerprint")));
    }
}
