//! Lines, their order, and which attributes stand where (RFC 8866, RFC 9429 §5.3.1).

use super::Part;
use std::net::IpAddr;

/// How an attribute stands: once or often, with a value or without.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// Once at most, without a value.
    Flag,
    /// Once at most, with a value.
    Once,
    /// Any number of times, each with another value.
    Often,
}

const SESSION: [(&str, Stands); 4] = [
    ("group", Stands::Once),
    ("ice-lite", Stands::Flag),
    ("ice-options", Stands::Once),
    ("extmap-allow-mixed", Stands::Flag),
];

const MEDIA: [(&str, Stands); 23] = [
    ("mid", Stands::Once),
    ("sendonly", Stands::Flag),
    ("recvonly", Stands::Flag),
    ("sendrecv", Stands::Flag),
    ("inactive", Stands::Flag),
    ("msid", Stands::Once),
    ("rtcp-mux", Stands::Flag),
    ("rtcp-rsize", Stands::Flag),
    ("ice-ufrag", Stands::Once),
    ("ice-pwd", Stands::Once),
    ("fingerprint", Stands::Once),
    ("setup", Stands::Once),
    ("extmap-allow-mixed", Stands::Flag),
    ("extmap", Stands::Often),
    ("rtpmap", Stands::Often),
    ("rtcp-fb", Stands::Often),
    ("fmtp", Stands::Often),
    ("rid", Stands::Often),
    ("simulcast", Stands::Once),
    ("ssrc", Stands::Often),
    ("ssrc-group", Stands::Often),
    ("candidate", Stands::Often),
    ("end-of-candidates", Stands::Flag),
];

/// RFC 8866 §5 and §9: lines, their ends, their order and what those before the attributes say.
pub(super) fn check_lines(answer: &str) -> Result<(), String> {
    demand!(answer.ends_with("\r\n"), "the last line has no end");
    let mut letters = String::new();
    for line in answer.split_terminator("\r\n") {
        demand!(line.get(1..2) == Some("="), "{line:?} is no line");
        demand!(line.len() > 2 && !line.chars().any(char::is_control), "{line:?} is no line");
        demand!(!line.ends_with(' ') && !line.contains("  "), "{line:?} has a space too many");
        letters.push_str(&line[..1]);
    }
    let session = letters.split('m').next().unwrap_or_default();
    demand!(session.trim_end_matches('a') == "vost", "session lines are {session}");
    for section in letters.split('m').skip(1) {
        demand!(section.trim_end_matches('a') == "c", "section lines are m{section}");
    }
    for line in answer.split_terminator("\r\n") {
        let (letter, value) = line.split_at(2);
        match letter {
            "v=" => demand!(value == "0", "version {value}"),
            "o=" => check_origin(value)?,
            // RFC 9429 §5.2.1.
            "s=" => demand!(value == "-", "session name {value}"),
            "t=" => demand!(value == "0 0", "time {value}"),
            "c=" => check_address(value)?,
            "m=" => check_media(value)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_origin(value: &str) -> Result<(), String> {
    let [_, id, version, network @ ..] = &value.split(' ').collect::<Vec<_>>()[..] else {
        return Err("bad o= line".to_owned());
    };
    let id: Option<i64> = id.parse().ok();
    demand!(id.is_some_and(|id| id >= 0), "session id of over 63 bits");
    demand!(version.parse::<u64>().is_ok(), "session version {version}");
    check_address(&network.join(" "))
}

fn check_address(value: &str) -> Result<(), String> {
    let [network, version, address] = value.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("{value:?} is no address"));
    };
    let fits = match address.parse() {
        Ok(IpAddr::V4(_)) => version == "IP4",
        Ok(IpAddr::V6(_)) => version == "IP6",
        Err(_) => false,
    };
    demand!(network == "IN" && fits, "{value:?} is no address");
    Ok(())
}

fn check_media(value: &str) -> Result<(), String> {
    let words: Vec<&str> = value.split(' ').collect();
    demand!(words.len() >= 4, "no format in {value:?}");
    demand!(words[1].parse::<u16>().is_ok(), "port {}", words[1]);
    Ok(())
}

/// RFC 8866 §9: attributes that are known, where they belong, as often as they may stand.
pub(super) fn check_attributes(session: &Part<'_>, sections: &[Part<'_>]) -> Result<(), String> {
    check_part(session, &SESSION).map_err(|why| format!("session: {why}"))?;
    for (index, section) in sections.iter().enumerate() {
        check_part(section, &MEDIA).map_err(|why| format!("section {}: {why}", index + 1))?;
    }
    Ok(())
}

fn check_part(part: &Part<'_>, known: &[(&str, Stands)]) -> Result<(), String> {
    for (index, &(name, value)) in part.attributes.iter().enumerate() {
        let stands = known.iter().find(|(known, _)| *known == name).map(|(_, stands)| *stands);
        let stands = stands.ok_or(format!("a={name} does not belong here"))?;
        let is_flag = stands == Stands::Flag;
        demand!(is_flag == value.is_empty(), "a={name} with the value {value:?}");
        let before = &part.attributes[..index];
        let is_again = match stands {
            Stands::Often => before.contains(&(name, value)),
            Stands::Flag | Stands::Once => before.iter().any(|(before, _)| *before == name),
        };
        demand!(!is_again, "a={name} stands twice");
    }
    Ok(())
}
