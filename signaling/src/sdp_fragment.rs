//! `application/trickle-ice-sdpfrag` (RFC 8840 §9): what a client sends in a PATCH.
//!
//! A pure, bounded reader. It keeps what ICE needs and passes over every other line; whether the
//! fragment fits the session is for the media server to say. Fuzz target: `sdp_fragment`.

/// The most bytes in a fragment: four times what a browser with many interfaces sends.
pub const FRAGMENT_BYTES_MAX: usize = 16 * 1024;
/// The most candidates in one fragment.
const CANDIDATES_MAX: usize = 100;
/// The most media sections in one fragment; with BUNDLE there is one (RFC 9725 §4.3.2).
const SECTIONS_MAX: usize = 32;
/// The longest `ice-ufrag` and `ice-pwd` (RFC 8839 §5.4).
const CREDENTIAL_MAX: usize = 256;
/// The longest `mid`; browsers write one or two characters.
const MID_MAX: usize = 64;

/// The ICE part of a session description: new candidates, or new credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SdpFragment {
    /// The client's user name fragment and password, where the fragment has them.
    pub credentials: Option<IceCredentials>,
    /// The `mid` of each media section, in order.
    pub mids: Vec<String>,
    /// The candidates, in order.
    pub candidates: Vec<Candidate>,
    /// Whether the client says that no more candidates follow.
    pub end_of_candidates: bool,
}

/// One side's ICE credentials (RFC 8839 §5.4).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// `ice-ufrag`: 4 to 256 characters.
    pub ufrag: String,
    /// `ice-pwd`: 22 to 256 characters.
    pub pwd: String,
}

/// The password stays out of the log.
impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// One candidate (RFC 8839 §5.1), its form checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The `mid` of the media section it stands in, where that is known.
    pub mid: Option<String>,
    /// The attribute's value: `1 1 udp 2130706431 192.0.2.1 61764 typ host`.
    pub value: String,
}

/// Why a text is no SDP fragment: 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// Nothing in it.
    #[error("the SDP fragment is empty")]
    Empty,
    /// More bytes, sections or candidates than a fragment may have.
    #[error("the SDP fragment has more than {limit} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// A line that is not `x=value`.
    #[error("line {line} of the SDP fragment is not of the form x=value")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A value that its attribute does not allow.
    #[error("line {line} of the SDP fragment: the value of {attribute} is malformed")]
    Value {
        /// Counted from 1.
        line: usize,
        /// Which attribute.
        attribute: &'static str,
    },
    /// `ice-ufrag` without `ice-pwd` or the other way round.
    #[error("the SDP fragment has only one of ice-ufrag and ice-pwd; it needs both or none")]
    HalfCredentials,
    /// Two different values; with BUNDLE all sections share one transport (RFC 9143 §7).
    #[error("line {line} of the SDP fragment: a second, different {attribute}")]
    Contradiction {
        /// Counted from 1.
        line: usize,
        /// Which attribute.
        attribute: &'static str,
    },
}

impl SdpFragment {
    /// Reads a fragment; lines end in CRLF or LF, unknown attributes are passed over.
    ///
    /// # Errors
    ///
    /// [`FragmentError`] says in which line what is wrong.
    pub fn parse(text: &str) -> Result<Self, FragmentError> {
        if text.len() > FRAGMENT_BYTES_MAX {
            return Err(FragmentError::TooMuch { what: "bytes", limit: FRAGMENT_BYTES_MAX });
        }
        let mut reader = Reader::default();
        for (index, line) in text.lines().enumerate() {
            if !line.is_empty() {
                reader.line(index + 1, line)?;
            }
        }
        reader.finish()
    }
}

/// What has been read so far.
#[derive(Default)]
struct Reader {
    fragment: SdpFragment,
    ufrag: Option<String>,
    pwd: Option<String>,
    sections: usize,
    mid: Option<String>,
    any: bool,
}

