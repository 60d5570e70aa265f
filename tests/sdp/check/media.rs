//! Directions, formats, header extensions, layers and sources.

use super::Part;
use std::collections::HashMap;

const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// What an answer may say of Opus (RFC 7587 §6.1), whoever sends, with the values it may have.
const OPUS: [(&str, std::ops::RangeInclusive<u32>); 8] = [
    ("minptime", 3..=120),
    ("maxplaybackrate", 8_000..=48_000),
    ("maxaveragebitrate", 6_000..=510_000),
    ("stereo", 0..=1),
    ("sprop-stereo", 0..=1),
    ("cbr", 0..=1),
    ("useinbandfec", 0..=1),
    ("usedtx", 0..=1),
];

/// All that concerns media in a section that is accepted.
pub(super) fn check_section(
    offer: &Part<'_>,
    asked: &Part<'_>,
    given: &Part<'_>,
) -> Result<(), String> {
    check_direction(offer, asked, given)?;
    check_formats(asked, given)?;
    check_parameters(asked, given)?;
    check_feedback(asked, given)?;
    check_extensions(offer, asked, given)?;
    check_layers(asked, given)?;
    check_sources(given)
}

/// RFC 3264 §6.1.
fn check_direction(offer: &Part<'_>, asked: &Part<'_>, given: &Part<'_>) -> Result<(), String> {
    let asked = asked.direction().or_else(|| offer.direction()).unwrap_or("sendrecv");
    let names = ["sendrecv", "sendonly", "recvonly", "inactive"];
    let count = given.attributes.iter().filter(|(name, _)| names.contains(name)).count();
    demand!(count == 1, "{count} directions");
    let given = given.direction().unwrap_or_default();
    let legal = match asked {
        "sendonly" => given == "recvonly",
        "recvonly" => given == "sendonly",
        "sendrecv" => ["sendonly", "recvonly"].contains(&given),
        _ => false,
    };
    demand!(legal, "{given} in answer to {asked}");
    Ok(())
}

/// RFC 3264 §6.1, RFC 4588 §8, RFC 5761 §4.
fn check_formats(asked: &Part<'_>, given: &Part<'_>) -> Result<(), String> {
    let mut seen = Vec::new();
    for &format in given.formats() {
        demand!(!seen.contains(&format), "format {format} stands twice");
        seen.push(format);
        let number: u8 = format.parse().map_err(|_| format!("format {format}"))?;
        demand!(number < 64 || (96..128).contains(&number), "format {format} reads as RTCP");
        let [map] = given.of("rtpmap", format)[..] else {
            return Err(format!("no single a=rtpmap of {format}"));
        };
        let asked_map = asked.of("rtpmap", format).first().copied().unwrap_or_default();
        demand!(map.eq_ignore_ascii_case(asked_map), "{format} is {map}, not {asked_map}");
        let name = given.encoding(format);
        let known = ["h264", "h265", "vp8", "vp9", "av1", "opus", "rtx"];
        demand!(known.contains(&name.as_str()), "{name} is not forwarded");
        if name == "rtx" {
            let apt = given.parameter(format, "apt").unwrap_or_default();
            demand!(given.formats().contains(&apt), "rtx of {apt}, which is not agreed");
            demand!(given.encoding(apt) != "rtx", "rtx of rtx");
            // What is never asked for again is never sent again.
            demand!(given.of("rtcp-fb", apt).contains(&"nack"), "rtx of {apt} without nack");
        }
    }
    for name in ["rtpmap", "fmtp", "rtcp-fb"] {
        for value in given.all(name) {
            let format = value.split(' ').next().unwrap_or_default();
            demand!(given.formats().contains(&format), "a={name} of {format}, not in m=");
        }
    }
    Ok(())
}

