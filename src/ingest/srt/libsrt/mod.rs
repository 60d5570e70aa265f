//! libsrt behind a safe face: sockets, one listener's hook, waiting for many sockets at once.
//!
//! All `unsafe` of SRT stands in this folder. The library has threads of its own, its calls may be
//! made from any thread, and it checks every socket number it is given: a number that is no longer
//! one gives an error. So the only obligations here are the sizes of what is lent to it, and the
//! hook, which it may call until it has forgotten the listener.
//!
//! - `addresses`: addresses as the system lays them out
//! - `sys`: the C interface
#![allow(unsafe_code)]

mod addresses;
mod sys;

use addresses::{address, no_address, peer_address, raw_address};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::IntoRawFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::Duration;
use sys::option;

/// The longest message in live mode: what an Ethernet frame has left (`SRT_LIVE_MAX_PLSIZE`).
pub(super) const MESSAGE_MAX: usize = 1456;
/// The longest stream id (`CSrtConfig::MAX_SID_LENGTH`).
const STREAM_ID_MAX: usize = 512;
/// Callers older than 1.3.0 know no stream id.
const OLDEST_CALLER: c_int = 0x01_03_00;
/// Packets that wait for their time, or for one that was lost: 6 MB, which at 20 Mb/s is 2.4 s.
const WAITING_PACKETS_MAX: c_int = 4096;
/// What each of them takes: an Ethernet frame without its IP and UDP headers.
const PACKET_BYTES: c_int = 1472;
/// The kernel's buffer of the port: the library reads it in one thread for all callers.
const UDP_BUFFER_BYTES: c_int = 4 << 20;
/// A caller that sends nothing at all, keep-alives included, is gone.
const PEER_IDLE_TIMEOUT_MS: c_int = 5000;

/// What the library says went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Error(String);

/// Why a caller is turned away, as the number that it is told (`srt/access_control.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Rejection {
    BadRequest = 1400,
    Unauthorized = 1401,
    Overload = 1402,
    Forbidden = 1403,
    BadMode = 1405,
    Conflict = 1409,
    NotSupported = 1415,
    Failure = 1500,
    Down = 1503,
}

/// What a listener is told of a caller before it is connected.
#[derive(Debug)]
pub(super) struct Knock<'a> {
    pub(super) remote: SocketAddr,
    /// Empty where the caller sends none.
    pub(super) stream_id: &'a str,
}

/// Decides about a caller: with which passphrase it must come, if with any, or why it may not. It
/// runs in the thread that reads the port for everybody, so that it may never wait.
pub(super) type Hook = Box<dyn Fn(&Knock<'_>) -> Result<Option<String>, Rejection> + Send + Sync>;

/// One socket of the library; dropping it closes it.
#[derive(Debug)]
pub(super) struct Socket(sys::RawSocket);

/// Its number, by which [`Poll`] tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SocketId(sys::RawSocket);

/// What came of looking for a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// One of so many bytes.
    Message(usize),
    /// There is none yet.
    Nothing,
    /// There will be none any more.
    Ended,
}

/// How a connection fares, from its beginning where nothing else is said.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Statistics {
    pub(super) round_trip: Duration,
    /// What was agreed on: how long each packet waits for those that were lost.
    pub(super) latency: Duration,
    pub(super) received_packets: u64,
    /// Found missing, whether or not they came later.
    pub(super) lost_packets: u64,
    /// Came again, since the last time this was asked.
    pub(super) again_packets: u64,
    /// Did not come in time.
    pub(super) dropped_packets: u64,
    pub(super) undecrypted_packets: u64,
    /// Since the last time this was asked.
    pub(super) bits_per_second: u64,
    /// What the link could carry, as estimated.
    pub(super) bandwidth_bits_per_second: u64,
}

