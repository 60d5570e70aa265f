//! A strict reader of answers: what RFC 8866, 3264, 9143, 8839, 8842, 8285, 8853 and 9429 demand
//! of an answer to a given offer. It shares no code with the writer.

use std::collections::HashMap;

/// One `m=` section, or the session part before the first.
#[derive(Debug, Default)]
struct Part<'a> {
    media: Vec<&'a str>,
    connection: Option<&'a str>,
    attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> Part<'a> {
    fn all(&self, name: &str) -> Vec<&'a str> {
        self.attributes.iter().filter(|(key, _)| *key == name).map(|(_, value)| *value).collect()
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.all(name).first().copied()
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn mid(&self) -> &'a str {
        self.get("mid").unwrap_or_default()
    }

    fn port(&self) -> &'a str {
        self.media.get(1).copied().unwrap_or_default()
    }

    fn formats(&self) -> &[&'a str] {
        self.media.get(3..).unwrap_or_default()
    }

    fn direction(&self) -> Option<&'a str> {
        let names = ["sendrecv", "sendonly", "recvonly", "inactive"];
        self.attributes.iter().map(|(name, _)| *name).find(|name| names.contains(name))
    }

    /// What stands behind `<payload type> ` in attributes of a name.
    fn of(&self, name: &str, payload_type: &str) -> Vec<&'a str> {
        let values = self.all(name).into_iter().filter_map(|value| value.split_once(' '));
        values.filter(|(key, _)| *key == payload_type).map(|(_, value)| value.trim()).collect()
    }

    fn parameter(&self, payload_type: &str, name: &str) -> Option<&'a str> {
        let pairs = self.of("fmtp", payload_type).first()?.split(';');
        pairs
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(key, value)| key.trim().eq_ignore_ascii_case(name).then_some(value.trim()))
    }
}

macro_rules! demand {
    ($condition:expr, $($why:tt)*) => { if !$condition { return Err(format!($($why)*)); } };
}

/// Whether the answer is one that a strict reader accepts; if not, why.
pub(crate) fn check(offer: &str, answer: &str) -> Result<(), String> {
    check_lines(answer)?;
    let offered = parts(offer.lines());
    let answered = parts(answer.split_terminator("\r\n"));
    demand!(offered.len() == answered.len(), "another number of m= sections");
    let (Some((offer, offered)), Some((session, sections))) =
        (offered.split_first(), answered.split_first())
    else {
        return Err("no session".to_owned());
    };
    let accepted: Vec<usize> =
        (0..sections.len()).filter(|&index| sections[index].port() != "0").collect();
    demand!(!accepted.is_empty(), "nothing is accepted");
    let tagged = check_bundle(offer, offered, session, sections, &accepted)?;
    check_session(offer, &offered[tagged], session)?;
    for (index, (asked, given)) in offered.iter().zip(sections).enumerate() {
        let place = format!("section {}", index + 1);
        demand!(asked.media[0] == given.media[0], "{place}: another medium");
        demand!(asked.media[2] == given.media[2], "{place}: another protocol");
        demand!(asked.get("mid") == given.get("mid"), "{place}: another mid");
        demand!(!given.formats().is_empty(), "{place}: no format");
        for format in given.formats() {
            demand!(asked.formats().contains(format), "{place}: format {format} not offered");
        }
        if given.port() == "0" {
            for name in ["ice-ufrag", "fingerprint", "candidate", "setup", "bundle-only"] {
                demand!(!given.has(name), "{place}: rejected with a={name}");
            }
            continue;
        }
        let result = check_transport(offer, &offered[tagged], given, &sections[tagged])
            .and_then(|()| check_candidates(given, index == tagged, &sections[tagged]))
            .and_then(|()| check_direction(offer, asked, given))
            .and_then(|()| check_formats(asked, given))
            .and_then(|()| check_extensions(offer, asked, given))
            .and_then(|()| check_layers(asked, given))
            .and_then(|()| check_sources(given));
        result.map_err(|why| format!("{place}: {why}"))?;
    }
    check_shared(&accepted.iter().map(|&index| &sections[index]).collect::<Vec<_>>())
}

