//! The part of libsrt's C interface that is used here, as `srt/srt.h` of 1.5 declares it.
//!
//! Declarations only; what may be done with them is in `mod`. Values above 1000 among the reject
//! reasons are those of `srt/access_control.h`.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};

/// A socket of the library, no descriptor of the system.
pub(super) type RawSocket = i32;

pub(super) const ERROR: c_int = -1;

/// `SRT_SOCKOPT`.
pub(super) mod option {
    use std::ffi::c_int;

    pub(in super::super) const RECEIVE_BLOCKS: c_int = 2;
    pub(in super::super) const FLIGHT_PACKETS: c_int = 4;
    pub(in super::super) const RECEIVE_BUFFER: c_int = 6;
    pub(in super::super) const UDP_RECEIVE_BUFFER: c_int = 9;
    pub(in super::super) const RENDEZVOUS: c_int = 12;
    pub(in super::super) const PASSPHRASE: c_int = 26;
    pub(in super::super) const KEY_LENGTH: c_int = 27;
    pub(in super::super) const DROP_LATE: c_int = 31;
    pub(in super::super) const CONNECT_TIMEOUT: c_int = 36;
    pub(in super::super) const RECEIVE_LATENCY: c_int = 43;
    pub(in super::super) const MIN_VERSION: c_int = 45;
    pub(in super::super) const STREAM_ID: c_int = 46;
    pub(in super::super) const MESSAGES: c_int = 48;
    pub(in super::super) const PAYLOAD_SIZE: c_int = 49;
    pub(in super::super) const TRANSMISSION: c_int = 50;
    pub(in super::super) const ENFORCED_ENCRYPTION: c_int = 53;
    pub(in super::super) const PEER_IDLE_TIMEOUT: c_int = 55;
}

/// `SRT_TRANSTYPE`: what live media needs.
pub(super) const TRANSMISSION_LIVE: c_int = 0;
/// `SRT_EPOLL_IN`.
pub(super) const EVENT_IN: c_int = 0x1;
/// `SRT_EPOLL_ERR`.
pub(super) const EVENT_ERROR: c_int = 0x8;
/// `SRT_EPOLL_ENABLE_EMPTY`.
pub(super) const POLL_MAY_BE_EMPTY: i32 = 1;
/// `SRT_EASYNCRCV`: nothing to receive or to accept yet.
pub(super) const NOTHING_YET: c_int = 6002;
/// `SRT_ECONNREJ`.
pub(super) const REJECTED: c_int = 1002;
/// `LOG_CRIT`.
pub(super) const LOG_CRITICAL: c_int = 2;

/// `SRT_EPOLL_EVENT`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Event {
    pub(super) socket: RawSocket,
    pub(super) events: c_int,
}

/// `CBytePerfMon`, in part; the rest makes room for what this and later versions append.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Counters {
    pub(super) ms_time_stamp: i64,
    pub(super) sent_total: i64,
    pub(super) received_total: i64,
    pub(super) send_loss_total: c_int,
    pub(super) receive_loss_total: c_int,
    pub(super) retransmitted_total: c_int,
    pub(super) sent_ack_total: c_int,
    pub(super) received_ack_total: c_int,
    pub(super) sent_nak_total: c_int,
    pub(super) received_nak_total: c_int,
    pub(super) us_sending_total: i64,
    pub(super) send_drop_total: c_int,
    pub(super) receive_drop_total: c_int,
    pub(super) undecrypted_total: c_int,
    pub(super) bytes_sent_total: u64,
    pub(super) bytes_received_total: u64,
    pub(super) bytes_receive_loss_total: u64,
    pub(super) bytes_retransmitted_total: u64,
    pub(super) bytes_send_drop_total: u64,
    pub(super) bytes_receive_drop_total: u64,
    pub(super) bytes_undecrypted_total: u64,
    pub(super) sent: i64,
    pub(super) received: i64,
    pub(super) send_loss: c_int,
    pub(super) receive_loss: c_int,
    pub(super) retransmitted: c_int,
    pub(super) received_retransmitted: c_int,
    pub(super) sent_ack: c_int,
    pub(super) received_ack: c_int,
    pub(super) sent_nak: c_int,
    pub(super) received_nak: c_int,
    pub(super) send_rate_mbps: f64,
    pub(super) receive_rate_mbps: f64,
    pub(super) us_sending: i64,
    pub(super) reorder_distance: c_int,
    pub(super) belated_ms: f64,
    pub(super) belated: i64,
    pub(super) send_drop: c_int,
    pub(super) receive_drop: c_int,
    pub(super) undecrypted: c_int,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_receive_loss: u64,
    pub(super) bytes_retransmitted: u64,
    pub(super) bytes_send_drop: u64,
    pub(super) bytes_receive_drop: u64,
    pub(super) bytes_undecrypted: u64,
    pub(super) us_send_period: f64,
    pub(super) flow_window: c_int,
    pub(super) congestion_window: c_int,
    pub(super) in_flight: c_int,
    pub(super) rtt_ms: f64,
    pub(super) bandwidth_mbps: f64,
    pub(super) send_buffer_free: c_int,
    pub(super) receive_buffer_free: c_int,
    pub(super) max_bandwidth_mbps: f64,
    pub(super) mss: c_int,
    pub(super) send_buffer_packets: c_int,
    pub(super) send_buffer_bytes: c_int,
    pub(super) send_buffer_ms: c_int,
    pub(super) send_latency_ms: c_int,
    pub(super) receive_buffer_packets: c_int,
    pub(super) receive_buffer_bytes: c_int,
    pub(super) receive_buffer_ms: c_int,
    pub(super) receive_latency_ms: c_int,
    pub(super) rest: [u64; 128],
}

