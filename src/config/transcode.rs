//! `[transcode]`: what viewers lack is made by worker processes.

use super::pattern::Row;
use super::reader::Reader;
use crate::media::bitrate::Bitrate;
use std::path::PathBuf;

/// Settings of transcoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcode {
    /// The program that decodes and encodes.
    pub worker: WorkerProgram,
    /// Worker processes at once, one for each stream whose sound must be transcoded: each takes 2
    /// to 3 % of a core and 13 MB of its own.
    pub workers_max: usize,
    /// What Opus is encoded with: 128 kb/s are transparent for stereo music.
    pub opus_bitrate_bps: u32,
    /// Which layers are made of a picture that comes in one.
    pub ladder: Ladder,
    /// The same for the streams of a pattern; the first that fits counts.
    pub ladders: Vec<Row<Ladder>>,
    /// Streams whose picture is transcoded, at once: each takes half a core and more. 0: two for
    /// each core that workers may run on.
    pub pictures_max: usize,
    /// Cores that workers run on; 0: all that the server may.
    pub cores: usize,
    /// What encodes pictures.
    pub encoder: Encoder,
    /// Thumbnails that are made at once: each takes a process that decodes a picture or, of streams
    /// whose keyframes are seldom, some seconds of them. 0: none are.
    pub thumbnails_max: usize,
}

/// The layers that viewers are to have, whatever the source is; none where nothing is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ladder(Vec<Step>);

/// One layer that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its shorter side, as in "720p".
    pub lines: u16,
    /// What it is encoded with.
    pub bitrate: Bitrate,
}

/// What encodes pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoder {
    /// The first that works here, those of graphics cards before others.
    Auto,
    /// This one of GStreamer's elements, or nothing is made.
    Named(&'static str),
}

impl Ladder {
    /// What "on" stands for.
    const ON: &str = "1080p:5000k 720p:2500k 480p:1000k 360p:500k";
    /// Beside the source there is room for so many in a track.
    const STEPS_MAX: usize = 7;
    /// What `parse` understands, in words.
    const TAKES: &str = "off, on, or layers such as \"720p:2500k 480p:1000k\", seven at most, each \
        with its own height (90p to 2160p) and bit rate (50k to 50000k)";

    /// Reads one; highest first, whichever way it is written.
    pub fn parse(text: &str) -> Option<Self> {
        let text = match text {
            "off" => return Some(Self::default()),
            "on" => Self::ON,
            text => text,
        };
        let steps: Option<Vec<Step>> = text.split_whitespace().map(Step::parse).collect();
        let mut steps = steps.filter(|it| (1..=Self::STEPS_MAX).contains(&it.len()))?;
        steps.sort_by_key(|step| std::cmp::Reverse(step.lines));
        let falls = |pair: &[Step]| pair[0].lines > pair[1].lines;
        steps.windows(2).all(falls).then_some(Self(steps))
    }

    /// Highest first.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl Step {
    /// Reads `720p:2500k`.
    fn parse(text: &str) -> Option<Self> {
        let (lines, kbps) = text.split_once(':')?;
        let lines = lines.strip_suffix('p')?.parse().ok().filter(|it| (90..=2160).contains(it))?;
        let kbps = kbps.strip_suffix('k')?.parse().ok().filter(|it| (50..=50_000).contains(it))?;
        Some(Self { lines, bitrate: Bitrate::kbps(kbps) })
    }
}

impl Encoder {
    /// Those that the worker knows, and how it is said that it chooses.
    const ALL: [&str; 4] = ["nvh264enc", "vah264enc", "x264enc", "openh264enc"];

    fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            text => Self::ALL.into_iter().find(|name| *name == text).map(Self::Named),
        }
    }

    /// The element, as the worker is told; empty where it chooses.
    pub const fn element(self) -> &'static str {
        match self {
            Self::Auto => "",
            Self::Named(name) => name,
        }
    }
}

/// Which program decodes and encodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerProgram {
    /// `millrace-transcode` beside the server's own program.
    Beside,
    /// Another one.
    At(PathBuf),
    /// None: what needs one is not played.
    Off,
}

