//! What the workers of this machine can do, as `millrace-transcode --probe` prints it. Pure.
//! Fuzz target: `transcode_probe`.

use super::Unavailable;
use crate::media::frame::AudioCoding;
use std::fmt;

/// Which way a codec is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// What comes in.
    Decode,
    /// What goes out.
    Encode,
}

impl fmt::Display for Direction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Decode => "decode",
            Self::Encode => "encode",
        })
    }
}

/// All that may be asked for: the direction, the codec as the worker calls it and as people do, and
/// the package that has it.
const WANTED: [(Direction, &str, &str, &str); 6] = [
    (Direction::Decode, "opus", "Opus", "gstreamer1.0-plugins-base"),
    (Direction::Decode, "aac", "AAC", "gstreamer1.0-libav"),
    (Direction::Decode, "mpeg", "MPEG audio", "gstreamer1.0-libav"),
    (Direction::Decode, "ac3", "AC-3", "gstreamer1.0-libav"),
    (Direction::Encode, "opus", "Opus", "gstreamer1.0-plugins-base"),
    (Direction::Encode, "aac", "AAC", "gstreamer1.0-libav"),
];
/// As the worker calls them, so many lines at most count.
const LINES_MAX: usize = 100;

/// What can be decoded and encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// For each row of what may be wanted, whether it can be had.
    able: [bool; WANTED.len()],
}

impl Capabilities {
    /// Reads `decode CODEC ELEMENT` and `encode CODEC ELEMENT`; other lines tell nothing.
    pub fn parse(text: &str) -> Self {
        let mut able = [false; WANTED.len()];
        for line in text.lines().take(LINES_MAX) {
            let mut words = line.split_whitespace();
            let (direction, codec, element) = (words.next(), words.next(), words.next());
            let is_meant = |row: &(Direction, &str, &str, &str)| {
                direction == Some(row.0.to_string().as_str()) && codec == Some(row.1)
            };
            if let Some(row) = WANTED.iter().position(is_meant).filter(|_| element.is_some()) {
                able[row] = true;
            }
        }
        Self { able }
    }

    /// Whether it can be done.
    pub(super) fn check(
        &self,
        direction: Direction,
        coding: &AudioCoding,
    ) -> Result<(), Unavailable> {
        let codec = match coding {
            AudioCoding::Opus => "opus",
            AudioCoding::Aac(_) => "aac",
            AudioCoding::Mpeg => "mpeg",
            AudioCoding::Ac3 => "ac3",
        };
        let is_it = |row: &Unable| row.direction == direction && row.codec == codec;
        self.unable().find(is_it).map_or(Ok(()), |row| Err(row.into()))
    }

    /// All that cannot be done.
    pub(super) fn missing(&self) -> Vec<Unavailable> {
        self.unable().map(Unavailable::from).collect()
    }

    fn unable(&self) -> impl Iterator<Item = Unable> {
        let rows = WANTED.into_iter().zip(self.able).filter(|(_, able)| !able);
        rows.map(|((direction, codec, name, package), _)| Unable {
            direction,
            codec,
            name,
            package,
        })
    }
}

/// A row of what may be wanted and cannot be had.
struct Unable {
    direction: Direction,
    codec: &'static str,
    name: &'static str,
    package: &'static str,
}

impl From<Unable> for Unavailable {
    fn from(row: Unable) -> Self {
        let Unable { direction, name, package, .. } = row;
        Self::Lacks { direction, codec: name.to_owned(), package }
    }
}

/// As a list for the log: `decode opus, decode aac, ..`.
impl fmt::Display for Capabilities {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = WANTED.iter().zip(self.able).filter(|(_, able)| *able);
        let rows: Vec<String> =
            rows.map(|((way, codec, ..), _)| format!("{way} {codec}")).collect();
        out.write_str(&rows.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aac() -> AudioCoding {
        AudioCoding::Aac([0x12, 0x10].into())
    }

    #[test]
    fn what_the_worker_prints_is_what_can_be_done() {
        let able = Capabilities::parse(
            "version GStreamer-1.22.0\ndecode aac avdec_aac\nencode opus opusenc\n\ndecode mpeg\n",
        );
        assert_eq!(able.check(Direction::Decode, &aac()), Ok(()));
        assert_eq!(able.check(Direction::Encode, &AudioCoding::Opus), Ok(()));
        for (direction, coding) in
            [(Direction::Encode, aac()), (Direction::Decode, AudioCoding::Mpeg)]
        {
            assert!(able.check(direction, &coding).is_err(), "{direction} {coding}");
        }
        assert_eq!(able.to_string(), "decode aac, encode opus");
        assert_eq!(able.missing().len(), WANTED.len() - 2);
    }

    #[test]
    fn what_cannot_be_done_is_told_with_the_package_that_mends_it() {
        let none = Capabilities::parse("");
        let reason = none.check(Direction::Decode, &AudioCoding::Ac3).expect_err("nothing can");
        let text = reason.to_string();
        assert!(text.contains("decode AC-3") && text.contains("gstreamer1.0-libav"), "{text}");
    }
}
