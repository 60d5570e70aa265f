//! Which layer of a stream its viewers are sent.

use super::Engine;
use crate::media::codec::Kind;
use crate::media::layer::{LayerId, LayerState};
use std::time::{Duration, Instant};

/// How often that is looked at, where there is a choice.
const INTERVAL: Duration = Duration::from_millis(100);
/// How much more a layer of the same size must carry to be chosen instead.
const MARGIN: f64 = 1.25;

impl Engine {
    /// Something has come of a stream: where layers begin or have other sizes by it, the choice is
    /// looked at at once, since the keyframe that says so may be the only one for long.
    pub(super) fn layers_changed(&mut self, index: usize, now: Instant) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.router.take_changed() {
            self.choose(index, now);
        }
    }

    /// Looks at the choice of a stream, if it is time.
    pub(super) fn choose_if_due(&mut self, index: usize, now: Instant) {
        let Some(stream) = self.streams.get(index) else { return };
        if stream.choose_at.is_some_and(|at| at <= now) {
            self.choose(index, now);
        }
    }

    fn choose(&mut self, index: usize, now: Instant) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        stream.choose_at = (stream.router.layers_len() > 1).then(|| now + INTERVAL);
        let best = best(&stream.router.layers(now), stream.best);
        if best == stream.best {
            return;
        }
        stream.best = best;
        let Some(best) = best else { return };
        let mut is_wanted = false;
        stream.each_viewer(&mut self.peers, |_, viewing| {
            if let Some(video) = &mut viewing.subscriptions[Kind::Video.index()] {
                video.aim(best);
                is_wanted |= video.is_moving();
            }
        });
        if is_wanted && !stream.router.keyframe_waits(best) {
            stream.router.want_keyframe(best);
            self.request_keyframe(index, now);
        }
    }
}

/// The best of the layers that flow; layers of one size that carry nearly the same do not take
/// turns.
fn best(states: &[LayerState], current: Option<LayerId>) -> Option<LayerId> {
    let best = states.first()?;
    let kept = states.iter().find(|state| Some(state.layer) == current && state.is_active);
    let is_kept = kept.is_some_and(|kept| {
        kept.dimensions == best.dimensions && best.bitrate < kept.bitrate.scaled(MARGIN)
    });
    if is_kept { current } else { Some(best.layer) }
}