/// RFC 8866 §5 and §9: lines, their ends and their order.
fn check_lines(answer: &str) -> Result<(), String> {
    demand!(answer.ends_with("\r\n"), "the last line has no end");
    let mut letters = String::new();
    for line in answer.split_terminator("\r\n") {
        demand!(line.get(1..2) == Some("="), "{line:?} is no line");
        demand!(line.len() > 2 && !line.chars().any(char::is_control), "{line:?} is no line");
        demand!(!line.ends_with(' '), "{line:?} ends with a space");
        letters.push_str(&line[..1]);
    }
    let session = letters.split('m').next().unwrap_or_default();
    demand!(session.trim_end_matches('a') == "vost", "session lines are {session}");
    for section in letters.split('m').skip(1) {
        demand!(section.trim_end_matches('a') == "c", "section lines are m{section}");
    }
    let origin: Vec<&str> = answer.lines().nth(1).unwrap_or_default().split(' ').collect();
    demand!(origin.len() == 6 && origin[3] == "IN", "bad o= line");
    let id: Option<i64> = origin[1].parse().ok();
    demand!(id.is_some_and(|id| id >= 0), "session id of over 63 bits");
    Ok(())
}

fn parts<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Part<'a>> {
    let mut parts = vec![Part::default()];
    for line in lines {
        let Some((letter, value)) = line.split_once('=') else { continue };
        if letter == "m" {
            let media = value.split(' ').filter(|word| !word.is_empty()).collect();
            parts.push(Part { media, ..Part::default() });
        }
        let part = parts.last_mut().expect("there is a session part");
        match letter {
            "c" => part.connection = Some(value),
            "a" => part.attributes.push(value.split_once(':').unwrap_or((value, ""))),
            _ => {}
        }
    }
    parts
}

fn bundle<'a>(session: &Part<'a>) -> Option<Vec<&'a str>> {
    let group = session.all("group").into_iter().find_map(|value| value.strip_prefix("BUNDLE"))?;
    Some(group.split(' ').filter(|mid| !mid.is_empty()).collect())
}