impl Socket {
    /// A socket for live media in messages, which never blocks. `latency` is the least that each
    /// packet waits for lost ones; the other side may ask for more.
    pub(super) fn new(latency: Duration) -> Result<Self, Error> {
        start();
        // SAFETY: takes nothing.
        let socket = Self(done(unsafe { sys::srt_create_socket() })?);
        // The kind of transmission first: it sets many others.
        socket.set(option::TRANSMISSION, sys::TRANSMISSION_LIVE)?;
        socket.set(option::MESSAGES, 1_u8)?;
        socket.set(option::RENDEZVOUS, 0_u8)?;
        socket.set(option::PAYLOAD_SIZE, int(MESSAGE_MAX))?;
        socket.set(option::FLIGHT_PACKETS, WAITING_PACKETS_MAX)?;
        socket.set(option::RECEIVE_BUFFER, WAITING_PACKETS_MAX * PACKET_BYTES)?;
        socket.set(option::UDP_RECEIVE_BUFFER, UDP_BUFFER_BYTES)?;
        socket.set(option::RECEIVE_LATENCY, milliseconds(latency))?;
        socket.set(option::DROP_LATE, 1_u8)?;
        socket.set(option::MIN_VERSION, OLDEST_CALLER)?;
        // One side encrypted and the other not: no connection, and a reason.
        socket.set(option::ENFORCED_ENCRYPTION, 1_u8)?;
        socket.set(option::PEER_IDLE_TIMEOUT, PEER_IDLE_TIMEOUT_MS)?;
        socket.set(option::RECEIVE_BLOCKS, 0_u8)?;
        Ok(socket)
    }

    pub(super) fn id(&self) -> SocketId {
        SocketId(self.0)
    }

    /// Listens on a port, which is the library's from then on; callers that have passed the hook
    /// and wait for [`Self::accept`] are at most `waiting_max`.
    pub(super) fn listen(
        &self,
        port: UdpSocket,
        waiting_max: c_int,
        hook: Hook,
    ) -> Result<(), Error> {
        // SAFETY: takes numbers only. The library closes the descriptor, and leaves it open where
        // it cannot take it: that happens once at most, when the server starts.
        done(unsafe { sys::srt_bind_acquire(self.0, port.into_raw_fd()) })?;
        // The library does not say when it has called a hook for the last time, so it stays for
        // the life of the process. A server has one.
        let hook: &'static Hook = Box::leak(Box::new(hook));
        let opaque = std::ptr::from_ref(hook).cast_mut().cast();
        // SAFETY: `opaque` is good for ever, and what `on_knock` takes it for.
        done(unsafe { sys::srt_listen_callback(self.0, on_knock, opaque) })?;
        // SAFETY: takes numbers only.
        done(unsafe { sys::srt_listen(self.0, waiting_max) }).map(drop)
    }

    /// The next caller, if there is one.
    pub(super) fn accept(&self) -> Option<(Self, SocketAddr)> {
        let (mut name, mut len) = no_address();
        // SAFETY: `name` has room for `len` bytes.
        let socket = unsafe { sys::srt_accept(self.0, (&raw mut name).cast(), &raw mut len) };
        let socket = Self(done(socket).ok()?);
        // It is closed again where the address is none of those that we know.
        Some((socket, address(&name)?))
    }

    /// Connects to a listener, and waits for that: at most `timeout`.
    pub(super) fn connect(
        &self,
        remote: SocketAddr,
        stream_id: &str,
        passphrase: Option<(&str, c_int)>,
        timeout: Duration,
    ) -> Result<(), Error> {
        self.set(option::RECEIVE_BLOCKS, 1_u8)?;
        self.set(option::CONNECT_TIMEOUT, milliseconds(timeout))?;
        if !stream_id.is_empty() {
            self.set_bytes(option::STREAM_ID, stream_id.as_bytes())?;
        }
        if let Some((passphrase, key_bytes)) = passphrase {
            self.set_bytes(option::PASSPHRASE, passphrase.as_bytes())?;
            self.set(option::KEY_LENGTH, key_bytes)?;
        }
        let (name, len) = raw_address(remote);
        // SAFETY: `name` holds an address of `len` bytes.
        let connected = unsafe { sys::srt_connect(self.0, (&raw const name).cast(), len) };
        done(connected).map_err(|error| self.why_not(error))?;
        self.set(option::RECEIVE_BLOCKS, 0_u8)
    }

    /// What a caller is told: the listener's reason, where it gave one.
    fn why_not(&self, error: Error) -> Error {
        // SAFETY: takes a place for a number, or none.
        if unsafe { sys::srt_getlasterror(std::ptr::null_mut()) } != sys::REJECTED {
            return error;
        }
        // SAFETY: takes a number only.
        let reason = unsafe { sys::srt_getrejectreason(self.0) };
        // SAFETY: gives a text that is never freed.
        let words = unsafe { text(sys::srt_rejectreason_str(reason)) };
        Error(format!("rejected, reason {reason}: {words}"))
    }

