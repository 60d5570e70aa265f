//! A publisher's frames on their way into its stream.

use crate::bus::publication::{LinkReport, Publication};
use crate::engine::command::EndReason;
use crate::media::frame::Frame;
use crate::media::id::{SessionId, StreamName};

/// Takes one publisher's frames. Dropping it ends the session.
#[derive(Debug)]
pub struct Feed {
    publication: Publication,
}

impl Feed {
    pub(super) const fn new(publication: Publication) -> Self {
        Self { publication }
    }

    /// The session, for logs.
    pub const fn session(&self) -> SessionId {
        self.publication.session()
    }

    /// The stream.
    pub const fn stream(&self) -> &StreamName {
        self.publication.stream()
    }

    /// Takes a frame; never waits.
    pub fn write(&mut self, _frame: Frame) {
        self.publication.describe(|details| details.frames.taken += 1);
    }

    /// Why it is over, once it is: replaced, ended by an operator, silent, the server stops.
    pub fn ended(&self) -> Option<EndReason> {
        self.publication.ended()
    }

    /// Waits until it is over; may be given up and called again.
    pub async fn wait_ended(&mut self) -> EndReason {
        self.publication.wait_ended().await
    }

    /// What else comes in, and is not used.
    pub fn note_tracks(&mut self, unused: Vec<String>) {
        self.publication.describe(|details| details.unused_tracks = unused);
    }

    /// How the link fares.
    pub fn set_link(&mut self, link: LinkReport) {
        self.publication.describe(|details| details.link = Some(link));
    }
}
