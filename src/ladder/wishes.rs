//! What viewers want of made layers, from the engine's thread to the task that has them made.

use crate::engine::made::{Watching, Wishes};
use crate::media::layer::MadeLayer;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use tokio::sync::Notify;

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Wished {
    watching: [AtomicU32; MadeLayer::MAX],
    keyframes: AtomicU8,
    changed: Notify,
}

impl Wished {
    /// Done when something has been told since this was asked last.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How many watch each.
    pub(super) fn watching(&self) -> Watching {
        std::array::from_fn(|at| self.watching[at].load(Ordering::Acquire))
    }

    /// Those of which somebody needs a keyframe, once.
    pub(super) fn take_keyframes(&self) -> u8 {
        self.keyframes.swap(0, Ordering::AcqRel)
    }
}

impl Wishes for Wished {
    fn watched(&self, by: Watching) {
        for (told, by) in self.watching.iter().zip(by) {
            told.store(by, Ordering::Release);
        }
        self.changed.notify_one();
    }

    fn keyframe(&self, index: usize) {
        let bit = u32::try_from(index).ok().and_then(|index| 1_u8.checked_shl(index));
        self.keyframes.fetch_or(bit.unwrap_or_default(), Ordering::AcqRel);
        self.changed.notify_one();
    }
}