    /// What the caller said it wants.
    pub(super) fn stream_id(&self) -> String {
        let mut bytes = [0_u8; STREAM_ID_MAX + 1];
        let mut len = int(bytes.len());
        let place = bytes.as_mut_ptr().cast();
        // SAFETY: `bytes` has room for `len` bytes, and the library keeps to it.
        let read = unsafe { sys::srt_getsockflag(self.0, option::STREAM_ID, place, &raw mut len) };
        let len = if read == sys::ERROR { 0 } else { usize::try_from(len).unwrap_or(0) };
        // As far as the hook sees it: what is behind a zero was not looked at.
        let mut texts = bytes.get(..len).unwrap_or_default().split(|&byte| byte == 0);
        String::from_utf8_lossy(texts.next().unwrap_or_default()).into_owned()
    }

    /// Takes the next message. `buffer` should have room for [`MESSAGE_MAX`] bytes: what does not
    /// fit is lost.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Received {
        let room = int(buffer.len());
        // SAFETY: `buffer` has room for as many bytes.
        let len = unsafe { sys::srt_recv(self.0, buffer.as_mut_ptr().cast(), room) };
        if let Ok(len @ 1..) = usize::try_from(len) {
            return Received::Message(len);
        }
        // SAFETY: takes a place for a number, or none.
        let code = unsafe { sys::srt_getlasterror(std::ptr::null_mut()) };
        let waits = len == sys::ERROR && code == sys::NOTHING_YET;
        if waits { Received::Nothing } else { Received::Ended }
    }

    /// How the connection fares; `None` where there is none.
    pub(super) fn statistics(&self) -> Option<Statistics> {
        // SAFETY: numbers only, of which zero is one.
        let mut counters: sys::Counters = unsafe { std::mem::zeroed() };
        // SAFETY: `counters` is as the library declares it, with room behind it.
        done(unsafe { sys::srt_bistats(self.0, &raw mut counters, 1, 1) }).ok()?;
        let count = |it: c_int| u64::try_from(it).unwrap_or(0);
        let bits = |megabits: f64| (megabits * 1e6) as u64;
        Some(Statistics {
            round_trip: Duration::from_secs_f64(counters.rtt_ms.clamp(0.0, 60_000.0) / 1e3),
            latency: Duration::from_millis(count(counters.receive_latency_ms)),
            received_packets: u64::try_from(counters.received_total).unwrap_or(0),
            lost_packets: count(counters.receive_loss_total),
            again_packets: count(counters.received_retransmitted),
            dropped_packets: count(counters.receive_drop_total),
            undecrypted_packets: count(counters.undecrypted_total),
            bits_per_second: bits(counters.receive_rate_mbps),
            bandwidth_bits_per_second: bits(counters.bandwidth_mbps),
        })
    }

    fn set<T: Copy>(&self, option: c_int, value: T) -> Result<(), Error> {
        let place = (&raw const value).cast();
        // SAFETY: `value` is as long as is said.
        done(unsafe { sys::srt_setsockflag(self.0, option, place, int(size_of::<T>())) }).map(drop)
    }

    fn set_bytes(&self, option: c_int, value: &[u8]) -> Result<(), Error> {
        set_bytes(self.0, option, value)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: takes a number only; one that is no socket any more is an error that tells
        // nothing.
        unsafe { sys::srt_close(self.0) };
    }
}

/// Waits for many sockets at once.
#[derive(Debug)]
pub(super) struct Poll(c_int);

impl Poll {
    pub(super) fn new() -> Result<Self, Error> {
        start();
        // SAFETY: takes nothing.
        let poll = Self(done(unsafe { sys::srt_epoll_create() })?);
        // SAFETY: takes numbers only.
        done(unsafe { sys::srt_epoll_set(poll.0, sys::POLL_MAY_BE_EMPTY) })?;
        Ok(poll)
    }

    /// From now on [`Self::wait`] tells when the socket has something.
    pub(super) fn add(&self, socket: &Socket) -> Result<(), Error> {
        let events = sys::EVENT_IN | sys::EVENT_ERROR;
        // SAFETY: `events` is one number.
        done(unsafe { sys::srt_epoll_add_usock(self.0, socket.0, &raw const events) }).map(drop)
    }

