//! B-frames: pictures that are sent in another order than they are shown in.
//!
//! Players of WebRTC show pictures in the order in which they come, so these make them stutter.
//! They are found by their presentation times, which go back; an offset between decoding and
//! presentation says nothing, as many encoders have one throughout. Pure. Fuzz target: `b_frames`.

use crate::codec::packetizer::nal_units;
use crate::codec::{h264, h265};
use crate::config::ingest::BFramePolicy;
use crate::media::codec::Codec;
use crate::media::frame::{Coding, Frame};

/// What a publisher has to change, in the words of its program.
pub const ADVICE: &str = "The stream has B-frames, which WebRTC players cannot show. Switch them \
    off. OBS: Settings > Output, Output Mode \"Advanced\", Streaming; x264: x264 Options \
    \"bframes=0\" or Tune \"zerolatency\"; NVIDIA NVENC: \"B-Frames\" (\"Max B-frames\") 0, and \
    \"Look-ahead\" off; QuickSync, AMD and Apple: B-frames 0, or \"Use B-Frames\" off. \
    ffmpeg: -bf 0.";

/// What becomes of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It is left out.
    Drop,
    /// It is left out, and WebRTC cannot play this stream.
    Reject,
}

/// What is known of a stream's B-frames so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Found {
    /// There were none, and there may be some.
    #[default]
    NoneYet,
    /// There are none: the codec has none, or the stream says so itself.
    Never,
    /// No other picture needs those that there are.
    Disposable,
    /// Other pictures need some of them.
    Needed,
}

/// Looks for B-frames in one video track.
#[derive(Debug)]
pub struct BFrames {
    policy: BFramePolicy,
    found: Found,
    /// The latest decoding and presentation times since the publisher's clock last jumped.
    latest: Option<(i64, i64)>,
    /// What its sequence parameter set says, where there was one.
    declared: Option<Declared>,
}

/// What a sequence parameter set says of the order of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Declared {
    /// All pictures are shown in the order in which they come.
    in_order: bool,
    /// The highest temporal layer (H.265).
    top_layer: u8,
}

impl BFrames {
    /// For a stream of which nothing is known.
    pub const fn new(policy: BFramePolicy) -> Self {
        Self { policy, found: Found::NoneYet, latest: None, declared: None }
    }

    /// What becomes of this frame. Those that pass under [`BFramePolicy::Transcode`] are presented
    /// in the order in which they come, unless the publisher's clock jumps.
    pub fn look(&mut self, frame: &Frame) -> Verdict {
        let Coding::Video(codec @ (Codec::H264 | Codec::H265)) = frame.coding else {
            self.found = Found::Never; // others send pictures in the order in which they are shown
            return Verdict::Pass;
        };
        self.read_declaration(codec, &frame.data);
        if !self.is_out_of_order(frame) {
            return Verdict::Pass;
        }
        let is_needed = is_needed(codec, &frame.data, self.declared);
        self.found = self.found.max(if is_needed { Found::Needed } else { Found::Disposable });
        match (self.policy, is_needed) {
            (BFramePolicy::Reject, _) | (BFramePolicy::Transcode, true) => Verdict::Reject,
            (BFramePolicy::Transcode | BFramePolicy::Drop, false) => Verdict::Drop,
            (BFramePolicy::Drop, true) => Verdict::Pass,
        }
    }

    /// What was found so far.
    pub const fn found(&self) -> Found {
        self.found
    }

    /// Whether the picture is shown before one that came earlier. Where the time of decoding goes
    /// back as well, the publisher's clock has jumped.
    fn is_out_of_order(&mut self, frame: &Frame) -> bool {
        let (decode, present) = (frame.decode_ticks, frame.present_ticks);
        let Some((last_decode, highest)) = self.latest.filter(|(last, _)| *last <= decode) else {
            self.latest = Some((decode, present));
            return false;
        };
        self.latest = Some((decode.max(last_decode), present.max(highest)));
        // What a stream says of itself holds: a clock may stumble.
        present < highest && self.found != Found::Never
    }

    /// Reads the sequence parameter sets of a frame. A stream that says something new of itself is
    /// a new one.
    fn read_declaration(&mut self, codec: Codec, data: &[u8]) {
        for nal in nal_units(data) {
            let declared = match codec {
                Codec::H265 => h265::reordering(nal),
                _ => h264::reordering(nal).map(|reordering| (reordering, 1)),
            };
            let Some((reordering, layers)) = declared else { continue };
            let top_layer = layers.saturating_sub(1);
            let declared = Some(Declared { in_order: reordering == 0, top_layer });
            if declared != self.declared {
                self.declared = declared;
                self.found = if reordering == 0 { Found::Never } else { Found::NoneYet };
            }
        }
    }
}