/// RFC 9143 §7.3: the group holds the accepted sections, tagged one first. Says which that is.
fn check_bundle(
    offer: &Part<'_>,
    offered: &[Part<'_>],
    session: &Part<'_>,
    sections: &[Part<'_>],
    accepted: &[usize],
) -> Result<usize, String> {
    demand!(session.all("group").len() <= 1, "several groups");
    let Some(group) = bundle(session) else {
        demand!(bundle(offer).is_none(), "the BUNDLE group is lost");
        demand!(accepted.len() == 1, "several sections without BUNDLE");
        return Ok(accepted[0]);
    };
    let asked = bundle(offer).ok_or("a BUNDLE group that was not offered")?;
    demand!(group.iter().all(|mid| asked.contains(mid)), "a mid outside the offered group");
    let mut mids: Vec<&str> = accepted.iter().map(|&index| sections[index].mid()).collect();
    let mut sorted = group.clone();
    mids.sort_unstable();
    sorted.sort_unstable();
    demand!(mids == sorted, "the group {group:?} is not the accepted sections {mids:?}");
    let tagged = sections.iter().position(|section| section.mid() == group[0]);
    let tagged = tagged.ok_or("the tagged section is missing")?;
    demand!(offered[tagged].port() != "0", "the tagged section was offered as bundle-only");
    Ok(tagged)
}

fn check_session(offer: &Part<'_>, tagged: &Part<'_>, session: &Part<'_>) -> Result<(), String> {
    for (name, _) in &session.attributes {
        let known = ["group", "ice-lite", "ice-options", "extmap-allow-mixed"];
        demand!(known.contains(name), "unknown session attribute {name}");
    }
    demand!(session.has("ice-lite"), "no a=ice-lite");
    demand!(!session.has("extmap-allow-mixed") || offer.has("extmap-allow-mixed"), "mixed");
    for option in session.get("ice-options").unwrap_or_default().split(' ') {
        let mut asked = tagged.all("ice-options").into_iter().chain(offer.all("ice-options"));
        let trickles = option == "trickle" && asked.any(|value| value.contains("trickle"));
        demand!(option == "ice2" || trickles, "ICE option {option:?} was not offered");
    }
    Ok(())
}

/// RFC 8839 §5.4, RFC 8122 §5, RFC 8842 §5.3, RFC 5761 §5.1.1.
fn check_transport(
    offer: &Part<'_>,
    asked: &Part<'_>,
    given: &Part<'_>,
    tagged: &Part<'_>,
) -> Result<(), String> {
    for name in ["ice-ufrag", "ice-pwd", "fingerprint", "setup", "rtcp-mux"] {
        demand!(given.all(name).len() == 1, "a={name} does not stand once");
        demand!(given.get(name) == tagged.get(name), "a={name} differs within the group");
    }
    let is_ice_text = |name, least: usize| {
        let text = given.get(name).unwrap_or_default();
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
        (least..=256).contains(&text.len()) && text.chars().all(legal)
    };
    demand!(is_ice_text("ice-ufrag", 4) && is_ice_text("ice-pwd", 22), "bad ICE credentials");
    let (hash, digest) =
        given.get("fingerprint").and_then(|value| value.split_once(' ')).unwrap_or_default();
    let bytes = digest.split(':').filter(|pair| {
        pair.len() == 2 && pair.chars().all(|c| c.is_ascii_digit() || ('A'..='F').contains(&c))
    });
    demand!(hash == "sha-256" && bytes.count() == 32, "bad fingerprint");
    let setup = asked.get("setup").or_else(|| offer.get("setup")).unwrap_or("active");
    let legal = match setup {
        "actpass" => given.get("setup") != Some("actpass"),
        "active" => given.get("setup") == Some("passive"),
        "passive" => given.get("setup") == Some("active"),
        _ => false,
    };
    demand!(legal, "setup {:?} in answer to {setup}", given.get("setup"));
    Ok(())
}

/// RFC 8839 §5.1 and §4.2.1.2, RFC 9143 §7.1.1, RFC 6544 §4.2 and §4.5.
fn check_candidates(given: &Part<'_>, is_tagged: bool, tagged: &Part<'_>) -> Result<(), String> {
    demand!(given.port() == tagged.port(), "another port within the group");
    demand!(given.connection == tagged.connection, "another address within the group");
    let candidates = given.all("candidate");
    demand!(is_tagged != candidates.is_empty(), "candidates belong into the tagged section");
    demand!(given.has("end-of-candidates") == is_tagged, "bad a=end-of-candidates");
    let mut priority = u32::MAX;
    for (index, candidate) in candidates.iter().enumerate() {
        let words: Vec<&str> = candidate.split(' ').collect();
        let (foundation, this, ip, port, type_preference) = match words[..] {
            [foundation, "1", "udp", this, ip, port, "typ", "host"] => {
                (foundation, this, ip, port, 126)
            }
            [foundation, "1", "tcp", this, ip, port, "typ", "host", "tcptype", "passive"] => {
                (foundation, this, ip, port, 90)
            }
            _ => return Err(format!("{candidate:?} is no host candidate")),
        };
        demand!(index > 0 || type_preference == 126, "the first candidate is not UDP");
        demand!(foundation.chars().all(|c| c.is_ascii_alphanumeric()), "bad foundation");
        let this: u32 = this.parse().map_err(|_| "bad priority")?;
        demand!(this < priority && this >> 24 == type_preference, "bad priority {this}");
        let direction = if type_preference == 90 { this >> 21 & 7 } else { 4 };
        demand!(direction == 4, "priority {this} is not that of a passive candidate");
        priority = this;
        let address: std::net::IpAddr = ip.parse().map_err(|_| "bad address")?;
        if index == 0 {
            let version = if address.is_ipv4() { "IP4" } else { "IP6" };
            let connection = format!("IN {version} {ip}");
            demand!(given.connection == Some(&connection), "c= is not the first candidate");
            demand!(given.port() == port, "the port is not the first candidate's");
        }
    }
    Ok(())
}

/// RFC 3264 §6.1.
fn check_direction(offer: &Part<'_>, asked: &Part<'_>, given: &Part<'_>) -> Result<(), String> {
    let asked = asked.direction().or_else(|| offer.direction()).unwrap_or("sendrecv");
    let given = given.direction().ok_or("no direction")?;
    let legal = match asked {
        "sendonly" => given == "recvonly",
        "recvonly" => given == "sendonly",
        "sendrecv" => given != "inactive",
        _ => false,
    };
    demand!(legal, "{given} in answer to {asked}");
    Ok(())
}

/// RFC 3264 §6.1, RFC 4585 §4.2, RFC 4588 §8, RFC 6184 §8.2.2, RFC 5761 §4.
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
        let name = map.split('/').next().unwrap_or_default().to_ascii_lowercase();
        let known = ["h264", "h265", "vp8", "vp9", "av1", "opus", "rtx"];
        demand!(known.contains(&name.as_str()), "{name} is not forwarded");
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
        if name == "rtx" {
            let apt = given.parameter(format, "apt").unwrap_or_default();
            demand!(given.formats().contains(&apt), "rtx of {apt}, which is not agreed");
        }
        for feedback in given.of("rtcp-fb", format) {
            let offered = asked.of("rtcp-fb", format).contains(&feedback)
                || asked.of("rtcp-fb", "*").contains(&feedback);
            demand!(offered, "feedback {feedback} of {format} was not offered");
        }
    }
    for name in ["rtpmap", "fmtp", "rtcp-fb"] {
        for value in given.all(name) {
            let format = value.split(' ').next().unwrap_or_default();
            demand!(given.formats().contains(&format), "a={name} of {format}, not in m=");
        }
    }
    demand!(!given.has("rtcp-rsize") || asked.has("rtcp-rsize"), "rtcp-rsize was not offered");
    Ok(())
}