    /// From now on it does not.
    pub(super) fn remove(&self, socket: SocketId) {
        // SAFETY: takes numbers only.
        unsafe { sys::srt_epoll_remove_usock(self.0, socket.0) };
    }

    /// The sockets that have something, as soon as there is one.
    pub(super) fn wait<'a>(
        &self,
        room: &'a mut Events,
        timeout: Duration,
    ) -> impl Iterator<Item = SocketId> + use<'a> {
        let events = &mut room.0;
        let (places, len) = (events.as_mut_ptr(), events.len());
        let timeout = i64::from(milliseconds(timeout));
        // SAFETY: there is room for `len` events.
        let count = unsafe { sys::srt_epoll_uwait(self.0, places, int(len), timeout) };
        let count = usize::try_from(count).unwrap_or(0);
        events.iter().take(count).map(|event| SocketId(event.socket))
    }
}

/// Room for what [`Poll::wait`] tells: with less than one place for each socket, those that always
/// have something would hide the others.
#[derive(Debug)]
pub(super) struct Events(Vec<sys::Event>);

impl Events {
    pub(super) fn with_room(sockets: usize) -> Self {
        Self(vec![sys::Event { socket: 0, events: 0 }; sockets])
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        // SAFETY: takes a number only.
        unsafe { sys::srt_epoll_release(self.0) };
    }
}

/// Starts the library, once. It stops with the process.
fn start() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        // SAFETY: `on_log` is a function of that kind. Strangers can make the library write lines
        // of the levels below, as many as they like.
        unsafe {
            sys::srt_startup();
            sys::srt_setloglevel(sys::LOG_CRITICAL);
            sys::srt_setloghandler(std::ptr::null_mut(), on_log);
        }
    });
}

extern "C" fn on_log(
    _: *mut c_void,
    _: c_int,
    _: *const c_char,
    _: c_int,
    _: *const c_char,
    message: *const c_char,
) {
    // SAFETY: the library gives a text that lives as long as the call.
    let message = unsafe { text(message) };
    let _ = catch_unwind(|| tracing::warn!(message = message.trim_end(), "libsrt"));
}

/// Asks the hook about a caller. No panic may go on into the library.
extern "C" fn on_knock(
    opaque: *mut c_void,
    socket: sys::RawSocket,
    _handshake_version: c_int,
    peer: *const libc::sockaddr,
    stream_id: *const c_char,
) -> c_int {
    let decide = || {
        // SAFETY: `listen` has given the address of a hook that is never freed.
        let hook = unsafe { &*opaque.cast::<Hook>() };
        // SAFETY: the library gives the caller's address, complete for its family.
        let remote = unsafe { peer_address(peer) }.ok_or(Rejection::Failure)?;
        // SAFETY: the library gives a text that lives as long as the call.
        let stream_id = unsafe { text(stream_id) };
        let passphrase = hook(&Knock { remote, stream_id: &stream_id })?;
        let Some(passphrase) = passphrase else { return Ok(()) };
        set_bytes(socket, option::PASSPHRASE, passphrase.as_bytes()).map_err(|_| Rejection::Failure)
    };
    let decided = catch_unwind(AssertUnwindSafe(decide)).unwrap_or(Err(Rejection::Failure));
    match decided {
        Ok(()) => 0,
        Err(rejection) => {
            // SAFETY: takes numbers only.
            unsafe { sys::srt_setrejectreason(socket, rejection as c_int) };
            sys::ERROR
        }
    }
}

fn set_bytes(socket: sys::RawSocket, option: c_int, value: &[u8]) -> Result<(), Error> {
    let len = int(value.len());
    // SAFETY: `value` is at least as long as is said.
    done(unsafe { sys::srt_setsockflag(socket, option, value.as_ptr().cast(), len) }).map(drop)
}

/// The result of a call, or what the library says of its failure.
fn done(result: c_int) -> Result<c_int, Error> {
    if result != sys::ERROR {
        return Ok(result);
    }
    // SAFETY: gives a text that lives until the next call of this thread, and is copied here.
    Err(Error(unsafe { text(sys::srt_getlasterror_str()) }))
}

/// A text of the library's.
///
/// # Safety
///
/// `text` is null, or the beginning of a text that ends with a zero.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, so it is a text, as the caller says.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A size that the library takes.
fn int(size: usize) -> c_int {
    c_int::try_from(size).unwrap_or(c_int::MAX)
}

fn milliseconds(time: Duration) -> c_int {
    c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
}
