//! From each decoded picture to all layers: which of them take it, whether it becomes an IDR there,
//! and what it is scaled from: the next larger one.

use crate::picture::decoder::Picture;
use crate::picture::lane::{Lane, Work};
use crate::picture::now_ns;
use crate::picture::scaler::Scaler;
use crate::picture::stamp::CLOCK_RATE;
use gstreamer as gst;
use gstreamer_video::{VideoFormat, VideoInfo};
use std::sync::Arc;

/// IDRs follow the keyframes of the source, so that segments of all layers begin with the same
/// picture, unless those come faster than this ...
const KEYFRAMES_MIN: i64 = CLOCK_RATE * 9 / 10;
/// ... or so late that whoever packages the layers would wait too long.
const KEYFRAMES_MAX: i64 = 5 * CLOCK_RATE;
/// Of pictures that are late, one of so many is encoded: time for the decoder to catch up.
const THINNED: u32 = 4;

/// What is known of each layer in the decoder's thread.
#[derive(Default)]
pub(crate) struct Spread {
    outlets: Vec<Outlet>,
    rhythm: Rhythm,
    /// Late pictures in a row.
    late: u32,
}

struct Outlet {
    lane: Arc<Lane>,
    /// Its scaler, and what that was made for.
    scaler: Option<(VideoInfo, Scaler)>,
    thinner: Thinner,
}

impl Spread {
    /// Hands a picture to these layers, the largest first. `wants_keyframe` is taken where it was
    /// fulfilled.
    pub(crate) fn take(
        &mut self,
        picture: &Picture,
        lanes: &[Arc<Lane>],
        wants_keyframe: &mut bool,
    ) -> anyhow::Result<()> {
        self.follow(lanes);
        self.late = if picture.entry.is_late { self.late + 1 } else { 0 };
        if self.late > 0 && self.late % THINNED != 1 && !picture.entry.is_keyframe {
            for lane in lanes {
                lane.skip();
            }
            return Ok(());
        }
        let ticks = picture.entry.ticks;
        let is_keyframe =
            self.rhythm.is_keyframe(ticks, picture.entry.is_keyframe, *wants_keyframe);
        if is_keyframe {
            *wants_keyframe = false;
        }
        let mut made: Vec<(VideoInfo, gst::Buffer)> =
            vec![(picture.info.clone(), picture.buffer.clone())];
        let number = picture.entry.number;
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.lane.first <= number) {
            if !outlet.thinner.takes(ticks, outlet.lane.layer.frame_rate_mhz) && !is_keyframe {
                continue;
            }
            let began = now_ns();
            let size = (u32::from(outlet.lane.layer.width), u32::from(outlet.lane.layer.height));
            // The smallest comes last.
            let holds = |info: &VideoInfo| info.width() >= size.0 && info.height() >= size.1;
            let source = made.iter().rfind(|(info, _)| holds(info)).or(made.first());
            let Some((info, source)) = source else { return Ok(()) };
            let scaler = outlet.scaler(info, size)?;
            let Some(buffer) = scaler.scale(source)? else {
                outlet.lane.skip();
                continue;
            };
            let info = scaler.info().clone();
            made.push((info.clone(), buffer.clone()));
            let spent_ns = now_ns().saturating_sub(began);
            outlet.lane.push(Work { buffer, info, is_keyframe }, spent_ns);
        }
        Ok(())
    }

    /// Knows these layers, and no others.
    fn follow(&mut self, lanes: &[Arc<Lane>]) {
        self.outlets.retain(|known| lanes.iter().any(|lane| Arc::ptr_eq(lane, &known.lane)));
        for lane in lanes {
            if !self.outlets.iter().any(|known| Arc::ptr_eq(lane, &known.lane)) {
                let thinner = Thinner::default();
                self.outlets.push(Outlet { lane: Arc::clone(lane), scaler: None, thinner });
            }
        }
        let pixels = |lane: &Lane| u32::from(lane.layer.width) * u32::from(lane.layer.height);
        self.outlets.sort_by_key(|outlet| std::cmp::Reverse(pixels(&outlet.lane)));
    }
}

