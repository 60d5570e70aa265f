//! What the loop does with the TCP connections of clients without UDP.

use super::link::Mail;
use super::tcp::{Connection, Connections};
use super::{Intake, Shard};
use crate::engine::Input;
use crate::engine::message::Message;
use std::time::{Duration, Instant};

impl Shard {
    /// How often connections that serve nobody are looked for.
    const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

    /// Reads connections; false: more may wait.
    pub(super) fn receive_from_connections(&mut self) -> bool {
        let mut more = std::mem::take(&mut self.connections_ready);
        for _ in 0..Self::BATCHES_MAX {
            if !more {
                break;
            }
            self.make_room();
            let Self { connections, engine, handshakes, clock, arena, .. } = self;
            let mut intake = Intake { engine, handshakes, now: clock.now(), arena };
            more = connections.receive(|path, bytes| intake.datagram(path, bytes));
        }
        self.tell_backlogs();
        !more
    }

    /// Tells the engine how it stands with the backlogs of connections.
    pub(super) fn tell_backlogs(&mut self) {
        while let Some((path, backlog)) = self.connections.poll_news() {
            let now = self.clock.now();
            self.engine.handle(Input::Backlog { path, backlog }, now, &mut self.arena);
        }
    }

    /// Serves a client by its connection, whose first datagram this is.
    pub(super) fn connect(&mut self, connection: Connection, mut first: Vec<u8>) {
        let path = connection.path();
        self.connections.insert(connection);
        self.make_room();
        let Self { engine, handshakes, clock, arena, .. } = self;
        let mut intake = Intake { engine, handshakes, now: clock.now(), arena };
        intake.datagram(path, &mut first);
    }

    /// Closes connections whose sessions are over, or never were.
    pub(super) fn sweep_connections(&mut self, now: Instant) {
        if now >= self.swept + Self::SWEEP_INTERVAL {
            self.swept = now;
            let engine = &self.engine;
            self.connections.sweep(|path| engine.owns(path));
        }
    }

    /// A message on its way to another shard. A connection goes where its client's session is, with
    /// what came on it.
    pub(super) fn with_its_connection(&mut self, message: Message) -> Mail {
        match message {
            Message::Datagram { path, bytes } if path.is_tcp() => {
                match self.connections.take(path) {
                    Some(connection) => Mail::Connection(Box::new(connection), bytes),
                    None => Mail::Message(Message::Datagram { path, bytes }),
                }
            }
            message => Mail::Message(message),
        }
    }
}

impl Mail {
    /// What is told, once the connection that came with it is among ours.
    pub(super) fn unpack(self, connections: &mut Connections) -> Message {
        match self {
            Self::Message(message) => message,
            Self::Connection(connection, bytes) => {
                let path = connection.path();
                connections.insert(*connection);
                Message::Datagram { path, bytes }
            }
        }
    }
}
