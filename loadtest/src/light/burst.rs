//! Several datagrams by one system call, so that a frame's packets leave back to back.

use bytes::Bytes;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// Datagrams of one system call.
const BATCH: usize = 64;

/// Sends all datagrams, and returns how many the kernel took. What it does not take is lost, as on
/// any network.
pub(super) fn send(socket: &impl AsRawFd, to: SocketAddr, datagrams: &[Bytes]) -> usize {
    let names = [Some(SockaddrStorage::from(to)); BATCH];
    let mut headers = MultiHeaders::preallocate(BATCH.min(datagrams.len()), None);
    let mut sent = 0;
    for batch in datagrams.chunks(BATCH) {
        let slices: Vec<_> = batch.iter().map(|datagram| [IoSlice::new(datagram)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        sent += sendmmsg(socket.as_raw_fd(), &mut headers, &slices, names, [], flags)
            .map_or(0, Iterator::count);
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn more_than_a_batch_arrives_in_order() -> std::io::Result<()> {
        let (from, to) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
        let datagrams: Vec<Bytes> = (0..70_u8).map(|number| vec![number; 9].into()).collect();
        assert_eq!(send(&from, to.local_addr()?, &datagrams), 70);
        for wanted in &datagrams {
            let mut bytes = [0; 16];
            let length = to.recv(&mut bytes)?;
            assert_eq!(bytes[..length], wanted[..]);
        }
        assert_eq!(send(&from, to.local_addr()?, &[]), 0);
        Ok(())
    }
}
