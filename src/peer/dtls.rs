//! One DTLS association: `rtc-dtls` behind a small type of ours (RFC 6347, RFC 5764).
//!
//! Adds what the library lacks: the choice of the SRTP profile, flights sent again (`flight`), a
//! bound on what unauthenticated records make it remember, and the check of the certificate
//! against the offer before any key leaves this file. After the handshake the library's
//! association is dropped; its keys, in a few hundred bytes, still read a `close_notify`.
//! Not here: the handshake's deadline, which is `transport`'s.

use super::agreement::{DtlsRole, Fingerprint};
use super::assembly::Assembly;
use super::client_hello::best_profile;
use super::flight::{CLIENT_HELLO, Flight};
use super::identity::{Identity, is_announced};
use super::record::{
    ALERT, CHANGE_CIPHER_SPEC, Fragment, HANDSHAKE, RECORD_NUMBER, Record, fragments, records,
};
use super::srtp::{MasterKey, SrtpProfile};
use bytes::BytesMut;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_dtls::state::State;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The library finds an association by the peer's address; a session has one association, under
/// this name, so that it survives the client's changes of address.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const OURSELVES: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2);

/// What became of the association by one datagram.
pub(super) enum Progress {
    /// Nothing that others need to know.
    None,
    /// The client is who its offer says: our key and the client's.
    Connected(Box<(MasterKey, MasterKey)>),
    /// The client closed it.
    Closed,
    /// The client has another certificate than its offer says.
    FingerprintMismatch,
    /// The handshake cannot succeed any more, and why.
    Failed(String),
}

/// One association.
pub(super) struct Dtls {
    identity: Arc<Identity>,
    fingerprints: Vec<Fingerprint>,
    role: DtlsRole,
    phase: Phase,
    flight: Flight,
}

enum Phase {
    /// As server: the client's hello is not complete.
    Hello(Assembly),
    /// As client: our hello has not been sent.
    Silent,
    Handshake(Box<Handshake>),
    Connected(Box<Connected>),
    Ended,
}

struct Handshake {
    endpoint: Endpoint,
    assembly: Assembly,
    admitted: Admitted,
    /// The description of an unencrypted alert. Anybody can forge one, so it ends nothing, but
    /// it tells why when the handshake comes to nothing.
    complaint: Option<u8>,
    /// How often the library has made a flight anew.
    renewals: u32,
}

/// Records that were given to the library, which keeps most of them until the handshake is over.
#[derive(Default)]
struct Admitted {
    /// How many, which is the number of the next unencrypted one too.
    records: u64,
    bytes: usize,
}

impl Admitted {
    /// A whole handshake has a dozen records; ten repetitions of its longest flight fit.
    const RECORDS_MAX: u64 = 256;
    /// Likewise with certificate chains of several KiB.
    const BYTES_MAX: usize = 64 * 1024;

    fn admit(&mut self, bytes: usize) -> bool {
        self.records += 1;
        self.bytes += bytes;
        self.records <= Self::RECORDS_MAX && self.bytes <= Self::BYTES_MAX
    }
}

struct Connected {
    /// The library's state, serialised: keys and numbers, without certificates.
    session: Vec<u8>,
    /// When the last alert was decrypted.
    alert_read: Option<Instant>,
}

impl Connected {
    /// Decrypting an alert costs 20 µs or so, and anybody can forge an undecryptable one.
    const ALERT_GAP: Duration = Duration::from_millis(10);

    /// The library's association again, with its keys. `connect` with a state is how the library
    /// resumes; the role it then acts in is the one the state names.
    fn resume(&self, identity: &Identity, role: DtlsRole, now: Instant) -> Result<Endpoint, Error> {
        let mut state = State::new(identity.provider(), role == DtlsRole::Client);
        state.unmarshal_binary(&self.session)?;
        let mut endpoint = Endpoint::new(OURSELVES, TransportProtocol::UDP, None);
        endpoint.connect(now, PEER, identity.client(), Some(state))?;
        Ok(endpoint)
    }
}

