//! Who may come, who owns what, and what stays of whoever has gone.

use super::*;
use crate::engine::command::{Agreement, LayerChoice};
use crate::media::codec::Codec;
use crate::peer::agreement::{DtlsRole, PublisherAgreement, TransportAgreement, ViewerAgreement};

impl DirectoryLimits {
    /// Room enough, for what is tested elsewhere.
    pub(crate) const fn roomy() -> Self {
        Self {
            sessions: 10,
            streams: 10,
            viewers_per_stream: 10,
            pending: 10,
            claim_timeout: Duration::from_secs(10),
        }
    }
}

fn directory() -> Arc<Directory> {
    Arc::new(Directory::new(DirectoryLimits {
        sessions: 4,
        streams: 1,
        viewers_per_stream: 2,
        pending: 9,
        claim_timeout: Duration::from_secs(10),
    }))
}

fn add(
    directory: &Directory,
    number: u8,
    role: Role,
    stream: &str,
    token: u64,
) -> Result<SessionId, DirectoryError> {
    let session = SessionId::from_random([number; 16]);
    let stream = StreamName::parse(stream).expect("a name");
    let local = Credentials { ufrag: format!("u{number}"), pwd: "p".repeat(22) };
    let transport = TransportAgreement {
        local: local.clone(),
        remote: local.clone(),
        fingerprints: Vec::new(),
        role: DtlsRole::Server,
    };
    let agreement = match role {
        Role::Publisher => {
            Agreement::Publisher(PublisherAgreement { transport, media: Vec::new() })
        }
        Role::Viewer => Agreement::Viewer(ViewerAgreement { transport, media: Vec::new() }),
    };
    let prepared = Prepared {
        session,
        stream: stream.clone(),
        agreement,
        random: [0; 16],
        created: Instant::now(),
        choice: LayerChoice::default(),
    };
    let entry = SessionEntry {
        role,
        stream,
        etag: String::new(),
        ufrag: local.ufrag,
        former_ufrag: None,
        remote_ufrag: String::new(),
        sections: Vec::new(),
        choice: LayerChoice::default(),
        shard: None,
    };
    directory.add(prepared, entry, token).map(|()| session)
}

/// The publisher whose session was made `ms` after that moment.
fn term(start: Instant, ms: u64) -> Term {
    let session = SessionId::from_random([0; 16]);
    Term { since: start + Duration::from_millis(ms), session }
}

fn go_live(directory: &Directory, stream: &str, term: Term) -> bool {
    let name = StreamName::parse(stream).expect("a name");
    let format = Format { codec: Codec::Opus, parameters: String::new() };
    directory.live(&name, term, [Some(format), None])
}

/// The publishers are two shards', whose threads tell of them in any order.
#[test]
fn a_stream_is_not_vacant_when_the_publisher_before_is_said_to_have_left_late() {
    let (directory, now) = (directory(), Instant::now());
    let name = StreamName::parse("a").expect("a name");
    let grace = Duration::from_secs(30);
    let (first, second) = (term(now, 1), term(now, 2));
    add(&directory, 1, Role::Publisher, "a", 7).expect("nobody else");
    assert!(!directory.vacant(&name, first, now + grace), "nothing has flowed yet");
    assert!(go_live(&directory, "a", first));
    add(&directory, 2, Role::Publisher, "a", 7).expect("the same token");
    assert!(go_live(&directory, "a", second));
    assert!(!directory.vacant(&name, first, now + grace));
    assert!(!go_live(&directory, "a", first), "nor does what it sent count any more");
    assert!(directory.is_published(&name));
    // Whoever comes after the last, whenever its session was made, is heard of.
    assert!(directory.vacant(&name, second, now + grace));
    assert!(!directory.is_published(&name), "a session that is prepared publishes nothing");
    assert!(directory.formats(&name, now).is_ok() && directory.live_streams().is_empty());
    assert!(go_live(&directory, "a", first));
    assert!(directory.is_published(&name));
}

#[test]
fn a_stream_belongs_to_its_token_until_its_last_publisher_is_gone() {
    let directory = directory();
    let first = add(&directory, 1, Role::Publisher, "a", 7).expect("nobody else");
    assert_eq!(add(&directory, 2, Role::Publisher, "a", 8), Err(DirectoryError::Taken));
    let second = add(&directory, 3, Role::Publisher, "a", 7).expect("the same token");
    directory.remove(first);
    assert_eq!(add(&directory, 4, Role::Publisher, "a", 8), Err(DirectoryError::Taken));
    directory.remove(second);
    assert!(add(&directory, 5, Role::Publisher, "a", 8).is_ok());
}

#[test]
fn viewers_come_to_live_streams_only_and_no_more_than_allowed() {
    let directory = directory();
    let name = StreamName::parse("a").expect("a name");
    assert_eq!(add(&directory, 1, Role::Viewer, "a", 0), Err(DirectoryError::NotLive));
    let publisher = add(&directory, 2, Role::Publisher, "a", 7).expect("nobody else");
    let now = Instant::now();
    let formats = |at| directory.formats(&name, at).map(|formats| formats.len());
    assert_eq!(formats(now), Err(DirectoryError::NotLive));
    let first = term(now, 0);
    go_live(&directory, "a", first);
    assert_eq!(formats(now), Ok(1));
    assert_eq!(directory.live_streams(), std::slice::from_ref(&name));
    let viewer = add(&directory, 3, Role::Viewer, "a", 0).expect("live");
    add(&directory, 4, Role::Viewer, "a", 0).expect("a second");
    let full = Err(DirectoryError::Full("limits.viewers_per_stream_max"));
    assert_eq!(add(&directory, 5, Role::Viewer, "a", 0), full);
    directory.remove(viewer);
    add(&directory, 6, Role::Viewer, "a", 0).expect("a place is free again");
    directory.remove(publisher);
    let grace = Duration::from_secs(30);
    directory.vacant(&name, first, now + grace);
    assert_eq!(formats(now), Ok(1), "its publisher may come back");
    assert!(directory.live_streams().is_empty());
    assert_eq!(formats(now + grace), Err(DirectoryError::NotLive));
    add(&directory, 7, Role::Publisher, "a", 7).expect("the same token");
    go_live(&directory, "a", term(now, 1));
    assert_eq!(formats(now + grace), Ok(1));
}