/// RFC 8285 §6.
fn check_extensions(offer: &Part<'_>, asked: &Part<'_>, given: &Part<'_>) -> Result<(), String> {
    let mut seen = Vec::new();
    let receives = given.direction() == Some("recvonly");
    for value in given.all("extmap") {
        let (id, uri) = value.split_once(' ').ok_or("bad a=extmap")?;
        let (number, direction) = match id.split_once('/') {
            Some((number, direction)) => (number, Some(direction)),
            None => (id, None),
        };
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

/// RFC 8853 §5.3, RFC 8851 §6.
fn check_layers(asked: &Part<'_>, given: &Part<'_>) -> Result<(), String> {
    let rids: Vec<&str> = given.all("rid").iter().filter_map(|v| v.split(' ').next()).collect();
    for value in given.all("rid") {
        let mut words = value.split(' ');
        let rid = words.next().unwrap_or_default();
        demand!(words.next() == Some("recv"), "rid {rid} is not received");
        let offered = format!("{rid} send");
        let mut asked = asked.all("rid").into_iter();
        demand!(asked.any(|value| value.starts_with(&offered)), "rid {rid} was not offered");
    }
    let Some(simulcast) = given.get("simulcast") else {
        demand!(rids.is_empty(), "a=rid without a=simulcast");
        return Ok(());
    };
    let list = simulcast.strip_prefix("recv ").ok_or("simulcast is not received")?;
    let listed: Vec<&str> = list.split(';').map(|rid| rid.trim_start_matches('~')).collect();
    demand!(listed == rids, "a=simulcast and a=rid disagree");
    let offered = asked.get("simulcast").unwrap_or_default();
    let words = |c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_';
    let mut order = offered.split(words);
    for rid in rids {
        // Taken from one pass over the offer's list: in its order, and each at most once.
        demand!(order.any(|word| word == rid), "rid {rid} is not in the offer's order");
    }
    Ok(())
}

/// RFC 8830 §2, RFC 5576 §4, RFC 4588 §8.7.
fn check_sources(given: &Part<'_>) -> Result<(), String> {
    if given.direction() == Some("recvonly") {
        demand!(!given.has("msid") && !given.has("ssrc"), "sources of a receiver");
        return Ok(());
    }
    let msid: Vec<&str> = given.get("msid").unwrap_or_default().split(' ').collect();
    demand!(msid.len() == 2 && msid.iter().all(|id| (1..=64).contains(&id.len())), "bad msid");
    let ssrcs = given.all("ssrc");
    let resends = given.formats().iter().any(|format| given.parameter(format, "apt").is_some());
    demand!(ssrcs.len() == if resends { 2 } else { 1 }, "{} a=ssrc lines", ssrcs.len());
    demand!(given.all("ssrc-group").len() == usize::from(resends), "bad a=ssrc-group");
    for ssrc in ssrcs {
        let (number, attribute) = ssrc.split_once(' ').ok_or("bad a=ssrc")?;
        demand!(number.parse::<u32>().is_ok(), "bad SSRC {number}");
        demand!(attribute.starts_with("cname:"), "an SSRC without cname");
        let group = given.get("ssrc-group").unwrap_or_default();
        demand!(!resends || group.split(' ').any(|word| word == number), "an SSRC of no group");
    }
    Ok(())
}

/// RFC 9143 §9: payload types, extension ids and SSRCs mean one thing in the whole group.
fn check_shared(sections: &[&Part<'_>]) -> Result<(), String> {
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
        let ssrcs = section.all("ssrc").into_iter().filter_map(|value| value.split(' ').next());
        for (space, name) in section
            .formats()
            .iter()
            .map(|format| ("format", *format))
            .chain(ssrcs.map(|ssrc| ("ssrc", ssrc)))
        {
            let known = *meanings.entry((space, name)).or_insert(section.mid());
            demand!(known == section.mid(), "{space} {name} stands in two sections");
        }
    }
    Ok(())
}
