//! What every session has: an ICE-lite responder, a DTLS association, SRTP contexts, the path to
//! the client and its consent (RFC 8445 §2.5, RFC 5764, RFC 7675).
//!
//! Datagrams go in with the path they came on, answers go out through the send arena, time comes
//! as an argument. Not here: what the media means; that is the publisher's and the viewer's.
//!
//! - `tests`: every behaviour of the whole

#[cfg(test)]
mod tests;

use super::agreement::{Credentials, DtlsRole, TransportAgreement};
use super::dtls::{Dtls, Progress};
use super::header::RtpHeader;
use super::identity::Identity;
use super::open::Opener;
use super::seal::Sealer;
use super::srtp::SrtpProfile;
use super::stun::{ANSWER_MAX, Check, DatagramKind, authentic_check, classify};
use crate::media::arena::{Path, SendArena, TransportAddress};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a client may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first check to the end of the DTLS handshake.
    pub handshake: Duration,
    /// Without any sign of life. Firefox checks every 4 to 5 seconds, so not below 30 s or so.
    pub consent: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { handshake: Duration::from_secs(10), consent: Duration::from_secs(30) }
    }
}

/// How far a session has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No connectivity check yet.
    New,
    /// The client can be reached; the DTLS handshake is under way.
    Handshaking,
    /// The client is who its offer says, and media flows encrypted.
    Connected,
    /// Over, and why.
    Ended(EndReason),
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// The client gave no sign of life for too long.
    #[error("the client has not been heard of for too long")]
    ConsentLost,
    /// The handshake was not finished in time.
    #[error("the DTLS handshake was not finished in time")]
    HandshakeTimeout,
    /// The handshake failed.
    #[error("the DTLS handshake failed: {0}")]
    HandshakeFailed(String),
    /// The client presented another certificate than its offer announced.
    #[error("the client's certificate is not the one its offer announced")]
    FingerprintMismatch,
    /// The client closed the DTLS association.
    #[error("the client closed the connection")]
    ClosedByClient,
    /// We did.
    #[error("the server closed the connection")]
    ClosedByServer,
}

/// What a datagram was.
#[derive(Debug)]
pub enum Received<'d> {
    /// Nothing for the caller, or not authentic.
    Nothing,
    /// The last step of the handshake: media may be sent from now on.
    Connected,
    /// An authentic RTP packet.
    Rtp {
        /// Its header.
        header: RtpHeader,
        /// Header and plain payload; [`RtpHeader::payload`] finds the payload in it.
        datagram: &'d [u8],
    },
    /// An authentic compound RTCP packet.
    Rtcp(&'d [u8]),
    /// The session is over; [`Transport::state`] says why.
    Ended,
}

/// One session's transport.
pub struct Transport {
    ice: Ice,
    role: DtlsRole,
    dtls: Dtls,
    srtp: Option<Srtp>,
    state: State,
    timeouts: Timeouts,
    /// When the client last gave a sign of life from where media goes.
    heard: Instant,
    /// When the client was first reached.
    handshake_began: Option<Instant>,
}

struct Srtp {
    profile: SrtpProfile,
    sealer: Sealer,
    opener: Opener,
}

impl Transport {
    /// A transport that waits for its first check.
    pub fn new(
        agreement: TransportAgreement,
        identity: Arc<Identity>,
        timeouts: Timeouts,
        now: Instant,
    ) -> Self {
        let TransportAgreement { local, remote: _, fingerprints, role } = agreement;
        Self {
            ice: Ice::new(local),
            role,
            dtls: Dtls::new(identity, role, fingerprints),
            srtp: None,
            state: State::New,
            timeouts,
            heard: now,
            handshake_began: None,
        }
    }

