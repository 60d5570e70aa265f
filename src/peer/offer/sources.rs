//! What a publisher says of its RTP streams: simulcast layers (RFC 8851, RFC 8853) and announced
//! SSRCs (RFC 5576, RFC 4588 §8.7).

use super::AnswerError;
use super::formats::OfferedFormat;
use super::parse::{Section, number};
use crate::media::layer::LAYERS_MAX;
use crate::peer::agreement::AnnouncedSsrc;
use std::fmt::Write as _;

/// The longest `rid`: the one-byte header extension that carries it has 16 bytes (RFC 8285 §4.2).
const RID_MAX: usize = 16;
/// The most SSRCs taken from one section; later ones are learnt from their packets.
const SSRCS_MAX: usize = 16;
/// What a publisher may say a layer stays below (RFC 8851 §5).
const RESTRICTIONS: [&str; 7] =
    ["max-width", "max-height", "max-fps", "max-fs", "max-br", "max-pps", "max-bpp"];

/// One simulcast layer of an offer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layer<'a> {
    pub(super) rid: &'a str,
    /// Offered with `~`: not sent at first.
    paused: bool,
    /// What follows the direction in `a=rid`, without payload types that were not agreed.
    restrictions: String,
}

/// The simulcast layers in the offer's order; every one is accepted, since OBS ends the session
/// otherwise. Of alternatives (RFC 8853 §5.1) the first is.
///
/// # Errors
///
/// [`AnswerError::Unservable`] beyond the bound.
pub(super) fn layers<'a>(
    section: &Section<'a>,
    formats: &[OfferedFormat<'_>],
) -> Result<Vec<Layer<'a>>, AnswerError> {
    let mut layers: Vec<Layer<'a>> = Vec::new();
    let Some(list) = section.attributes.get("simulcast").and_then(sent_streams) else {
        return Ok(layers);
    };
    for stream in list.split(';') {
        let first = stream.split(',').next().unwrap_or_default();
        let (rid, paused) = match first.strip_prefix('~') {
            Some(rid) => (rid, true),
            None => (first, false),
        };
        if layers.iter().any(|layer| layer.rid == rid) || !is_rid(rid) {
            continue;
        }
        // RFC 8853 §5.3.2: a layer without an `a=rid` line of this direction is no layer.
        let line = section.attributes.all("rid").find_map(|value| sent_restrictions(value, rid));
        let Some(restrictions) = line.and_then(|line| agreed_restrictions(line, formats)) else {
            continue;
        };
        if layers.len() == LAYERS_MAX {
            return Err(AnswerError::Unservable(format!(
                "the offer has more than {LAYERS_MAX} simulcast layers"
            )));
        }
        layers.push(Layer { rid, paused, restrictions });
    }
    Ok(layers)
}

impl Layer<'_> {
    /// The value of `a=rid` in the answer.
    pub(super) fn answer(&self) -> String {
        if self.restrictions.is_empty() {
            return format!("{} recv", self.rid);
        }
        format!("{} recv {}", self.rid, self.restrictions)
    }
}

/// The value of `a=simulcast` in the answer.
pub(super) fn answer(layers: &[Layer<'_>]) -> String {
    let mut value = "recv ".to_owned();
    for (index, layer) in layers.iter().enumerate() {
        let separator = if index == 0 { "" } else { ";" };
        let paused = if layer.paused { "~" } else { "" };
        let _ = write!(value, "{separator}{paused}{}", layer.rid);
    }
    value
}

/// The SSRCs that a section announces, media and retransmission paired by `FID`.
pub(super) fn ssrcs(section: &Section<'_>) -> Vec<AnnouncedSsrc> {
    let mut announced: Vec<AnnouncedSsrc> = Vec::new();
    let mut helpers: Vec<u32> = Vec::new();
    for value in section.attributes.all("ssrc-group") {
        let mut words = value.split(' ');
        let semantics = words.next().unwrap_or_default();
        let mut ssrcs = words.filter_map(number);
        let (Some(ssrc), Some(helper)) = (ssrcs.next(), ssrcs.next()) else { continue };
        if !matches!(semantics, "FID" | "FEC-FR") || helpers.len() == SSRCS_MAX {
            continue;
        }
        helpers.push(helper);
        if semantics == "FID" && announced.iter().all(|known| known.ssrc != ssrc) {
            announced.push(AnnouncedSsrc { ssrc, rtx: Some(helper) });
        }
    }
    for value in section.attributes.all("ssrc") {
        let ssrc = value.split(' ').next().and_then(number);
        let Some(ssrc) = ssrc.filter(|ssrc| !helpers.contains(ssrc)) else { continue };
        if announced.len() == SSRCS_MAX {
            break;
        }
        if announced.iter().all(|known| known.ssrc != ssrc) {
            announced.push(AnnouncedSsrc { ssrc, rtx: None });
        }
    }
    announced.retain(|known| !helpers.contains(&known.ssrc));
    announced
}

/// The list behind `send` in `a=simulcast`: `send 1;2`, `send 1;2 recv 3` or `recv 3 send 1;2`.
fn sent_streams(value: &str) -> Option<&str> {
    let mut words = value.split(' ').filter(|word| !word.is_empty());
    words.find(|&word| word == "send")?;
    words.next()
}

/// What follows `<rid> send` in a value of `a=rid`.
fn sent_restrictions<'a>(value: &'a str, rid: &str) -> Option<&'a str> {
    let rest = value.strip_prefix(rid)?.strip_prefix(' ')?;
    match rest.split_once(' ') {
        Some(("send", restrictions)) => Some(restrictions.trim()),
        None if rest == "send" => Some(""),
        _ => None,
    }
}

/// The restrictions with `pt=` cut down to what was agreed; `None` where nothing of it was, or
/// where one is not understood, so that the layer cannot be accepted (RFC 8851 §6.3).
fn agreed_restrictions(restrictions: &str, formats: &[OfferedFormat<'_>]) -> Option<String> {
    let mut kept: Vec<String> = Vec::new();
    for restriction in restrictions.split(';').filter(|text| !text.is_empty()) {
        let (name, list) = restriction.split_once('=')?;
        if RESTRICTIONS.contains(&name) {
            kept.push(restriction.to_owned());
            continue;
        } else if name != "pt" {
            return None;
        }
        let agreed =
            |text: &&str| formats.iter().any(|format| number(text) == Some(format.payload_type));
        let list: Vec<&str> = list.split(',').filter(agreed).collect();
        if list.is_empty() {
            return None;
        }
        kept.push(format!("pt={}", list.join(",")));
    }
    Some(kept.join(";"))
}

/// RFC 8851 §10 with the correction of RFC 8852: letters and digits; `-` and `_` in old offers.
fn is_rid(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=RID_MAX).contains(&text.len()) && text.bytes().all(legal)
}
