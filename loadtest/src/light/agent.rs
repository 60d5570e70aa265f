//! One client endpoint, sans-IO: ICE checks, DTLS, SRTP. Datagrams and time come in as arguments.

use super::dtls::{Dtls, DtlsRole, Established, Outcome, SrtpProfile};
use super::identity::{Identity, crypto_provider, fingerprint_of, random};
use super::stun::{self, CheckParameters, Incoming};
use bytes::Bytes;
use rtc_rtcp::Packet as RtcpPacket;
use rtc_shared::marshal::{Marshal, Unmarshal};
use rtc_srtp::context::Context;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Between checks before the first answer.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Between checks afterwards, which keep the server's consent (RFC 7675 §5.1).
const CONSENT_INTERVAL: Duration = Duration::from_secs(2);
/// A check that is older is forgotten.
const CHECKS_REMEMBERED: usize = 16;

/// Everything an agent must know before its first datagram.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Its certificate, whatever the offer said.
    pub identity: Identity,
    /// Who sends the `ClientHello`.
    pub role: DtlsRole,
    /// SRTP profiles in the order of preference.
    pub profiles: Vec<SrtpProfile>,
    /// Our ICE user fragment and password.
    pub local: (String, String),
    /// The server's.
    pub remote: (String, String),
    /// The certificate the server must show: `a=fingerprint` of its answer.
    pub remote_fingerprint: Option<String>,
    /// Where the server is.
    pub server: SocketAddr,
}

/// What an agent tells its owner.
#[derive(Debug)]
pub enum Event {
    /// DTLS is done: media may flow.
    Connected(SrtpProfile),
    /// A media packet, decrypted.
    Rtp(rtp::Packet),
    /// A compound RTCP packet, decrypted and parsed.
    Rtcp(Vec<Box<dyn RtcpPacket>>),
    /// The association is over.
    Closed(String),
}

/// What an agent counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AgentCounters {
    /// Datagrams that came in, of any kind.
    pub datagrams: u64,
    /// SRTP and SRTCP that did not authenticate, or came before the keys.
    pub undecryptable: u64,
    /// Refused checks: the server answered with an error.
    pub refused_checks: u64,
    /// Answered checks.
    pub answered_checks: u64,
    /// SRTP and SRTCP packets that came in, decryptable or not.
    pub media_datagrams: u64,
}

/// What incoming media is sealed with, for who opens it without the agent.
#[derive(Clone)]
pub struct MediaKeys {
    /// The profile DTLS agreed.
    pub profile: SrtpProfile,
    /// The server's master key.
    pub key: Vec<u8>,
    /// The server's master salt.
    pub salt: Vec<u8>,
}

struct Srtp {
    outbound: Context,
    inbound: Context,
    inbound_keys: MediaKeys,
}

/// The agent.
pub struct Agent {
    config: AgentConfig,
    check: CheckParameters,
    transactions: VecDeque<[u8; 12]>,
    next_check: Option<Instant>,
    nominated: bool,
    dtls: Dtls,
    srtp: Option<Srtp>,
    counters: AgentCounters,
    out: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

impl Agent {
    /// An agent whose first check is due at once.
    ///
    /// # Errors
    ///
    /// When the certificate or the profiles are unusable.
    pub fn new(config: AgentConfig, now: Instant) -> anyhow::Result<Self> {
        let check = CheckParameters {
            username: format!("{}:{}", config.remote.0, config.local.0),
            password: config.remote.1.clone(),
            tie_breaker: u64::from_be_bytes(random()),
        };
        let dtls = Dtls::new(&config.identity, config.role, &config.profiles)?;
        Ok(Self {
            config,
            check,
            transactions: VecDeque::new(),
            next_check: Some(now),
            nominated: false,
            dtls,
            srtp: None,
            counters: AgentCounters::default(),
            out: VecDeque::new(),
            events: VecDeque::new(),
        })
    }

    /// Where the server is.
    pub fn server(&self) -> SocketAddr {
        self.config.server
    }

    /// Whether media can be sent.
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// What incoming media is sealed with, once DTLS is done.
    pub fn inbound_keys(&self) -> Option<&MediaKeys> {
        self.srtp.as_ref().map(|srtp| &srtp.inbound_keys)
    }

