//! A request for a playlist or a file, and what it gets.

use super::presentation::{File, Position, Rendition, names};
use super::store::{Store, Target};
use crate::media::id::StreamName;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Of which stream.
    pub stream: &'a StreamName,
    /// A playlist, or a file of media.
    pub file: &'a str,
    /// What the playlist is to have.
    pub directives: Directives,
    /// What stands behind the URLs of a playlist.
    pub query: &'a str,
}

/// Delivery directives (§6.2.5 of the draft).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directives {
    /// Wait for this media segment.
    pub msn: Option<u64>,
    /// Wait for this part of it.
    pub part: Option<u64>,
    /// A delta update will do.
    pub skip: bool,
}

/// What is given.
pub enum Answer<R> {
    /// A playlist, as it was rendered for all.
    Playlist(R),
    /// A file, complete.
    Media(Bytes),
    /// What there is of a segment, and the rest as it comes. Ends with an error where the rest does
    /// not come.
    Growing(BoxStream<'static, Result<Bytes, Unfinished>>),
}

/// The rest of a segment does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished;

/// Why nothing is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody publishes the stream.
    #[error("the stream is not live")]
    NotLive,
    /// There is no such file, or none any more.
    #[error(
        "there is no such file, or none any more: playlists reach back so far only; begin with \
         index.m3u8"
    )]
    NotFound,
    /// The playlist is far from having that.
    #[error("segment {asked} is asked for, and the newest is {newest}; reload the playlist")]
    TooFarAhead {
        /// The media sequence number that is waited for.
        asked: u64,
        /// The newest there is.
        newest: u64,
    },
    /// What is sent cannot be packaged.
    #[error("{0}")]
    NotPlayable(String),
    /// It was waited for in vain.
    #[error("{0} did not come in time; try again")]
    NotInTime(&'static str),
    /// It is over.
    #[error("the stream begins anew, or the server is stopping; try again in a few seconds")]
    Closed,
    /// Nothing is packaged here.
    #[error("HLS is off")]
    Off,
}

/// Whether it is the name of a playlist.
pub(super) fn is_playlist(file: &str) -> bool {
    target(file).is_some()
}

fn target(file: &str) -> Option<Target> {
    if file == "index.m3u8" {
        return Some(Target::Multivariant);
    }
    Rendition::of_playlist(file).map(Target::Media)
}

/// Whether a playlist has got so far (§6.2.5.2). A part that its segment has not got, as that is
/// complete, is the first one of the next.
fn has_reached(position: Position, msn: u64, part: Option<u64>) -> bool {
    let is_there = match part {
        None => position.is_complete,
        Some(part) => part < position.parts,
    };
    position.is_over || position.msn > msn || (position.msn == msn && is_there)
}

