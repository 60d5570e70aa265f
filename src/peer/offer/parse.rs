//! The text of an offer taken apart (RFC 8866), with bounds on everything that is counted.
//!
//! What is read here borrows from the offer. No line holds a control character, so whatever is
//! echoed into an answer cannot add lines to it. Fuzz target: `sdp_offer`.

use super::AnswerError;
use std::str::FromStr;

/// The longest offer; the longest of a real client has 7 KiB.
const BYTES_MAX: usize = 64 * 1024;
/// The most lines; Chromium with every codec and candidate has 300.
const LINES_MAX: usize = 4096;
/// The most `m=` sections.
const SECTIONS_MAX: usize = 32;
/// The most formats in one `m=` line: there are no more payload types.
const FORMATS_MAX: usize = 128;
/// The longest `a=mid`. The header extension that carries it has 16 bytes (RFC 8285 §4.2).
const MID_MAX: usize = 64;

/// An offer: what stands before the first `m=` line, and the sections.
#[derive(Debug)]
pub(super) struct Offer<'a> {
    pub(super) session: Attributes<'a>,
    pub(super) sections: Vec<Section<'a>>,
}

/// The `a=` lines of one level, in order: name and value; a flag has an empty value.
#[derive(Debug, Default)]
pub(super) struct Attributes<'a>(Vec<(&'a str, &'a str)>);

/// One `m=` section.
#[derive(Debug)]
pub(super) struct Section<'a> {
    /// `audio`, `video`, `application`, ..
    pub(super) media: &'a str,
    /// 0 means rejected, unless `a=bundle-only` stands below (RFC 9143 §6).
    pub(super) port: u16,
    /// Say `UDP/TLS/RTP/SAVPF`.
    pub(super) protocol: &'a str,
    /// Payload types, or names where the protocol is not RTP. Never empty.
    pub(super) formats: Vec<&'a str>,
    /// The section's `a=` lines.
    pub(super) attributes: Attributes<'a>,
}

impl<'a> Attributes<'a> {
    /// The value of the first attribute of this name.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// The values of all attributes of this name.
    pub(super) fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a str> + 's {
        self.0.iter().filter(move |(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// Whether there is an attribute of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All names in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.0.iter().map(|(name, _)| *name)
    }
}

impl<'a> Section<'a> {
    /// `a=mid`, empty where there is none.
    pub(super) fn mid(&self) -> &'a str {
        self.attributes.get("mid").unwrap_or_default()
    }

    /// Whether the offer itself has given this section up (RFC 3264 §6, RFC 9143 §6).
    pub(super) fn is_rejected(&self) -> bool {
        self.port == 0 && !self.attributes.has("bundle-only")
    }
}

impl<'a> Offer<'a> {
    /// Takes the text apart.
    ///
    /// # Errors
    ///
    /// [`AnswerError::Malformed`] names the line or the bound.
    pub(super) fn parse(text: &'a str) -> Result<Self, AnswerError> {
        if text.len() > BYTES_MAX {
            return malformed(format!("the offer has {} bytes, at most {BYTES_MAX}", text.len()));
        }
        let mut offer = Self { session: Attributes::default(), sections: Vec::new() };
        let mut head = [b'v', b'o', b's'].iter();
        let mut timed = false;
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if number > LINES_MAX {
                return malformed(format!("the offer has more than {LINES_MAX} lines"));
            }
            if line.is_empty() && text.lines().skip(number).all(str::is_empty) {
                break; // blank lines at the end are what careless editors leave
            }
            let Some((&[kind, b'='], _)) = line.as_bytes().split_first_chunk::<2>() else {
                return malformed(format!("line {number} of the offer is not <letter>=<value>"));
            };
            if line.chars().any(char::is_control) {
                return malformed(format!("line {number} of the offer has a control character"));
            }
            let value = line.get(2..).unwrap_or_default();
            // RFC 8866 §5: version, origin and name come first, in this order.
            if let Some(&expected) = head.next() {
                if kind != expected {
                    let letter = char::from(expected);
                    return malformed(format!("line {number} of the offer is not {letter}=.."));
                }
                if kind == b'v' && value != "0" {
                    return malformed("the offer is not of SDP version 0".to_owned());
                }
                continue;
            }
            timed |= kind == b't';
            offer.take_line(kind, value, number)?;
        }
        if head.next().is_some() || !timed {
            return malformed("the offer lacks one of the lines v=, o=, s=, t=".to_owned());
        }
        offer.check_mids()?;
        Ok(offer)
    }

    fn take_line(&mut self, kind: u8, value: &'a str, number: usize) -> Result<(), AnswerError> {
        match kind {
            b'm' if self.sections.len() == SECTIONS_MAX => {
                malformed(format!("the offer has more than {SECTIONS_MAX} m= sections"))
            }
            b'm' => match read_media_line(value) {
                Some(section) => {
                    self.sections.push(section);
                    Ok(())
                }
                None => malformed(format!("line {number} of the offer is no m= line")),
            },
            b'a' => {
                let attribute = value.split_once(':').unwrap_or((value, ""));
                let level = self.sections.last_mut().map(|section| &mut section.attributes);
                level.unwrap_or(&mut self.session).0.push(attribute);
                Ok(())
            }
            _ => Ok(()), // c=, b=, t= and the like change nothing for ICE and BUNDLE
        }
    }

    /// Sections are told apart by `a=mid` (RFC 5888 §4), so each is a token and stands once.
    fn check_mids(&self) -> Result<(), AnswerError> {
        for (index, section) in self.sections.iter().enumerate() {
            let mut mids = section.attributes.all("mid");
            let Some(mid) = mids.next() else { continue };
            if !is_token(mid) || mid.len() > MID_MAX || mids.next().is_some() {
                return malformed(format!("section {} of the offer has a bad a=mid", index + 1));
            }
            if self.sections.iter().skip(index + 1).any(|other| other.mid() == mid) {
                return malformed(format!("a=mid:{mid} stands in two sections of the offer"));
            }
        }
        Ok(())
    }
}

