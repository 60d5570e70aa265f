//! Synthetic H.264 pictures as an encoder hands them to a muxer: whole NAL units, no RTP.
//!
//! Headers say what a server looks at (keyframe or not, order of pictures); the rest is filling.
//! The stamp is a picture's end, so that whoever cuts it into packets leaves it at the end of the
//! last one.

use super::payload::{H264_PPS, H264_SPS};
use super::video::VideoSettings;
use super::{STAMP_BYTES, Stamp};

/// An IDR slice, and one that others are predicted from (ITU-T H.264 §7.4.1).
const IDR_SLICE: u8 = 0x65;
const SLICE: u8 = 0x41;
/// The first slice of a picture, all of whose slices are I, and P (ITU-T H.264 §7.3.3).
const I_HEADER: u8 = 0x88;
const P_HEADER: u8 = 0x9A;

/// What stands before the first keyframe: sequence and picture parameter set.
pub const PARAMETER_SETS: [&[u8]; 2] = [&H264_SPS, &H264_PPS];

/// One coded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Counts the pictures of a source.
    pub number: u64,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// When it is shown, in 90 kHz ticks from the first.
    pub ticks: u64,
    /// Its slice, without start code or length.
    pub nal: Vec<u8>,
}

impl Picture {
    /// Says that it is sent now.
    pub fn stamp(&mut self) {
        Stamp::now(self.number).write(&mut self.nal);
    }
}

/// An encoder that nobody can ask for a keyframe.
#[derive(Debug, Clone)]
pub struct PictureSource {
    settings: VideoSettings,
    pictures: u64,
}

impl PictureSource {
    /// An encoder whose first picture is a keyframe; its codec is H.264 whatever the settings say.
    pub fn new(settings: VideoSettings) -> Self {
        Self { settings, pictures: 0 }
    }

    /// Codes the next picture, whose stamp says that it is sent now.
    pub fn next_picture(&mut self) -> Picture {
        let number = self.pictures;
        self.pictures += 1;
        let interval = u64::from(self.settings.keyframe_interval_frames);
        let keyframe = number.checked_rem(interval).unwrap_or(number) == 0;
        let bytes = self.settings.frame_bytes(keyframe).max(STAMP_BYTES + 2);
        let start = if keyframe { [IDR_SLICE, I_HEADER] } else { [SLICE, P_HEADER] };
        // Never zero, so that no NAL unit needs emulation prevention (§7.4.1).
        let filling = (0..bytes as u64).map(|at| ((number * 31 + at * 7) % 255 + 1) as u8);
        let nal = start.into_iter().chain(filling.skip(start.len())).collect();
        let ticks = self.settings.ticks(number);
        let mut picture = Picture { number, keyframe, ticks, nal };
        picture.stamp();
        picture
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_come_when_they_are_due_and_every_picture_ends_in_its_stamp() {
        let settings = VideoSettings { keyframe_interval_frames: 3, ..VideoSettings::default() };
        let mut source = PictureSource::new(settings);
        let pictures: Vec<Picture> = (0..7).map(|_| source.next_picture()).collect();
        let keyframes: Vec<u64> =
            pictures.iter().filter(|it| it.keyframe).map(|it| it.number).collect();
        assert_eq!(keyframes, [0, 3, 6]);
        for (picture, number) in pictures.iter().zip(0..) {
            let stamp = Stamp::read(&picture.nal).expect("a stamp");
            assert_eq!((stamp.counter, picture.ticks), (number, number * 3_000));
            assert_eq!(picture.nal[0] & 0x1F, if picture.keyframe { 5 } else { 1 });
            assert!(!picture.nal.contains(&0), "nothing needs emulation prevention");
        }
    }

    #[test]
    fn without_an_interval_only_the_first_picture_is_a_keyframe() {
        let settings = VideoSettings { keyframe_interval_frames: 0, ..VideoSettings::default() };
        let mut source = PictureSource::new(settings);
        let keyframes = (0..100).filter(|_| source.next_picture().keyframe).count();
        assert_eq!(keyframes, 1);
    }
}