    /// What was counted so far.
    pub fn counters(&self) -> AgentCounters {
        self.counters
    }

    /// Stops sending checks, as a client does whose machine went away.
    pub fn stop_checks(&mut self) {
        self.next_check = None;
    }

    /// Checks with new credentials, ours and the server's, from now on (RFC 8445 §9); DTLS and
    /// media go on as they were.
    pub fn restart_ice(&mut self, local: (String, String), remote: (String, String), now: Instant) {
        self.check.username = format!("{}:{}", remote.0, local.0);
        self.check.password.clone_from(&remote.1);
        (self.config.local, self.config.remote) = (local, remote);
        self.transactions.clear();
        self.nominated = false;
        self.next_check = Some(now);
    }

    /// Takes one datagram (RFC 7983 §7 tells the protocols apart by the first byte).
    pub fn handle(&mut self, datagram: &[u8], now: Instant) {
        self.counters.datagrams += 1;
        match datagram.first() {
            Some(0..=3) => self.handle_stun(datagram, now),
            Some(20..=63) => self.handle_dtls(datagram, now),
            Some(128..=191) => self.handle_media(datagram),
            _ => {}
        }
    }

    fn handle_stun(&mut self, datagram: &[u8], now: Instant) {
        let ours = &self.config.local.1;
        match stun::read(datagram, ours, &self.check.password) {
            Some(Incoming::Request(id)) => {
                self.out.extend(stun::success(id, self.config.server, ours));
            }
            Some(Incoming::Success(id)) if self.transactions.contains(&id.0) => {
                self.counters.answered_checks += 1;
                self.nominate(now);
            }
            Some(Incoming::Refused(id)) if self.transactions.contains(&id.0) => {
                self.counters.refused_checks += 1;
            }
            _ => {}
        }
    }

    fn nominate(&mut self, now: Instant) {
        if self.nominated {
            return;
        }
        self.nominated = true;
        if self.next_check.is_some() {
            self.next_check = Some(now + CONSENT_INTERVAL);
        }
        if self.is_connected() {
            // It was ICE alone that began anew.
            return;
        }
        if let Err(error) = self.dtls.start(now) {
            self.events.push_back(Event::Closed(error.to_string()));
        }
    }

    fn handle_dtls(&mut self, datagram: &[u8], now: Instant) {
        match self.dtls.handle(datagram, now) {
            Some(Outcome::Established(established)) => self.established(&established),
            Some(Outcome::Closed(reason)) => self.events.push_back(Event::Closed(reason)),
            None => {}
        }
    }

    fn established(&mut self, established: &Established) {
        let presented = fingerprint_of(&established.peer_certificate);
        if let Some(expected) = &self.config.remote_fingerprint
            && !expected.eq_ignore_ascii_case(&presented)
        {
            let reason = "the server's certificate is not the one its answer announced";
            self.events.push_back(Event::Closed(reason.to_owned()));
            return;
        }
        let keys = &established.keys;
        let provider = crypto_provider();
        let context = |key: &[u8], salt: &[u8]| {
            let profile = established.profile.srtp();
            Context::new(key, salt, profile, None, None, provider.crypto())
        };
        let outbound = context(&keys.local_master_key, &keys.local_master_salt);
        let inbound = context(&keys.remote_master_key, &keys.remote_master_salt);
        match (outbound, inbound) {
            (Ok(outbound), Ok(inbound)) => {
                let inbound_keys = MediaKeys {
                    profile: established.profile,
                    key: keys.remote_master_key.clone(),
                    salt: keys.remote_master_salt.clone(),
                };
                self.srtp = Some(Srtp { outbound, inbound, inbound_keys });
                self.events.push_back(Event::Connected(established.profile));
            }
            (Err(error), _) | (_, Err(error)) => {
                self.events.push_back(Event::Closed(error.to_string()));
            }
        }
    }