impl Outlet {
    fn scaler(&mut self, from: &VideoInfo, size: (u32, u32)) -> anyhow::Result<&Scaler> {
        let scaler = match self.scaler.take() {
            Some((made_for, scaler)) if made_for == *from => scaler,
            _ => Scaler::new(from, VideoFormat::I420, size)?,
        };
        Ok(&self.scaler.insert((from.clone(), scaler)).1)
    }
}

/// When all layers get an IDR. Pure.
#[derive(Debug, Default)]
struct Rhythm {
    /// The ticks of the last one.
    last: Option<i64>,
    /// The ticks of the last one that followed the source.
    followed: Option<i64>,
}

impl Rhythm {
    /// Whether this picture becomes one.
    fn is_keyframe(&mut self, ticks: i64, is_of_source: bool, is_wanted: bool) -> bool {
        let since = |last: Option<i64>| last.map_or(i64::MAX, |last| ticks.saturating_sub(last));
        let is_due = !(0..KEYFRAMES_MAX).contains(&since(self.last));
        let follows = is_of_source && !(0..KEYFRAMES_MIN).contains(&since(self.followed));
        if follows {
            self.followed = Some(ticks);
        }
        let is_keyframe = is_wanted || is_due || follows;
        if is_keyframe {
            self.last = Some(ticks);
        }
        is_keyframe
    }
}

/// Leaves out pictures that come faster than they are wanted, so that the others keep even steps:
/// of 60 per second every other one for 30, and for 24 as well. Pure.
#[derive(Debug, Default)]
struct Thinner {
    /// The ticks from which on the next one is taken.
    due: Option<i64>,
}

impl Thinner {
    /// Whether this picture is taken, for so many in 1,000 seconds; all are for 0.
    fn takes(&mut self, ticks: i64, frame_rate_mhz: u32) -> bool {
        let Some(interval) = (CLOCK_RATE * 1000).checked_div(i64::from(frame_rate_mhz)) else {
            return true;
        };
        // Timestamps are rounded, to milliseconds in RTMP, and rates are never quite what is said.
        let early = self.due.unwrap_or(ticks).saturating_sub(ticks);
        if early > interval / 4 && early <= interval {
            return false;
        }
        self.due = Some(ticks.saturating_add(interval));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idrs_follow_the_source_within_bounds() {
        let mut rhythm = Rhythm::default();
        // 12 s at 10 per second, and a keyframe of the source every 300 ms.
        let idrs: Vec<i64> =
            (0..120).filter(|at| rhythm.is_keyframe(at * 9000, at % 3 == 0, false)).collect();
        assert!(idrs.windows(2).all(|two| two[1] - two[0] == 9), "{idrs:?}");
        // And with none at all.
        let mut rhythm = Rhythm::default();
        let idrs: Vec<i64> =
            (0..120).filter(|at| rhythm.is_keyframe(at * 9000, *at == 0, *at == 70)).collect();
        assert_eq!(idrs, [0, 50, 70]);
        assert!(rhythm.is_keyframe(-1, false, false), "the clock has jumped");
    }

    #[test]
    fn what_comes_too_fast_is_thinned_out_and_nothing_else() {
        let count = |rate: i64, bound: u32| {
            let mut thinner = Thinner::default();
            // Rounded to milliseconds.
            let stamp = |at: i64| at * 1000 / rate * 90;
            (0..10 * rate).filter(|at| thinner.takes(stamp(*at), bound)).count()
        };
        for (rate, bound, expected) in [
            (30, 30_000, 300),
            (30, 29_000, 300),
            (60, 30_000, 300),
            (60, 24_000, 300),
            (60, 20_000, 200),
            (50, 25_000, 250),
            (9, 0, 90),
        ] {
            assert_eq!(count(rate, bound), expected, "{rate} within {bound}");
        }
        let mut thinner = Thinner::default();
        assert!(thinner.takes(0, 30_000) && thinner.takes(1 << 40, 30_000));
        assert!(thinner.takes(5, 30_000), "the clock has jumped back");
    }
}
