//! One track as it is sent on: what departs is noted where the path is measured.

use super::super::estimate::Estimator;
use super::super::outgoing::{Noting, Numbered, Outgoing, Sent, Wire};
use super::super::playout_delay::PlayoutDelay;
use std::time::Instant;

/// One track as it is sent on.
#[derive(Debug)]
pub struct Sending<'v> {
    pub(super) track: &'v mut Outgoing,
    pub(super) estimator: Option<&'v mut Estimator>,
    pub(super) now: Instant,
}

impl Sending<'_> {
    /// See [`Outgoing::playout_delay`].
    pub const fn playout_delay(&mut self) -> &mut PlayoutDelay {
        self.track.playout_delay()
    }

    /// See [`Outgoing::send`].
    pub fn send(&mut self, numbered: Numbered<'_>, wire: &mut Wire<'_>) -> Sent {
        let noting = self.estimator.as_deref_mut().map(|it| Noting::new(it.history(), self.now));
        self.track.send(numbered, wire, noting)
    }

    /// See [`Outgoing::resend`].
    pub fn resend(&mut self, numbered: Numbered<'_>, is_left: bool, wire: &mut Wire<'_>) -> Sent {
        let noting = self.estimator.as_deref_mut().map(|it| Noting::new(it.history(), self.now));
        self.track.resend(numbered, is_left, wire, noting)
    }

    /// Sends a packet of the past as part of a probe ([`super::Viewer::probe`]); without one,
    /// nothing but padding. Tells its bytes, zero if it cannot be sent.
    pub fn probe(&mut self, numbered: Option<Numbered<'_>>, wire: &mut Wire<'_>) -> usize {
        let Some(estimator) = self.estimator.as_deref_mut() else { return 0 };
        let noting = Noting::new(estimator.history(), self.now);
        let bytes = match numbered {
            Some(numbered) => self.track.probe(numbered, wire, noting),
            None => self.track.probe_empty(wire, noting),
        };
        estimator.probed(bytes, self.now);
        bytes
    }
}