    /// Takes a datagram, which is opened in place; what is owed for it goes into the arena.
    pub fn handle<'d>(
        &mut self,
        path: Path,
        datagram: &'d mut [u8],
        now: Instant,
        arena: &mut SendArena,
    ) -> Received<'d> {
        if matches!(self.state, State::Ended(_)) {
            return Received::Nothing;
        }
        match classify(datagram) {
            DatagramKind::Stun => self.handle_check(path, datagram, now, arena),
            DatagramKind::Dtls if self.ice.has_checked(path.client()) => {
                let progress =
                    self.dtls.handle(datagram, now, &mut |answer| push(arena, path, answer));
                self.progress(progress)
            }
            DatagramKind::Rtp => {
                let opened = self.srtp.as_mut().and_then(|srtp| srtp.opener.open(datagram));
                let Some((header, datagram)) = opened else { return Received::Nothing };
                self.hear(path, now);
                Received::Rtp { header, datagram }
            }
            DatagramKind::Rtcp => {
                let opened = self.srtp.as_mut().and_then(|srtp| srtp.opener.open_rtcp(datagram));
                let Some(compound) = opened else { return Received::Nothing };
                self.hear(path, now);
                Received::Rtcp(compound)
            }
            DatagramKind::Dtls | DatagramKind::Other => Received::Nothing,
        }
    }

    fn handle_check(
        &mut self,
        path: Path,
        datagram: &[u8],
        now: Instant,
        arena: &mut SendArena,
    ) -> Received<'static> {
        if !self.ice.handle(path, datagram, arena) {
            return Received::Nothing;
        }
        self.hear(path, now);
        if self.state == State::New {
            self.state = State::Handshaking;
            self.handshake_began = Some(now);
            if self.role == DtlsRole::Client {
                let progress = self.dtls.start(now, &mut |hello| push(arena, path, hello));
                return self.progress(progress);
            }
        }
        Received::Nothing
    }

    /// Something authentic came. It is consent to go on sending where it came from, and nowhere
    /// else (RFC 7675 §5.1): whoever has a session and can forge addresses could else turn its
    /// media on somebody with a single check, and keep it there from its own address.
    fn hear(&mut self, path: Path, now: Instant) {
        if self.ice.path.is_some_and(|own| own.client() == path.client()) {
            self.heard = now;
        }
    }

    /// Follows what the DTLS association came to.
    fn progress(&mut self, progress: Progress) -> Received<'static> {
        let reason = match progress {
            Progress::None => return Received::Nothing,
            Progress::Connected(keys) => {
                let (ours, theirs) = *keys;
                self.srtp = Some(Srtp {
                    profile: ours.profile(),
                    sealer: Sealer::new(&ours),
                    opener: Opener::new(&theirs),
                });
                self.state = State::Connected;
                return Received::Connected;
            }
            Progress::Closed => EndReason::ClosedByClient,
            Progress::FingerprintMismatch => EndReason::FingerprintMismatch,
            Progress::Failed(error) => EndReason::HandshakeFailed(error),
        };
        self.end(reason);
        Received::Ended
    }

    /// Does what is due: sends lost flights again, ends the session of a silent client.
    pub fn handle_timeout(&mut self, now: Instant, arena: &mut SendArena) {
        if matches!(self.state, State::Ended(_)) {
            return;
        }
        if now >= self.heard + self.timeouts.consent {
            // RFC 7675 §5.1: nothing may be sent any more, not even an alert.
            return self.end(EndReason::ConsentLost);
        }
        if self.handshake_deadline().is_some_and(|deadline| deadline <= now) {
            let reason = match self.dtls.complaint() {
                Some(alert) => {
                    EndReason::HandshakeFailed(format!("the client sent the alert {alert}"))
                }
                None => EndReason::HandshakeTimeout,
            };
            return self.end(reason);
        }
        if let Some(path) = self.ice.path {
            self.dtls.handle_timeout(now, &mut |flight| push(arena, path, flight));
        }
    }

    /// When [`Transport::handle_timeout`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        if matches!(self.state, State::Ended(_)) {
            return None;
        }
        let consent = Some(self.heard + self.timeouts.consent);
        let due = [consent, self.handshake_deadline(), self.dtls.deadline()];
        due.into_iter().flatten().min()
    }

    fn handshake_deadline(&self) -> Option<Instant> {
        let began = self.handshake_began.filter(|_| self.state == State::Handshaking)?;
        Some(began + self.timeouts.handshake)
    }

    /// How far the session has come.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Where media goes: the pair last checked with USE-CANDIDATE, before any was the one last
    /// checked.
    pub fn path(&self) -> Option<Path> {
        self.ice.path
    }

    /// When the client last gave a sign of life from where media goes.
    pub fn last_heard(&self) -> Instant {
        self.heard
    }

    /// How media is protected, once connected.
    pub fn srtp_profile(&self) -> Option<SrtpProfile> {
        self.srtp.as_ref().map(|srtp| srtp.profile)
    }

    /// Protects what the client is sent; `None` until connected and after the end.
    pub fn sealer(&mut self) -> Option<&mut Sealer> {
        self.srtp.as_mut().map(|srtp| &mut srtp.sealer)
    }

    /// Ends the session and tells the client so by `close_notify`.
    pub fn close(&mut self, now: Instant, arena: &mut SendArena) {
        if matches!(self.state, State::Ended(_)) {
            return;
        }
        if let Some(path) = self.ice.path {
            self.dtls.close(now, &mut |alert| push(arena, path, alert));
        }
        self.end(EndReason::ClosedByServer);
    }

    /// New ICE credentials (RFC 8445 §9). The old ones stay good until the client nominates a
    /// pair with the new ones; DTLS, SRTP and the path stay as they are. False where those that
    /// are replaced were never used: then the ones before them stay good instead.
    pub fn restart_ice(&mut self, local: Credentials) -> bool {
        self.ice.restart(local)
    }

    /// Whether a check is made with credentials of ours that are good now.
    pub fn is_authentic(&self, check: &[u8]) -> bool {
        let good = [Some(&self.ice.local), self.ice.previous.as_ref()];
        good.into_iter().flatten().any(|local| authentic_check(check, local))
    }

    fn end(&mut self, reason: EndReason) {
        self.srtp = None;
        self.state = State::Ended(reason);
    }
}

