//! What a stream gives to those who package it, besides its viewers.
//!
//! Packets of a publisher that comes by WebRTC are handed over as they came, a frame at a time;
//! whoever takes them puts them in order. What does not come by WebRTC is tapped where its frames
//! are made, and an engine says nothing of it.

use super::message::Term;
use crate::media::codec::{Format, Kind};
use crate::media::frame::Frame;
use crate::media::packet::Packet;
use crate::media::time::WallTime;
use std::sync::Arc;
use std::time::Duration;

/// What a tap is told, in the order in which it happens.
#[derive(Debug, Clone)]
pub enum Tapped {
    /// A publisher begins, or was there when the tap came. What it sends comes after it; video
    /// from its newest keyframe on, as far as that is kept.
    Began {
        /// Which publisher.
        term: Term,
        /// Whether it can be asked for keyframes at all.
        takes_requests: bool,
        /// The longest time between two of its last keyframes, as far as that is known.
        keyframes_apart: Option<Duration>,
    },
    /// These formats flow from now on, audio and video (WebRTC).
    Formats([Option<Format>; 2]),
    /// Packets in the order of their arrival, each once (WebRTC).
    Packets(Arc<[Arc<Packet>]>),
    /// A timestamp of a track, as [`Packet::timestamp`] counts, stands for this moment on the
    /// server's clock: the same that viewers are told (WebRTC).
    Clock {
        /// Of which track.
        kind: Kind,
        /// The RTP timestamp.
        timestamp: u64,
        /// The moment.
        wall: WallTime,
    },
    /// A frame whose times are on the stream's own line, with the moment that it is presented at:
    /// the same that viewers are told (not WebRTC).
    Frame(Frame, WallTime),
    /// Something had to be left out since the tap was not emptied in time.
    Lost,
    /// The publisher has gone; another may begin.
    Left(Term),
}

/// Where an engine puts what it tells. It must not wait.
pub trait TapSink: Send + Sync {
    /// Takes it, or loses it and says so later.
    fn tell(&self, tapped: Tapped);
}
