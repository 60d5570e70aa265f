//! One DTLS association around `rtc-dtls`, with the retransmission a lossy path needs.
//!
//! `rtc-dtls` 0.21.1 stops its retransmit timer for ever once the peer repeats a handshake
//! record, so its timers are left alone and the last flight is kept here and sent again. Records
//! of epoch 0 get fresh record sequence numbers each time, as RFC 6347 §4.2.4 has it (nothing
//! authenticates those numbers); encrypted ones are sent as they were.

use super::identity::{Identity, crypto_provider};
use bytes::BytesMut;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_srtp::config::{Config as SrtpConfig, LABEL_EXTRACTOR_DTLS_SRTP, SessionKeys};
use rtc_srtp::protection_profile::ProtectionProfile;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// First wait before a flight is sent again; doubles up to [`RESEND_MAX`].
const RESEND_FIRST: Duration = Duration::from_millis(100);
const RESEND_MAX: Duration = Duration::from_millis(400);
/// Record header: type, version, epoch, sequence number, length (RFC 6347 §4.1).
const RECORD_HEADER: usize = 13;
const CONTENT_HANDSHAKE: u8 = 22;

/// Which SRTP profile a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtpProfile {
    /// `AEAD_AES_128_GCM` (RFC 7714).
    Gcm,
    /// `AES128_CM_HMAC_SHA1_80` (RFC 5764 §4.1.2).
    Cm80,
}

impl SrtpProfile {
    fn dtls(self) -> SrtpProtectionProfile {
        match self {
            Self::Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            Self::Cm80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        }
    }

    pub(crate) fn srtp(self) -> ProtectionProfile {
        match self {
            Self::Gcm => ProtectionProfile::AeadAes128Gcm,
            Self::Cm80 => ProtectionProfile::Aes128CmHmacSha1_80,
        }
    }

    /// The name the server's API uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gcm => "AEAD_AES_128_GCM",
            Self::Cm80 => "AES128_CM_HMAC_SHA1_80",
        }
    }
}

/// Our side of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// We send the `ClientHello`: the server answered `a=setup:passive`.
    Client,
    /// We wait for it: the server answered `a=setup:active`.
    Server,
}

/// What the handshake brought.
#[derive(Debug, Clone)]
pub(crate) struct Established {
    pub(crate) profile: SrtpProfile,
    pub(crate) keys: SessionKeys,
    /// The other side's certificate, DER.
    pub(crate) peer_certificate: Vec<u8>,
}

/// What happened to an association.
#[derive(Debug)]
pub(crate) enum Outcome {
    Established(Box<Established>),
    Closed(String),
}

/// A DTLS association that resends what the network lost.
pub(crate) struct Dtls {
    endpoint: Endpoint,
    role: DtlsRole,
    client_config: Option<Arc<HandshakeConfig>>,
    remote: SocketAddr,
    /// The last datagrams sent of the handshake, as the library made them.
    flight: Vec<Vec<u8>>,
    resend_at: Option<Instant>,
    resend_after: Duration,
    sent_at: Option<Instant>,
    next_sequence: u64,
    established: bool,
    out: VecDeque<Vec<u8>>,
}