impl Dtls {
    /// An association that has not begun. `fingerprints` are those of the offer.
    pub(super) fn new(
        identity: Arc<Identity>,
        role: DtlsRole,
        fingerprints: Vec<Fingerprint>,
    ) -> Self {
        let phase = match role {
            DtlsRole::Server => Phase::Hello(Assembly::default()),
            DtlsRole::Client => Phase::Silent,
        };
        Self { identity, fingerprints, role, phase, flight: Flight::default() }
    }

    /// The client can be reached: as DTLS client, say hello.
    pub(super) fn start(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) -> Progress {
        if !matches!(self.phase, Phase::Silent) {
            return Progress::None;
        }
        let mut endpoint = Endpoint::new(OURSELVES, TransportProtocol::UDP, None);
        if let Err(error) = endpoint.connect(now, PEER, self.identity.client(), None) {
            return self.fail(&error);
        }
        self.begin(endpoint);
        self.send_new(now, send);
        Progress::None
    }

    /// Takes a datagram of DTLS records; `send` is given what goes back.
    pub(super) fn handle(
        &mut self,
        datagram: &[u8],
        now: Instant,
        send: &mut dyn FnMut(&[u8]),
    ) -> Progress {
        match &mut self.phase {
            Phase::Hello(assembly) => {
                let mut parts = records(datagram).filter_map(unencrypted_parts).flatten();
                let hello = parts.find_map(|part| {
                    assembly.take(&part).filter(|message| message.kind == CLIENT_HELLO)
                });
                let Some(hello) = hello else { return Progress::None };
                let config = self.identity.server(best_profile(&hello.body));
                self.begin(Endpoint::new(OURSELVES, TransportProtocol::UDP, Some(config)));
                self.advance(&hello.as_record(0), now, send)
            }
            Phase::Handshake(_) => self.advance(datagram, now, send),
            Phase::Connected(_) => self.attend(datagram, now, send),
            Phase::Silent | Phase::Ended => Progress::None,
        }
    }

    /// Sends the last flight again if it is time to.
    pub(super) fn handle_timeout(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        if matches!(self.phase, Phase::Handshake(_)) && self.flight.is_overdue(now) {
            self.resend(now, send);
        }
    }