impl<R: Clone + Send + Sync + 'static> Store<R> {
    /// A player may ask for the segment after the next, and no more (§6.2.5.2).
    const AHEAD_MAX: u64 = 2;
    /// How long the first playlist is waited for: a keyframe may be seconds away.
    const FIRST_PLAYLIST_MAX: Duration = Duration::from_secs(12);

    pub(super) async fn answer(self: &Arc<Self>, ask: &Ask<'_>) -> Result<Answer<R>, Refused> {
        let answer = async {
            match target(ask.file) {
                Some(target) => self.playlist(target, ask).await.map(Answer::Playlist),
                None => self.file(ask.file).await,
            }
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            // Who waits while it closes waits for nothing.
            () = self.closed() => Err(Refused::Closed),
        }
    }

    async fn playlist(&self, target: Target, ask: &Ask<'_>) -> Result<R, Refused> {
        self.wait_ready(Self::FIRST_PLAYLIST_MAX).await?;
        let Target::Media(rendition) = target else {
            return self.render(target, ask).ok_or(Refused::NotFound);
        };
        let Directives { msn: Some(msn), part, .. } = ask.directives else {
            return self.render(target, ask).ok_or(Refused::NotFound);
        };
        let mut edge = self.edge(rendition);
        let newest = edge.borrow().ok_or(Refused::NotFound)?.msn;
        if msn > newest + Self::AHEAD_MAX {
            return Err(Refused::TooFarAhead { asked: msn, newest });
        }
        let reached =
            edge.wait_for(|edge| edge.is_none_or(|position| has_reached(position, msn, part)));
        match timeout(self.wait_max(), reached).await {
            Ok(Ok(_)) => self.render(target, ask).ok_or(Refused::NotFound),
            Ok(Err(_)) => Err(Refused::NotFound),
            Err(_) => Err(Refused::NotInTime("more of the stream")),
        }
    }

    async fn file(self: &Arc<Self>, name: &str) -> Result<Answer<R>, Refused> {
        let rendition = names::read(name).ok_or(Refused::NotFound)?.rendition;
        let mut edge = self.edge(rendition);
        let found = async {
            loop {
                edge.mark_unchanged();
                match self.find(name) {
                    File::Whole(bytes) => return Ok(Answer::Media(bytes)),
                    File::Growing(_) => return Ok(Answer::Growing(self.grow(name, rendition))),
                    File::Unknown => return Err(Refused::NotFound),
                    File::Hinted => {}
                }
                edge.changed().await.map_err(|_| Refused::NotFound)?;
            }
        };
        let in_time = timeout(self.wait_max(), found).await;
        in_time.unwrap_or(Err(Refused::NotInTime("the next part")))
    }

    /// A segment that is being made, from its first part to its last.
    fn grow(
        self: &Arc<Self>,
        name: &str,
        rendition: Rendition,
    ) -> BoxStream<'static, Result<Bytes, Unfinished>> {
        let (store, name, edge) = (Arc::clone(self), name.to_owned(), self.edge(rendition));
        let begun = Some((store, name, edge, 0_usize));
        stream::unfold(begun, async |state| {
            let (store, name, mut edge, sent) = state?;
            match store.more(&name, &mut edge, sent).await {
                Ok(more) if more.is_empty() => None,
                Ok(more) => {
                    let sent = sent + more.len();
                    Some((Ok(more), Some((store, name, edge, sent))))
                }
                Err(unfinished) => Some((Err(unfinished), None)),
            }
        })
        .boxed()
    }

    /// What of a segment comes behind `sent` bytes; empty where that was all.
    async fn more(
        &self,
        name: &str,
        edge: &mut watch::Receiver<Option<Position>>,
        sent: usize,
    ) -> Result<Bytes, Unfinished> {
        let more = async {
            loop {
                edge.mark_unchanged();
                match self.find(name) {
                    File::Whole(bytes) => return Ok(bytes.slice(sent.min(bytes.len())..)),
                    File::Growing(parts) => {
                        let more = unsent(&parts, sent);
                        if !more.is_empty() {
                            return Ok(more);
                        }
                    }
                    File::Hinted => {}
                    File::Unknown => return Err(Unfinished),
                }
                edge.changed().await.map_err(|_| Unfinished)?;
            }
        };
        timeout(self.wait_max(), more).await.unwrap_or(Err(Unfinished))
    }
}

/// The first of the parts that is not sent yet, where `sent` bytes are; empty where all are.
fn unsent(parts: &[Bytes], mut sent: usize) -> Bytes {
    for part in parts {
        if sent < part.len() {
            return part.slice(sent..);
        }
        sent -= part.len();
    }
    Bytes::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocking_reload_is_answered_when_what_it_names_is_there() {
        let at = |msn, parts, is_complete| Position { msn, parts, is_complete, is_over: false };
        for (position, msn, part, expected) in [
            (at(7, 3, false), 7, Some(2), true),
            (at(7, 3, false), 7, Some(3), false),
            (at(7, 3, false), 7, None, false),
            (at(7, 10, true), 7, None, true),
            (at(7, 10, true), 7, Some(9), true),
            // There is no such part: the first one of the next segment is waited for.
            (at(7, 10, true), 7, Some(10), false),
            (at(8, 1, false), 7, Some(10), true),
            (at(8, 1, false), 7, None, true),
            (at(8, 1, false), 9, Some(0), false),
        ] {
            let reached = has_reached(position, msn, part);
            assert_eq!(reached, expected, "{position:?} {msn} {part:?}");
        }
        assert!(has_reached(Position { is_over: true, ..at(7, 3, false) }, 8, None));
    }

    #[test]
    fn what_is_sent_of_a_growing_segment_goes_on_where_it_ended() {
        let parts = [Bytes::from_static(b"abc"), Bytes::from_static(b"de")];
        for (sent, more) in [(0, "abc"), (3, "de"), (4, "e"), (5, ""), (9, "")] {
            assert_eq!(unsent(&parts, sent), more.as_bytes());
        }
    }
}
