//! Payload types: which of an offered section's formats are agreed, in which order, and what the
//! answer says of each (RFC 3264 §6.1, RFC 4585 §4.2, RFC 4588 §8).

use super::Side;
use super::parse::{Section, number};
use crate::media::codec::{Codec, Format, Kind};
use crate::peer::agreement::{Feedback, PayloadFormat};

/// RTCP and RTP share a port, so these payload types would read as RTCP (RFC 5761 §4).
const RTCP_PAYLOAD_TYPES: std::ops::RangeInclusive<u8> = 64..=95;
/// Where Chromium's bandwidth estimate starts: enough for 720p with two smaller layers at once.
const START_BITRATE_KBPS: u32 = 2_500;
/// At most so many codec names go into a refusal.
const NAMES_MAX: usize = 16;
/// A longer codec name is shortened there.
const NAME_LENGTH_MAX: usize = 32;

/// One payload type of a codec that is forwarded, as the offer has it.
#[derive(Debug)]
pub(super) struct OfferedFormat<'a> {
    pub(super) payload_type: u8,
    pub(super) codec: Codec,
    /// `<encoding name>/<clock rate>[/<channels>]`, echoed as it stands.
    pub(super) encoding: &'a str,
    /// The value of `a=fmtp`, empty where there is none.
    pub(super) parameters: &'a str,
    /// What is offered and understood here.
    pub(super) feedback: Feedback,
    /// The payload type of its retransmissions.
    pub(super) rtx: Option<u8>,
}

/// What stands in a section about one payload type.
#[derive(Debug, Clone, Copy, Default)]
struct Entry<'a> {
    /// Of the first `a=rtpmap`.
    encoding: Option<&'a str>,
    /// Of the first `a=fmtp`.
    parameters: Option<&'a str>,
    feedback: Feedback,
}

/// The formats of a section that can be agreed, in the offer's order.
pub(super) fn read<'a>(section: &Section<'a>, kind: Kind, side: Side) -> Vec<OfferedFormat<'a>> {
    let entries = entries(section);
    let mut payload_types: Vec<u8> = Vec::new();
    for payload_type in section.formats.iter().filter_map(|format| read_payload_type(format)) {
        if !payload_types.contains(&payload_type) {
            payload_types.push(payload_type);
        }
    }
    let entry = |payload_type: u8| entries.get(usize::from(payload_type)).copied();
    let repairs = |payload_type: u8, codec: Codec| {
        payload_types.iter().copied().find(|&other| {
            entry(other).is_some_and(|entry| is_rtx_for(entry, payload_type, codec.clock_rate()))
        })
    };
    let format = |payload_type: u8| {
        let Entry { encoding, parameters, feedback } = entry(payload_type)?;
        let (encoding, parameters) = (encoding?, parameters.unwrap_or_default());
        let codec = read_encoding(encoding).filter(|codec| codec.kind() == kind)?;
        let mode = parameter(parameters, "packetization-mode");
        if codec == Codec::H264 && mode == Some("2") {
            return None; // interleaved (RFC 6184 §5.4): no browser takes it
        }
        // An answer that said anything else of the codec would be of another format.
        if !echoed(codec, parameters).all(|(_, value)| is_value(value)) {
            return None;
        }
        let feedback = understood(feedback, kind, side);
        let rtx = feedback.nack.then(|| repairs(payload_type, codec)).flatten();
        Some(OfferedFormat { payload_type, codec, encoding, parameters, feedback, rtx })
    };
    payload_types.iter().filter_map(|&payload_type| format(payload_type)).collect()
}

/// The names of all codecs in a section, for a refusal; retransmission and FEC are no codecs.
pub(super) fn names(section: &Section<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for value in section.attributes.all("rtpmap") {
        let encoding = value.split_once(' ').map_or("", |(_, encoding)| encoding.trim());
        let name = encoding.split('/').next().unwrap_or_default();
        let name: String = name.chars().take(NAME_LENGTH_MAX).collect();
        let is_helper = ["rtx", "red", "ulpfec", "flexfec-03", "cn", "telephone-event"]
            .iter()
            .any(|helper| name.eq_ignore_ascii_case(helper));
        if !is_helper && !name.is_empty() && !names.contains(&name) && names.len() < NAMES_MAX {
            names.push(name);
        }
    }
    names
}

