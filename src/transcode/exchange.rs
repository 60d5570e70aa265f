//! Messages to and from one worker, on their way through its socket.

use super::ipc::{BadMessage, Incoming, Wire};
use std::io;
use tokio::net::UnixStream;

/// Read at once.
const READ_BYTES: usize = 64 * 1024;

/// What passes between the server and one worker, which tells `M`.
#[derive(Debug)]
pub(super) struct Exchange<M> {
    incoming: Incoming<M>,
    outgoing: Vec<u8>,
    /// Of those, how many the socket has taken.
    taken: usize,
    buffer: Vec<u8>,
}

impl<M: Wire> Exchange<M> {
    pub(super) fn new() -> Self {
        Self {
            incoming: Incoming::default(),
            outgoing: Vec::new(),
            taken: 0,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Adds a message to what waits for the socket. False: it is too long for the other side.
    pub(super) fn put(&mut self, message: &impl Wire) -> bool {
        message.write_to(&mut self.outgoing)
    }

    /// How many bytes wait for the socket.
    pub(super) const fn waiting(&self) -> usize {
        self.outgoing.len() - self.taken
    }

    /// What the worker has told next, as far as it was read.
    pub(super) fn take_next(&mut self) -> Result<Option<M>, BadMessage> {
        self.incoming.take_next()
    }

    /// Reads what there is.
    pub(super) fn read(&mut self, socket: &UnixStream) -> io::Result<()> {
        match socket.try_read(&mut self.buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.incoming.feed(self.buffer.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes as much as it takes.
    pub(super) fn write(&mut self, socket: &UnixStream) -> io::Result<()> {
        match socket.try_write(self.outgoing.get(self.taken..).unwrap_or_default()) {
            Ok(count) => {
                self.taken += count;
                if self.waiting() == 0 {
                    self.outgoing.clear();
                    self.taken = 0;
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}
