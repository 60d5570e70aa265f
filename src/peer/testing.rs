//! A client for tests, on `rtc-stun`, `rtc-dtls` and `rtc-srtp`: what a browser does below its
//! media, sans-IO and in virtual time like the server's side, of which it uses no code. Also the
//! entry points for fuzzing this folder.
//!
//! Public, but hidden, so that the tests outside this crate can use it too. Panics on misuse.

use super::agreement::{Credentials, DtlsRole, Fingerprint, HashAlgorithm, TransportAgreement};
use bytes::BytesMut;
use ring::digest;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_srtp::config::{Config, LABEL_EXTRACTOR_DTLS_SRTP};
use rtc_srtp::context::Context;
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;
use rtc_stun::attributes::{ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Which key a client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKey {
    /// ECDSA on P-256, as browsers have.
    Ecdsa,
    /// RSA with 2048 bits, as `GStreamer` has.
    Rsa,
}

/// The SRTP profiles a client offers or accepts, its favourite first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profiles {
    /// As Chromium orders them: AES-CM, AES-256-GCM, AES-128-GCM.
    Chromium,
    /// As Firefox does: AES-128-GCM, AES-256-GCM, AES-CM.
    Firefox,
    /// AES-CM alone, as older native clients.
    CmOnly,
    /// AES-256-GCM alone, which the server does not have.
    Gcm256Only,
}

/// What a test client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// The server's DTLS side; the client takes the other.
    pub server_role: DtlsRole,
    /// Its SRTP profiles.
    pub profiles: Profiles,
    /// Its key.
    pub key: ClientKey,
    /// It shows another certificate than the one in its offer.
    pub impostor: bool,
    /// The largest DTLS datagram it sends.
    pub mtu: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            server_role: DtlsRole::Server,
            profiles: Profiles::Chromium,
            key: ClientKey::Ecdsa,
            impostor: false,
            mtu: 1_200,
        }
    }
}

/// The client.
pub struct TestClient {
    options: ClientOptions,
    /// Its ICE credentials, as in its offer.
    pub credentials: Credentials,
    /// The server's, as in the answer.
    pub server: Credentials,
    fingerprint: Fingerprint,
    provider: Arc<dyn RTCCryptoProvider>,
    config: Arc<HandshakeConfig>,
    endpoint: Endpoint,
    /// What it wants sent.
    out: VecDeque<Vec<u8>>,
    /// The last flight, for its own retransmission.
    flight: Vec<Vec<u8>>,
    resend: Option<(Instant, Duration)>,
    srtp: Option<(Context, Context)>,
    /// What the server protects with: profile, key and salt.
    server_keys: Option<(ProtectionProfile, Vec<u8>, Vec<u8>)>,
    /// The server closed the DTLS association.
    pub closed: bool,
    /// What went wrong in its handshake.
    pub error: Option<String>,
    /// Answers to its checks that were authentic.
    pub checks_answered: usize,
    /// The certificate the server showed.
    pub server_certificate: Option<Vec<u8>>,
    checks: u64,
}

const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);
const RSA: &str = include_str!("../../tests/data/keys/rsa-2048.pem");

