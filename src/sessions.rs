//! From an offer to a session that waits for its client: the policy of WHIP and WHEP.
//!
//! HTTP is in `signaling`, what is answered in `peer::offer`, who owns a session in `bus`.

use crate::bus::Bus;
use crate::bus::directory::{DirectoryError, SessionEntry};
use crate::clock::Clock;
use crate::engine::command::{Agreement, EndReason, LayerChoice, Prepared, Role};
use crate::media::arena::TransportAddress;
use crate::media::codec::{Codec, Kind};
use crate::media::id::{NameError, SessionId, StreamName};
use crate::peer::agreement::{Credentials, Fingerprint};
use crate::peer::offer::{
    AnswerError, LocalDescription, answer_publisher, answer_viewer, ice_fragment,
};
use std::sync::Arc;

/// Makes sessions out of offers.
pub struct Sessions {
    /// The way to the shards.
    pub bus: Arc<Bus>,
    /// Tells when a session was made.
    pub clock: Clock,
    /// The hash of our certificate.
    pub fingerprint: Fingerprint,
    /// The announced addresses: UDP before TCP, and of each the public one first.
    pub candidates: Vec<TransportAddress>,
    /// In which order video codecs are answered to publishers.
    pub codec_preference: Vec<Codec>,
}

/// A session that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its id.
    pub session: SessionId,
    /// The answer.
    pub answer: String,
    /// Its ICE session.
    pub etag: String,
}

/// Why an offer got no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The stream's name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The offer cannot be answered.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The stream is taken, not live or full.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// What became of new credentials or candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trickled {
    /// Nothing to do: an ICE-lite server learns addresses from checks (RFC 8445 §2.5).
    Accepted,
    /// ICE starts anew with this fragment and entity tag.
    Restarted(String, String),
}

/// Why a session's ICE stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrickleError {
    /// There is no such session.
    #[error("there is no such session")]
    Unknown,
    /// The entity tag is another's.
    #[error("the entity tag is of another ICE session")]
    OtherIceSession,
    /// It is not connected yet, or its shard is too busy.
    #[error("the session cannot restart ICE now")]
    NoRestart,
}

/// Random values of one session.
struct Fresh {
    session: SessionId,
    credentials: Credentials,
    etag: String,
    session_id: u64,
    ssrcs: [u32; 4],
    random: [u8; 16],
}

impl Fresh {
    fn make() -> Result<Self, OfferError> {
        let mut bytes = [0; 112];
        getrandom::fill(&mut bytes).map_err(OfferError::Random)?;
        let (ids, rest) = bytes.split_at(48);
        let mut session = [0; 16];
        session.copy_from_slice(&ids[..16]);
        let mut random = [0; 16];
        random.copy_from_slice(&ids[16..32]);
        let word =
            |at: usize| u32::from_be_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        // SSRC 0 is what some stacks mean by "none"; neighbours never collide.
        let base = word(0) & 0xffff_fffc;
        let ssrcs = [base | 1, base | 2, base | 3, base.wrapping_add(4) | 1];
        Ok(Self {
            session: SessionId::from_random(session),
            credentials: credentials_from(&rest[4..44]),
            etag: text_from(&ids[32..48]),
            session_id: u64::from(word(44)) << 32 | u64::from(word(48)),
            ssrcs,
            random,
        })
    }
}

/// 48 bits of user name fragment, 192 of password: RFC 8445 §5.3 asks for 24 and 128.
fn credentials_from(random: &[u8]) -> Credentials {
    let (ufrag, pwd) = random.split_at(8);
    Credentials { ufrag: text_from(ufrag), pwd: text_from(pwd) }
}

/// One `ice-char` of six random bits per byte (RFC 8839 §5.4); legal in an entity tag too.
fn text_from(random: &[u8]) -> String {
    const CHARACTERS: &[u8; 64] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    random.iter().map(|byte| char::from(CHARACTERS[usize::from(byte & 0x3f)])).collect()
}

impl Sessions {
    /// Answers a publisher's offer.
    ///
    /// # Errors
    ///
    /// [`OfferError`]: nothing was made.
    pub fn publish(&self, stream: &str, offer: &str, token: u64) -> Result<Made, OfferError> {
        let stream = StreamName::parse(stream)?;
        self.bus.directory().may_publish(&stream, token)?;
        let fresh = Fresh::make()?;
        let cname = fresh.session.to_string();
        let local = self.local(&fresh, &cname, &stream);
        let (agreement, answer) = answer_publisher(offer, &self.codec_preference, &local)?;
        let sections = agreement.media.iter().map(|m| (m.kind, m.mid.clone())).collect();
        let agreement = Agreement::Publisher(agreement);
        self.add(fresh, stream, agreement, sections, token, answer)
    }