/// RFC 8866 §6.15, RFC 6184 §8.2.2, RFC 7798 §7.2.2, RFC 9628 §6, RFC 7587 §7.1.
fn check_parameters(asked: &Part<'_>, given: &Part<'_>) -> Result<(), String> {
    let receives = given.direction() == Some("recvonly");
    for &format in given.formats() {
        let lines = given.of("fmtp", format);
        demand!(lines.len() <= 1, "two a=fmtp of {format}");
        let name = given.encoding(format);
        let mut keys = Vec::new();
        for pair in lines.iter().flat_map(|line| line.split(';')) {
            let (key, value) = pair.split_once('=').ok_or(format!("parameter {pair:?}"))?;
            let is_text = |text: &str| !text.is_empty() && !text.contains([' ', '"']);
            demand!(is_text(key) && is_text(value), "parameter {pair:?}");
            demand!(!keys.contains(&key), "parameter {key} of {format} stands twice");
            keys.push(key);
            demand!(!receives || !key.starts_with("sprop-"), "{key} of one who sends nothing");
            if name == "opus" {
                let known = OPUS.iter().find(|(known, _)| *known == key);
                let (_, range) = known.ok_or(format!("parameter {key} of Opus"))?;
                let number = value.parse::<u32>();
                demand!(number.is_ok_and(|it| range.contains(&it)), "parameter {pair:?}");
            } else if !key.starts_with("x-google-") {
                let offered = asked.parameter(format, key);
                demand!(offered == Some(value), "{key} of {format} is {value}, not {offered:?}");
            }
        }
        // These must come back as they were offered, or the format is another one.
        let fixed: &[&str] = match name.as_str() {
            "h264" => &["packetization-mode", "profile-level-id"],
            "h265" | "vp9" => &["profile-id"],
            "av1" => &["profile"],
            "rtx" => &["apt"],
            _ => &[],
        };
        for key in fixed {
            let answered = given.parameter(format, key);
            demand!(answered == asked.parameter(format, key), "{key} of {format} differs");
        }
    }
    Ok(())
}

/// RFC 4585 §4.2, RFC 5506 §5; transport-wide feedback is a message and an extension, or neither.
fn check_feedback(asked: &Part<'_>, given: &Part<'_>) -> Result<(), String> {
    let mut reports = false;
    for &format in given.formats() {
        for feedback in given.of("rtcp-fb", format) {
            let offered = asked.of("rtcp-fb", format).contains(&feedback)
                || asked.of("rtcp-fb", "*").contains(&feedback);
            demand!(offered, "feedback {feedback} of {format} was not offered");
            reports |= feedback == "transport-cc";
        }
    }
    let numbers = given.all("extmap").iter().any(|value| value.ends_with(TRANSPORT_CC));
    demand!(numbers == reports, "half of transport-cc");
    demand!(!given.has("rtcp-rsize") || asked.has("rtcp-rsize"), "rtcp-rsize was not offered");
    Ok(())
}

/// RFC 8285 §6 and §4.2.
fn check_extensions(offer: &Part<'_>, asked: &Part<'_>, given: &Part<'_>) -> Result<(), String> {
    let mut seen = Vec::new();
    let receives = given.direction() == Some("recvonly");
    let mixed = asked.has("extmap-allow-mixed") || offer.has("extmap-allow-mixed");
    for value in given.all("extmap") {
        let (id, uri) = value.split_once(' ').ok_or("bad a=extmap")?;
        let (number, direction) = match id.split_once('/') {
            Some((number, direction)) => (number, Some(direction)),
            None => (id, None),
        };
        let is_short = number.parse::<u8>().is_ok_and(|id| (1..=14).contains(&id));
        let is_long = number.parse::<u8>().is_ok_and(|id| id > 15);
        demand!(is_short || (mixed && is_long), "extension id {number}");
        demand!(!seen.contains(&number), "extension id {number} stands twice");
        seen.push(number);
        let offered = asked.all("extmap").into_iter().chain(offer.all("extmap")).any(|other| {
            let mut words = other.split(' ').filter(|word| !word.is_empty());
            let id = words.next().unwrap_or_default();
            let (offered, way) = id.split_once('/').unwrap_or((id, "sendrecv"));
            let way = match direction {
                None => way == "sendrecv",
                Some("recvonly") => receives && way != "recvonly" && way != "inactive",
                Some("sendonly") => !receives && way != "sendonly" && way != "inactive",
                Some(_) => false,
            };
            offered == number && words.next() == Some(uri) && way
        });
        demand!(offered, "extension {value} was not offered so");
    }
    demand!(
        !given.has("extmap-allow-mixed") || asked.has("extmap-allow-mixed"),
        "a=extmap-allow-mixed was not offered"
    );
    Ok(())
}

