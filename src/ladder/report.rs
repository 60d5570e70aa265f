//! How the made layers of a stream fare, for operators.

use crate::transcode::picture::Load;

/// What is known of the made layers of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LadderReport {
    /// What does not work, and what to do about it, in whole sentences.
    pub notices: Vec<String>,
    /// Each of them, largest first.
    pub layers: Vec<MadeReport>,
    /// How its worker keeps up, as it told last.
    pub load: Load,
    /// Frames of the source that its workers left out, since the publisher began.
    pub dropped_frames: u64,
}

/// One made layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MadeReport {
    /// Its name.
    pub rid: String,
    /// The encoder's element, while it is made.
    pub encoder: Option<String>,
    /// Pictures of it that its workers left out, since the publisher began.
    pub skipped_pictures: u64,
}
