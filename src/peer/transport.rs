//! What every session has: an ICE-lite responder, a DTLS association, SRTP contexts, the path to
//! the client and its consent (RFC 8445 §2.5, RFC 5764, RFC 7675).
//!
//! Datagrams go in with the path they came on, answers go out through the send arena, time comes
//! as an argument. Not here: what the media means; that is the publisher's and the viewer's.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::record::records;
    use crate::peer::seal::RtpFields;
    use crate::peer::testing::{ClientKey, ClientOptions, Profiles, TestClient};
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::net::SocketAddr;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum To {
        Server,
        Client,
    }

    struct InFlight {
        at: Instant,
        to: To,
        path: Path,
        datagram: Vec<u8>,
    }

    /// A client and a transport with a link between them, in virtual time.
    struct World {
        now: Instant,
        transport: Transport,
        client: TestClient,
        arena: SendArena,
        link: VecDeque<InFlight>,
        delay: Duration,
        /// The client's address.
        path: Path,
        next_check: Instant,
        /// Whether to lose a DTLS datagram: its direction and number in that direction.
        lose: Box<dyn FnMut(To, usize) -> bool>,
        dtls_sent: [usize; 2],
        /// When the client stops to live.
        client_dies: Option<Instant>,
        connected_events: usize,
        /// Packets that reached the transport's caller, and the client's.
        opened: [usize; 2],
    }

    fn path(port: u16) -> Path {
        Path::udp(SocketAddr::from(([192, 0, 2, 7], port)), None)
    }

    fn server_credentials() -> Credentials {
        Credentials { ufrag: "serv".into(), pwd: "s".repeat(24) }
    }

    fn ms(span: u64) -> Duration {
        Duration::from_millis(span)
    }

    impl World {
        fn new(options: ClientOptions) -> Self {
            let now = Instant::now();
            let client = TestClient::new(options, server_credentials());
            let identity = Arc::new(Identity::generate().expect("a certificate"));
            let transport = Transport::new(client.agreement(), identity, Timeouts::default(), now);
            Self {
                now,
                transport,
                client,
                arena: SendArena::new(100_000),
                link: VecDeque::new(),
                delay: ms(10),
                path: path(5_000),
                next_check: now,
                lose: Box::new(|_, _| false),
                dtls_sent: [0, 0],
                client_dies: None,
                connected_events: 0,
                opened: [0, 0],
            }
        }

        fn connected(options: ClientOptions) -> Self {
            let mut world = Self::new(options);
            world.run(ms(2_000));
            assert_eq!(world.transport.state(), &State::Connected, "{options:?}");
            assert!(world.client.is_connected(), "{options:?}");
            world
        }

        fn send(&mut self, to: To, path: Path, datagram: Vec<u8>) {
            if classify(&datagram) == DatagramKind::Dtls {
                let number = self.dtls_sent[to as usize];
                self.dtls_sent[to as usize] += 1;
                if (self.lose)(to, number) {
                    return;
                }
            }
            let at = self.now + self.delay;
            self.link.push_back(InFlight { at, to, path, datagram });
        }

        fn alive(&self) -> bool {
            self.client_dies.is_none_or(|dies| self.now < dies)
        }

        fn run(&mut self, span: Duration) {
            let end = self.now + span;
            loop {
                self.flush();
                let due = [
                    self.link.front().map(|in_flight| in_flight.at),
                    self.transport.deadline(),
                    self.client.deadline().filter(|_| self.alive()),
                    self.alive().then_some(self.next_check),
                ];
                let due = due.into_iter().flatten().min().filter(|due| *due <= end);
                let Some(due) = due else { break };
                self.now = self.now.max(due);
                self.step();
            }
            self.now = end;
        }

        fn step(&mut self) {
            while self.link.front().is_some_and(|in_flight| in_flight.at <= self.now) {
                let Some(in_flight) = self.link.pop_front() else { break };
                self.deliver(in_flight);
                self.flush();
            }
            self.transport.handle_timeout(self.now, &mut self.arena);
            if !self.alive() {
                return;
            }
            if self.next_check <= self.now {
                let check = self.client.check(true);
                self.send(To::Server, self.path, check);
                let wait = if self.client.is_connected() { 2_500 } else { 50 };
                self.next_check = self.now + ms(wait);
            }
            self.client.handle_timeout(self.now);
        }

        fn deliver(&mut self, mut in_flight: InFlight) {
            match in_flight.to {
                To::Server => {
                    let datagram = &mut in_flight.datagram;
                    let (path, now) = (in_flight.path, self.now);
                    match self.transport.handle(path, datagram, now, &mut self.arena) {
                        Received::Connected => self.connected_events += 1,
                        Received::Rtp { .. } | Received::Rtcp(_) => {
                            self.opened[To::Server as usize] += 1;
                        }
                        Received::Nothing | Received::Ended => {}
                    }
                }
                To::Client if self.alive() => {
                    self.client.handle(&in_flight.datagram, self.now);
                    let media = self.client.open(&in_flight.datagram).is_some()
                        || self.client.open_rtcp(&in_flight.datagram).is_some();
                    self.opened[To::Client as usize] += usize::from(media);
                    if self.client.checks_answered > 0 {
                        self.client.start(self.now);
                    }
                }
                To::Client => {}
            }
        }

        /// Puts what both sides want sent on the link.
        fn flush(&mut self) {
            let sent: Vec<_> =
                self.arena.datagrams().map(|(path, bytes)| (path, bytes.to_vec())).collect();
            self.arena.clear();
            for (path, datagram) in sent {
                self.send(To::Client, path, datagram);
            }
            while let Some(datagram) = self.client.poll() {
                self.send(To::Server, self.path, datagram);
            }
        }

        /// A packet each way; whether both arrived.
        fn exchange(&mut self, sequence: u16) -> bool {
            let before = self.opened;
            let packet = self.client.seal(&rtp(sequence));
            self.send(To::Server, self.path, packet);
            let report = self.client.seal_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 1]);
            self.send(To::Server, self.path, report);
            let Some(sealer) = self.transport.sealer() else { return false };
            let mut out = [0; 200];
            let fields = RtpFields {
                sequence: u64::from(sequence),
                ssrc: 2,
                payload: b"media",
                ..RtpFields::default()
            };
            let len = sealer.seal(&fields, &mut out).expect("it fits");
            let packet = out[..len].to_vec();
            let len = sealer.seal_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 2], &mut out).expect("it fits");
            let report = out[..len].to_vec();
            self.send(To::Client, self.path, packet);
            self.send(To::Client, self.path, report);
            self.run(ms(100));
            self.opened == [before[0] + 2, before[1] + 2]
        }
    }

    fn rtp(sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet.extend(b"payload");
        packet
    }

    const ROLES: [DtlsRole; 2] = [DtlsRole::Server, DtlsRole::Client];

    fn as_role(server_role: DtlsRole) -> ClientOptions {
        ClientOptions { server_role, ..ClientOptions::default() }
    }

    /// Random numbers by seed (xorshift).
    fn random(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        }
    }

    #[test]
    fn clients_connect_in_both_roles_and_with_the_best_profile_they_have() {
        for server_role in ROLES {
            for (profiles, agreed) in [
                (Profiles::Firefox, SrtpProfile::AeadAes128Gcm),
                (Profiles::CmOnly, SrtpProfile::Aes128CmHmacSha1_80),
            ] {
                let options = ClientOptions { profiles, ..as_role(server_role) };
                let mut world = World::connected(options);
                assert_eq!(world.transport.srtp_profile(), Some(agreed), "{options:?}");
                assert_eq!(world.connected_events, 1);
                assert!(world.exchange(1) && world.exchange(2), "{options:?}");
            }
        }
    }

    #[test]
    fn gcm_wins_over_chromiums_order_where_the_server_decides() {
        let world = World::connected(as_role(DtlsRole::Server));
        assert_eq!(world.transport.srtp_profile(), Some(SrtpProfile::AeadAes128Gcm));
    }

    #[test]
    fn a_client_with_an_rsa_certificate_connects() {
        for server_role in ROLES {
            let options = ClientOptions { key: ClientKey::Rsa, ..as_role(server_role) };
            assert!(World::connected(options).exchange(1), "{server_role:?}");
        }
    }

    #[test]
    fn flights_in_many_small_fragments_are_put_together() {
        for server_role in ROLES {
            let options = ClientOptions { mtu: 90, ..as_role(server_role) };
            assert!(World::connected(options).exchange(1), "{server_role:?}");
        }
    }

    #[test]
    fn a_client_without_a_common_profile_is_refused() {
        for server_role in ROLES {
            let profiles = Profiles::Gcm256Only;
            let mut world = World::new(ClientOptions { profiles, ..as_role(server_role) });
            world.run(ms(11_000));
            let state = world.transport.state();
            assert!(matches!(state, State::Ended(EndReason::HandshakeFailed(_))), "{state:?}");
        }
    }

    #[test]
    fn each_dtls_datagram_may_be_lost_once() {
        for server_role in ROLES {
            let sent = World::connected(as_role(server_role)).dtls_sent;
            assert!(sent.iter().sum::<usize>() >= 4, "{server_role:?} {sent:?}");
            for to in [To::Server, To::Client] {
                for lost in 0..sent[to as usize] {
                    let mut world = World::new(as_role(server_role));
                    world.lose = Box::new(move |way, number| (way, number) == (to, lost));
                    world.run(ms(2_000));
                    let case = format!("{server_role:?}: datagram {lost} to {to:?} lost");
                    assert_eq!(world.transport.state(), &State::Connected, "{case}");
                    assert!(world.client.is_connected() && world.exchange(1), "{case}");
                }
            }
        }
    }

    #[test]
    fn a_finished_that_is_sent_again_is_no_replay() {
        let mut world = World::new(as_role(DtlsRole::Client));
        world.lose = Box::new(|to, number| to == To::Server && number >= 2);
        let mut numbers = Vec::new();
        for _ in 0..300 {
            world.run(ms(10));
            for in_flight in world.link.iter().filter(|in_flight| in_flight.to == To::Client) {
                let finished = records(&in_flight.datagram).filter(|record| record.epoch == 1);
                numbers.extend(finished.map(|record| record.whole[5..11].to_vec()));
            }
        }
        numbers.dedup();
        let sent = numbers.len();
        numbers.sort();
        numbers.dedup();
        assert!(sent >= 3, "{sent}");
        assert_eq!(numbers.len(), sent, "each has a number of its own");
    }

    #[test]
    fn clients_connect_at_15_percent_loss() {
        for server_role in ROLES {
            for seed in 0..24 {
                let mut world = World::new(as_role(server_role));
                let mut random = random(seed);
                world.lose = Box::new(move |_, _| random() % 100 < 15);
                world.run(ms(9_000));
                let case = format!("{server_role:?}: seed {seed}");
                assert_eq!(world.transport.state(), &State::Connected, "{case}");
                assert!(world.client.is_connected() && world.exchange(1), "{case}");
            }
        }
    }

    #[test]
    fn an_impostor_gets_no_media_and_none_of_its_own_is_taken() {
        for server_role in ROLES {
            let mut world = World::new(ClientOptions { impostor: true, ..as_role(server_role) });
            world.run(ms(3_000));
            let ended = State::Ended(EndReason::FingerprintMismatch);
            assert_eq!(world.transport.state(), &ended, "{server_role:?}");
            assert!(world.transport.sealer().is_none());
            assert_eq!(world.connected_events, 0);
            assert_eq!(world.transport.srtp_profile(), None);
            if world.client.is_connected() {
                assert!(world.client.closed, "who believed to be connected is told otherwise");
                let packet = world.client.seal(&rtp(1));
                world.send(To::Server, world.path, packet);
                world.run(ms(100));
            } else {
                assert_eq!(server_role, DtlsRole::Server);
            }
            assert_eq!(world.opened, [0, 0]);
        }
    }

    #[test]
    fn the_client_may_move_to_another_address_in_mid_handshake() {
        for server_role in ROLES {
            for moved_after in (20..90).step_by(10) {
                let mut world = World::new(as_role(server_role));
                world.delay = ms(20);
                world.run(ms(moved_after));
                world.path = path(6_000);
                world.next_check = world.now;
                world.run(ms(2_000));
                let case = format!("{server_role:?}: moved after {moved_after} ms");
                assert_eq!(world.transport.state(), &State::Connected, "{case}");
                assert_eq!(world.transport.path(), Some(path(6_000)), "{case}");
                assert!(world.exchange(1), "{case}");
            }
        }
    }

    #[test]
    fn a_silent_client_loses_its_consent() {
        let mut world = World::connected(as_role(DtlsRole::Server));
        world.client_dies = Some(world.now);
        world.run(Duration::from_secs(26));
        assert_eq!(world.transport.state(), &State::Connected);
        let sent = world.dtls_sent[To::Client as usize];
        world.run(Duration::from_secs(5));
        assert_eq!(world.transport.state(), &State::Ended(EndReason::ConsentLost));
        assert_eq!(world.dtls_sent[To::Client as usize], sent, "nothing is sent any more");
        assert_eq!(world.transport.deadline(), None);
    }

    #[test]
    fn media_is_a_sign_of_life_too() {
        let mut world = World::connected(as_role(DtlsRole::Server));
        world.next_check = world.now + Duration::from_secs(1_000);
        for sequence in 0..10 {
            world.run(Duration::from_secs(20));
            assert!(world.exchange(sequence));
        }
    }

    /// Media that a forged check has sent to a victim must not stay there because its owner lives.
    #[test]
    fn signs_of_life_from_elsewhere_are_no_consent_of_the_address_media_goes_to() {
        let mut world = World::connected(as_role(DtlsRole::Server));
        let mut forged = world.client.check(true);
        world.transport.handle(path(6_000), &mut forged, world.now, &mut world.arena);
        assert_eq!(world.transport.path(), Some(path(6_000)));
        world.next_check = world.now + Duration::from_hours(1);
        for sequence in 0..16 {
            let mut check = world.client.check(false);
            world.transport.handle(path(5_000), &mut check, world.now, &mut world.arena);
            let media = world.client.seal(&rtp(sequence));
            world.send(To::Server, path(5_000), media);
            world.run(Duration::from_secs(2));
        }
        assert_eq!(world.transport.state(), &State::Ended(EndReason::ConsentLost));
    }

    #[test]
    fn a_client_that_never_shakes_hands_is_given_up() {
        let mut world = World::new(as_role(DtlsRole::Server));
        world.lose = Box::new(|to, _| to == To::Server);
        world.run(Duration::from_secs(11));
        assert_eq!(world.transport.state(), &State::Ended(EndReason::HandshakeTimeout));
    }

    #[test]
    fn close_notify_ends_the_session_in_both_directions() {
        for server_role in ROLES {
            let mut world = World::connected(as_role(server_role));
            world.client.close(world.now);
            world.run(ms(100));
            let closed = State::Ended(EndReason::ClosedByClient);
            assert_eq!(world.transport.state(), &closed, "{server_role:?}");
            assert!(world.transport.sealer().is_none());

            let mut world = World::connected(as_role(server_role));
            world.transport.close(world.now, &mut world.arena);
            assert_eq!(world.arena.datagrams().count(), 1);
            world.run(ms(100));
            assert!(world.client.closed, "{server_role:?}");
            let closed = State::Ended(EndReason::ClosedByServer);
            assert_eq!(world.transport.state(), &closed);
        }
    }

    #[test]
    fn media_follows_the_nomination() {
        let mut world = World::new(as_role(DtlsRole::Server));
        let check = |world: &mut World, port, nominate| {
            let mut check = world.client.check(nominate);
            world.transport.handle(path(port), &mut check, world.now, &mut world.arena);
            world.transport.path().map(|path| path.remote.port())
        };
        assert_eq!(check(&mut world, 1, false), Some(1));
        assert_eq!(check(&mut world, 2, false), Some(2));
        assert_eq!(check(&mut world, 1, true), Some(1));
        assert_eq!(check(&mut world, 3, false), Some(1));
        assert_eq!(check(&mut world, 3, true), Some(3));
    }

    #[test]
    fn a_restart_keeps_the_old_credentials_until_the_new_ones_are_used() {
        let mut world = World::connected(as_role(DtlsRole::Server));
        let old = world.client.check(true);
        let renewed = Credentials { ufrag: "new".into(), pwd: "n".repeat(24) };
        assert!(world.transport.restart_ice(renewed.clone()));
        let answered = |world: &mut World, check: &[u8], port| {
            world.arena.clear();
            let mut check = check.to_vec();
            world.transport.handle(path(port), &mut check, world.now, &mut world.arena);
            !world.arena.is_empty()
        };
        assert!(answered(&mut world, &old, 5_000));
        world.client.server = renewed;
        world.path = path(7_000);
        let new = world.client.check(true);
        assert!(answered(&mut world, &new, 7_000));
        assert!(!answered(&mut world, &old, 5_000));
        assert_eq!(world.transport.path(), Some(path(7_000)));
        assert!(world.exchange(1), "DTLS and SRTP stay as they were");
    }

    #[test]
    fn a_restart_whose_answer_is_lost_leaves_the_credentials_in_use_good() {
        let mut world = World::connected(as_role(DtlsRole::Server));
        let renewed = |name: &str| Credentials { ufrag: name.into(), pwd: name.repeat(24) };
        assert!(world.transport.restart_ice(renewed("a")), "those in use are kept");
        assert!(!world.transport.restart_ice(renewed("b")), "those never used are not");
        let check = |world: &mut World, server: Credentials| {
            world.client.server = server;
            let check = world.client.check(true);
            world.transport.is_authentic(&check)
        };
        assert!(check(&mut world, server_credentials()));
        assert!(check(&mut world, renewed("b")));
        assert!(!check(&mut world, renewed("a")));
    }

    #[test]
    fn nobody_without_an_authentic_check_is_answered() {
        let mut world = World::new(as_role(DtlsRole::Server));
        world.client.server.pwd = "wrong".repeat(5);
        let mut forged = world.client.check(true);
        world.transport.handle(path(1), &mut forged, world.now, &mut world.arena);
        world.client.start(world.now);
        let mut hello = world.client.poll().expect("a hello");
        world.transport.handle(path(1), &mut hello, world.now, &mut world.arena);
        assert!(world.arena.is_empty());
        assert_eq!((world.transport.state(), world.transport.path()), (&State::New, None));
    }

    #[test]
    fn a_replayed_packet_is_taken_once() {
        let mut world = World::connected(as_role(DtlsRole::Server));
        let packet = world.client.seal(&rtp(1));
        for _ in 0..3 {
            world.send(To::Server, world.path, packet.clone());
        }
        world.run(ms(100));
        assert_eq!(world.opened[To::Server as usize], 1);
    }

    #[test]
    fn hello_and_media_in_one_turn_leave_in_that_order() {
        let mut world = World::new(as_role(DtlsRole::Server));
        while world.connected_events == 0 {
            world.flush();
            let next = world.link.front().map(|in_flight| in_flight.at);
            let due = [next, Some(world.next_check), world.client.deadline()];
            world.now = world.now.max(due.into_iter().flatten().min().expect("something to come"));
            // Like `step`, but what the transport says at the end stays in the arena.
            while world.connected_events == 0
                && world.link.front().is_some_and(|in_flight| in_flight.at <= world.now)
            {
                world.flush();
                let in_flight = world.link.pop_front().expect("just seen");
                world.deliver(in_flight);
            }
            if world.connected_events == 0 {
                world.step();
            }
        }
        let finished = world.arena.datagrams().last().map(|(_, bytes)| classify(bytes));
        assert_eq!(finished, Some(DatagramKind::Dtls), "our Finished is in the arena first");
    }

    /// What a client sends in a session: a check, DTLS, media, reports.
    fn specimens(world: &mut World) -> Vec<Vec<u8>> {
        let check = world.client.check(true);
        let media = world.client.seal(&rtp(9));
        let report = world.client.seal_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 1]);
        let hello = {
            let options = as_role(DtlsRole::Server);
            let mut other = TestClient::new(options, server_credentials());
            other.start(world.now);
            other.poll().expect("a hello")
        };
        let alert = vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
        let mut sealed_alert = alert.clone();
        sealed_alert[4] = 1;
        sealed_alert[12] = 26;
        sealed_alert.extend([7; 24]);
        vec![check, media, report, hello, alert, sealed_alert]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn mutated_datagrams_never_end_a_session(
            as_client: bool,
            changes in prop::collection::vec(
                (0_usize..6, 0_usize..300, any::<u8>(), 0_usize..400),
                60,
            ),
        ) {
            let mut world = World::connected(as_role(ROLES[usize::from(as_client)]));
            let specimens = specimens(&mut world);
            for (which, at, byte, cut) in changes {
                let mut datagram = specimens[which].clone();
                let place = at % datagram.len();
                datagram[place] ^= byte | 1;
                datagram.truncate(cut.max(1));
                world.transport.handle(world.path, &mut datagram, world.now, &mut world.arena);
                world.now += ms(11);
            }
            world.run(ms(100));
            prop_assert_eq!(world.transport.state(), &State::Connected);
            prop_assert!(world.exchange(500));
        }

        #[test]
        fn garbage_in_mid_handshake_neither_ends_it_nor_stops_it(
            as_client: bool,
            first in prop::sample::select(vec![0_u8, 1, 20, 21, 22, 23, 24, 63, 128, 144, 200]),
            after in 0_u64..100,
            garbage in prop::collection::vec(any::<u8>(), 1..60),
        ) {
            let mut world = World::new(as_role(ROLES[usize::from(as_client)]));
            world.run(ms(after));
            for _ in 0..5 {
                let mut datagram = garbage.clone();
                datagram[0] = first;
                let (path, now) = (world.path, world.now);
                world.transport.handle(path, &mut datagram, now, &mut world.arena);
                world.run(ms(3));
            }
            world.run(ms(2_000));
            prop_assert_eq!(world.transport.state(), &State::Connected);
        }

        #[test]
        fn forged_handshake_records_cost_bounded_memory_and_no_panic(
            as_client: bool,
            after in 0_u64..100,
            records in prop::collection::vec(
                (any::<u8>(), 0_u8..24, 0_u16..7, prop::collection::vec(any::<u8>(), 0..80)),
                1..80,
            ),
        ) {
            let mut world = World::new(as_role(ROLES[usize::from(as_client)]));
            world.run(ms(after));
            for (number, (sequence, kind, message, body)) in records.into_iter().enumerate() {
                let len = body.len() as u8;
                let mut datagram = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, number as u8, sequence];
                datagram.extend([0, len + 12, kind, 0, 0, len, 0, message as u8]);
                datagram.extend([0, 0, 0, 0, 0, len]);
                datagram.extend(body);
                let (path, now) = (world.path, world.now);
                world.transport.handle(path, &mut datagram, now, &mut world.arena);
            }
            world.run(ms(12_000));
            prop_assert!(matches!(world.transport.state(), State::Connected | State::Ended(_)));
        }
    }
}
