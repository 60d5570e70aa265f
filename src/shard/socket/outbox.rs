//! What of a send arena goes out next, and what becomes of it when the kernel refuses.
//!
//! Makes no system call itself: it is handed the one that sends, so that its tests can play a
//! kernel that refuses in every way there is.

use crate::media::arena::{Burst, Path, SendArena};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

/// One UDP message: a datagram, or several that the kernel cuts apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) path: Path,
    pub(super) bytes: &'a [u8],
    /// Bytes of each datagram but the last, where there are several.
    pub(super) segment: Option<u16>,
}

impl Message<'_> {
    fn datagrams(&self) -> u64 {
        self.segment.map_or(1, |segment| self.bytes.len().div_ceil(usize::from(segment)) as u64)
    }
}

/// What became of an arena, or of all arenas so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendReport {
    /// Datagrams that the kernel took.
    pub datagrams: u64,
    /// Bytes of them, without UDP and IP headers.
    pub bytes: u64,
    /// UDP messages that carried them; one may carry many datagrams (UDP GSO).
    pub messages: u64,
    /// System calls, including those that failed.
    pub system_calls: u64,
    /// Messages that the kernel would not cut apart and that went out datagram by datagram.
    pub fallbacks: u64,
    /// Datagrams dropped because the kernel refused them.
    pub refused: u64,
    /// Datagrams dropped because the send buffer stayed full.
    pub overflowed: u64,
    /// How often the send buffer was full.
    pub stalls: u64,
}

impl AddAssign for SendReport {
    fn add_assign(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
        self.messages += other.messages;
        self.system_calls += other.system_calls;
        self.fallbacks += other.fallbacks;
        self.refused += other.refused;
        self.overflowed += other.overflowed;
        self.stalls += other.stalls;
    }
}

/// Destinations to which the kernel refused segmented messages: a tunnel, a device without
/// checksum offload, a path whose MTU is below the segment size.
#[derive(Debug)]
pub(super) struct Segmentation {
    kernel_can: bool,
    /// The smallest segment refused; 0 where it is not the size.
    refused: HashMap<IpAddr, u16>,
    oldest_first: VecDeque<IpAddr>,
}

impl Segmentation {
    /// Beyond it the oldest is forgotten, and costs one failed system call to learn again.
    const REFUSED_MAX: usize = 1024;

    /// `kernel_can` is whether the kernel knows UDP GSO at all.
    pub(super) fn new(kernel_can: bool) -> Self {
        Self { kernel_can, refused: HashMap::new(), oldest_first: VecDeque::new() }
    }

    fn allowed(&self, remote: IpAddr, segment: u16) -> bool {
        let fits = || self.refused.get(&remote).is_none_or(|&refused| segment < refused);
        self.kernel_can && (self.refused.is_empty() || fits())
    }

    /// One publisher's packets may be too large for a path that takes all others' in segments.
    fn refuse(&mut self, remote: IpAddr, segment: u16) {
        match self.refused.entry(remote) {
            Entry::Occupied(mut known) => {
                *known.get_mut() = segment.min(*known.get());
                return;
            }
            Entry::Vacant(unknown) => unknown.insert(segment),
        };
        self.oldest_first.push_back(remote);
        if self.oldest_first.len() > Self::REFUSED_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.refused.remove(&oldest);
        }
    }

    pub(super) fn set_kernel_can(&mut self, kernel_can: bool) {
        self.kernel_can = kernel_can;
    }
}

/// The way through an arena: yields its messages from where it stands.
#[derive(Debug, Clone)]
struct Messages<'a> {
    arena: &'a SendArena,
    segmentation: &'a Segmentation,
    position: Position,
}

/// How far an arena has been sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    burst: usize,
    /// Bytes of that burst which are done with.
    offset: usize,
}

impl<'a> Messages<'a> {
    fn burst(&self) -> Option<&'a Burst> {
        self.arena.bursts().get(self.position.burst)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        // What goes over TCP is not this socket's.
        while self.burst()?.path.is_tcp() {
            self.position = Position { burst: self.position.burst + 1, offset: 0 };
        }
        let burst = self.burst()?;
        let rest = self.arena.bytes_of(burst).get(self.position.offset..)?;
        let segment = u16::try_from(burst.segment).ok().filter(|&segment| {
            segment > 0
                && rest.len() > usize::from(segment)
                && self.segmentation.allowed(burst.path.remote.ip(), segment)
        });
        let length = if segment.is_some() { rest.len() } else { rest.len().min(burst.segment) };
        self.position.offset += length;
        if self.position.offset >= burst.len {
            self.position = Position { burst: self.position.burst + 1, offset: 0 };
        }
        Some(Message { path: burst.path, bytes: rest.get(..length)?, segment })
    }
}

/// Where sending stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// At the end.
    Done,
    /// At a full send buffer.
    Full,
}

