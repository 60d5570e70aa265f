//! `[srt]`: SRT in, from callers and from listeners that are called.

use super::address::Listen;
use super::pattern::Pattern;
use super::reader::Reader;
use crate::media::id::StreamName;
use std::fmt;
use std::time::Duration;

/// Settings of SRT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srt {
    /// Where publishers call.
    pub listen: Listen,
    /// How long packets wait for those that were lost: the least, callers may ask for more. Four
    /// round trips are enough for most losses; 120 ms is every encoder's default.
    pub latency: Duration,
    /// What everybody encrypts with, unless a pattern says otherwise.
    pub passphrase: Option<Passphrase>,
    /// What the streams of a pattern are encrypted with; the first that fits counts.
    pub passphrases: Vec<StreamPassphrase>,
    /// Connections at once, those included that are called.
    pub connections_max: usize,
    /// The same from one IPv4 address or one IPv6 /64.
    pub connections_per_address_max: usize,
    /// Streams that the server fetches.
    pub pull: Vec<Pull>,
}

/// The secret that an SRT connection's keys are made of.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(String);

impl Passphrase {
    /// What `parse` understands, in words.
    const TAKES: &str = "a passphrase of 10 to 79 printable ASCII characters";

    /// Reads one: libsrt takes 10 to 79 bytes (`SRTO_PASSPHRASE`).
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        ((10..=79).contains(&text.len()) && is_plain).then(|| Self(text.to_owned()))
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Never shows the secret: configurations are logged.
impl fmt::Debug for Passphrase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Passphrase(..)")
    }
}

/// A passphrase for the streams whose names fit a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPassphrase {
    /// Which.
    pub pattern: Pattern,
    /// The passphrase; none where these streams are not encrypted.
    pub passphrase: Option<Passphrase>,
}

impl StreamPassphrase {
    /// Reads one row of a table.
    fn parse(pattern: &str, passphrase: &str) -> Option<Self> {
        let pattern = Pattern::parse(pattern)?;
        let passphrase = match passphrase {
            "" => None,
            text => Some(Passphrase::parse(text)?),
        };
        Some(Self { pattern, passphrase })
    }
}

/// One stream that the server fetches from an SRT listener.
#[derive(Clone, PartialEq, Eq)]
pub struct Pull {
    /// The name under which it is watched.
    pub stream: StreamName,
    /// The listener's host: a name, or an address without brackets.
    pub host: String,
    /// Its UDP port.
    pub port: u16,
    /// What it is asked for; empty where it does not ask.
    pub stream_id: String,
    /// What it encrypts with.
    pub passphrase: Option<Passphrase>,
    /// The key's length in bytes, where the passphrase is ours to choose it: 0 leaves it to the
    /// listener.
    pub key_bytes: u8,
    /// In place of `srt.latency_ms`.
    pub latency: Option<Duration>,
}

/// Leaves out what may hold a token.
impl fmt::Debug for Pull {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} = srt://{}:{}", self.stream, self.host, self.port)
    }
}

impl Pull {
    /// Reads `srt://host:port?streamid=..&passphrase=..&pbkeylen=..&latency=..`, as ffmpeg and
    /// `srt-live-transmit` write it; latency is in milliseconds.
    fn parse(stream: &str, url: &str) -> Option<Self> {
        let rest = url.strip_prefix("srt://")?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, port) = place.trim_end_matches('/').rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        let legal = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
        let mut pull = Self {
            stream: StreamName::parse(stream).ok()?,
            host: Some(host).filter(|it| !it.is_empty() && it.chars().all(legal))?.to_owned(),
            port: port.parse().ok().filter(|&port| port != 0)?,
            stream_id: String::new(),
            passphrase: None,
            key_bytes: 0,
            latency: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=')?;
            let value = percent_decoded(value)?;
            match key {
                "streamid" => pull.stream_id = Some(value).filter(|it| it.len() <= 512)?,
                "passphrase" => pull.passphrase = Some(Passphrase::parse(&value)?),
                "pbkeylen" => {
                    let legal = |it: &u8| matches!(it, 0 | 16 | 24 | 32);
                    pull.key_bytes = value.parse().ok().filter(legal)?;
                }
                "latency" => {
                    let legal = |it: &u64| LATENCY_MS.contains(it);
                    pull.latency = value.parse().ok().filter(legal).map(Duration::from_millis);
                    pull.latency?;
                }
                "mode" if value == "caller" => {}
                _ => return None,
            }
        }
        Some(pull)
    }
}