fn push(arena: &mut SendArena, path: Path, datagram: &[u8]) {
    arena.push(path, datagram);
}

/// The ICE-lite agent: who may talk to us, and on which pair we answer.
struct Ice {
    local: Credentials,
    /// The credentials from before a restart, until the new ones are used.
    previous: Option<Credentials>,
    path: Option<Path>,
    nominated: bool,
    /// Addresses that sent an authentic check, newest last.
    checked: Vec<TransportAddress>,
}

impl Ice {
    /// Addresses remembered: a browser's pairs over Wi-Fi, cable, VPN and both IP versions.
    const CHECKED_MAX: usize = 16;

    fn new(local: Credentials) -> Self {
        Self { local, previous: None, path: None, nominated: false, checked: Vec::new() }
    }

    /// Answers a check; true if it was authentic and moved the session on.
    fn handle(&mut self, path: Path, datagram: &[u8], arena: &mut SendArena) -> bool {
        let Some(check) = Check::read(datagram) else { return false };
        let renewed = check.is_authentic(&self.local);
        let credentials = match &self.previous {
            _ if renewed => &self.local,
            Some(previous) if check.is_authentic(previous) => previous,
            _ => return false,
        };
        arena.push_with(path, ANSWER_MAX, |out| check.answer(path.remote, credentials, out));
        if check.role_conflict {
            return false;
        }
        if !self.has_checked(path.client()) {
            if self.checked.len() == Self::CHECKED_MAX {
                self.checked.remove(0);
            }
            self.checked.push(path.client());
        }
        if check.nominates || !self.nominated {
            self.path = Some(path);
            self.nominated |= check.nominates;
        }
        if renewed && check.nominates {
            self.previous = None;
        }
        true
    }

    fn has_checked(&self, address: TransportAddress) -> bool {
        self.checked.contains(&address)
    }

    fn restart(&mut self, local: Credentials) -> bool {
        let replaced = std::mem::replace(&mut self.local, local);
        let was_used = self.previous.is_none();
        self.previous.get_or_insert(replaced);
        was_used
    }
}