impl Transcode {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            worker: reader.text(
                "transcode.worker",
                "auto",
                "auto, off, or the path of millrace-transcode",
                |text| match text {
                    "" => None,
                    "auto" => Some(WorkerProgram::Beside),
                    "off" => Some(WorkerProgram::Off),
                    path => Some(WorkerProgram::At(path.into())),
                },
            ),
            workers_max: reader.number("transcode.workers_max", 64, 1..=10_000),
            // What opusenc takes.
            opus_bitrate_bps: reader.number("transcode.opus_bitrate_bps", 128_000, 6_000..=510_000),
            ladder: reader.text("transcode.ladder", "on", Ladder::TAKES, Ladder::parse),
            ladders: reader.by_stream("transcode.ladders", Ladder::TAKES, Ladder::parse),
            pictures_max: reader.number("transcode.pictures_max", 0, 0..=1_000),
            cores: reader.number("transcode.cores", 0, 0..=1_024),
            encoder: reader.text(
                "transcode.encoder",
                "auto",
                &format!("auto, or one of {}", Encoder::ALL.join(", ")),
                Encoder::parse,
            ),
            thumbnails_max: reader.number("transcode.thumbnails_max", 2, 0..=100),
        }
    }

    /// The ladder of a stream.
    pub fn ladder_of(&self, stream: &str) -> &Ladder {
        Row::first(&self.ladders, stream).unwrap_or(&self.ladder)
    }

    /// Whether any stream has one.
    pub fn has_ladders(&self) -> bool {
        let rows = self.ladders.iter().map(|row| &row.value);
        rows.chain([&self.ladder]).any(|ladder| !ladder.steps().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Option<Vec<(u16, u64)>> {
        let ladder = Ladder::parse(text)?;
        Some(ladder.steps().iter().map(|it| (it.lines, it.bitrate.as_bps() / 1000)).collect())
    }

    #[test]
    fn a_ladder_is_read_highest_first() {
        assert_eq!(steps("off"), Some(vec![]));
        let on = vec![(1080, 5000), (720, 2500), (480, 1000), (360, 500)];
        assert_eq!(steps("on"), Some(on));
        assert_eq!(steps(" 360p:300k  540p:900k"), Some(vec![(540, 900), (360, 300)]));
    }

    #[test]
    fn what_is_no_ladder_is_a_mistake() {
        let many = "100p:50k 200p:60k 300p:70k 400p:80k 500p:90k 600p:95k 700p:96k 800p:97k";
        for bad in ["", "yes", "720p", "720:2500k", "720p:2500", "720p:9k", "50p:100k", many] {
            assert_eq!(steps(bad), None, "{bad}");
        }
        assert_eq!(steps("720p:2500k 720p:1000k"), None, "the same twice");
    }

    #[test]
    fn the_first_pattern_that_fits_tells_the_ladder() {
        let mut transcode = Transcode::read(&mut Reader::default());
        assert_eq!(transcode.ladder_of("stage").steps().len(), 4, "unless somebody wants none");
        transcode.ladder = Ladder::parse("off").expect("no ladder");
        assert!(!transcode.has_ladders());
        let row = |pattern, ladder| Row::parse(pattern, ladder, Ladder::parse).expect("a row");
        transcode.ladders = vec![row("lot-*", "360p:400k"), row("*", "off")];
        transcode.ladder = Ladder::parse("on").expect("a ladder");
        assert_eq!(transcode.ladder_of("lot-7").steps().len(), 1);
        assert_eq!(transcode.ladder_of("stage").steps().len(), 0);
        assert!(transcode.has_ladders());
        transcode.ladders.clear();
        assert_eq!(transcode.ladder_of("stage").steps().len(), 4);
    }

    #[test]
    fn an_encoder_is_one_that_is_known() {
        assert_eq!(Encoder::parse("x264enc").map(Encoder::element), Some("x264enc"));
        assert_eq!(Encoder::parse("auto"), Some(Encoder::Auto));
        assert_eq!(Encoder::parse("x264"), None);
    }
}