/// RFC 8853 §5.3, RFC 8851 §6; and every layer that can be is accepted, since OBS demands it.
fn check_layers(asked: &Part<'_>, given: &Part<'_>) -> Result<(), String> {
    let offered = asked.all("rid");
    let offered = |rid: &str| {
        let mut lines = offered.iter().filter_map(|line| line.strip_prefix(rid)?.strip_prefix(' '));
        lines.find_map(|line| line.strip_prefix("send"))
    };
    let mut rids = Vec::new();
    for value in given.all("rid") {
        let (rid, rest) = value.split_once(" recv").ok_or(format!("rid {value} not received"))?;
        let offer = offered(rid).ok_or(format!("rid {rid} was not offered"))?;
        let offer: Vec<&str> = offer.trim().split(';').collect();
        for restriction in rest.trim().split(';').filter(|text| !text.is_empty()) {
            let kept = match restriction.strip_prefix("pt=") {
                Some(list) => list.split(',').all(|format| given.formats().contains(&format)),
                None => offer.contains(&restriction),
            };
            demand!(kept, "restriction {restriction} of rid {rid}");
        }
        rids.push(rid);
    }
    let has_id = given.all("extmap").iter().any(|value| value.ends_with(RID));
    demand!(has_id || rids.is_empty(), "layers without the extension that names them");
    let listed: Vec<&str> = match given.get("simulcast") {
        Some(list) => list.strip_prefix("recv ").ok_or("simulcast is not received")?.split(';'),
        None => "".split(';'),
    }
    .map(|rid| rid.trim_start_matches('~'))
    .filter(|rid| !rid.is_empty())
    .collect();
    demand!(listed == rids, "a=simulcast and a=rid disagree");
    let mut words = asked.get("simulcast").unwrap_or_default().split(' ');
    let wanted = words.find(|word| *word == "send").and(words.next()).unwrap_or_default();
    let wanted = wanted.split(';').map(|stream| stream.split(',').next().unwrap_or_default());
    let mut order = rids.iter();
    let mut next = order.next();
    for rid in wanted.map(|rid| rid.trim_start_matches('~')) {
        if next == Some(&rid) {
            next = order.next();
        } else if has_id && !rids.contains(&rid) {
            let is_name = (1..=16).contains(&rid.len()) && rid.chars().all(char::is_alphanumeric);
            demand!(!is_name || offered(rid) != Some(""), "layer {rid} is not accepted");
        }
    }
    demand!(next.is_none(), "layer {next:?} was not offered in this place");
    Ok(())
}

/// RFC 8830 §2, RFC 5576 §4, RFC 4588 §8.7.
fn check_sources(given: &Part<'_>) -> Result<(), String> {
    if given.direction() == Some("recvonly") {
        let quiet = ["msid", "ssrc", "ssrc-group"].iter().all(|name| !given.has(name));
        demand!(quiet, "sources of a receiver");
        return Ok(());
    }
    let msid: Vec<&str> = given.get("msid").unwrap_or_default().split(' ').collect();
    demand!(msid.len() == 2 && msid.iter().all(|id| (1..=64).contains(&id.len())), "bad msid");
    let ssrcs = given.all("ssrc");
    let resends = given.formats().iter().any(|format| given.parameter(format, "apt").is_some());
    demand!(ssrcs.len() == if resends { 2 } else { 1 }, "{} a=ssrc lines", ssrcs.len());
    let mut numbers = Vec::new();
    for ssrc in ssrcs {
        let (number, attribute) = ssrc.split_once(' ').ok_or("bad a=ssrc")?;
        demand!(number.parse::<u32>().is_ok(), "bad SSRC {number}");
        demand!(attribute.starts_with("cname:"), "an SSRC without cname");
        numbers.push(number);
    }
    let group = resends.then(|| format!("FID {}", numbers.join(" ")));
    demand!(given.get("ssrc-group") == group.as_deref(), "bad a=ssrc-group");
    demand!(given.all("ssrc-group").len() <= 1, "bad a=ssrc-group");
    Ok(())
}

/// RFC 9143 §9: payload types, extension ids and SSRCs mean one thing in the whole group; and what
/// is sent together has one stream (RFC 8830 §2) and one name (RFC 8834 §4.9).
pub(super) fn check_shared(sections: &[&Part<'_>]) -> Result<(), String> {
    let mut meanings: HashMap<(&str, &str), &str> = HashMap::new();
    for section in sections {
        let ids = section.all("extmap").into_iter().filter_map(|value| {
            let (id, uri) = value.split_once(' ')?;
            Some((id.split('/').next()?, uri))
        });
        for (id, uri) in ids {
            for (key, meaning) in [(("id", id), uri), (("uri", uri), id)] {
                let known = *meanings.entry(key).or_insert(meaning);
                demand!(known == meaning, "extension {id} {uri} differs within the group");
            }
        }
        let ssrcs: Vec<(&str, &str)> =
            section.all("ssrc").into_iter().filter_map(|value| value.split_once(' ')).collect();
        let stream = section.get("msid").and_then(|msid| msid.split(' ').next());
        let names = ssrcs.iter().map(|(_, name)| ("cname", *name));
        for (place, name) in names.chain(stream.map(|stream| ("stream", stream))) {
            let known = *meanings.entry(("one", place)).or_insert(name);
            demand!(known == name, "{place} {name} differs within the group");
        }
        let ssrcs = ssrcs.iter().map(|(ssrc, _)| ("ssrc", *ssrc));
        for (space, name) in section.formats().iter().map(|it| ("format", *it)).chain(ssrcs) {
            let known = *meanings.entry((space, name)).or_insert(section.mid());
            demand!(known == section.mid(), "{space} {name} stands in two sections");
        }
    }
    Ok(())
}