impl Reader {
    fn line(&mut self, line: usize, text: &str) -> Result<(), FragmentError> {
        let Some((kind, value)) = text.split_once('=') else {
            return Err(FragmentError::Line { line });
        };
        let is_kind = matches!(kind.as_bytes(), [letter] if letter.is_ascii_lowercase());
        if !is_kind || value.chars().any(char::is_control) {
            return Err(FragmentError::Line { line });
        }
        self.any = true;
        match kind {
            "m" => self.section(),
            "a" => self.attribute(line, value),
            _ => Ok(()),
        }
    }

    fn section(&mut self) -> Result<(), FragmentError> {
        self.sections += 1;
        self.mid = None;
        if self.sections > SECTIONS_MAX {
            return Err(FragmentError::TooMuch { what: "media sections", limit: SECTIONS_MAX });
        }
        Ok(())
    }

    fn attribute(&mut self, line: usize, text: &str) -> Result<(), FragmentError> {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        match name {
            "ice-ufrag" => credential(&mut self.ufrag, line, "ice-ufrag", value, 4),
            "ice-pwd" => credential(&mut self.pwd, line, "ice-pwd", value, 22),
            "mid" => {
                if !is_token(value) || value.len() > MID_MAX {
                    return Err(FragmentError::Value { line, attribute: "mid" });
                }
                self.mid = Some(value.to_owned());
                if self.fragment.mids.len() < SECTIONS_MAX {
                    self.fragment.mids.push(value.to_owned());
                }
                Ok(())
            }
            "candidate" => self.candidate(line, value),
            "end-of-candidates" => {
                self.fragment.end_of_candidates = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn candidate(&mut self, line: usize, value: &str) -> Result<(), FragmentError> {
        if self.fragment.candidates.len() >= CANDIDATES_MAX {
            return Err(FragmentError::TooMuch { what: "candidates", limit: CANDIDATES_MAX });
        }
        if !is_candidate(value) {
            return Err(FragmentError::Value { line, attribute: "candidate" });
        }
        let candidate = Candidate { mid: self.mid.clone(), value: value.to_owned() };
        self.fragment.candidates.push(candidate);
        Ok(())
    }

    fn finish(mut self) -> Result<SdpFragment, FragmentError> {
        if !self.any {
            return Err(FragmentError::Empty);
        }
        self.fragment.credentials = match (self.ufrag, self.pwd) {
            (Some(ufrag), Some(pwd)) => Some(IceCredentials { ufrag, pwd }),
            (None, None) => None,
            _ => return Err(FragmentError::HalfCredentials),
        };
        Ok(self.fragment)
    }
}

/// Takes an ICE credential; the same value again, as each section may repeat it, is welcome.
fn credential(
    slot: &mut Option<String>,
    line: usize,
    attribute: &'static str,
    value: &str,
    length_min: usize,
) -> Result<(), FragmentError> {
    let is_ice_char = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    if value.len() < length_min || value.len() > CREDENTIAL_MAX || !value.bytes().all(is_ice_char) {
        return Err(FragmentError::Value { line, attribute });
    }
    match slot {
        Some(earlier) if earlier != value => Err(FragmentError::Contradiction { line, attribute }),
        _ => {
            *slot = Some(value.to_owned());
            Ok(())
        }
    }
}

/// `foundation component transport priority address port typ kind ..` (RFC 8839 §5.1).
///
/// The address may be a name, as browsers hide theirs behind mDNS ones.
fn is_candidate(value: &str) -> bool {
    let mut fields = value.split(' ');
    let mut next = || fields.next().unwrap_or_default();
    let foundation = next();
    let component = next().parse::<u16>();
    let transport = next();
    let priority = next().parse::<u32>();
    let (address, port) = (next(), next().parse::<u16>());
    !foundation.is_empty()
        && foundation.len() <= 32
        && component.is_ok()
        && is_token(transport)
        && priority.is_ok()
        && !address.is_empty()
        && port.is_ok()
        && next() == "typ"
        && is_token(next())
}

/// A `token` of SDP (RFC 8866 §9).
fn is_token(text: &str) -> bool {
    let is_separator = |byte: u8| b"\"(),/:;<=>?@[\\]".contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !is_separator(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of RFC 9725 §4.3.2, shortened.
    const TRICKLE: &str = "a=group:BUNDLE 0 1\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
        a=mid:0\r\n\
        a=ice-ufrag:EsAw\r\n\
        a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n\
        a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn the_example_of_rfc_9725_is_read() {
        let fragment = SdpFragment::parse(TRICKLE).expect("the example is well formed");
        let credentials = fragment.credentials.expect("it has credentials");
        assert_eq!(credentials.ufrag, "EsAw");
        assert_eq!(credentials.pwd, "P2uYro0UCOQ4zxjKXaWCBui1");
        assert_eq!(fragment.mids, ["0"]);
        assert_eq!(fragment.candidates.len(), 2);
        assert_eq!(fragment.candidates[1].mid.as_deref(), Some("0"));
        assert!(fragment.candidates[1].value.ends_with("tcptype active"));
        assert!(fragment.end_of_candidates);
    }

    #[test]
    fn bare_line_feeds_and_unknown_lines_are_welcome() {
        let fragment = SdpFragment::parse("a=ice-options:trickle\ns=-\nm=audio 9 X 0\na=mid:a\n");
        assert_eq!(fragment.expect("well formed").mids, ["a"]);
    }

    #[test]
    fn each_fault_is_named_with_its_line() {
        let value = |line, attribute| FragmentError::Value { line, attribute };
        for (text, fault) in [
            ("", FragmentError::Empty),
            ("\r\n\r\n", FragmentError::Empty),
            ("hello", FragmentError::Line { line: 1 }),
            ("a=mid:0\nA=b", FragmentError::Line { line: 2 }),
            ("a=mid:\u{0}", FragmentError::Line { line: 1 }),
            ("a=mid:", value(1, "mid")),
            ("a=ice-ufrag:abc", value(1, "ice-ufrag")),
            ("a=ice-pwd:P2uYro0UCOQ4zxjKXaWC!ui1", value(1, "ice-pwd")),
            ("a=candidate:1 1 udp 1 192.0.2.1 99999 typ host", value(1, "candidate")),
            ("a=candidate:1 1 udp 1 192.0.2.1 9 host", value(1, "candidate")),
            ("a=ice-ufrag:abcd", FragmentError::HalfCredentials),
            (
                "a=ice-ufrag:abcd\nm=audio 9 X 0\na=ice-ufrag:abce",
                FragmentError::Contradiction { line: 3, attribute: "ice-ufrag" },
            ),
        ] {
            assert_eq!(SdpFragment::parse(text), Err(fault), "{text:?}");
        }
    }

    #[test]
    fn a_fragment_is_bounded() {
        let candidate = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\n";
        assert!(SdpFragment::parse(&candidate.repeat(CANDIDATES_MAX)).is_ok());
        for text in [
            candidate.repeat(CANDIDATES_MAX + 1),
            "m=audio 9 X 0\n".repeat(SECTIONS_MAX + 1),
            "a=x\n".repeat(FRAGMENT_BYTES_MAX / 4 + 1),
        ] {
            let fault = SdpFragment::parse(&text).expect_err("too much");
            assert!(matches!(fault, FragmentError::TooMuch { .. }), "{fault}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = SdpFragment::parse(&text);
        }

        /// Lines near the real grammar reach deeper than plain noise.
        #[test]
        fn any_mutation_is_read_or_refused(
            at in 0..TRICKLE.len(),
            length in 0..40_usize,
            patch in "[ -~\r\n\u{0}äa=:m]{0,20}",
        ) {
            let end = (at + length).min(TRICKLE.len());
            let text = format!("{}{patch}{}", &TRICKLE[..at], &TRICKLE[end..]);
            if let Ok(fragment) = SdpFragment::parse(&text) {
                prop_assert!(fragment.candidates.len() <= CANDIDATES_MAX);
                prop_assert!(fragment.mids.len() <= SECTIONS_MAX);
            }
        }
    }
}