    /// When [`Dtls::handle_timeout`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        matches!(self.phase, Phase::Handshake(_)).then(|| self.flight.deadline()).flatten()
    }

    /// What the client said of an unfinished handshake: the description of an unencrypted alert.
    pub(super) fn complaint(&self) -> Option<u8> {
        match &self.phase {
            Phase::Handshake(handshake) => handshake.complaint,
            _ => None,
        }
    }

    /// Ends the association and tells the client so by `close_notify`.
    pub(super) fn close(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        let endpoint = match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Handshake(handshake) => Some(handshake.endpoint),
            Phase::Connected(connected) => connected.resume(&self.identity, self.role, now).ok(),
            _ => None,
        };
        if let Some(mut endpoint) = endpoint {
            while endpoint.poll_transmit().is_some() {}
            endpoint.stop(now, PEER);
            self.flight.send_new(drain(&mut endpoint), now, send);
        }
    }

    fn begin(&mut self, endpoint: Endpoint) {
        self.phase = Phase::Handshake(Box::new(Handshake {
            endpoint,
            assembly: Assembly::default(),
            admitted: Admitted::default(),
            complaint: None,
            renewals: 0,
        }));
    }

    /// Gives the library what is new in a datagram, and answers what is not.
    fn advance(&mut self, datagram: &[u8], now: Instant, send: &mut dyn FnMut(&[u8])) -> Progress {
        let Phase::Handshake(handshake) = &mut self.phase else { return Progress::None };
        let mut fresh = BytesMut::new();
        let mut repeated = false;
        for record in records(datagram) {
            repeated |= handshake.sort(record, &mut self.flight, &mut fresh);
        }
        if repeated && self.flight.is_missed(now) {
            self.resend(now, send);
        }
        let Phase::Handshake(handshake) = &mut self.phase else { return Progress::None };
        if fresh.is_empty() {
            return Progress::None;
        }
        match handshake.endpoint.read(now, PEER, None, fresh) {
            Ok(events) if events.iter().any(|e| matches!(e, EndpointEvent::HandshakeComplete)) => {
                self.complete(now, send)
            }
            Ok(events) => {
                self.send_new(now, send);
                if events.iter().any(|event| matches!(event, EndpointEvent::PeerClosed)) {
                    self.phase = Phase::Ended;
                    return Progress::Closed;
                }
                Progress::None
            }
            Err(error) => {
                self.send_new(now, send); // the alert that says why
                self.fail(&error)
            }
        }
    }

    /// The handshake is complete: who is it, and which keys are ours?
    fn complete(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) -> Progress {
        let Phase::Handshake(handshake) = &mut self.phase else { return Progress::None };
        let Some(state) = handshake.endpoint.get_connection_state(PEER) else {
            return self.fail(&Error::ErrConnClosed);
        };
        let certificate = state.peer_certificates.first();
        if !certificate.is_some_and(|first| is_announced(first, &self.fingerprints)) {
            self.refuse(now, send);
            return Progress::FingerprintMismatch;
        }
        let keys = export_keys(state, self.role);
        let session = without_certificates(state, &self.identity, self.role);
        let (keys, session) = match (keys, session) {
            (Ok(keys), Ok(session)) => (keys, session),
            (Err(error), _) | (_, Err(error)) => {
                self.close(now, send);
                return self.fail(&error);
            }
        };
        // Our Finished goes out before the first SRTP packet can.
        self.send_new(now, send);
        self.flight.finish(self.role == DtlsRole::Server);
        self.phase = Phase::Connected(Box::new(Connected { session, alert_read: None }));
        Progress::Connected(Box::new(keys))
    }

    /// Turns an impostor away. As server our Finished is withheld and the client is told in the
    /// clear, where it still reads; as client we have finished, so it is told by `close_notify`.
    fn refuse(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        if self.role == DtlsRole::Client {
            return self.close(now, send);
        }
        // An unencrypted fatal alert, bad_certificate (RFC 5246 §7.2.2).
        let alert = vec![ALERT, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 42];
        self.flight.send_new(vec![alert], now, send);
        self.phase = Phase::Ended;
    }

    /// After the handshake: answer a client that did not get our last flight, notice its end.
    fn attend(&mut self, datagram: &[u8], now: Instant, send: &mut dyn FnMut(&[u8])) -> Progress {
        let Phase::Connected(connected) = &mut self.phase else { return Progress::None };
        let repeated = records(datagram).any(|record| record.content == HANDSHAKE);
        if repeated && self.flight.is_missed(now) {
            // As it was: a client that repeats its own has not had this one.
            self.flight.resend(None, now, send);
        }
        let Some(alert) = records(datagram).find(|r| r.content == ALERT && r.epoch == 1) else {
            return Progress::None;
        };
        let too_soon = connected.alert_read.is_some_and(|read| now < read + Connected::ALERT_GAP);
        if too_soon {
            return Progress::None;
        }
        connected.alert_read = Some(now);
        let Ok(mut endpoint) = connected.resume(&self.identity, self.role, now) else {
            return Progress::None;
        };
        let ended = match endpoint.read(now, PEER, None, BytesMut::from(alert.whole)) {
            Ok(events) => events.iter().any(|event| matches!(event, EndpointEvent::PeerClosed)),
            // Fatal alerts end the association too (RFC 5246 §7.2.2); mere warnings do not.
            Err(error) => error == Error::ErrAlertFatalOrClose,
        };
        if !ended {
            return Progress::None;
        }
        // The library has queued its own close_notify.
        for datagram in drain(&mut endpoint) {
            send(&datagram);
        }
        self.phase = Phase::Ended;
        Progress::Closed
    }

    fn send_new(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        if let Phase::Handshake(handshake) = &mut self.phase {
            let datagrams = drain(&mut handshake.endpoint);
            if !datagrams.is_empty() {
                self.flight.send_new(datagrams, now, send);
            }
        }
    }

    /// Sends the last flight again, with new encrypted records where there are any.
    fn resend(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        let renewed = match &mut self.phase {
            Phase::Handshake(handshake) if self.flight.is_encrypted() => handshake.renew_flight(),
            _ => None,
        };
        self.flight.resend(renewed, now, send);
    }

    fn fail(&mut self, error: &Error) -> Progress {
        self.phase = Phase::Ended;
        Progress::Failed(error.to_string())
    }
}

