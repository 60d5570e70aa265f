//! What shards tell, kept for the directory and the metrics.
//!
//! It is written in the shards' threads, when a session comes or goes, and never waits for long.

use super::audience::Audience;
use super::layers;
use crate::bus::directory::Directory;
use crate::engine::command::{EndReason, Event, Role};
use crate::ladder::Ladders;
use crate::media::id::SessionId;
use crate::media::protocol::Protocol;
use crate::peer::srtp::SrtpProfile;
use crate::shard::ShardEvent;
use dashmap::DashMap;
use signaling::media_server::ViewerEvent;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::watch;

/// How a session came: by which protocol, and how its media is protected by WebRTC.
pub(super) type Came = (Role, Protocol, Option<SrtpProfile>);

/// Counts what comes and goes, and keeps the directory true.
pub(super) struct Ledger {
    directory: Arc<Directory>,
    audience: Arc<Audience>,
    /// Who makes layers; set before anybody can publish.
    ladders: OnceLock<Ladders>,
    connected: DashMap<Came, u64>,
    ended: DashMap<(Role, &'static str), u64>,
    refused: DashMap<&'static str, u64>,
    failed: watch::Sender<bool>,
    /// Of two shards that tell of the same stream at the same time, viewers hear of what the
    /// directory was told last.
    order: Mutex<()>,
}

impl Ledger {
    pub(super) fn new(directory: Arc<Directory>, audience: Arc<Audience>) -> Self {
        Self {
            directory,
            audience,
            ladders: OnceLock::new(),
            connected: DashMap::new(),
            ended: DashMap::new(),
            refused: DashMap::new(),
            failed: watch::Sender::new(false),
            order: Mutex::default(),
        }
    }

    /// Who makes layers of streams that are live.
    pub(super) fn attach(&self, ladders: Ladders) -> Ladders {
        self.ladders.get_or_init(|| ladders).clone()
    }

    /// Takes in what a shard tells.
    pub(super) fn take(&self, event: ShardEvent) {
        match event {
            ShardEvent::Engine(Event::Connected { session, role, protocol, profile, .. }) => {
                self.audience.connected(session);
                *self.connected.entry((role, protocol, profile)).or_insert(0) += 1;
            }
            ShardEvent::Engine(Event::Live { stream, term, formats }) => {
                let _in_order = self.in_order();
                if self.directory.live(&stream, term, formats) {
                    self.audience.tell_stream(&stream, ViewerEvent::Active);
                }
                if let Some(ladders) = self.ladders.get() {
                    ladders.live(&stream);
                }
            }
            ShardEvent::Engine(Event::Vacant { stream, term, until }) => {
                let _in_order = self.in_order();
                if self.directory.vacant(&stream, term, until) {
                    self.audience.tell_stream(&stream, ViewerEvent::Inactive);
                }
            }
            ShardEvent::Engine(Event::Clock { session, clocks }) => {
                self.audience.tell_clocks(session, clocks);
            }
            ShardEvent::Engine(Event::Layers { session, selection }) => {
                if let Some(entry) = self.directory.session(session) {
                    self.audience.tell_layers(session, layers::news(&entry, &selection));
                }
            }
            ShardEvent::Engine(Event::Ended { session, role, reason, .. }) => {
                self.directory.remove(session);
                let last = reason == EndReason::CodecNotAgreed;
                self.audience.remove(session, last.then_some(ViewerEvent::Reconnect));
                self.ended(role, &reason);
            }
            // Nobody waits where the server is being stopped.
            ShardEvent::Died { .. } => drop(self.failed.send_replace(true)),
        }
    }

    fn in_order(&self) -> MutexGuard<'_, ()> {
        // It guards nothing that a panic could have left in pieces.
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session ended that no shard had claimed: none will tell of it.
    pub(super) fn ended_unclaimed(&self, session: SessionId, role: Role, reason: &EndReason) {
        self.audience.remove(session, None);
        self.ended(role, reason);
    }

    /// A session ended.
    fn ended(&self, role: Role, reason: &EndReason) {
        *self.ended.entry((role, reason.label())).or_insert(0) += 1;
    }

    /// An offer got no session.
    pub(super) fn refused(&self, reason: &'static str) {
        *self.refused.entry(reason).or_insert(0) += 1;
    }

    /// Done when a shard has failed.
    pub(super) async fn failed(&self) {
        // The sender lives as long as this ledger: there is no other way out.
        let _ = self.failed.subscribe().wait_for(|failed| *failed).await;
    }

    pub(super) fn connected_counts(&self) -> Vec<(Came, u64)> {
        self.connected.iter().map(|entry| (*entry.key(), *entry.value())).collect()
    }

    pub(super) fn ended_counts(&self) -> Vec<((Role, &'static str), u64)> {
        self.ended.iter().map(|entry| (*entry.key(), *entry.value())).collect()
    }

    pub(super) fn refused_counts(&self) -> Vec<(&'static str, u64)> {
        self.refused.iter().map(|entry| (*entry.key(), *entry.value())).collect()
    }
}