#[test]
fn limits_hold_and_a_refusal_takes_no_place() {
    let directory = directory();
    add(&directory, 1, Role::Publisher, "a", 7).expect("the first");
    let full = Err(DirectoryError::Full("limits.streams_max"));
    for number in 10..20 {
        assert_eq!(add(&directory, number, Role::Publisher, "b", 7), full);
    }
    for number in 2..5 {
        add(&directory, number, Role::Publisher, "a", 7).expect("within the limit");
    }
    let full = Err(DirectoryError::Full("limits.sessions_max"));
    assert_eq!(add(&directory, 6, Role::Publisher, "a", 7), full);
    assert_eq!(directory.counts(), (4, 4));
}

#[test]
fn a_session_is_claimed_once_by_its_client_and_then_is_no_longer_overdue() {
    let directory = directory();
    let session = add(&directory, 1, Role::Publisher, "a", 7).expect("the first");
    let later = Instant::now() + Duration::from_secs(11);
    assert_eq!(directory.overdue(later), [session]);
    assert_eq!(directory.owner_of("u1", |_| false), None, "a forged check");
    assert_eq!(directory.owner_of("u1", |_| true), Some(Owner::Nobody));
    assert_eq!(directory.owner_of("u2", |_| true), None, "no such session");
    let mut claims = ShardClaims { shard: 3, directory: Arc::clone(&directory) };
    assert!(claims.claim("u1", &mut |_| false).is_none(), "a forged check");
    assert!(claims.claim("u1", &mut |_| true).is_some());
    assert!(claims.claim("u1", &mut |_| true).is_none(), "only once");
    assert_eq!(claims.owner("u1", &mut |_| false), None, "a forged check");
    assert_eq!(claims.owner("u1", &mut |_| true), Some((3, session)));
    assert_eq!(directory.shard_of(session), Some(3));
    assert_eq!(directory.owner_of("u1", |_| false), None, "a forged check");
    assert_eq!(directory.owner_of("u1", |_| true), Some(Owner::Shard(3)));
    assert!(directory.overdue(later).is_empty());
    let renewed = |ufrag: &str| Credentials { ufrag: ufrag.into(), pwd: "q".repeat(22) };
    for ufrag in ["u2", "u3"] {
        directory.restarted(session, "etag", &renewed(ufrag), "remote");
    }
    let owned = ["u1", "u2", "u3"].map(|ufrag| claims.owner(ufrag, &mut |_| true).is_some());
    assert_eq!(owned, [false, true, true], "the name before the last restart is good");
    assert!(directory.remove(session).is_some());
    assert!(directory.claimed.is_empty());
    assert!(directory.remove(session).is_none());
    assert_eq!(directory.counts(), (0, 0));
}

#[test]
fn an_obstacle_stays_while_somebody_only_asks_to_publish_over_webrtc() {
    let (directory, now) = (directory(), Instant::now());
    let name = StreamName::parse("a").expect("a name");
    let writer = SessionId::from_random([9; 16]);
    directory.begin(writer, &name, 7, 0).expect("nobody else");
    go_live(&directory, "a", term(now, 1));
    assert!(directory.set_obstacle(&name, writer, Some("B-frames")));
    assert!(!directory.set_obstacle(&name, writer, Some("B-frames")), "it is known");
    let asks = add(&directory, 1, Role::Publisher, "a", 7).expect("it has the token");
    let formats = || directory.formats(&name, now);
    assert_eq!(formats(), Err(DirectoryError::NotPlayable("B-frames")));
    directory.remove(writer);
    assert!(formats().is_ok(), "once it is the other's the obstacle is gone");
    directory.remove(asks);
}

#[test]
fn what_is_made_of_a_stream_can_be_watched_as_long_as_it_is_made_of_this_publisher() {
    let directory = directory();
    let name = StreamName::parse("a").expect("a name");
    let now = Instant::now();
    let (first, second) = (term(now, 1), term(now, 2));
    add(&directory, 1, Role::Publisher, "a", 7).expect("nobody else");
    go_live(&directory, "a", first);
    let codecs = || {
        let formats = directory.formats(&name, now).expect("it is live");
        formats.into_iter().map(|format| format.codec).collect::<Vec<_>>()
    };
    let own = codecs();
    let other = if own.contains(&Codec::H264) { Codec::Vp8 } else { Codec::H264 };
    directory.set_made(&name, first, own.first().copied());
    assert_eq!(codecs(), own, "each once");
    directory.set_made(&name, first, Some(other));
    assert_eq!(codecs(), [own.clone(), vec![other]].concat());
    directory.set_made(&name, second, None);
    assert_eq!(codecs().len(), own.len() + 1, "another publisher's");
    go_live(&directory, "a", second);
    assert_eq!(codecs(), own);
}
