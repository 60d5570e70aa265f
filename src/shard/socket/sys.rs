//! The two batched system calls, `recvmmsg` and `sendmmsg`: the only `unsafe` of the media path.
//!
//! The safe wrapper at hand (`nix` 0.31) does not fit: its `sendmmsg` gives all messages the same
//! control messages, where each of ours has a segment size and a source address of its own, and
//! its `recvmmsg` does not restore the control length that the kernel overwrites. What the kernel
//! reads and writes here is prepared and understood by safe code in `format`.
#![allow(unsafe_code)]

use super::format::{Control, Family, Name, Received};
use super::outbox::Message;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Messages per system call, in both directions.
pub(super) const BATCH: usize = 64;
/// The longest datagram taken in. WebRTC stays within an Ethernet frame; what is longer is cut
/// off by the kernel, marked, and dropped by us.
pub(super) const DATAGRAM_MAX: usize = 2048;

const NO_HEADER: libc::mmsghdr = libc::mmsghdr {
    msg_hdr: libc::msghdr {
        msg_name: ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: ptr::null_mut(),
        msg_iovlen: 0,
        msg_control: ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    },
    msg_len: 0,
};
const NO_VECTOR: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

/// Memory for one batch of received datagrams.
#[derive(Debug)]
pub(super) struct Inbox {
    datagrams: Box<[[u8; DATAGRAM_MAX]]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    /// Of each datagram received: its bytes, its control bytes, and whether it was cut off.
    sizes: [(usize, usize, bool); BATCH],
}

/// One received datagram.
pub(super) struct Incoming<'a> {
    pub(super) remote: Option<SocketAddr>,
    pub(super) received: Received,
    pub(super) bytes: &'a mut [u8],
    /// It was longer than [`DATAGRAM_MAX`].
    pub(super) cut_off: bool,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            datagrams: vec![[0; DATAGRAM_MAX]; BATCH].into_boxed_slice(),
            names: vec![Name::default(); BATCH].into_boxed_slice(),
            controls: vec![Control::EMPTY; BATCH].into_boxed_slice(),
            sizes: [(0, 0, false); BATCH],
        }
    }

    /// Receives up to [`BATCH`] datagrams without waiting, and returns how many there were.
    pub(super) fn fill(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut vectors = [NO_VECTOR; BATCH];
        let mut headers = [NO_HEADER; BATCH];
        let memory = self.datagrams.iter_mut().zip(&mut self.names).zip(&mut self.controls);
        for ((header, vector), ((datagram, name), control)) in
            headers.iter_mut().zip(&mut vectors).zip(memory)
        {
            vector.iov_base = datagram.as_mut_ptr().cast();
            vector.iov_len = datagram.len();
            let header = &mut header.msg_hdr;
            header.msg_name = name.bytes.as_mut_ptr().cast();
            header.msg_namelen = name.bytes.len() as libc::socklen_t;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_control = control.bytes.as_mut_ptr().cast();
            header.msg_controllen = control.bytes.len();
        }
        // SAFETY: `headers` has BATCH entries, each initialised above (datagrams, names and
        // controls have BATCH entries too). Every pointer in them is to memory that this function
        // borrows mutably from `self` or owns, with the length beside it, and that no reference
        // is used for while the kernel writes. The descriptor is open as long as it is borrowed.
        // All of that memory is bytes, for which any value the kernel writes is valid. A null
        // timeout means none; MSG_DONTWAIT makes the call return at once.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (size, header) in self.sizes.iter_mut().zip(&headers).take(count) {
            let cut_off = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            *size = (header.msg_len as usize, header.msg_hdr.msg_controllen, cut_off);
        }
        Ok(count)
    }

    /// The first `count` datagrams, which is what [`Inbox::fill`] returned.
    pub(super) fn datagrams(&mut self, count: usize) -> impl Iterator<Item = Incoming<'_>> {
        let memory = self.datagrams.iter_mut().zip(&self.names).zip(&self.controls);
        memory.zip(&self.sizes).take(count).map(|(((datagram, name), control), &size)| {
            let (length, control_length, cut_off) = size;
            Incoming {
                remote: name.read(),
                received: control.read(control_length),
                bytes: &mut datagram[..length.min(DATAGRAM_MAX)],
                cut_off,
            }
        })
    }
}

/// Memory for the addresses and control messages of one batch to send.
#[derive(Debug)]
pub(super) struct Envelopes {
    names: Box<[Name]>,
    controls: Box<[Control]>,
    /// Answered instead of sending: loopback never has a full send buffer.
    #[cfg(test)]
    pub(super) pretended_error: Option<i32>,
}

impl Envelopes {
    pub(super) fn new() -> Self {
        Self {
            names: vec![Name::default(); BATCH].into_boxed_slice(),
            controls: vec![Control::EMPTY; BATCH].into_boxed_slice(),
            #[cfg(test)]
            pretended_error: None,
        }
    }

    /// Sends the first [`BATCH`] of the messages without waiting, and returns how many the kernel
    /// took. An error is the first message's; a later one's shows when it comes first.
    pub(super) fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        family: Family,
        messages: impl Iterator<Item = Message<'a>>,
    ) -> io::Result<usize> {
        #[cfg(test)]
        if let Some(errno) = self.pretended_error {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let mut vectors = [NO_VECTOR; BATCH];
        let mut headers = [NO_HEADER; BATCH];
        let mut count = 0;
        let memory = self.names.iter_mut().zip(&mut self.controls);
        for (((header, vector), (name, control)), message) in
            headers.iter_mut().zip(&mut vectors).zip(memory).zip(messages)
        {
            vector.iov_base = message.bytes.as_ptr().cast_mut().cast();
            vector.iov_len = message.bytes.len();
            let header = &mut header.msg_hdr;
            header.msg_namelen = name.write(family, message.path.remote) as libc::socklen_t;
            header.msg_name = name.bytes.as_mut_ptr().cast();
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_controllen = control.write(family, message.segment, message.path.local);
            if header.msg_controllen > 0 {
                header.msg_control = control.bytes.as_mut_ptr().cast();
            }
            count += 1;
        }
        // SAFETY: the first `count` entries of `headers` (never more than BATCH, its length) were
        // initialised above. Their pointers are to names and controls that this function borrows
        // mutably from `self`, to vectors that it owns, and to message bytes borrowed for 'a,
        // each with its length beside it; all of them outlive the call. The kernel only reads
        // through them: the casts to mutable pointers are what the C type asks for. It writes
        // `msg_len` of `headers`, which is owned. The descriptor is open as long as it is
        // borrowed.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// Forbids UDP checksums on an IPv4 socket, upon which the kernel refuses segmented messages with
/// EINVAL: the refusal that needs no special network device.
#[cfg(test)]
pub(super) fn forbid_checksums(socket: BorrowedFd<'_>, forbidden: bool) -> io::Result<()> {
    let value = libc::c_int::from(forbidden);
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `value`, which outlives the call; the descriptor
    // is open as long as it is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            ptr::from_ref(&value).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