impl Handshake {
    /// One more and the library gives the handshake up.
    const RENEWALS_MAX: u32 = 7;

    /// Adds to `fresh` what the library needs of a record; true if the record repeats what was
    /// answered before. What no honest peer sends at this point never reaches the library, which
    /// would answer it with a fatal alert or keep it.
    fn sort(&mut self, record: Record<'_>, flight: &mut Flight, fresh: &mut BytesMut) -> bool {
        let mut repeated = false;
        match (record.epoch, record.content, record.body) {
            (0, HANDSHAKE, _) => {
                for part in unencrypted_parts(record).unwrap_or_default() {
                    if flight.answers(&part) {
                        repeated = true;
                    } else if let Some(message) = self.assembly.take(&part) {
                        flight.hear(&message);
                        self.admit(&message.as_record(self.admitted.records), fresh);
                    }
                }
            }
            (0, CHANGE_CIPHER_SPEC, [1]) => {
                let number = self.admitted.records.to_be_bytes();
                let mut numbered = record.whole.to_vec();
                numbered[RECORD_NUMBER].copy_from_slice(&number[2..]);
                self.admit(&numbered, fresh);
            }
            (0, ALERT, [_, description]) => self.complaint = Some(*description),
            (1, HANDSHAKE | ALERT, _) => self.admit(record.whole, fresh),
            _ => {}
        }
        repeated
    }

    /// Makes the library send its flight once more, by telling it that its timer has run out.
    /// That timer still runs, because the library never sees a repeated record.
    fn renew_flight(&mut self) -> Option<Vec<Vec<u8>>> {
        if self.renewals >= Self::RENEWALS_MAX {
            return None;
        }
        self.renewals += 1;
        let due = self.endpoint.poll_timeout(&PEER)?;
        self.endpoint.handle_timeout(PEER, due).ok()?;
        Some(drain(&mut self.endpoint)).filter(|flight| !flight.is_empty())
    }

    fn admit(&mut self, record: &[u8], fresh: &mut BytesMut) {
        if self.admitted.admit(record.len()) {
            fresh.extend_from_slice(record);
        }
    }
}

/// The handshake fragments of an unencrypted record.
fn unencrypted_parts(record: Record<'_>) -> Option<Vec<Fragment<'_>>> {
    let unencrypted = record.content == HANDSHAKE && record.epoch == 0;
    fragments(record.body).filter(|_| unencrypted)
}

/// The SRTP keys of a finished handshake (RFC 5764 §4.2).
fn export_keys(state: &State, role: DtlsRole) -> Result<(MasterKey, MasterKey), Error> {
    let profile = match state.srtp_protection_profile() {
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => SrtpProfile::AeadAes128Gcm,
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => SrtpProfile::Aes128CmHmacSha1_80,
        _ => return Err(Error::ErrServerNoMatchingSrtpProfile),
    };
    let len = profile.material_len();
    let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], len)?;
    MasterKey::split(profile, role, material.as_ref())
        .ok_or_else(|| Error::Other("the exported keying material is cut short".to_owned()))
}

/// The library's state as bytes. The certificates have done their work.
fn without_certificates(
    state: &State,
    identity: &Identity,
    role: DtlsRole,
) -> Result<Vec<u8>, Error> {
    let mut slim = State::new(identity.provider(), role == DtlsRole::Client);
    slim.unmarshal_binary(&state.marshal_binary()?)?;
    slim.peer_certificates = Vec::new();
    slim.marshal_binary()
}

fn drain(endpoint: &mut Endpoint) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| endpoint.poll_transmit()).map(|out| out.message.to_vec()).collect()
}