    /// Answers a viewer's offer.
    ///
    /// # Errors
    ///
    /// [`OfferError`]: nothing was made.
    pub fn view(&self, stream: &str, offer: &str) -> Result<Made, OfferError> {
        let stream = StreamName::parse(stream)?;
        let live = self.bus.directory().formats(&stream, self.clock.now());
        let fresh = Fresh::make()?;
        let cname = fresh.session.to_string();
        let local = self.local(&fresh, &cname, &stream);
        // A broken offer is told so whether the stream is live or not: its client can mend it.
        let formats = live.as_deref().unwrap_or_default();
        let (agreement, answer) = answer_viewer(offer, formats, &local)?;
        live?;
        let sections = agreement.media.iter().map(|m| (m.kind, m.mid.clone())).collect();
        self.add(fresh, stream, Agreement::Viewer(agreement), sections, 0, answer)
    }

    fn local<'a>(
        &'a self,
        fresh: &Fresh,
        cname: &'a str,
        stream: &'a StreamName,
    ) -> LocalDescription<'a> {
        LocalDescription {
            credentials: fresh.credentials.clone(),
            fingerprint: &self.fingerprint,
            candidates: &self.candidates,
            session_id: fresh.session_id,
            ssrcs: fresh.ssrcs,
            cname,
            stream_id: stream.as_str(),
        }
    }

    fn add(
        &self,
        fresh: Fresh,
        stream: StreamName,
        agreement: Agreement,
        sections: Vec<(Kind, String)>,
        token: u64,
        answer: String,
    ) -> Result<Made, OfferError> {
        let role = match agreement {
            Agreement::Publisher(_) => Role::Publisher,
            Agreement::Viewer(_) => Role::Viewer,
        };
        let entry = SessionEntry {
            role,
            stream: stream.clone(),
            etag: fresh.etag.clone(),
            ufrag: fresh.credentials.ufrag.clone(),
            former_ufrag: None,
            remote_ufrag: agreement.transport().remote.ufrag.clone(),
            sections,
            choice: LayerChoice::default(),
            shard: None,
        };
        let session = fresh.session;
        let (random, created) = (fresh.random, self.clock.now());
        let choice = LayerChoice::default();
        let prepared = Prepared { session, stream, agreement, random, created, choice };
        self.bus.directory().add(prepared, entry, token)?;
        Ok(Made { session, answer, etag: fresh.etag })
    }

    /// Takes the client's candidates, or its new user name fragment: that restarts ICE.
    ///
    /// # Errors
    ///
    /// [`TrickleError`]: the session goes on as it was.
    pub fn trickle(
        &self,
        role: Role,
        session: &str,
        remote_ufrag: Option<&str>,
        etag: Option<&str>,
    ) -> Result<Trickled, TrickleError> {
        let (session, entry) = self.find(role, session).ok_or(TrickleError::Unknown)?;
        if etag.is_some_and(|etag| etag != entry.etag) {
            return Err(TrickleError::OtherIceSession);
        }
        let Some(remote) = remote_ufrag.filter(|&new| new != entry.remote_ufrag) else {
            return Ok(Trickled::Accepted);
        };
        let fresh = Fresh::make().map_err(|_| TrickleError::NoRestart)?;
        let local = fresh.credentials;
        if !self.bus.restart(session, local.clone()) {
            return Err(TrickleError::NoRestart);
        }
        self.bus.directory().restarted(session, &fresh.etag, &local, remote);
        let sections: Vec<(Kind, &str)> =
            entry.sections.iter().map(|(kind, mid)| (*kind, mid.as_str())).collect();
        let fragment = ice_fragment(&local, &self.candidates, &sections);
        Ok(Trickled::Restarted(fragment, fresh.etag))
    }

    /// Ends a session on its client's wish. Tells which it was, and whether it had not been claimed
    /// yet; `None` where there is none of that role.
    pub fn end(&self, role: Role, session: &str) -> Option<(SessionId, bool)> {
        let (session, _) = self.find(role, session)?;
        let entry = self.bus.end(session, EndReason::Deleted)?;
        Some((session, entry.shard.is_none()))
    }

    /// Ends the sessions whose clients never came; tells which, and their roles.
    pub fn end_overdue(&self) -> Vec<(SessionId, Role)> {
        let overdue = self.bus.directory().overdue(self.clock.now()).into_iter();
        let ended = overdue.filter_map(|session| {
            let entry = self.bus.end(session, EndReason::NeverConnected)?;
            // Of one that was claimed in the last moment its shard tells.
            entry.shard.is_none().then_some((session, entry.role))
        });
        ended.collect()
    }

    /// The session of that role with this id in its URL.
    pub fn find(&self, role: Role, session: &str) -> Option<(SessionId, SessionEntry)> {
        let session = SessionId::parse(session)?;
        let entry = self.bus.directory().session(session)?;
        (entry.role == role).then_some((session, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_sessions_share_a_secret_and_ssrcs_differ() {
        let one = Fresh::make().expect("random numbers");
        let two = Fresh::make().expect("random numbers");
        assert_ne!(one.session, two.session);
        assert_ne!(one.credentials, two.credentials);
        assert_ne!(one.etag, two.etag);
        assert!(one.credentials.ufrag.len() >= 4 && one.credentials.pwd.len() >= 22);
        let mut ssrcs = one.ssrcs.to_vec();
        ssrcs.sort_unstable();
        ssrcs.dedup();
        assert_eq!(ssrcs.len(), 4);
    }
}
