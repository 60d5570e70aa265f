//! `[transcode]`: what viewers lack is made by worker processes.

use super::reader::Reader;
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
        }
    }
}
