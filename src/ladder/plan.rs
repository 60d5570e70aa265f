//! Which layers are made of a picture, and at which rates. Pure.
//!
//! Never more than the source has: no layer of its size or above, none that takes as much as it
//! does. Shape and frame rate are the source's.

use crate::config::transcode::Step;
use crate::media::bitrate::Bitrate;

/// A layer that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    /// Its name: "720p".
    pub(super) rid: String,
    /// Width and height of its picture.
    pub(super) dimensions: (u16, u16),
    /// What it takes at most, by the configuration.
    pub(super) ceiling: Bitrate,
}

/// A layer must have fewer lines than so many of ten of the source's: else nobody would see a
/// difference.
const LINES_OF_TEN: u32 = 9;
/// No layer takes more than this part of what the one above it may.
const PART_OF_NEXT: f64 = 0.75;
/// A picture that stands still takes next to nothing, and moves again.
const LEAST: Bitrate = Bitrate::kbps(100);

/// What is made of a picture of this width and height, largest first.
pub(super) fn layers(source: (u16, u16), steps: &[Step]) -> Vec<Planned> {
    let (width, height) = (u32::from(source.0), u32::from(source.1));
    let (short, long) = (width.min(height), width.max(height));
    let is_below = |step: &&Step| u32::from(step.lines) * 10 <= short * LINES_OF_TEN;
    let plan = |step: &Step| {
        let lines = u32::from(step.lines);
        let made_short = even(lines, 1);
        let made_long = even(long * lines, short);
        let (made_width, made_height) =
            if width < height { (made_short, made_long) } else { (made_long, made_short) };
        Planned {
            rid: format!("{lines}p"),
            dimensions: (made_width, made_height),
            ceiling: step.bitrate,
        }
    };
    steps.iter().filter(is_below).map(plan).collect()
}

/// The even number nearest to a fraction, since colours have half the resolution; and no less than
/// any encoder takes.
fn even(side: u32, over: u32) -> u16 {
    const LEAST: u16 = 16;
    let half = (side + over) / (2 * over.max(1));
    u16::try_from(half * 2).unwrap_or(u16::MAX - 1).max(LEAST)
}

/// What each of these layers is to take while the source takes so much, if that is known yet.
pub(super) fn rates(source: Option<Bitrate>, layers: &[Planned]) -> Vec<Bitrate> {
    let mut above = source;
    let rate = |layer: &Planned| {
        above = above.map(|above| above.scaled(PART_OF_NEXT));
        let rate = above.map_or(layer.ceiling, |above| layer.ceiling.min(above));
        rate.max(LEAST.min(layer.ceiling))
    };
    layers.iter().map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::transcode::Ladder;

    fn planned(source: (u16, u16), ladder: &str) -> Vec<(String, (u16, u16))> {
        let ladder = Ladder::parse(ladder).expect("a ladder");
        let layers = layers(source, ladder.steps());
        layers.into_iter().map(|layer| (layer.rid, layer.dimensions)).collect()
    }

    #[test]
    fn layers_are_smaller_than_the_source_and_keep_its_shape() {
        type Sizes = &'static [(u16, u16)];
        let table: [((u16, u16), Sizes); 10] = [
            ((3840, 2160), &[(1920, 1080), (1280, 720), (854, 480), (640, 360)]),
            ((1920, 1080), &[(1280, 720), (854, 480), (640, 360)]),
            ((1280, 720), &[(854, 480), (640, 360)]),
            // 4:3, 21:9, a square.
            ((1440, 1080), &[(960, 720), (640, 480), (480, 360)]),
            ((2560, 1080), &[(1706, 720), (1138, 480), (854, 360)]),
            ((720, 720), &[(480, 480), (360, 360)]),
            // Portrait: a phone's lines are its width.
            ((1080, 1920), &[(720, 1280), (480, 854), (360, 640)]),
            // Nearly the same is the same.
            ((1312, 738), &[(854, 480), (640, 360)]),
            ((640, 360), &[]),
            ((16, 16), &[]),
        ];
        for (source, sizes) in table {
            let made: Vec<_> = planned(source, "on").into_iter().map(|(_, size)| size).collect();
            assert_eq!(made, sizes, "{source:?}");
        }
    }

    #[test]
    fn layers_are_named_by_their_lines() {
        let names: Vec<_> = planned((1080, 1920), "on").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["720p", "480p", "360p"]);
        assert_eq!(planned((320, 240), "135p:80k"), [("135p".to_owned(), (180, 136))]);
    }

    #[test]
    fn whatever_comes_has_even_sides_that_an_encoder_takes() {
        for width in (1..=u16::MAX).step_by(37) {
            for height in [1, 16, 99, 1080, 2161, u16::MAX] {
                for (name, (w, h)) in planned((width, height), "on") {
                    assert!(w % 2 == 0 && h % 2 == 0 && w >= 16 && h >= 16, "{name} {w}x{h}");
                }
            }
        }
    }

    #[test]
    fn layers_take_less_than_the_source_and_less_and_less() {
        let ladder = Ladder::parse("on").expect("a ladder");
        let layers = layers((1920, 1080), ladder.steps());
        let of = |kbps: Option<u64>| -> Vec<u64> {
            let rates = rates(kbps.map(Bitrate::kbps), &layers);
            rates.into_iter().map(|rate| rate.as_bps() / 1000).collect()
        };
        assert_eq!(of(None), [2500, 1000, 500], "as configured");
        assert_eq!(of(Some(6000)), [2500, 1000, 500]);
        assert_eq!(of(Some(2000)), [1500, 1000, 500]);
        assert_eq!(of(Some(800)), [600, 450, 337]);
        assert_eq!(of(Some(0)), [100, 100, 100], "it may move again");
    }
}
