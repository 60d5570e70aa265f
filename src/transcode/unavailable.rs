//! Why something is not transcoded, in words that say what to do about it.

use super::capabilities::Direction;
use std::path::PathBuf;

/// What is off, and how it gets on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The operator wants none.
    #[error("transcode.worker is \"off\", so no sound is transcoded")]
    Off,
    /// The worker's program is not there.
    #[error(
        "no sound is transcoded: there is no {}; build it with `make run`, or say in \
         transcode.worker where it is, and start the server again", .0.display()
    )]
    NoWorker(PathBuf),
    /// It is there and does not run.
    #[error(
        "no sound is transcoded: {} does not run ({reason}); install what it needs, apt-get \
         install gstreamer1.0-plugins-base gstreamer1.0-libav, and start the server again",
        program.display()
    )]
    Broken {
        /// The program.
        program: PathBuf,
        /// What it said.
        reason: String,
    },
    /// GStreamer lacks an element.
    #[error(
        "GStreamer cannot {direction} {codec} here; apt-get install {package}, and start the \
         server again"
    )]
    Lacks {
        /// What it cannot do.
        direction: Direction,
        /// With which codec.
        codec: String,
        /// Where Debian and Ubuntu have it.
        package: &'static str,
    },
    /// Nothing that is served needs it.
    #[error("{0} is taken in, but never made here")]
    NeverMade(String),
    /// As many workers run as may.
    #[error(
        "the sound of {0} streams is being transcoded, and more may not be: raise \
         transcode.workers_max"
    )]
    Full(usize),
    /// As many workers for pictures run as may.
    #[error(
        "the picture of {0} streams is being transcoded, and more may not be: raise \
         transcode.pictures_max where the machine has the cores"
    )]
    PicturesFull(usize),
}