impl TestClient {
    /// A client that will talk to a server with these credentials.
    pub fn new(options: ClientOptions, server: Credentials) -> Self {
        let provider = rtc_crypto::default_provider().expect("ring is built in");
        let shown = certificate(options.key, &*provider);
        let offered = if options.impostor {
            certificate(ClientKey::Ecdsa, &*provider)
        } else {
            shown.clone()
        };
        let digest = digest::digest(&digest::SHA256, &offered.certificate[0]).as_ref().to_vec();
        let is_client = options.server_role == DtlsRole::Server;
        let profiles = srtp_profiles(options.profiles);
        let config = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&provider))
            .with_certificates(vec![shown])
            .with_srtp_protection_profiles(profiles)
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .with_flight_interval(Duration::from_hours(1))
            .with_mtu(options.mtu)
            .build(is_client, Some(PEER))
            .map(Arc::new)
            .expect("a sound configuration");
        let server_config = (!is_client).then(|| Arc::clone(&config));
        Self {
            options,
            credentials: Credentials { ufrag: "clie".into(), pwd: "p".repeat(24) },
            server,
            fingerprint: Fingerprint { algorithm: HashAlgorithm::Sha256, digest },
            provider,
            config,
            endpoint: Endpoint::new(PEER, TransportProtocol::UDP, server_config),
            out: VecDeque::new(),
            flight: Vec::new(),
            resend: None,
            srtp: None,
            server_keys: None,
            closed: false,
            error: None,
            checks_answered: 0,
            server_certificate: None,
            checks: 0,
        }
    }

    /// What its offer and the answer agree on.
    pub fn agreement(&self) -> TransportAgreement {
        TransportAgreement {
            local: self.server.clone(),
            remote: self.credentials.clone(),
            fingerprints: vec![self.fingerprint.clone()],
            role: self.options.server_role,
        }
    }

    /// The fingerprint in its offer.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// A connectivity check, nominating or not.
    pub fn check(&mut self, nominate: bool) -> Vec<u8> {
        let username = format!("{}:{}", self.server.ufrag, self.credentials.ufrag);
        let nomination: &[(AttrType, &[u8])] =
            if nominate { &[(ATTR_USE_CANDIDATE, &[])] } else { &[] };
        self.checks += 1;
        let mut transaction = [0; 12];
        transaction[4..].copy_from_slice(&self.checks.to_be_bytes());
        let mut message = Message::new();
        let start: [Box<dyn Setter>; 3] = [
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId(transaction)),
            Box::new(TextAttribute::new(ATTR_USERNAME, username)),
        ];
        message.build(&start).expect("a message");
        message.add(ATTR_PRIORITY, &[0x7e, 0xff, 0xff, 0xff]);
        for (kind, value) in nomination {
            message.add(*kind, value);
        }
        let password = self.server.pwd.clone();
        let crypto = self.provider.crypto();
        MessageIntegrity::new_short_term_integrity_with_provider(password, crypto)
            .add_to(&mut message)
            .expect("integrity");
        FINGERPRINT.add_to(&mut message).expect("a fingerprint");
        message.raw
    }

    /// As DTLS client, says hello; to be called once a check was answered.
    pub fn start(&mut self, now: Instant) {
        if self.options.server_role == DtlsRole::Server && self.resend.is_none() {
            let config = Arc::clone(&self.config);
            self.endpoint.connect(now, PEER, config, None).expect("a hello");
            self.collect(now);
        }
    }

    /// Takes a datagram of STUN or DTLS from the server; others are for [`TestClient::open`].
    pub fn handle(&mut self, datagram: &[u8], now: Instant) {
        match datagram.first() {
            Some(0..=3) => self.handle_answer(datagram),
            Some(20..=63) => self.handle_dtls(datagram, now),
            _ => {}
        }
    }

    fn handle_answer(&mut self, datagram: &[u8]) {
        let mut answer = Message::new();
        if answer.unmarshal_binary(datagram).is_err() || answer.typ != BINDING_SUCCESS {
            return;
        }
        let key = self.server.pwd.as_bytes();
        let authentic = MessageIntegrity::check(&mut answer, key, self.provider.crypto()).is_ok();
        self.checks_answered += usize::from(authentic);
    }

    fn handle_dtls(&mut self, datagram: &[u8], now: Instant) {
        let read = self.endpoint.read(now, PEER, None, BytesMut::from(datagram));
        let events = match read {
            Ok(events) => events,
            Err(error) => {
                self.error = Some(error.to_string());
                Vec::new()
            }
        };
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => self.export(),
                EndpointEvent::PeerClosed => self.closed = true,
                _ => {}
            }
        }
        self.collect(now);
    }

    fn collect(&mut self, now: Instant) {
        let sent = std::iter::from_fn(|| self.endpoint.poll_transmit());
        let sent: Vec<_> = sent.map(|transmit| transmit.message.to_vec()).collect();
        if !sent.is_empty() {
            self.out.extend(sent.iter().cloned());
            self.flight = sent;
            let wait = Duration::from_millis(100);
            self.resend = Some((now + wait, wait * 2));
        }
    }

    fn export(&mut self) {
        let state = self.endpoint.get_connection_state(PEER).expect("an association");
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => ProtectionProfile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => {
                ProtectionProfile::Aes128CmHmacSha1_80
            }
            other => panic_with(&format!("agreed on {other:?}")),
        };
        let mut config = Config { profile, ..Config::default() };
        let len = config.keying_material_len();
        let material = state
            .export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], len)
            .expect("keying material");
        let is_client = self.options.server_role == DtlsRole::Server;
        config
            .set_session_keys_from_keying_material(material.as_ref(), is_client)
            .expect("the right length");
        self.server_certificate = state.peer_certificates.first().cloned();
        let crypto = self.provider.crypto();
        let keys = &config.keys;
        let local = Context::new(
            &keys.local_master_key,
            &keys.local_master_salt,
            profile,
            None,
            None,
            crypto,
        );
        let remote = Context::new(
            &keys.remote_master_key,
            &keys.remote_master_salt,
            profile,
            Some(srtp_replay_protection(4_096)),
            Some(srtcp_replay_protection(128)),
            crypto,
        );
        self.srtp = Some((local.expect("a context"), remote.expect("a context")));
        let (key, salt) = (&keys.remote_master_key, &keys.remote_master_salt);
        self.server_keys = Some((profile, key.clone(), salt.clone()));
    }

    /// A tap on what the server sends this client; `None` before its handshake is complete.
    pub fn wiretap(&self) -> Option<Wiretap> {
        let (profile, key, salt) = self.server_keys.as_ref()?;
        let context = || Context::new(key, salt, *profile, None, None, self.provider.crypto());
        let (opener, sealer) = (context().expect("a context"), context().expect("a context"));
        Some(Wiretap { opener, sealer })
    }

    /// The next datagram it wants sent.
    pub fn poll(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// When [`TestClient::handle_timeout`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let waits = !self.is_connected() && self.error.is_none();
        self.resend.filter(|_| waits).map(|(due, _)| due)
    }

    /// Sends its last flight again.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some((due, wait)) = self.resend
            && self.deadline().is_some()
            && due <= now
        {
            self.out.extend(self.flight.iter().cloned());
            self.resend = Some((now + wait, (wait * 2).min(Duration::from_secs(1))));
        }
    }

    /// Whether its handshake is complete.
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// Protects an RTP packet.
    pub fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let (local, _) = self.srtp.as_mut().expect("the client is connected");
        local.encrypt_rtp(packet).expect("an RTP packet").to_vec()
    }

    /// What it seals with: for packets that no library would write.
    pub fn outbound(&mut self) -> Option<&mut Context> {
        self.srtp.as_mut().map(|(local, _)| local)
    }

    /// Protects a compound RTCP packet.
    pub fn seal_rtcp(&mut self, compound: &[u8]) -> Vec<u8> {
        let (local, _) = self.srtp.as_mut().expect("the client is connected");
        local.encrypt_rtcp(compound).expect("an RTCP packet").to_vec()
    }

    /// Opens an RTP packet; `None` if it is not authentic or no keys were agreed.
    pub fn open(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let (_, remote) = self.srtp.as_mut()?;
        remote.decrypt_rtp(datagram).ok().map(|plain| plain.to_vec())
    }

    /// Opens a compound RTCP packet; `None` if it is not authentic or no keys were agreed.
    pub fn open_rtcp(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let (_, remote) = self.srtp.as_mut()?;
        remote.decrypt_rtcp(datagram).ok().map(|plain| plain.to_vec())
    }

    /// Closes the DTLS association; the alert is to be polled.
    pub fn close(&mut self, now: Instant) {
        let _ = self.endpoint.stop(now, PEER);
        self.collect(now);
    }
}

