//! Layers that are made of what a publisher sends, by an adapter that reads the stream and writes
//! them beside it.

use super::directory::Directory;
use super::publication::Writer;
use super::{Bus, ShardLink};
use crate::engine::command::{Command, Make, Written};
use crate::engine::made::Wishes;
use crate::engine::message::Term;
use crate::media::id::StreamName;
use crate::media::layer::{LayerId, MadeLayer};
use std::sync::Arc;
use tracing::warn;

/// Layers that viewers can have made of what one publisher sends. Dropping it takes them away.
pub struct Making {
    directory: Arc<Directory>,
    stream: StreamName,
    term: Term,
    shard: ShardLink,
    writer: MakingWriter,
}

impl std::fmt::Debug for Making {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Making").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Writes what is made.
#[derive(Debug, Clone)]
pub struct MakingWriter(Writer);

impl MakingWriter {
    /// Writes a frame of the layers that [`MadeLayer::id`] names. False: there was no room for it,
    /// and what depends on it is of no use.
    pub fn write(&self, written: Written) -> bool {
        self.0.write(Written { is_made: true, ..written })
    }

    /// Nothing more of this layer comes until somebody wants it again. False: there was no room to
    /// say so.
    pub fn end(&self, layer: LayerId) -> bool {
        self.write(Written { ended: Some(layer), ..Written::default() })
    }
}

impl Making {
    /// What writes them.
    pub const fn writer(&self) -> &MakingWriter {
        &self.writer
    }

    /// They carry something else from now on, or cannot be had for the time being: as many as
    /// before, in the same order. False: the shard is too busy to be told.
    pub fn change(&self, layers: Vec<MadeLayer>) -> bool {
        self.make(layers, None)
    }

    fn make(&self, layers: Vec<MadeLayer>, wishes: Option<Arc<dyn Wishes>>) -> bool {
        let (stream, term, layers) = (self.stream.clone(), self.term, layers.into());
        self.shard.command(Command::Make(Box::new(Make { stream, term, layers, wishes })))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let stream = &self.stream;
        self.directory.set_made(stream, self.term, None);
        if !self.shard.command(Command::Unmake(stream.clone(), self.term)) {
            // They go with their publisher.
            warn!(%stream, "its shard is too busy to be told that no layers are made any more");
        }
    }
}

impl Bus {
    /// Viewers can have these layers made of what this publisher sends, where that is one layer;
    /// `wishes` is told which are wanted. None: the publisher has left, or its shard is too busy.
    pub fn make(
        &self,
        stream: &StreamName,
        term: Term,
        layers: Vec<MadeLayer>,
        wishes: Arc<dyn Wishes>,
    ) -> Option<Making> {
        let shard = Arc::clone(self.shards.get(self.directory.shard_of(term.session)?)?);
        let writer = MakingWriter(Writer::new(term.session, Arc::clone(&shard)));
        let codec = layers.first().map(|layer| layer.codec);
        let directory = Arc::clone(&self.directory);
        let making = Making { directory, stream: stream.clone(), term, shard, writer };
        if !making.make(layers, Some(wishes)) {
            return None;
        }
        self.directory.set_made(stream, term, codec);
        Some(making)
    }
}