    fn handle_media(&mut self, datagram: &[u8]) {
        self.counters.media_datagrams += 1;
        let event = self.srtp.as_mut().and_then(|srtp| srtp.open(datagram));
        match event {
            Some(event) => self.events.push_back(event),
            None => self.counters.undecryptable += 1,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_check.is_some_and(|at| now >= at) {
            let transaction = random();
            self.transactions.push_back(transaction);
            if self.transactions.len() > CHECKS_REMEMBERED {
                self.transactions.pop_front();
            }
            self.out.extend(stun::check(transaction, &self.check));
            let interval = if self.nominated { CONSENT_INTERVAL } else { CHECK_INTERVAL };
            self.next_check = Some(now + interval);
        }
        self.dtls.handle_timeout(now);
    }

    /// When [`Agent::handle_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        [self.next_check, self.dtls.deadline()].into_iter().flatten().min()
    }

    /// The next datagram for the server.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front().or_else(|| self.dtls.poll_transmit())
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Encrypts a media packet.
    ///
    /// # Errors
    ///
    /// Before DTLS is done, or when the packet cannot be written.
    pub fn protect_rtp(&mut self, packet: &rtp::Packet) -> anyhow::Result<Bytes> {
        let srtp = self.srtp.as_mut().ok_or_else(|| anyhow::anyhow!("not connected"))?;
        let plain = packet.marshal()?;
        Ok(srtp.outbound.encrypt_rtp_with_header(&plain, &packet.header)?.freeze())
    }

    /// Encrypts a compound RTCP packet.
    ///
    /// # Errors
    ///
    /// Before DTLS is done, or when the packets cannot be written.
    pub fn protect_rtcp(&mut self, packets: &[Box<dyn RtcpPacket>]) -> anyhow::Result<Bytes> {
        let plain = rtc_rtcp::packet::marshal(packets)?;
        self.protect_raw_rtcp(&plain)
    }

    /// Encrypts bytes as if they were RTCP: for packets no library would write.
    ///
    /// # Errors
    ///
    /// Before DTLS is done, or when there are fewer than eight bytes.
    pub fn protect_raw_rtcp(&mut self, plain: &[u8]) -> anyhow::Result<Bytes> {
        let srtp = self.srtp.as_mut().ok_or_else(|| anyhow::anyhow!("not connected"))?;
        Ok(srtp.outbound.encrypt_rtcp(plain)?.freeze())
    }