/// Sends the arena from `position` on by calls of `send`, which takes messages and returns how
/// many the kernel took, or the first one's error.
pub(super) fn send_from(
    arena: &SendArena,
    position: &mut Position,
    segmentation: &mut Segmentation,
    report: &mut SendReport,
    mut send: impl FnMut(&mut dyn Iterator<Item = Message<'_>>) -> io::Result<usize>,
) -> Progress {
    let mut repeated = false;
    loop {
        let mut messages = Messages { arena, segmentation, position: *position };
        let Some(first) = messages.clone().next() else { return Progress::Done };
        report.system_calls += 1;
        let error = match send(&mut messages.clone()) {
            Ok(taken) if taken > 0 => {
                for message in messages.by_ref().take(taken) {
                    report.messages += 1;
                    report.datagrams += message.datagrams();
                    report.bytes += message.bytes.len() as u64;
                }
                *position = messages.position;
                repeated = false;
                continue;
            }
            Ok(_) => io::ErrorKind::Other.into(),
            Err(error) => error,
        };
        match Refusal::of(&error, first.segment) {
            Refusal::Full => return Progress::Full,
            Refusal::Segmented(size) => {
                report.fallbacks += 1;
                segmentation.refuse(first.path.remote.ip(), size);
            }
            Refusal::Again if !repeated => repeated = true,
            Refusal::Again | Refusal::Message => {
                report.refused += first.datagrams();
                messages.next();
                *position = messages.position;
                repeated = false;
            }
        }
    }
}

/// Counts what was not sent as dropped.
pub(super) fn give_up(arena: &SendArena, position: Position, report: &mut SendReport) {
    let whole = Segmentation::new(true);
    let rest = Messages { arena, segmentation: &whole, position };
    report.overflowed += rest.map(|message| message.datagrams()).sum::<u64>();
}

/// The patience of one send with a full send buffer.
#[derive(Debug, Default)]
pub(super) struct Patience {
    ends: Option<Instant>,
}

impl Patience {
    /// How much is left of `whole`, which begins when this is asked first.
    pub(super) fn left(&mut self, now: Instant, whole: Duration) -> Duration {
        self.ends.get_or_insert(now + whole).saturating_duration_since(now)
    }
}

/// What an error of the first message means for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// No room in the send buffer.
    Full,
    /// Nothing of it: an interruption, or an earlier datagram's ICMP answer.
    Again,
    /// The destination takes no segments of this size, or none at all where it is 0; datagram by
    /// datagram it may work.
    Segmented(u16),
    /// It cannot be sent: no route, forbidden, no such source address.
    Message,
}

