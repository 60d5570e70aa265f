//! What the engines of one server tell each other: datagrams of sessions that another one owns, and
//! streams that are published at another one.
//!
//! A session lives where its first check arrived, a stream where its publisher lives. A shard with
//! viewers of a stream follows the shard that has the publisher, and is handed every packet once.

use super::made::Watching;
use crate::media::arena::Path;
use crate::media::codec::Format;
use crate::media::id::{SessionId, StreamName};
use crate::media::layer::{Lane, LayerId, MadeLayer};
use crate::media::packet::Packet;
use crate::media::time::WallTime;
use crate::router::time_line::TimeLine;
use std::sync::Arc;
use std::time::Instant;

/// Which publisher of a stream: of two, the one that came later is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term {
    /// When its session was made.
    pub since: Instant,
    /// Its session.
    pub session: SessionId,
}

/// One message from engine to engine. Those between two engines keep their order.
#[derive(Debug, Clone)]
pub enum Message {
    /// A datagram from an address of a session of yours.
    Datagram {
        /// Where it came from and which of our addresses it came to.
        path: Path,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A publisher of this stream has connected here.
    Published {
        /// The stream.
        stream: StreamName,
        /// Which publisher.
        term: Term,
    },
    /// It is gone, and what it sent with it.
    Unpublished {
        /// The stream.
        stream: StreamName,
        /// Which publisher.
        term: Term,
    },
    /// There are viewers here: hand me what this publisher sends of the stream.
    Follow(StreamName, Term),
    /// There are none any more.
    Unfollow(StreamName),
    /// What a follower begins with.
    Start(StreamName, Box<Start>),
    /// These formats flow from now on, audio and video.
    Formats(StreamName, [Option<Format>; 2]),
    /// Packets, in the order of their arrival.
    Packets(StreamName, Arc<[Arc<Packet>]>),
    /// The publisher's sender report.
    SenderReport(StreamName, SenderReport),
    /// A viewer here cannot go on without a keyframe of this layer.
    KeyframeWanted(StreamName, LayerId),
    /// These layers are made of what the publisher sends.
    Made(StreamName, Arc<[MadeLayer]>),
    /// This one is not made any more until somebody wants it.
    MadeEnded(StreamName, LayerId),
    /// So many viewers here get each made layer, or are to get it.
    Watched(StreamName, Watching),
}

/// What a stream is when a shard begins to follow it.
#[derive(Debug, Clone)]
pub struct Start {
    /// What flows.
    pub formats: [Option<Format>; 2],
    /// The names of its layers.
    pub rids: Arc<[String]>,
    /// The layers that are made of them.
    pub made: Arc<[MadeLayer]>,
    /// Its timestamps on the server's clock.
    pub time_line: TimeLine,
    /// All video since the newest keyframe of each layer, with its padding.
    pub packets: Vec<(Arc<Packet>, u8)>,
}

/// A sender report, in the numbering of [`Packet::timestamp`].
#[derive(Debug, Clone, Copy)]
pub struct SenderReport {
    /// Of which lane.
    pub lane: Lane,
    /// The publisher's wall clock.
    pub ntp: WallTime,
    /// The RTP timestamp of that moment.
    pub timestamp: u64,
    /// When it arrived.
    pub arrival: Instant,
}

impl Message {
    /// Whether it is better lost than late, as there will be more of it. All others must arrive.
    pub const fn is_media(&self) -> bool {
        matches!(self, Self::Datagram { .. } | Self::Packets(..) | Self::SenderReport(..))
    }
}