    /// Encrypts bytes as if they were RTP: for packets no library would write. Their header ends
    /// where its own counts say, or at the end where they lie.
    ///
    /// # Errors
    ///
    /// Before DTLS is done, or when there are fewer than twelve bytes.
    pub fn protect_raw_rtp(&mut self, plain: &[u8]) -> anyhow::Result<Bytes> {
        let srtp = self.srtp.as_mut().ok_or_else(|| anyhow::anyhow!("not connected"))?;
        let (fixed, _) = plain
            .split_first_chunk::<12>()
            .ok_or_else(|| anyhow::anyhow!("RTP has twelve bytes at least"))?;
        let mut words = usize::from(fixed[0] & 0x0f);
        if fixed[0] & 0x10 != 0
            && let Some(&[_, _, high, low]) =
                plain.get(12 + words * 4..).and_then(<[u8]>::first_chunk)
        {
            words += 1 + usize::from(u16::from_be_bytes([high, low]));
        }
        // The library needs three things of a header: its length and two numbers.
        let header = rtp::Header {
            sequence_number: u16::from_be_bytes([fixed[2], fixed[3]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            csrc: vec![0; words.min((plain.len() - 12) / 4)],
            ..Default::default()
        };
        Ok(srtp.outbound.encrypt_rtp_with_header(plain, &header)?.freeze())
    }

    /// Says goodbye by DTLS; no more checks are sent.
    pub fn close(&mut self, now: Instant) {
        self.next_check = None;
        self.dtls.close(now);
    }
}

impl Srtp {
    /// RFC 5761 §4: payload types 64 to 95 of RTP would be RTCP.
    fn open(&mut self, datagram: &[u8]) -> Option<Event> {
        if matches!(datagram.get(1)?, 192..=223) {
            let plain = self.inbound.decrypt_rtcp(datagram).ok()?;
            return Some(Event::Rtcp(rtc_rtcp::packet::unmarshal(&mut plain.freeze()).ok()?));
        }
        let plain = self.inbound.decrypt_rtp(datagram).ok()?;
        Some(Event::Rtp(rtp::Packet::unmarshal(&mut plain.freeze()).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(role: DtlsRole, remote_fingerprint: Option<String>, identity: Identity) -> Agent {
        let (local, remote) = if role == DtlsRole::Client { ("a", "b") } else { ("b", "a") };
        let credentials = |name: &str| (name.repeat(4), name.repeat(22));
        Agent::new(
            AgentConfig {
                identity,
                role,
                profiles: vec![SrtpProfile::Gcm, SrtpProfile::Cm80],
                local: credentials(local),
                remote: credentials(remote),
                remote_fingerprint,
                server: "127.0.0.1:9".parse().expect("an address"),
            },
            Instant::now(),
        )
        .expect("an agent")
    }

    /// Lets both talk until neither has anything to say.
    fn settle(left: &mut Agent, right: &mut Agent, now: Instant) {
        for _ in 0..100 {
            left.handle_timeout(now);
            right.handle_timeout(now);
            let mut quiet = true;
            while let Some(datagram) = left.poll_transmit() {
                quiet = false;
                right.handle(&datagram, now);
            }
            while let Some(datagram) = right.poll_transmit() {
                quiet = false;
                left.handle(&datagram, now);
            }
            if quiet {
                return;
            }
        }
    }

    fn packet() -> rtp::Packet {
        rtp::Packet {
            header: rtp::Header {
                version: 2,
                payload_type: 102,
                sequence_number: 65_535,
                ssrc: 7,
                ..Default::default()
            },
            payload: Bytes::from_static(b"payload"),
        }
    }

    #[test]
    fn two_agents_connect_and_exchange_media() {
        let (ours, theirs) =
            (Identity::generate().expect("ours"), Identity::generate().expect("theirs"));
        let (our_print, their_print) = (ours.fingerprint(), theirs.fingerprint());
        let mut left = agent(DtlsRole::Client, Some(their_print), ours);
        let mut right = agent(DtlsRole::Server, Some(our_print), theirs);
        settle(&mut left, &mut right, Instant::now());
        assert!(matches!(left.poll_event(), Some(Event::Connected(SrtpProfile::Gcm))));
        assert!(matches!(right.poll_event(), Some(Event::Connected(SrtpProfile::Gcm))));
        let sealed = left.protect_rtp(&packet()).expect("connected");
        right.handle(&sealed, Instant::now());
        let Some(Event::Rtp(opened)) = right.poll_event() else { unreachable!("a packet") };
        assert_eq!(opened, packet());
    }

    #[test]
    fn the_same_packet_is_sealed_to_the_same_bytes_again() {
        let identity = Identity::generate().expect("identity");
        let mut left = agent(DtlsRole::Client, None, identity.clone());
        let mut right = agent(DtlsRole::Server, None, identity);
        settle(&mut left, &mut right, Instant::now());
        let first = left.protect_rtp(&packet()).expect("connected");
        assert_eq!(first, left.protect_rtp(&packet()).expect("connected"));
    }

    #[test]
    fn raw_bytes_are_sealed_as_the_packet_that_they_are() {
        let identity = Identity::generate().expect("identity");
        let mut left = agent(DtlsRole::Client, None, identity.clone());
        let mut right = agent(DtlsRole::Server, None, identity);
        settle(&mut left, &mut right, Instant::now());
        let mut extended = packet();
        extended.header.csrc = vec![1, 2];
        extended.header.set_extension(3, Bytes::from_static(b"abc")).expect("it fits");
        let plain = extended.marshal().expect("a packet");
        let raw = left.protect_raw_rtp(&plain).expect("connected");
        assert_eq!(raw, left.protect_rtp(&extended).expect("connected"));
        let mut lying = plain.to_vec();
        lying[22..24].fill(0xff);
        assert!(left.protect_raw_rtp(&lying).is_ok(), "an extension beyond the packet");
        assert!(left.protect_raw_rtp(&plain[..11]).is_err());
    }

    #[test]
    fn another_certificate_than_announced_is_refused() {
        let identity = Identity::generate().expect("identity");
        let other = Identity::generate().expect("other").fingerprint();
        let mut left = agent(DtlsRole::Client, Some(other), identity.clone());
        let mut right = agent(DtlsRole::Server, None, identity);
        settle(&mut left, &mut right, Instant::now());
        assert!(matches!(left.poll_event(), Some(Event::Closed(_))));
        assert!(!left.is_connected());
    }
}