/// Reads what the server sends to one client, before any network has had it and without minding
/// repetitions; and speaks in the server's name, so that a test can make what no server should.
pub struct Wiretap {
    opener: Context,
    sealer: Context,
}

impl Wiretap {
    /// Opens an RTP packet to the client; `None` if its server has not sealed it.
    pub fn open(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        self.opener.decrypt_rtp(datagram).ok().map(|plain| plain.to_vec())
    }

    /// Opens a compound RTCP packet to the client; `None` if its server has not sealed it.
    pub fn open_rtcp(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        self.opener.decrypt_rtcp(datagram).ok().map(|plain| plain.to_vec())
    }

    /// Protects an RTP packet as the server would.
    pub fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        self.sealer.encrypt_rtp(packet).expect("an RTP packet").to_vec()
    }

    /// Protects a compound RTCP packet as the server would.
    pub fn seal_rtcp(&mut self, compound: &[u8]) -> Vec<u8> {
        self.sealer.encrypt_rtcp(compound).expect("an RTCP packet").to_vec()
    }
}

fn srtp_profiles(profiles: Profiles) -> Vec<SrtpProtectionProfile> {
    let gcm = SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
    let gcm_256 = SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm;
    let cm = SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80;
    match profiles {
        Profiles::Chromium => vec![cm, gcm_256, gcm],
        Profiles::Firefox => vec![gcm, gcm_256, cm],
        Profiles::CmOnly => vec![cm],
        Profiles::Gcm256Only => vec![gcm_256],
    }
}