/// Puts the formats in the order of the answer: by codec as preferred, else as offered, and
/// within H.264 `packetization-mode=1` first (RFC 6184 §6.3 lets it carry everything mode 0 does).
pub(super) fn sort(formats: &mut [OfferedFormat<'_>], preference: &[Codec]) {
    let offered: Vec<Codec> = formats.iter().map(|format| format.codec).collect();
    formats.sort_by_key(|format| {
        let preferred = preference.iter().position(|&codec| codec == format.codec);
        let first = offered.iter().position(|&codec| codec == format.codec);
        let single_nal = format.codec == Codec::H264
            && parameter(format.parameters, "packetization-mode") != Some("1");
        (preferred.unwrap_or(usize::MAX), first, single_nal)
    });
}

impl OfferedFormat<'_> {
    /// The same as plain data.
    pub(super) fn agreed(&self) -> PayloadFormat {
        PayloadFormat {
            payload_type: self.payload_type,
            format: Format { codec: self.codec, parameters: self.parameters.to_owned() },
            rtx: self.rtx,
        }
    }

    /// The value of `a=fmtp` in the answer; empty where there is nothing to say.
    ///
    /// What configures the stream for both sides is echoed (RFC 6184 §8.2.2, RFC 7798 §7.2.2,
    /// RFC 9628 §6.1); what one side declares of itself, say `sprop-parameter-sets` or `max-fs`,
    /// is not. `libwebrtc` takes a start bitrate from its peer's answer.
    pub(super) fn answer_parameters(&self, side: Side, libwebrtc: bool) -> String {
        let mut pairs: Vec<String> = Vec::new();
        for (key, value) in echoed(self.codec, self.parameters) {
            pairs.push(format!("{key}={value}"));
        }
        if self.codec == Codec::Opus {
            pairs = self.opus(side);
        } else if side == Side::Receives && libwebrtc {
            pairs.push(format!("x-google-start-bitrate={START_BITRATE_KBPS}"));
        }
        pairs.join(";")
    }

    /// Opus parameters are declared by each side for itself (RFC 7587 §7.1): a receiver says what
    /// it would like, a sender with `sprop-stereo` what it may send.
    fn opus(&self, side: Side) -> Vec<String> {
        let offered = |name| parameter(self.parameters, name);
        let mut pairs = Vec::new();
        // RFC 7587 §6.1.
        if let Some(time) = offered("minptime").and_then(number::<u8>)
            && (3..=120).contains(&time)
        {
            pairs.push(format!("minptime={time}"));
        }
        match side {
            Side::Receives => {
                // Asked of those that show they know the parameters: full sound, in-band FEC.
                let fec = offered("useinbandfec").is_some();
                if fec || offered("sprop-stereo") == Some("1") || offered("stereo") == Some("1") {
                    pairs.push("stereo=1".to_owned());
                }
                if fec {
                    pairs.push("useinbandfec=1".to_owned());
                }
            }
            Side::Sends => {
                if offered("stereo") == Some("1") {
                    pairs.push("sprop-stereo=1".to_owned());
                    pairs.push("stereo=1".to_owned());
                }
                if offered("useinbandfec") == Some("1") {
                    pairs.push("useinbandfec=1".to_owned());
                }
            }
        }
        pairs
    }
}

/// The parameters that an answer echoes, each once, as the offer has them.
fn echoed(codec: Codec, parameters: &str) -> impl Iterator<Item = (&str, &str)> {
    let names: &[&str] = match codec {
        Codec::H264 => &["level-asymmetry-allowed", "packetization-mode", "profile-level-id"],
        Codec::H265 => &["profile-space", "profile-id", "tier-flag", "level-id", "tx-mode"],
        Codec::Vp9 => &["profile-id"],
        Codec::Av1 => &["profile", "level-idx", "tier"],
        Codec::Vp8 | Codec::Opus => &[],
    };
    let mut seen = [false; 5];
    parameters.split(';').filter_map(move |pair| {
        let (key, value) = pair.trim().split_once('=')?;
        let index = names.iter().position(|name| key.trim().eq_ignore_ascii_case(name))?;
        let is_first = !std::mem::replace(seen.get_mut(index)?, true);
        is_first.then(|| (key.trim(), value.trim()))
    })
}

/// Whether this is a value that any of the echoed parameters can have.
fn is_value(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The values of `a=rtcp-fb` that stand for this feedback.
pub(super) fn feedback_values(feedback: Feedback) -> impl Iterator<Item = &'static str> {
    let all = [
        (feedback.remb, "goog-remb"),
        (feedback.transport_cc, "transport-cc"),
        (feedback.fir, "ccm fir"),
        (feedback.nack, "nack"),
        (feedback.pli, "nack pli"),
        (feedback.rrtr, "rrtr"),
    ];
    all.into_iter().filter_map(|(agreed, value)| agreed.then_some(value))
}