/// Bytes written as `%23` and the like (RFC 3986 §2.1).
fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// What a latency may be: below, nothing that is lost comes in time; above, it is no live stream.
const LATENCY_MS: std::ops::RangeInclusive<u64> = 20..=8000;

impl Srt {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let passphrase = format!("{}, or nothing: streams are not encrypted", Passphrase::TAKES);
        let passphrases = format!(
            "rows of a stream name, in which * is any text, = {}, or nothing",
            Passphrase::TAKES
        );
        let pull = "rows of a stream name = srt://host:port with streamid, passphrase, pbkeylen \
            and latency behind a ? where they are needed";
        Self {
            listen: reader.text("srt.listen", "*:8890", Listen::TAKES, Listen::parse),
            latency: reader.milliseconds("srt.latency_ms", 120, LATENCY_MS),
            passphrase: reader.text("srt.passphrase", "", &passphrase, |text| match text {
                "" => Some(None),
                text => Passphrase::parse(text).map(Some),
            }),
            passphrases: reader.table("srt.passphrases", &passphrases, StreamPassphrase::parse),
            connections_max: reader.number("srt.connections_max", 200, 1..=10_000),
            connections_per_address_max: reader.number(
                "srt.connections_per_address_max",
                50,
                1..=10_000,
            ),
            pull: reader.table("srt.pull", pull, Pull::parse),
        }
    }

    /// What a stream is to be encrypted with, if with anything.
    pub fn passphrase_of(&self, stream: &str) -> Option<&Passphrase> {
        match self.passphrases.iter().find(|row| row.pattern.fits(stream)) {
            Some(row) => row.passphrase.as_ref(),
            None => self.passphrase.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pattern: &str, passphrase: &str) -> StreamPassphrase {
        StreamPassphrase::parse(pattern, passphrase).expect("a good row")
    }

    #[test]
    fn the_first_pattern_that_fits_tells_the_passphrase() {
        let mut srt = Srt::read(&mut Reader::default());
        srt.passphrase = Passphrase::parse("of everybody");
        srt.passphrases =
            vec![row("lot-*", "of the lots"), row("*", ""), row("lot-1", "nobody's..")];
        let of = |srt: &Srt, name| srt.passphrase_of(name).map(|it| it.reveal().to_owned());
        assert_eq!(of(&srt, "lot-1"), Some("of the lots".to_owned()));
        assert_eq!(of(&srt, "stage"), None);
        srt.passphrases.clear();
        assert_eq!(of(&srt, "stage"), Some("of everybody".to_owned()));
    }

    #[test]
    fn passphrases_are_as_long_as_libsrt_wants_them_and_never_shown() {
        for bad in ["", "123456789", &"x".repeat(80), "with a line\n", "pässphrase"] {
            assert_eq!(Passphrase::parse(bad), None, "{bad}");
        }
        let good = Passphrase::parse("0123456789");
        assert_eq!(format!("{good:?}"), "Some(Passphrase(..))");
    }

    #[test]
    fn a_pull_is_a_url_as_other_programs_write_it() {
        let url = "srt://[2001:db8::7]:9000?mode=caller&streamid=%23!::r=a,m=request\
            &passphrase=0123456789&pbkeylen=32&latency=200";
        let pull = Pull::parse("lot-42", url).expect("a good row");
        assert_eq!((pull.host.as_str(), pull.port), ("2001:db8::7", 9000));
        assert_eq!(pull.stream_id, "#!::r=a,m=request");
        assert_eq!((pull.key_bytes, pull.latency), (32, Some(Duration::from_millis(200))));
        assert_eq!(format!("{pull:?}"), "lot-42 = srt://2001:db8::7:9000");
        for bad in [
            "rtmp://host:1",
            "srt://host",
            "srt://:9000",
            "srt://host:0",
            "srt://host:9000?mode=listener",
            "srt://host:9000?pbkeylen=7",
            "srt://host:9000?passphrase=short",
            "srt://host:9000?streamid=%2",
            "srt://host:9000?latency=1",
        ] {
            assert_eq!(Pull::parse("lot-42", bad), None, "{bad}");
        }
        assert_eq!(Pull::parse("lot 42", "srt://host:9000"), None);
    }
}
