//! The way from shard to shard: a bounded ring each, and one wake per turn of whoever sends.
//!
//! Media that finds a ring full is dropped and counted: its reader is that far behind. What must
//! arrive waits beside the ring, in order; there is no more of it than sessions come and go.

use super::tcp::Connection;
use crate::engine::message::Message;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// What goes from shard to shard.
#[derive(Debug)]
pub(super) enum Mail {
    /// What one engine tells the other.
    Message(Message),
    /// A client's connection, and a datagram that came on it.
    Connection(Box<Connection>, Vec<u8>),
}

/// Mail and the number of the shard that sent it.
type Sent = (usize, Mail);

/// One shard's end of the ways to all others.
#[derive(Debug)]
pub struct Links {
    shard: usize,
    inbox: Receiver<Sent>,
    /// Wakes this shard.
    wake: Arc<EventFd>,
    /// By shard; nothing at its own number.
    others: Vec<Option<Link>>,
    dropped: u64,
}

/// The way to one other shard.
#[derive(Debug)]
struct Link {
    ring: Sender<Sent>,
    wake: Arc<EventFd>,
    /// What must arrive and found the ring full.
    backlog: VecDeque<Mail>,
    /// Whether it has something to read that it has not been woken for.
    owed: bool,
}

impl Mail {
    /// Whether it is better lost than late. A client whose connection is lost connects again.
    fn is_media(&self) -> bool {
        match self {
            Self::Message(message) => message.is_media(),
            Self::Connection(..) => true,
        }
    }
}

impl Links {
    /// Messages in a ring: a second of a stream of 25 Mb/s in frames, and thousands of sessions.
    const RING: usize = 4096;

    /// The ends of as many shards, each linked with every other.
    ///
    /// # Errors
    ///
    /// When the system has no descriptor left.
    pub fn between(shards: usize) -> io::Result<Vec<Self>> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let mut ends = Vec::with_capacity(shards);
        for _ in 0..shards.max(1) {
            ends.push((bounded(Self::RING), Arc::new(EventFd::from_flags(flags)?)));
        }
        let link = |to: usize| {
            let ((ring, _), wake) = &ends[to];
            let (ring, wake) = (ring.clone(), Arc::clone(wake));
            Link { ring, wake, backlog: VecDeque::new(), owed: false }
        };
        let end = |shard: usize| {
            let ((_, inbox), wake) = &ends[shard];
            Self {
                shard,
                inbox: inbox.clone(),
                wake: Arc::clone(wake),
                others: (0..ends.len()).map(|to| (to != shard).then(|| link(to))).collect(),
                dropped: 0,
            }
        };
        Ok((0..ends.len()).map(end).collect())
    }

    /// What wakes this shard.
    pub(super) const fn wake(&self) -> &Arc<EventFd> {
        &self.wake
    }

    /// What is next for this shard.
    pub(super) fn receive(&self) -> Option<Sent> {
        self.inbox.try_recv().ok()
    }

    /// Whether there is a message for this shard.
    pub(super) fn has_mail(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Sends something to another shard.
    pub(super) fn send(&mut self, to: usize, mail: Mail) {
        let Some(link) = self.others.get_mut(to).and_then(Option::as_mut) else { return };
        let is_media = mail.is_media();
        // Whoever sends much to the wrong socket takes no room from streams.
        if matches!(mail, Mail::Message(Message::Datagram { .. }))
            && link.ring.len() >= Self::RING / 2
        {
            self.dropped += 1;
            return;
        }
        if !link.backlog.is_empty() {
            if is_media {
                self.dropped += 1;
            } else {
                link.backlog.push_back(mail);
            }
            return;
        }
        match link.ring.try_send((self.shard, mail)) {
            Ok(()) => link.owed = true,
            Err(TrySendError::Full(_)) if is_media => self.dropped += 1,
            Err(TrySendError::Full((_, mail))) => link.backlog.push_back(mail),
            // It has ended, and with it all that could be told.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// Sends what waits, and wakes whoever has something to read. True: something still waits.
    pub(super) fn flush(&mut self) -> bool {
        let mut waits = false;
        for link in self.others.iter_mut().flatten() {
            while let Some(mail) = link.backlog.pop_front() {
                match link.ring.try_send((self.shard, mail)) {
                    Ok(()) => link.owed = true,
                    Err(TrySendError::Full((_, mail))) => {
                        link.backlog.push_front(mail);
                        break;
                    }
                    Err(TrySendError::Disconnected(_)) => link.backlog.clear(),
                }
            }
            waits |= !link.backlog.is_empty();
            if std::mem::take(&mut link.owed) {
                // It fails only when 2^64 wakes wait, and then the shard wakes anyway.
                let _ = link.wake.write(1);
            }
        }
        waits
    }

    /// Media that found a ring full.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::message::Term;
    use crate::media::id::{SessionId, StreamName};
    use std::sync::Arc as Shared;
    use std::time::Instant;

    fn name() -> StreamName {
        StreamName::parse("lot-42").expect("a name")
    }

    fn packets() -> Mail {
        Mail::Message(Message::Packets(name(), Shared::from([])))
    }

    fn follow() -> Mail {
        let session = SessionId::from_random([0; 16]);
        Mail::Message(Message::Follow(name(), Term { since: Instant::now(), session }))
    }

    #[test]
    fn media_that_finds_the_ring_full_is_dropped_and_the_rest_arrives_in_order() {
        let mut ends = Links::between(2).expect("descriptors");
        let (mut two, mut one) = (ends.pop().expect("two"), ends.pop().expect("one"));
        for _ in 0..Links::RING {
            one.send(1, packets());
        }
        one.send(1, packets());
        one.send(1, follow());
        one.send(1, packets());
        one.send(1, Mail::Message(Message::Unfollow(name())));
        assert_eq!(one.dropped(), 2);
        assert!(one.flush(), "the ring is full");
        let media = std::iter::from_fn(|| two.receive()).count();
        assert_eq!(media, Links::RING);
        assert!(!one.flush());
        assert!(matches!(two.receive(), Some((0, Mail::Message(Message::Follow(..))))));
        assert!(matches!(two.receive(), Some((0, Mail::Message(Message::Unfollow(_))))));
        assert!(!two.has_mail());
        two.send(1, follow());
        assert!(!two.has_mail(), "nobody tells itself anything");
    }

    #[test]
    fn a_shard_is_woken_once_for_all_that_it_is_sent_in_a_turn() {
        let mut ends = Links::between(3).expect("descriptors");
        for _ in 0..5 {
            ends[0].send(2, follow());
        }
        assert_eq!(ends[2].wake().read(), Err(nix::Error::EAGAIN), "not yet");
        ends[0].flush();
        assert_eq!(ends[2].wake().read(), Ok(1));
        assert_eq!(ends[1].wake().read(), Err(nix::Error::EAGAIN), "it was sent nothing");
    }
}
