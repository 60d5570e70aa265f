//! What shards tell, kept for the directory and the metrics.
//!
//! It is written in the shards' threads, when a session comes or goes, and never waits for long.

use super::audience::Audience;
use crate::bus::directory::Directory;
use crate::engine::command::{EndReason, Event, Role};
use crate::peer::srtp::SrtpProfile;
use crate::shard::ShardEvent;
use dashmap::DashMap;
use signaling::media_server::ViewerEvent;
use std::sync::Arc;
use tokio::sync::watch;

/// Counts what comes and goes, and keeps the directory true.
pub(super) struct Ledger {
    directory: Arc<Directory>,
    audience: Arc<Audience>,
    connected: DashMap<(Role, SrtpProfile), u64>,
    ended: DashMap<(Role, &'static str), u64>,
    refused: DashMap<&'static str, u64>,
    failed: watch::Sender<bool>,
}

impl Ledger {
    pub(super) fn new(directory: Arc<Directory>, audience: Arc<Audience>) -> Self {
        Self {
            directory,
            audience,
            connected: DashMap::new(),
            ended: DashMap::new(),
            refused: DashMap::new(),
            failed: watch::Sender::new(false),
        }
    }

    /// Takes in what a shard tells.
    pub(super) fn take(&self, event: ShardEvent) {
        match event {
            ShardEvent::Engine(Event::Connected { role, profile, .. }) => {
                *self.connected.entry((role, profile)).or_insert(0) += 1;
            }
            ShardEvent::Engine(Event::Live { stream, formats }) => {
                self.directory.live(&stream, formats);
                self.audience.tell_stream(&stream, ViewerEvent::Active);
            }
            ShardEvent::Engine(Event::Vacant { stream, until }) => {
                self.directory.vacant(&stream, until);
                self.audience.tell_stream(&stream, ViewerEvent::Inactive);
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

    /// A session ended.
    pub(super) fn ended(&self, role: Role, reason: &EndReason) {
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

    pub(super) fn connected_counts(&self) -> Vec<((Role, SrtpProfile), u64)> {
        self.connected.iter().map(|entry| (*entry.key(), *entry.value())).collect()
    }

    pub(super) fn ended_counts(&self) -> Vec<((Role, &'static str), u64)> {
        self.ended.iter().map(|entry| (*entry.key(), *entry.value())).collect()
    }

    pub(super) fn refused_counts(&self) -> Vec<(&'static str, u64)> {
        self.refused.iter().map(|entry| (*entry.key(), *entry.value())).collect()
    }
}