impl Dtls {
    /// Prepares an association; nothing is sent before [`Dtls::start`].
    pub(crate) fn new(
        identity: &Identity,
        role: DtlsRole,
        profiles: &[SrtpProfile],
    ) -> anyhow::Result<Self> {
        // The library keys associations by address; there is one, so any address will do.
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 2));
        let config = ConfigBuilder::default()
            .with_crypto_provider(crypto_provider())
            .with_certificates(vec![identity.certificate.clone()])
            .with_srtp_protection_profiles(profiles.iter().map(|it| it.dtls()).collect())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_insecure_skip_verify(true)
            .build(role == DtlsRole::Client, Some(remote))?;
        let config = Arc::new(config);
        let server_config = (role == DtlsRole::Server).then(|| config.clone());
        Ok(Self {
            endpoint: Endpoint::new(local, TransportProtocol::UDP, server_config),
            role,
            client_config: (role == DtlsRole::Client).then_some(config),
            remote,
            flight: Vec::new(),
            resend_at: None,
            resend_after: RESEND_FIRST,
            sent_at: None,
            next_sequence: 0,
            established: false,
            out: VecDeque::new(),
        })
    }

    /// Sends the `ClientHello`, if that is ours to send. Later calls do nothing.
    pub(crate) fn start(&mut self, now: Instant) -> anyhow::Result<()> {
        if let Some(config) = self.client_config.take() {
            self.endpoint.connect(now, self.remote, config, None)?;
            self.collect(now);
        }
        Ok(())
    }

    /// Takes one datagram.
    pub(crate) fn handle(&mut self, datagram: &[u8], now: Instant) -> Option<Outcome> {
        let result = self.endpoint.read(now, self.remote, None, BytesMut::from(datagram));
        let answered = self.collect(now);
        let mut outcome = None;
        match result {
            Ok(events) => {
                for event in events {
                    match event {
                        EndpointEvent::HandshakeComplete => outcome = Some(self.complete()),
                        EndpointEvent::PeerClosed => {
                            outcome = Some(Outcome::Closed("close_notify".to_owned()));
                        }
                        _ => {}
                    }
                }
            }
            // A broken record is dropped (RFC 6347 §4.1.2.7); a fatal alert ends it.
            Err(rtc_shared::error::Error::ErrAlertFatalOrClose) => {
                outcome = Some(Outcome::Closed("fatal alert".to_owned()));
            }
            Err(error) => tracing::debug!(%error, "dtls record dropped"),
        }
        if !answered && datagram.first() == Some(&CONTENT_HANDSHAKE) {
            self.resend_for_repeat(now);
        }
        outcome
    }

    /// The peer repeats itself and the library has nothing to say: our last flight was lost.
    fn resend_for_repeat(&mut self, now: Instant) {
        let last_word_is_ours = self.role == DtlsRole::Server && self.established;
        let rested = self.sent_at.is_none_or(|at| now.duration_since(at) >= RESEND_FIRST / 2);
        if rested && (last_word_is_ours || !self.established) {
            self.resend(now);
        }
    }

    /// Sends the last flight again when its time has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.resend_at.is_some_and(|at| now >= at) {
            self.resend_after = (self.resend_after * 2).min(RESEND_MAX);
            self.resend(now);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.resend_at
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self, now: Instant) {
        self.endpoint.stop(now, self.remote);
        self.collect(now);
    }

    /// Takes what the library wants sent; true when that was anything.
    fn collect(&mut self, now: Instant) -> bool {
        let mut fresh = Vec::new();
        while let Some(message) = self.endpoint.poll_transmit() {
            fresh.push(message.message.to_vec());
        }
        if fresh.is_empty() {
            return false;
        }
        self.resend_after = RESEND_FIRST;
        self.flight = fresh;
        self.resend(now);
        true
    }

    fn resend(&mut self, now: Instant) {
        for datagram in &self.flight {
            self.out.push_back(renumber(datagram, &mut self.next_sequence));
        }
        self.sent_at = Some(now);
        self.resend_at =
            (!self.established && !self.flight.is_empty()).then(|| now + self.resend_after);
    }

    fn complete(&mut self) -> Outcome {
        self.established = true;
        self.resend_at = None;
        match self.export() {
            Ok(established) => Outcome::Established(Box::new(established)),
            Err(error) => Outcome::Closed(error.to_string()),
        }
    }

    fn export(&self) -> anyhow::Result<Established> {
        let state = self
            .endpoint
            .get_connection_state(self.remote)
            .ok_or_else(|| anyhow::anyhow!("the association is gone"))?;
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => SrtpProfile::Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => SrtpProfile::Cm80,
            other => anyhow::bail!("no SRTP profile agreed: {other:?}"),
        };
        let mut config = SrtpConfig { profile: profile.srtp(), ..Default::default() };
        let length = config.keying_material_len();
        let material = state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], length)?;
        config.set_session_keys_from_keying_material(
            material.as_ref(),
            self.role == DtlsRole::Client,
        )?;
        let peer_certificate = state.peer_certificates.first().cloned().unwrap_or_default();
        Ok(Established { profile, keys: config.keys, peer_certificate })
    }
}

/// Gives the plaintext records of a datagram new sequence numbers.
fn renumber(datagram: &[u8], next_sequence: &mut u64) -> Vec<u8> {
    let mut out = datagram.to_vec();
    let mut at = 0;
    while let Some(header) = out.get_mut(at..at + RECORD_HEADER) {
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        if header[3..5] == [0, 0] {
            header[5..11].copy_from_slice(&next_sequence.to_be_bytes()[2..]);
            *next_sequence += 1;
        }
        at += RECORD_HEADER + length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(profiles: &[SrtpProfile]) -> (Dtls, Dtls) {
        let identity = Identity::generate().expect("a certificate");
        let client = Dtls::new(&identity, DtlsRole::Client, profiles).expect("client");
        let server = Dtls::new(&identity, DtlsRole::Server, profiles).expect("server");
        (client, server)
    }

    /// Runs both in virtual time; `drop(n)` says whether the n-th datagram is lost.
    fn run(client: &mut Dtls, server: &mut Dtls, mut lost: impl FnMut(usize) -> bool) -> bool {
        let mut now = Instant::now();
        let (mut sent, mut up) = (0, [false; 2]);
        client.start(now).expect("start");
        for _ in 0..2_000 {
            let mut moved = false;
            for side in 0..2 {
                let (from, to) = if side == 0 {
                    (&mut *client, &mut *server)
                } else {
                    (&mut *server, &mut *client)
                };
                while let Some(datagram) = from.poll_transmit() {
                    moved = true;
                    sent += 1;
                    if !lost(sent - 1)
                        && let Some(Outcome::Established(_)) = to.handle(&datagram, now)
                    {
                        up[1 - side] = true;
                    }
                }
            }
            if up == [true, true] {
                return true;
            }
            if !moved {
                now += Duration::from_millis(10);
                client.handle_timeout(now);
                server.handle_timeout(now);
            }
        }
        false
    }

    #[test]
    fn a_handshake_without_loss_gives_both_sides_the_same_keys() {
        let (mut client, mut server) = pair(&[SrtpProfile::Gcm, SrtpProfile::Cm80]);
        assert!(run(&mut client, &mut server, |_| false));
        let (ours, theirs) = (client.export().expect("keys"), server.export().expect("keys"));
        assert_eq!(ours.profile, SrtpProfile::Gcm);
        assert_eq!(ours.keys.local_master_key, theirs.keys.remote_master_key);
    }

    #[test]
    fn every_single_lost_datagram_is_made_up_for() {
        for dropped in 0..8 {
            let (mut client, mut server) = pair(&[SrtpProfile::Cm80]);
            assert!(run(&mut client, &mut server, |n| n == dropped), "datagram {dropped}");
        }
    }

    #[test]
    fn handshakes_survive_heavy_random_loss() {
        for seed in 1..=12_u64 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let (mut client, mut server) = pair(&[SrtpProfile::Gcm]);
            let connected = run(&mut client, &mut server, |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % 100 < 25
            });
            assert!(connected, "seed {seed}");
        }
    }
}
