//! Keeps floods of handshakes from the library, by a filter in the kernel.
//!
//! For each handshake that comes with a good cookie libsrt makes a socket before it asks anybody,
//! 23 kB, and keeps it for seconds even if it is refused at once. So where more come than encoders
//! ever send, only a share of them is let through, drawn by chance: what lives goes on untouched,
//! memory stays bounded, and who calls meanwhile gets in after some more tries, of which callers
//! make four a second.

use socket2::{SockFilter, SockRef};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// How often the share is chosen anew.
const WINDOW: Duration = Duration::from_millis(100);
/// Handshakes that are wanted at most in a window: 300 in a second.
const WANTED: u32 = 30;
/// So many before the window is over: the share is lowered at once.
const TOO_MANY: u32 = 2 * WANTED;

/// All of them.
const ALL: u32 = u32::MAX;

/// The port, and what of its handshakes is let through.
#[derive(Debug)]
pub(super) struct Shield {
    port: UdpSocket,
    share: Share,
}

/// The share of the handshakes that is let through.
#[derive(Debug)]
struct Share {
    since: Instant,
    seen: u32,
    /// Of 2^32.
    kept: u32,
}

impl Shield {
    /// Opens the port; the second socket is the same one, for the library.
    pub(super) fn bind(address: SocketAddr, now: Instant) -> io::Result<(Self, UdpSocket)> {
        let port = UdpSocket::bind(address)?;
        let for_library = port.try_clone()?;
        let share = Share { since: now, seen: 0, kept: ALL };
        Ok((Self { port, share }, for_library))
    }

    /// Counts a handshake that was let through.
    pub(super) fn count(&mut self, now: Instant) {
        let kept = self.share.count(now);
        self.apply(kept);
    }

    /// To be called now and then: a flood that has ended is not noticed otherwise.
    pub(super) fn turn(&mut self, now: Instant) {
        let kept = self.share.turn(now);
        self.apply(kept);
    }

    fn apply(&self, kept: Option<u32>) {
        let Some(kept) = kept else { return };
        let port = SockRef::from(&self.port);
        let applied = match kept {
            ALL => port.detach_filter(),
            kept => port.attach_filter(&filter(kept)),
        };
        debug!(share = f64::from(kept) / f64::from(ALL), "SRT handshakes that are let through");
        if let Err(error) = applied {
            warn!(%error, "cannot filter the SRT port");
        }
    }
}

impl Share {
    /// The new share, where it has changed.
    fn count(&mut self, now: Instant) -> Option<u32> {
        let turned = self.turn(now);
        self.seen += 1;
        if self.seen < TOO_MANY {
            return turned;
        }
        // The window begins anew, with an eighth.
        self.since = now;
        self.seen = 0;
        self.kept = (self.kept / 8).max(1);
        Some(self.kept)
    }

    /// The same at the end of a window: as many of those that came as are wanted.
    fn turn(&mut self, now: Instant) -> Option<u32> {
        if now.saturating_duration_since(self.since) < WINDOW {
            return None;
        }
        let wanted = u64::from(self.kept) * u64::from(WANTED);
        let wanted = wanted.checked_div(u64::from(self.seen));
        let kept = wanted.and_then(|kept| u32::try_from(kept).ok()).unwrap_or(ALL);
        let changed = kept != self.kept;
        (self.since, self.seen, self.kept) = (now, 0, kept);
        changed.then_some(kept)
    }
}

/// What the kernel runs for each datagram of the port (classic BPF, socket(7) `SO_ATTACH_FILTER`):
/// everything passes but conclusions of handshakes, of which so many in 2^32 do. It sees the
/// datagram from its UDP header on; what is too short to be SRT's it drops.
fn filter(kept: u32) -> [SockFilter; 10] {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const IF_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const UDP_HEADER: u32 = 8;
    let random = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM).cast_unsigned();
    [
        // A control packet of the kind 0 (draft-sharabayko-srt §3.2)..
        SockFilter::new(LOAD_WORD, 0, 0, UDP_HEADER),
        SockFilter::new(IF_EQUAL, 0, 6, 0x8000_0000),
        // .. to no socket yet, thus to the listener..
        SockFilter::new(LOAD_WORD, 0, 0, UDP_HEADER + 12),
        SockFilter::new(IF_EQUAL, 0, 4, 0),
        // .. that concludes a handshake (§3.2.1).
        SockFilter::new(LOAD_WORD, 0, 0, UDP_HEADER + 36),
        SockFilter::new(IF_EQUAL, 0, 2, 0xffff_ffff),
        SockFilter::new(LOAD_WORD, 0, 0, random),
        SockFilter::new(IF_GREATER, 1, 0, kept),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_down_at_once_and_held_at_what_is_wanted() {
        let start = Instant::now();
        let mut share = Share { since: start, seen: 0, kept: ALL };
        // 100,000 in a second, of which the share comes through.
        let (mut through, mut carry) = (0_u32, 0_u64);
        for number in 0..100_000_u32 {
            let now = start + Duration::from_micros(u64::from(number) * 10);
            carry += u64::from(share.kept) + 1;
            if carry > u64::from(ALL) {
                carry -= u64::from(ALL) + 1;
                through += 1;
                share.count(now);
            }
        }
        assert!((100..600).contains(&through), "{through} came through");
        // It ends.
        share.turn(start + Duration::from_secs(2));
        share.turn(start + Duration::from_secs(3));
        assert_eq!(share.kept, ALL);
    }

    #[test]
    fn what_encoders_send_passes_untouched() {
        let start = Instant::now();
        let mut share = Share { since: start, seen: 0, kept: ALL };
        for number in 0..100_u32 {
            assert_eq!(share.count(start + Duration::from_millis(10) * number), None);
        }
    }

    #[test]
    fn only_conclusions_to_the_listener_are_dropped() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (shield, port) = Shield::bind(any, Instant::now()).expect("a free port");
        let sender = UdpSocket::bind(any).expect("a free port");
        let to = port.local_addr().expect("bound");
        let packet = |first: u32, socket: u32, kind: u32| {
            let mut bytes = [0; 64];
            bytes[..4].copy_from_slice(&first.to_be_bytes());
            bytes[12..16].copy_from_slice(&socket.to_be_bytes());
            bytes[36..40].copy_from_slice(&kind.to_be_bytes());
            bytes
        };
        shield.apply(Some(0));
        let conclusion = packet(0x8000_0000, 0, 0xffff_ffff);
        let others = [
            packet(0x8000_0000, 0, 1),
            packet(0x8000_0000, 7, 0xffff_ffff),
            packet(0x8002_0000, 0, 0xffff_ffff),
            packet(7, 0, 0xffff_ffff),
        ];
        let mut received = [0; 64];
        for other in others {
            sender.send_to(&conclusion, to).expect("sent");
            sender.send_to(&other, to).expect("sent");
            assert_eq!(port.recv(&mut received).expect("received"), 64);
            assert_eq!(received, other);
        }
        shield.apply(Some(ALL));
        sender.send_to(&conclusion, to).expect("sent");
        port.recv(&mut received).expect("received");
        assert_eq!(received, conclusion);
    }
}