pub(super) type ListenHook = extern "C" fn(
    opaque: *mut c_void,
    socket: RawSocket,
    handshake_version: c_int,
    peer: *const libc::sockaddr,
    stream_id: *const c_char,
) -> c_int;

pub(super) type LogHandler = extern "C" fn(
    opaque: *mut c_void,
    level: c_int,
    file: *const c_char,
    line: c_int,
    area: *const c_char,
    message: *const c_char,
);

// Debian and Ubuntu build libsrt twice; this is the one of `libsrt-gnutls-dev`.
#[link(name = "srt-gnutls")]
unsafe extern "C" {
    pub(super) fn srt_startup() -> c_int;
    pub(super) fn srt_create_socket() -> RawSocket;
    pub(super) fn srt_bind_acquire(socket: RawSocket, descriptor: c_int) -> c_int;
    pub(super) fn srt_listen(socket: RawSocket, backlog: c_int) -> c_int;
    pub(super) fn srt_accept(
        socket: RawSocket,
        name: *mut libc::sockaddr,
        name_len: *mut c_int,
    ) -> RawSocket;
    pub(super) fn srt_listen_callback(
        socket: RawSocket,
        hook: ListenHook,
        opaque: *mut c_void,
    ) -> c_int;
    pub(super) fn srt_connect(
        socket: RawSocket,
        name: *const libc::sockaddr,
        name_len: c_int,
    ) -> c_int;
    pub(super) fn srt_close(socket: RawSocket) -> c_int;
    pub(super) fn srt_getsockflag(
        socket: RawSocket,
        option: c_int,
        value: *mut c_void,
        len: *mut c_int,
    ) -> c_int;
    pub(super) fn srt_setsockflag(
        socket: RawSocket,
        option: c_int,
        value: *const c_void,
        len: c_int,
    ) -> c_int;
    pub(super) fn srt_recv(socket: RawSocket, buffer: *mut c_char, len: c_int) -> c_int;
    pub(super) fn srt_bistats(
        socket: RawSocket,
        counters: *mut Counters,
        clear: c_int,
        instantaneous: c_int,
    ) -> c_int;
    pub(super) fn srt_epoll_create() -> c_int;
    pub(super) fn srt_epoll_set(poll: c_int, flags: i32) -> i32;
    pub(super) fn srt_epoll_add_usock(
        poll: c_int,
        socket: RawSocket,
        events: *const c_int,
    ) -> c_int;
    pub(super) fn srt_epoll_remove_usock(poll: c_int, socket: RawSocket) -> c_int;
    pub(super) fn srt_epoll_uwait(
        poll: c_int,
        events: *mut Event,
        events_max: c_int,
        timeout_ms: i64,
    ) -> c_int;
    pub(super) fn srt_epoll_release(poll: c_int) -> c_int;
    pub(super) fn srt_getlasterror(errno: *mut c_int) -> c_int;
    pub(super) fn srt_getlasterror_str() -> *const c_char;
    pub(super) fn srt_getrejectreason(socket: RawSocket) -> c_int;
    pub(super) fn srt_setrejectreason(socket: RawSocket, reason: c_int) -> c_int;
    pub(super) fn srt_rejectreason_str(reason: c_int) -> *const c_char;
    pub(super) fn srt_setloglevel(level: c_int);
    pub(super) fn srt_setloghandler(opaque: *mut c_void, handler: LogHandler);
}
