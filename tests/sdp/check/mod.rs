//! A strict reader of answers: what RFC 8866, 3264, 9143, 8839, 8842, 8285, 8853 and 9429 demand
//! of an answer to a given offer. It shares no code with the writer.
//!
//! - `grammar`: lines, their order, and which attributes stand where
//! - `media`: directions, formats, header extensions, layers, sources
//! - `transport`: BUNDLE, ICE, DTLS, candidates

use std::collections::HashSet;

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

    /// The encoding name of a format.
    fn encoding(&self, payload_type: &str) -> String {
        let map = self.of("rtpmap", payload_type).first().copied().unwrap_or_default();
        map.split('/').next().unwrap_or_default().to_ascii_lowercase()
    }
}

macro_rules! demand {
    ($condition:expr, $($why:tt)*) => { if !$condition { return Err(format!($($why)*)); } };
}

mod grammar;
mod media;
mod transport;

/// Whether the answer is one that a strict reader accepts; if not, why.
pub(crate) fn check(offer: &str, answer: &str) -> Result<(), String> {
    grammar::check_lines(answer)?;
    let offered = parts(offer.lines());
    let answered = parts(answer.split_terminator("\r\n"));
    demand!(offered.len() == answered.len(), "another number of m= sections");
    let (Some((offer, offered)), Some((session, sections))) =
        (offered.split_first(), answered.split_first())
    else {
        return Err("no session".to_owned());
    };
    grammar::check_attributes(session, sections)?;
    check_mids(sections)?;
    let accepted: Vec<usize> =
        (0..sections.len()).filter(|&index| sections[index].port() != "0").collect();
    demand!(!accepted.is_empty(), "nothing is accepted");
    for (index, (asked, given)) in offered.iter().zip(sections).enumerate() {
        check_place(asked, given).map_err(|why| format!("section {}: {why}", index + 1))?;
    }
    let tagged = transport::check_bundle(offer, offered, session, sections, &accepted)?;
    transport::check_session(offer, &offered[tagged], session)?;
    for &index in &accepted {
        let (asked, given) = (&offered[index], &sections[index]);
        let result = transport::check_section(offer, &offered[tagged], given, &sections[tagged])
            .and_then(|()| transport::check_candidates(given, index == tagged, &sections[tagged]))
            .and_then(|()| media::check_section(offer, asked, given));
        result.map_err(|why| format!("section {}: {why}", index + 1))?;
    }
    media::check_shared(&accepted.iter().map(|&index| &sections[index]).collect::<Vec<_>>())
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

/// RFC 5888 §4: a mid is unique.
fn check_mids(sections: &[Part<'_>]) -> Result<(), String> {
    let mut seen = HashSet::new();
    for mid in sections.iter().filter_map(|section| section.get("mid")) {
        demand!(seen.insert(mid), "mid {mid} stands twice");
    }
    Ok(())
}

/// RFC 3264 §6: each section answers the one in its place; one that is refused says no more.
fn check_place(asked: &Part<'_>, given: &Part<'_>) -> Result<(), String> {
    demand!(asked.media[0] == given.media[0], "another medium");
    demand!(asked.media[2] == given.media[2], "another protocol");
    demand!(asked.get("mid") == given.get("mid"), "another mid");
    for format in given.formats() {
        demand!(asked.formats().contains(format), "format {format} not offered");
    }
    // RFC 9143 §6: in an offer, port zero with a=bundle-only is no refusal.
    let was_refused = asked.port() == "0" && !asked.has("bundle-only");
    demand!(!was_refused || given.port() == "0", "accepts what was not offered");
    if given.port() == "0" {
        for (name, _) in &given.attributes {
            demand!(["mid", "inactive"].contains(name), "refused with a={name}");
        }
    }
    Ok(())
}