impl Refusal {
    fn of(error: &io::Error, segment: Option<u16>) -> Self {
        match (error.raw_os_error(), segment) {
            (Some(libc::EAGAIN), _) => Self::Full,
            (Some(libc::EINTR | libc::ECONNREFUSED), _) => Self::Again,
            // EIO: the device cannot compute checksums. EINVAL, EMSGSIZE: the segment size does
            // not fit the path, or what sits in the path cannot segment (udp(7), UDP_SEGMENT).
            (Some(libc::EIO), Some(_)) => Self::Segmented(0),
            (Some(libc::EINVAL | libc::EMSGSIZE), Some(size)) => Self::Segmented(size),
            _ => Self::Message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::arena::Protocol;
    use std::net::SocketAddr;

    fn path(host: u8) -> Path {
        Path::udp(SocketAddr::from(([192, 0, 2, host], 5000)), None)
    }

    /// Three datagrams to host 1, one to host 2, three to host 3.
    fn arena() -> SendArena {
        let mut arena = SendArena::new(10_000);
        for (host, size) in [(1, 100), (1, 100), (1, 60), (2, 80), (3, 90), (3, 90), (3, 90)] {
            arena.push(path(host), &vec![host; size]);
        }
        arena
    }

    /// Sends with a kernel that refuses what `refuses` names, and says what was taken.
    fn run(
        refuses: impl Fn(&Message<'_>) -> Option<i32>,
        segmentation: &mut Segmentation,
    ) -> (Progress, SendReport, Vec<(u8, usize, bool)>) {
        let arena = arena();
        let mut taken = Vec::new();
        let mut report = SendReport::default();
        let mut position = Position::default();
        let progress = send_from(&arena, &mut position, segmentation, &mut report, |messages| {
            let mut count = 0;
            for message in messages {
                if let Some(errno) = refuses(&message) {
                    let error = io::Error::from_raw_os_error(errno);
                    return if count == 0 { Err(error) } else { Ok(count) };
                }
                taken.push((message.bytes[0], message.bytes.len(), message.segment.is_some()));
                count += 1;
            }
            Ok(count)
        });
        if progress == Progress::Full {
            give_up(&arena, position, &mut report);
        }
        (progress, report, taken)
    }

    #[test]
    fn what_goes_over_tcp_is_left_out() {
        let mut arena = SendArena::new(10_000);
        for number in 1..=3 {
            let over_tcp = Path { protocol: Protocol::Tcp, ..path(number) };
            arena.push(over_tcp, &[number; 90]);
            arena.push(path(number), &[number; 100]);
            arena.push(over_tcp, &[number; 80]);
        }
        let segmentation = Segmentation::new(true);
        let position = Position::default();
        let messages = Messages { arena: &arena, segmentation: &segmentation, position };
        let sizes: Vec<_> = messages.map(|message| message.bytes.len()).collect();
        assert_eq!(sizes, [100, 100, 100]);
    }

    #[test]
    fn a_burst_is_one_message() {
        let (progress, report, taken) = run(|_| None, &mut Segmentation::new(true));
        assert_eq!(progress, Progress::Done);
        assert_eq!(taken, [(1, 260, true), (2, 80, false), (3, 270, true)]);
        let (datagrams, bytes, messages, system_calls) = (7, 610, 3, 1);
        let expected =
            SendReport { datagrams, bytes, messages, system_calls, ..SendReport::default() };
        assert_eq!(report, expected);
    }

    #[test]
    fn a_kernel_without_segmentation_gets_single_datagrams() {
        let (_, report, taken) = run(|_| None, &mut Segmentation::new(false));
        assert_eq!(taken.iter().map(|t| t.1).collect::<Vec<_>>(), [100, 100, 60, 80, 90, 90, 90]);
        assert_eq!((report.messages, report.datagrams, report.fallbacks), (7, 7, 0));
    }

    #[test]
    fn a_destination_that_refuses_segments_is_remembered_and_the_others_keep_theirs() {
        for errno in [libc::EIO, libc::EINVAL, libc::EMSGSIZE] {
            let to_first = |message: &Message<'_>| message.path == path(1);
            let refuses = |message: &Message<'_>| {
                (to_first(message) && message.segment.is_some()).then_some(errno)
            };
            let mut segmentation = Segmentation::new(true);
            let sizes =
                [(1, 100, false), (1, 100, false), (1, 60, false), (2, 80, false), (3, 270, true)];
            let (_, first, taken) = run(refuses, &mut segmentation);
            assert_eq!(taken, sizes);
            assert_eq!((first.fallbacks, first.refused, first.datagrams), (1, 0, 7));
            let (_, second, taken) = run(refuses, &mut segmentation);
            assert_eq!(taken, sizes);
            assert_eq!((second.fallbacks, second.system_calls), (0, 1));
        }
    }

    #[test]
    fn segments_too_large_for_a_path_cost_it_no_smaller_ones() {
        for errno in [libc::EINVAL, libc::EMSGSIZE] {
            let mut segmentation = Segmentation::new(true);
            let too_large = |message: &Message<'_>| {
                message.segment.is_some_and(|segment| segment >= 100).then_some(errno)
            };
            let (_, report, _) = run(too_large, &mut segmentation);
            assert_eq!((report.fallbacks, report.datagrams), (1, 7));
            let host = path(1).remote.ip();
            assert!(!segmentation.allowed(host, 100));
            assert!(segmentation.allowed(host, 99));
        }
        let mut segmentation = Segmentation::new(true);
        run(|message| message.segment.map(|_| libc::EIO), &mut segmentation);
        assert!(!segmentation.allowed(path(1).remote.ip(), 1), "no size is small enough");
    }

    #[test]
    fn a_message_that_cannot_be_sent_is_skipped_alone() {
        for errno in [libc::EPERM, libc::ENETUNREACH, libc::ENOBUFS, libc::EINVAL] {
            let refuses = |message: &Message<'_>| (message.path == path(2)).then_some(errno);
            let (progress, report, taken) = run(refuses, &mut Segmentation::new(true));
            assert_eq!(progress, Progress::Done);
            assert_eq!(taken, [(1, 260, true), (3, 270, true)], "errno {errno}");
            assert_eq!((report.refused, report.datagrams), (1, 6));
        }
    }

    #[test]
    fn a_destination_that_never_answers_but_with_icmp_does_not_loop() {
        let refuses =
            |message: &Message<'_>| (message.path == path(2)).then_some(libc::ECONNREFUSED);
        let (progress, report, _) = run(refuses, &mut Segmentation::new(true));
        assert_eq!((progress, report.refused, report.datagrams), (Progress::Done, 1, 6));
    }

    #[test]
    fn what_a_full_buffer_leaves_is_counted() {
        let refuses = |message: &Message<'_>| (message.path == path(3)).then_some(libc::EAGAIN);
        let (progress, report, _) = run(refuses, &mut Segmentation::new(true));
        assert_eq!((progress, report.datagrams, report.overflowed), (Progress::Full, 4, 3));
    }

    #[test]
    fn refusals_are_remembered_within_bounds() {
        let mut segmentation = Segmentation::new(true);
        for host in 0..2_000_u32 {
            segmentation.refuse(IpAddr::from(host.to_be_bytes()), 100);
            segmentation.refuse(IpAddr::from(host.to_be_bytes()), 90);
        }
        assert_eq!(segmentation.refused.len(), Segmentation::REFUSED_MAX);
        assert_eq!(segmentation.oldest_first.len(), Segmentation::REFUSED_MAX);
        assert!(segmentation.allowed(IpAddr::from(0_u32.to_be_bytes()), 90));
        assert!(!segmentation.allowed(IpAddr::from(1_999_u32.to_be_bytes()), 90));
    }
}