fn certificate(key: ClientKey, provider: &dyn RTCCryptoProvider) -> Certificate {
    let made = match key {
        ClientKey::Ecdsa => {
            Certificate::generate_self_signed(vec!["client".to_owned()], provider.crypto())
        }
        ClientKey::Rsa => Certificate::from_pem(RSA, provider.crypto()),
    };
    made.expect("a certificate")
}

#[allow(clippy::panic, reason = "a test that gets here has failed")]
fn panic_with(text: &str) -> ! {
    panic!("{text}")
}

/// Entry points for fuzzing, one for each target that the files of this folder name: they must
/// neither panic nor hang, whatever the bytes.
pub mod fuzz {
    use super::super::agreement::Credentials;
    use super::super::assembly::Assembly;
    use super::super::open::Opener;
    use super::super::record::{fragments, records};
    use super::super::srtp::{MasterKey, SrtpProfile};
    use super::super::{client_hello, stun};

    /// `client_hello`: the body of a hello.
    pub fn client_hello(bytes: &[u8]) {
        let _ = client_hello::best_profile(bytes);
    }

    /// `dtls_record`: a datagram of DTLS records.
    pub fn dtls_record(bytes: &[u8]) {
        let mut assembly = Assembly::default();
        for record in records(bytes) {
            for part in fragments(record.body).unwrap_or_default() {
                let _ = assembly.take(&part);
            }
        }
    }

    /// `stun`: a datagram as the demultiplexer and the claim see it.
    pub fn stun(bytes: &[u8]) {
        let local = Credentials { ufrag: "serv".into(), pwd: "s".repeat(24) };
        let _ = (stun::classify(bytes), stun::local_ufrag(bytes));
        let _ = stun::authentic_check(bytes, &local);
    }

    /// `srtp`: a datagram of SRTP or SRTCP, in both profiles.
    pub fn srtp(bytes: &[u8]) {
        for (profile, salt) in [
            (SrtpProfile::AeadAes128Gcm, [7; 12].as_slice()),
            (SrtpProfile::Aes128CmHmacSha1_80, &[7; 14]),
        ] {
            let Some(master) = MasterKey::new(profile, &[7; 16], salt) else { continue };
            let mut opener = Opener::new(&master);
            let _ = opener.open(&mut bytes.to_vec());
            let _ = opener.open_rtcp(&mut bytes.to_vec());
        }
    }
}
