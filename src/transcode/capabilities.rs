//! What the workers of this machine can do, as `millrace-transcode --probe` prints it. Pure.
//! Fuzz target: `transcode_probe`.

use super::Unavailable;
use crate::media::codec::Codec;
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
/// the package that has it. First sound, then pictures.
const WANTED: [(Direction, &str, &str, &str); 12] = [
    (Direction::Decode, "opus", "Opus", "gstreamer1.0-plugins-base"),
    (Direction::Decode, "aac", "AAC", "gstreamer1.0-libav"),
    (Direction::Decode, "mpeg", "MPEG audio", "gstreamer1.0-libav"),
    (Direction::Decode, "ac3", "AC-3", "gstreamer1.0-libav"),
    (Direction::Encode, "opus", "Opus", "gstreamer1.0-plugins-base"),
    (Direction::Encode, "aac", "AAC", "gstreamer1.0-libav"),
    (Direction::Decode, "h264", "H.264", "gstreamer1.0-libav"),
    (Direction::Decode, "h265", "H.265", "gstreamer1.0-libav"),
    (Direction::Decode, "vp8", "VP8", "gstreamer1.0-libav"),
    (Direction::Decode, "vp9", "VP9", "gstreamer1.0-libav"),
    (Direction::Decode, "av1", "AV1", "gstreamer1.0-plugins-bad"),
    (Direction::Encode, "h264", "H.264", "gstreamer1.0-plugins-ugly"),
];
/// So many rows are sound.
const SOUNDS: usize = 6;
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
        self.check_codec(direction, codec)
    }

    /// Whether pictures of a codec can be made into those of made layers.
    pub(super) fn check_picture(&self, from: Codec) -> Result<(), Unavailable> {
        self.check_decoder(from)?;
        self.check_codec(Direction::Encode, "h264")
    }

    /// Whether pictures of a codec can be decoded.
    pub(super) fn check_decoder(&self, from: Codec) -> Result<(), Unavailable> {
        let codec = match from {
            Codec::H264 => "h264",
            Codec::H265 => "h265",
            Codec::Vp8 => "vp8",
            Codec::Vp9 => "vp9",
            Codec::Av1 => "av1",
            Codec::Opus => return Ok(()),
        };
        self.check_codec(Direction::Decode, codec)
    }

    /// All that cannot be done with sound.
    pub(super) fn missing(&self) -> Vec<Unavailable> {
        self.unable().filter(|row| row.is_sound).map(Unavailable::from).collect()
    }

    /// All that cannot be done with pictures.
    pub(super) fn missing_pictures(&self) -> Vec<Unavailable> {
        self.unable().filter(|row| !row.is_sound).map(Unavailable::from).collect()
    }

    fn check_codec(&self, direction: Direction, codec: &str) -> Result<(), Unavailable> {
        let is_it = |row: &Unable| row.direction == direction && row.codec == codec;
        self.unable().find(is_it).map_or(Ok(()), |row| Err(row.into()))
    }

    fn unable(&self) -> impl Iterator<Item = Unable> {
        let rows = WANTED.into_iter().zip(self.able).enumerate();
        let rows = rows.filter(|(_, (_, able))| !able);
        rows.map(|(at, ((direction, codec, name, package), _))| Unable {
            is_sound: at < SOUNDS,
            direction,
            codec,
            name,
            package,
        })
    }
}

/// A row of what may be wanted and cannot be had.
struct Unable {
    is_sound: bool,
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
        assert_eq!(able.missing().len(), SOUNDS - 2);
        assert_eq!(able.missing_pictures().len(), WANTED.len() - SOUNDS);
    }

    #[test]
    fn pictures_need_a_decoder_of_theirs_and_an_encoder() {
        let able = Capabilities::parse(
            "decode h264 avdec_h264\ndecode vp8 avdec_vp8\nencode h264 x264enc\n\
             encode h264 openh264enc\n",
        );
        assert_eq!(able.check_picture(Codec::H264), Ok(()));
        assert_eq!(able.check_picture(Codec::Vp8), Ok(()));
        let text = able.check_picture(Codec::Av1).expect_err("no decoder").to_string();
        assert!(text.contains("decode AV1") && text.contains("plugins-bad"), "{text}");
        let able = Capabilities::parse("decode h264 avdec_h264");
        let text = able.check_picture(Codec::H264).expect_err("no encoder").to_string();
        assert!(text.contains("encode H.264") && text.contains("plugins-ugly"), "{text}");
    }

    #[test]
    fn what_cannot_be_done_is_told_with_the_package_that_mends_it() {
        let none = Capabilities::parse("");
        let reason = none.check(Direction::Decode, &AudioCoding::Ac3).expect_err("nothing can");
        let text = reason.to_string();
        assert!(text.contains("decode AC-3") && text.contains("gstreamer1.0-libav"), "{text}");
    }
}
