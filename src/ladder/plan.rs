//! Which layers are made of a picture, and at which rates. Pure.
//!
//! Never more than the source has: no layer above its size, and of its size only where the source
//! is not what everybody plays. None takes as much as the source does, if that is.
//! Shape and frame rate are the source's.

use crate::config::transcode::Step;
use crate::media::bitrate::Bitrate;

/// What layers are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    /// Its width and height.
    pub(super) size: (u16, u16),
    /// Every viewer can play it: it is H.264 without B-frames.
    pub(super) is_for_all: bool,
}

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
/// What other codecs say in a bit, H.264 says in so many (H.265 and AV1; VP8, VP9 and H.264 with
/// B-frames in fewer).
const OTHERWISE: f64 = 2.0;
/// A picture that stands still takes next to nothing, and moves again.
const LEAST: Bitrate = Bitrate::kbps(100);

/// What is made of a picture of this width and height, largest first.
pub(super) fn layers(source: Source, steps: &[Step]) -> Vec<Planned> {
    let Source { size, is_for_all, .. } = source;
    let short = u32::from(size.0.min(size.1));
    let is_below = |step: &&Step| {
        let lines = u32::from(step.lines);
        lines * 10 <= short * LINES_OF_TEN || (!is_for_all && lines <= short)
    };
    let planned: Vec<_> = steps.iter().filter(is_below).map(|step| plan(size, *step)).collect();
    // A picture that is smaller than all of them is to be seen by everybody too.
    let least = steps.last().filter(|_| planned.is_empty() && !is_for_all);
    let Some(least) = least else { return planned };
    let part = f64::from(short) / f64::from(least.lines);
    let bitrate = least.bitrate.scaled(part.powf(1.5)).max(LEAST.min(least.bitrate));
    let lines = u16::try_from(short).unwrap_or(u16::MAX);
    vec![plan(size, Step { lines, bitrate })]
}

/// A layer of so many lines.
fn plan(size: (u16, u16), step: Step) -> Planned {
    let (width, height) = (u32::from(size.0), u32::from(size.1));
    let (short, long) = (width.min(height), width.max(height));
    let lines = u32::from(step.lines);
    let (made_short, made_long) = (even(lines, 1), even(long * lines, short));
    let dimensions = if width < height { (made_short, made_long) } else { (made_long, made_short) };
    Planned { rid: format!("{lines}p"), dimensions, ceiling: step.bitrate }
}

/// The even number nearest to a fraction, since colours have half the resolution; and no less than
/// any encoder takes.
fn even(side: u32, over: u32) -> u16 {
    const LEAST: u16 = 16;
    let half = (side + over) / (2 * over.max(1));
    u16::try_from(half * 2).unwrap_or(u16::MAX - 1).max(LEAST)
}

/// What each of these layers is to take while the source takes so much, if that is known yet.
pub(super) fn rates(is_for_all: bool, source: Option<Bitrate>, layers: &[Planned]) -> Vec<Bitrate> {
    let times = if is_for_all { 1.0 } else { OTHERWISE };
    let mut above = source.map(|source| source.scaled(times));
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
        let layers = layers(Source { size: source, is_for_all: true }, ladder.steps());
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
        let source = Source { size: (1920, 1080), is_for_all: true };
        let layers = layers(source, ladder.steps());
        let of = |kbps: Option<u64>| -> Vec<u64> {
            let rates = rates(true, kbps.map(Bitrate::kbps), &layers);
            rates.into_iter().map(|rate| rate.as_bps() / 1000).collect()
        };
        assert_eq!(of(None), [2500, 1000, 500], "as configured");
        assert_eq!(of(Some(6000)), [2500, 1000, 500]);
        assert_eq!(of(Some(2000)), [1500, 1000, 500]);
        assert_eq!(of(Some(800)), [600, 450, 337]);
        assert_eq!(of(Some(0)), [100, 100, 100], "it may move again");
    }

    #[test]
    fn what_not_everybody_plays_is_made_in_its_own_size_too() {
        let ladder = Ladder::parse("on").expect("a ladder");
        let of = |size| -> Vec<_> {
            let layers = layers(Source { size, is_for_all: false }, ladder.steps());
            layers.into_iter().map(|it| (it.dimensions, it.ceiling.as_bps() / 1000)).collect()
        };
        let full =
            [((1920, 1080), 5000), ((1280, 720), 2500), ((854, 480), 1000), ((640, 360), 500)];
        assert_eq!(of((1920, 1080)), full);
        assert_eq!(of((3840, 2160)), full, "as the operator wants it");
        assert_eq!(of((1312, 738))[0], ((1280, 720), 2500));
        assert_eq!(of((320, 180)), [((320, 180), 176)], "smaller than all of them");
        let source = Source { size: (1280, 720), is_for_all: false };
        let layers = layers(source, ladder.steps());
        let rates = rates(false, Some(Bitrate::kbps(800)), &layers);
        assert_eq!(rates, [1200, 900, 500].map(Bitrate::kbps), "it says less in a bit");
    }
}