/// Whether other pictures may need this one.
fn is_needed(codec: Codec, data: &[u8], declared: Option<Declared>) -> bool {
    nal_units(data).any(|nal| match codec {
        // A picture of a lower temporal layer is of use to those of the higher ones.
        Codec::H265 => h265::is_reference(nal).is_some_and(|(is_reference, layer)| {
            is_reference || declared.is_none_or(|it| layer < it.top_layer)
        }),
        _ => h264::is_reference(nal) == Some(true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::time::Instant;

    /// The frames of a stream that `tests/data/frames/make.py` made.
    fn frames(name: &str) -> Vec<Frame> {
        let codec = if name.starts_with("h264") { Codec::H264 } else { Codec::H265 };
        let path = format!("{}/tests/data/frames/{name}.frames", env!("CARGO_MANIFEST_DIR"));
        let stream = std::fs::read(path).expect("it is there");
        let mut rest = stream.as_slice();
        let mut frames = Vec::new();
        while let Some((decode, tail)) = rest.split_first_chunk() {
            let (present, tail) = tail.split_first_chunk().expect("a present time");
            let (len, tail) = tail.split_first_chunk().expect("a length");
            let (data, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
            frames.push(Frame {
                coding: Coding::Video(codec),
                decode_ticks: i64::from_be_bytes(*decode),
                present_ticks: i64::from_be_bytes(*present),
                arrival: Instant::now(),
                data: Bytes::copy_from_slice(data),
            });
            rest = tail;
        }
        assert_eq!(frames.len(), 24, "{name}");
        frames
    }

    fn verdicts(policy: BFramePolicy, frames: &[Frame]) -> (Vec<Verdict>, Found) {
        let mut b_frames = BFrames::new(policy);
        let verdicts = frames.iter().map(|frame| b_frames.look(frame)).collect();
        (verdicts, b_frames.found())
    }

    #[test]
    fn streams_of_real_encoders_are_told_apart() {
        let table = [
            ("h264-in-order", Found::Never),
            ("h264-baseline", Found::Never),
            ("h264-b", Found::Disposable),
            ("h264-b-pyramid", Found::Needed),
            ("h265-in-order", Found::Never),
            ("h265-b", Found::Disposable),
            ("h265-b-open", Found::Disposable),
            ("h265-b-pyramid", Found::Needed),
        ];
        for (name, expected) in table {
            let frames = frames(name);
            let (told, found) = verdicts(BFramePolicy::Transcode, &frames);
            assert_eq!(found, expected, "{name}");
            let count = |verdict| told.iter().filter(|it| **it == verdict).count();
            assert_eq!(count(Verdict::Pass) == 24, expected == Found::Never, "{name}");
            assert_eq!(count(Verdict::Reject) > 0, expected == Found::Needed, "{name}");
            assert_eq!(told[0], Verdict::Pass, "{name}");
        }
    }

    #[test]
    fn what_is_left_is_shown_in_the_order_in_which_it_comes() {
        for name in ["h264-b", "h264-b-pyramid", "h265-b", "h265-b-open", "h265-b-pyramid"] {
            let frames = frames(name);
            let (told, _) = verdicts(BFramePolicy::Transcode, &frames);
            let passed = frames.iter().zip(&told).filter(|(_, verdict)| **verdict == Verdict::Pass);
            let times: Vec<i64> = passed.map(|(frame, _)| frame.present_ticks).collect();
            assert!(times.is_sorted_by(|before, after| before < after), "{name}: {times:?}");
            assert!(times.len() >= 6, "{name}: {times:?}");
        }
    }

    #[test]
    fn the_policy_decides() {
        let [disposable, needed] = ["h264-b", "h264-b-pyramid"].map(frames);
        let has = |policy, frames: &[Frame], verdict| verdicts(policy, frames).0.contains(&verdict);
        assert!(has(BFramePolicy::Reject, &disposable, Verdict::Reject));
        assert!(!has(BFramePolicy::Drop, &needed, Verdict::Reject));
        assert!(has(BFramePolicy::Drop, &needed, Verdict::Drop));
        assert!(!has(BFramePolicy::Transcode, &disposable, Verdict::Reject));
    }

    #[test]
    fn an_offset_throughout_and_a_clock_that_jumps_are_no_b_frames() {
        let mut frames = frames("h264-b");
        // Without its parameter sets nothing says that there is none.
        frames.truncate(2);
        frames.remove(0);
        let mut b_frames = BFrames::new(BFramePolicy::Transcode);
        let mut look = |decode, present| {
            let frame = &frames[0];
            let (decode_ticks, present_ticks) = (decode, present);
            b_frames.look(&Frame { decode_ticks, present_ticks, ..frame.clone() })
        };
        for at in (0..30_000).step_by(3_000) {
            assert_eq!(look(at, at + 6_000), Verdict::Pass);
        }
        for at in (-90_000..0).step_by(3_000) {
            assert_eq!(look(at, at + 6_000), Verdict::Pass, "the clock was set back");
        }
        assert_eq!(look(0, 3_000), Verdict::Pass, "one at the same time");
        assert_eq!(look(3_000, 0), Verdict::Reject, "but not one before, which others need");
    }

    #[test]
    fn a_stream_that_changes_is_looked_at_anew() {
        let mut b_frames = BFrames::new(BFramePolicy::Transcode);
        for (name, found) in [
            ("h264-in-order", Found::Never),
            ("h264-b-pyramid", Found::Needed),
            ("h264-baseline", Found::Never),
        ] {
            for frame in frames(name) {
                b_frames.look(&frame);
            }
            assert_eq!(b_frames.found(), found, "{name}");
        }
    }
}