/// `<media> <port>[/<number of ports>] <proto> <fmt> ..` (RFC 8866 §5.14).
fn read_media_line(value: &str) -> Option<Section<'_>> {
    let mut words = value.split(' ').filter(|word| !word.is_empty());
    let media = words.next().filter(|word| is_token(word))?;
    let port = words.next()?;
    let port = port.split_once('/').map_or(port, |(port, _)| port);
    let port = number(port)?;
    let protocol = words.next().filter(|word| word.split('/').all(is_token))?;
    let formats: Vec<_> = words.by_ref().take(FORMATS_MAX).collect();
    let sound = !formats.is_empty() && formats.iter().all(|format| is_token(format));
    (sound && words.next().is_none()).then(|| Section {
        media,
        port,
        protocol,
        formats,
        attributes: Attributes::default(),
    })
}

/// A number as RFC 8866 §9 writes it: digits alone, none of them a needless zero. Other spellings
/// would make two names of one payload type or extension id.
pub(super) fn number<N: FromStr>(text: &str) -> Option<N> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let shortest = !text.starts_with('0') || text == "0";
    (plain && shortest).then(|| text.parse().ok()).flatten()
}

/// Whether this is a `token` (RFC 8866 §9).
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// Whether a byte may stand in a `token` (RFC 8866 §9).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&byte)
}

fn malformed<T>(what: String) -> Result<T, AnswerError> {
    Err(AnswerError::Malformed(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";

    fn refusal(text: &str) -> String {
        match Offer::parse(text) {
            Err(AnswerError::Malformed(why)) => why,
            other => format!("not malformed: {other:?}"),
        }
    }

    #[test]
    fn levels_and_sections_are_kept_apart() {
        let text = format!(
            "{HEAD}a=setup:active\nm=audio 9/2 RTP/AVP 0  8\na=mid:0\na=rtcp-mux\n\
             m=video 0 UDP/TLS/RTP/SAVPF 96\na=bundle-only\na=mid:v\n\n"
        );
        let offer = Offer::parse(&text).expect("a sound offer");
        assert_eq!(offer.session.get("setup"), Some("active"));
        assert_eq!(offer.sections.len(), 2);
        assert_eq!(offer.sections[0].formats, ["0", "8"]);
        assert!(offer.sections[0].attributes.has("rtcp-mux"));
        assert!(!offer.sections[1].is_rejected());
        assert_eq!(offer.sections[1].mid(), "v");
    }

    #[test]
    fn what_is_no_sdp_is_refused_by_line() {
        for (text, why) in [
            (String::new(), "lacks one of the lines"),
            ("v=1\no=- 1 1 IN IP4 0\ns=-\nt=0 0\n".to_owned(), "version 0"),
            ("v=0\ns=-\n".to_owned(), "line 2 of the offer is not o=.."),
            ("v=0\no=-\ns=-\n".to_owned(), "lacks one of the lines"),
            (format!("{HEAD}nonsense\n"), "line 5 of the offer is not <letter>=<value>"),
            (format!("{HEAD}\na=x\n"), "line 5 of the offer is not <letter>=<value>"),
            (format!("{HEAD}a=x\ry\n"), "line 5 of the offer has a control character"),
            (format!("{HEAD}m=audio 9\n"), "line 5 of the offer is no m= line"),
            (format!("{HEAD}m=audio 99999 RTP/AVP 0\n"), "line 5 of the offer is no m= line"),
            (format!("{HEAD}m=audio 9 RTP/AVP é\n"), "line 5 of the offer is no m= line"),
            (format!("{HEAD}m=audio 9 RTP/AVP 0\na=mid:a b\n"), "section 1 of the offer"),
            (
                format!("{HEAD}m=audio 9 A 0\na=mid:0\nm=video 9 A 0\na=mid:0\n"),
                "a=mid:0 stands in two sections",
            ),
        ] {
            assert!(refusal(&text).contains(why), "{text:?}: {}", refusal(&text));
        }
    }

    #[test]
    fn a_number_has_one_spelling() {
        assert_eq!(number::<u8>("0"), Some(0));
        assert_eq!(number::<u8>("96"), Some(96));
        for odd in ["096", "00", "+96", "-1", "256", "", " 96", "9a"] {
            assert_eq!(number::<u8>(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn every_count_has_a_bound() {
        let long = format!("{HEAD}a={}\n", "x".repeat(BYTES_MAX));
        assert!(refusal(&long).contains("bytes"), "{}", refusal(&long));
        let lines = format!("{HEAD}{}", "a=x\n".repeat(LINES_MAX));
        assert!(refusal(&lines).contains("lines"), "{}", refusal(&lines));
        let sections = format!("{HEAD}{}", "m=audio 9 A 0\n".repeat(SECTIONS_MAX + 1));
        assert!(refusal(&sections).contains("sections"), "{}", refusal(&sections));
        let formats = format!("{HEAD}m=audio 9 A{}\n", " 0".repeat(FORMATS_MAX + 1));
        assert!(refusal(&formats).contains("m= line"), "{}", refusal(&formats));
    }
}
