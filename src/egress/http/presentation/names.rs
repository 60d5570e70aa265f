//! Names of files and playlists, made and read. What is read comes from the network.
//!
//! Fuzz target: `hls_name`.
//!
//! Parts are numbered through a run, not within their segments: which part comes next is known
//! before it is known whether it begins a segment, and a preload hint must name what will be
//! listed (draft-pantos-hls-rfc8216bis-22 §4.4.5.3).

use super::Rendition;
use super::ladder::Rung;

/// What the names of playlists end with.
const PLAYLIST: &str = ".m3u8";

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    /// The publish session.
    pub run: &'a str,
    /// Of which playlist.
    pub rendition: Rendition,
    /// What of it.
    pub what: What,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A media initialization section, by its number.
    Init(u64),
    /// A segment, by its media sequence number.
    Segment(u64),
    /// A part, by its number in the run.
    Part(u64),
}

impl Rendition {
    /// How it is called in names.
    pub const fn slug(self) -> &'static str {
        const VIDEO: [&str; Rung::COUNT] =
            ["video", "video-1", "video-2", "video-3", "video-4", "video-5", "video-6", "video-7"];
        match self {
            Self::Video(rung) => VIDEO[rung.index()],
            Self::Aac => "aac",
            Self::Opus => "opus",
        }
    }

    /// The one that is called so.
    fn of_slug(slug: &str) -> Option<Self> {
        Self::all().find(|it| it.slug() == slug)
    }

    /// The file name of its playlist.
    pub fn playlist(self) -> String {
        format!("{}{PLAYLIST}", self.slug())
    }

    /// Whose playlist has that file name.
    pub fn of_playlist(file: &str) -> Option<Self> {
        Self::of_slug(file.strip_suffix(PLAYLIST)?)
    }
}

/// The name of a file.
pub fn write(name: Name) -> String {
    let Name { run, rendition, what } = name;
    let slug = rendition.slug();
    match what {
        What::Init(number) => format!("{run}_{slug}_init{number}.mp4"),
        What::Segment(msn) => format!("{run}_{slug}_{msn}.m4s"),
        What::Part(number) => format!("{run}_{slug}_part{number}.m4s"),
    }
}

/// Reads what [`write()`] made; `None` for all else.
pub fn read(name: &str) -> Option<Name<'_>> {
    let (stem, extension) = name.rsplit_once('.')?;
    let (stem, last) = stem.rsplit_once('_')?;
    let (run, slug) = stem.rsplit_once('_')?;
    let rendition = Rendition::of_slug(slug)?;
    let what = match extension {
        "mp4" => What::Init(number(last.strip_prefix("init")?)?),
        "m4s" => match last.strip_prefix("part") {
            Some(part) => What::Part(number(part)?),
            None => What::Segment(number(last)?),
        },
        _ => return None,
    };
    Some(Name { run, rendition, what })
}

/// A decimal number as it is written here: one way only, so that a file has one name.
fn number(digits: &str) -> Option<u64> {
    let is_plain = digits.bytes().all(|digit| digit.is_ascii_digit());
    let is_padded = digits.len() > 1 && digits.starts_with('0');
    (is_plain && !is_padded).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for rendition in Rendition::all() {
            assert_eq!(Rendition::of_playlist(&rendition.playlist()), Some(rendition));
            for what in [What::Init(0), What::Segment(17), What::Part(u64::MAX)] {
                let name = Name { run: "a_b.c", rendition, what };
                assert_eq!(read(&write(name)), Some(name));
            }
        }
    }

    #[test]
    fn a_file_has_one_name() {
        for name in ["r_video_01.m4s", "r_video_+1.m4s", "r_video_.m4s", "r_audio_1.m4s", "r_1.m4s"]
        {
            assert_eq!(read(name), None, "{name}");
        }
        assert_eq!(read("r_video_99999999999999999999.m4s"), None);
    }
}