/// What every format has: an `m=` section promises no more than its least format.
pub(super) fn common_feedback(formats: &[OfferedFormat<'_>]) -> Feedback {
    let all = |has: fn(&Feedback) -> bool| formats.iter().all(|format| has(&format.feedback));
    Feedback {
        nack: all(|feedback| feedback.nack),
        pli: all(|feedback| feedback.pli),
        fir: all(|feedback| feedback.fir),
        transport_cc: all(|feedback| feedback.transport_cc),
        remb: all(|feedback| feedback.remb),
        rrtr: all(|feedback| feedback.rrtr),
    }
}

/// One pass over a section's lines, so that the cost does not grow with lines times formats.
fn entries<'a>(section: &Section<'a>) -> Vec<Entry<'a>> {
    let mut entries = vec![Entry::default(); 128];
    let mut all = Feedback::default();
    let of = |value: &'a str| {
        let (payload_type, rest) = value.split_once(' ')?;
        Some((read_payload_type(payload_type)?, rest.trim()))
    };
    for (payload_type, encoding) in section.attributes.all("rtpmap").filter_map(of) {
        entries[usize::from(payload_type)].encoding.get_or_insert(encoding);
    }
    for (payload_type, parameters) in section.attributes.all("fmtp").filter_map(of) {
        entries[usize::from(payload_type)].parameters.get_or_insert(parameters);
    }
    for value in section.attributes.all("rtcp-fb") {
        if let Some(value) = value.strip_prefix("* ") {
            add_feedback(&mut all, value.trim());
        } else if let Some((payload_type, value)) = of(value) {
            add_feedback(&mut entries[usize::from(payload_type)].feedback, value);
        }
    }
    for entry in &mut entries {
        entry.feedback.nack |= all.nack;
        entry.feedback.pli |= all.pli;
        entry.feedback.fir |= all.fir;
        entry.feedback.transport_cc |= all.transport_cc;
        entry.feedback.remb |= all.remb;
        entry.feedback.rrtr |= all.rrtr;
    }
    entries
}

fn add_feedback(feedback: &mut Feedback, value: &str) {
    match value {
        "nack" => feedback.nack = true,
        "nack pli" => feedback.pli = true,
        "ccm fir" => feedback.fir = true,
        "transport-cc" => feedback.transport_cc = true,
        "goog-remb" => feedback.remb = true,
        "rrtr" => feedback.rrtr = true,
        _ => {}
    }
}

/// Keyframes and bandwidth are questions of video, and a publisher knows the round trip by our
/// receiver reports.
fn understood(feedback: Feedback, kind: Kind, side: Side) -> Feedback {
    let feedback = Feedback { rrtr: feedback.rrtr && side == Side::Sends, ..feedback };
    match kind {
        Kind::Video => feedback,
        Kind::Audio => Feedback { pli: false, fir: false, remb: false, ..feedback },
    }
}

/// A payload type that can be used with RTCP on the same port. Always below 128.
fn read_payload_type(text: &str) -> Option<u8> {
    let payload_type = number(text)?;
    (payload_type < 128 && !RTCP_PAYLOAD_TYPES.contains(&payload_type)).then_some(payload_type)
}

/// `<name>/<clock rate>[/<channels>]` of a codec that is forwarded. `GStreamer` leaves out the
/// channels of Opus, which RFC 7587 §7 fixes at two.
fn read_encoding(encoding: &str) -> Option<Codec> {
    let mut parts = encoding.split('/');
    let codec = Codec::parse(parts.next()?)?;
    let clock_rate: u32 = number(parts.next()?)?;
    let channels = parts.next();
    let fitting = match codec.kind() {
        Kind::Audio => matches!(channels, None | Some("2")),
        Kind::Video => channels.is_none(),
    };
    (clock_rate == codec.clock_rate() && fitting && parts.next().is_none()).then_some(codec)
}

/// Whether this is `rtx/<clock rate>` with `apt=<payload type>` (RFC 4588 §8.1).
fn is_rtx_for(entry: Entry<'_>, payload_type: u8, clock_rate: u32) -> bool {
    let Some((name, clock)) = entry.encoding.and_then(|encoding| encoding.split_once('/')) else {
        return false;
    };
    let apt = entry.parameters.and_then(|parameters| parameter(parameters, "apt")).and_then(number);
    name.eq_ignore_ascii_case("rtx")
        && number(clock) == Some(clock_rate)
        && apt == Some(payload_type)
}

/// One parameter of an `a=fmtp` value.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
