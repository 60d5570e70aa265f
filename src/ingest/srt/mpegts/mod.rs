//! MPEG transport streams (ISO/IEC 13818-1) -> frames: the first picture and the first sound of the
//! first program.
//!
//! Pure, and made for hostile bytes: whatever comes, no more is kept than one picture and one PES
//! packet of sound. What is damaged is dropped and counted, not handed on as if it were whole: with
//! a picture missing decoders repeat what they have, with half of one they show rubbish.
//! Fuzz target: `mpegts`.
//!
//! - `audio`: PES packets of sound -> its frames
//! - `latm`: AAC in LATM within LOAS
//! - `packet`: one packet
//! - `pes`: PES packets put together
//! - `section`: PAT and PMT
//! - `tracks`: what a PMT offers, and what is used of it
//! - `video`: PES packets of H.264 and H.265 -> access units

mod audio;
mod latm;
mod packet;
mod pes;
mod section;
mod tracks;
mod video;

use crate::media::frame::{Coding, Frame};
use packet::{LEN, NULL_PID, Packet, SYNC};
use pes::Pes;
use section::Sections;
use std::time::Instant;
use tracks::{Decoder, Track};

/// Some multiplexers for radio links append 16 bytes of error correction.
const LEN_WITH_CORRECTION: usize = 204;
/// Bytes in which a timestamp counts modulo: 33.
const WRAP: i64 = 1 << 33;

/// What went wrong so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// Gaps in the counters of packets that are used.
    pub continuity_errors: u64,
    /// Pictures and pieces of sound that were dropped because something of them was missing or made
    /// no sense.
    pub dropped_units: u64,
    /// Bytes between packets that are none.
    pub skipped_bytes: u64,
}

/// Reads one transport stream.
#[derive(Debug, Default)]
pub struct Demuxer {
    /// The beginning of a packet that goes on.
    rest: Vec<u8>,
    /// From one packet to the next, once two were seen.
    stride: Option<usize>,
    pat: Table,
    pmt: Table,
    tracks: Vec<Track>,
    unused: Option<Vec<String>>,
    clock: Unwrapper,
    damage: Damage,
}

/// One PID with tables.
#[derive(Debug, Default)]
struct Table {
    pid: Option<u16>,
    continuity: Continuity,
    sections: Sections,
}

/// Counts a PID's packets.
#[derive(Debug, Default)]
struct Continuity(Option<u8>);

/// What a packet's counter says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Next,
    /// It was sent twice, as is allowed.
    Repeated,
    /// Some are missing before it.
    Gap,
    /// Anything may be missing, and that is meant.
    Jump,
}

impl Continuity {
    fn check(&mut self, packet: &Packet<'_>) -> Order {
        let last = self.0.replace(packet.continuity);
        match last {
            _ if packet.is_discontinuous => Order::Jump,
            None => Order::Next,
            // §2.4.3.3: it counts packets with payload only.
            Some(last) if packet.payload.is_empty() => {
                self.0 = Some(last);
                Order::Next
            }
            Some(last) if last == packet.continuity => Order::Repeated,
            Some(last) if last.wrapping_add(1) & 0x0f == packet.continuity => Order::Next,
            Some(_) => Order::Gap,
        }
    }
}

/// Makes timestamps of 33 bits ones that do not wrap, the same for picture and sound.
#[derive(Debug, Default)]
struct Unwrapper(Option<i64>);

impl Unwrapper {
    fn unwrap(&mut self, timestamp: u64) -> i64 {
        let timestamp = i64::try_from(timestamp).unwrap_or(0).rem_euclid(WRAP);
        let unwrapped = match self.0 {
            None => timestamp,
            Some(last) => {
                // The way round that is shorter.
                let ahead = (timestamp - last).rem_euclid(WRAP);
                last + if ahead < WRAP / 2 { ahead } else { ahead - WRAP }
            }
        };
        self.0 = Some(unwrapped);
        unwrapped
    }
}

impl Demuxer {
    /// Takes in what was received at `now`, and appends the frames that are complete with it.
    pub fn push(&mut self, bytes: &[u8], now: Instant, frames: &mut Vec<Frame>) {
        // A message holds whole packets, so that hardly anything waits.
        if self.rest.is_empty() {
            let taken = self.packets(bytes, now, frames);
            self.rest.extend_from_slice(bytes.get(taken..).unwrap_or_default());
        } else {
            let mut all = std::mem::take(&mut self.rest);
            all.extend_from_slice(bytes);
            let taken = self.packets(&all, now, frames);
            all.drain(..taken.min(all.len()));
            self.rest = all;
        }
    }

    /// What the stream holds besides what is used, whenever that has changed.
    pub fn take_unused(&mut self) -> Option<Vec<String>> {
        self.unused.take()
    }

    /// What went wrong so far.
    pub fn damage(&self) -> Damage {
        self.damage
    }

    /// Whether it says what it carries: a transport stream does so several times a second.
    pub fn is_recognised(&self) -> bool {
        self.pmt.pid.is_some()
    }

    /// Takes all whole packets; returns how many bytes are done with.
    fn packets(&mut self, bytes: &[u8], now: Instant, frames: &mut Vec<Frame>) -> usize {
        let mut at = 0;
        while let Some(packet) = bytes.get(at..).and_then(|rest| rest.first_chunk::<LEN>()) {
            if packet.first() != Some(&SYNC) {
                self.stride = None;
                self.damage.skipped_bytes += 1;
                at += 1;
                continue;
            }
            let begins = |stride: usize| bytes.get(at + stride).map(|&byte| byte == SYNC);
            let stride = match (self.stride, begins(LEN), begins(LEN_WITH_CORRECTION)) {
                // At the end of what there is: as before, or as almost everybody does.
                (Some(stride), ..) if begins(stride) != Some(false) => stride,
                (_, Some(true), _) | (None, None, _) => LEN,
                (_, Some(false), Some(true)) => LEN_WITH_CORRECTION,
                // The byte was a sync byte by chance.
                (_, Some(false), Some(false)) => {
                    self.stride = None;
                    self.damage.skipped_bytes += 1;
                    at += 1;
                    continue;
                }
                // More bytes will tell.
                (_, Some(false), None) | (Some(_), None, _) => break,
            };
            if begins(stride) == Some(true) {
                self.stride = Some(stride);
            }
            self.packet(packet, now, frames);
            at += stride;
        }
        at
    }

    fn packet(&mut self, bytes: &[u8; LEN], now: Instant, frames: &mut Vec<Frame>) {
        let Some(packet) = Packet::split(bytes) else { return };
        if packet.pid == NULL_PID {
            return;
        }
        if packet.pid == 0 {
            self.pat.push(&packet, |pat| {
                if let Some(&program) = section::programs(pat).as_deref().and_then(<[_]>::first)
                    && self.pmt.pid != Some(program)
                {
                    self.pmt = Table { pid: Some(program), ..Table::default() };
                }
            });
        } else if self.pmt.pid == Some(packet.pid) {
            let Self { pmt, tracks, unused, .. } = self;
            pmt.push(&packet, |pmt| {
                if let Some(entries) = section::streams(pmt) {
                    *unused = Some(tracks::choose(&entries, tracks));
                }
            });
        } else if let Some(at) = self.tracks.iter().position(|it| it.pid == packet.pid) {
            self.media(at, &packet, now, frames);
        }
    }

    fn media(&mut self, at: usize, packet: &Packet<'_>, now: Instant, frames: &mut Vec<Frame>) {
        let Some(track) = self.tracks.get_mut(at) else { return };
        let order = if packet.is_unusable { Order::Gap } else { track.continuity.check(packet) };
        let cut_short = match order {
            Order::Repeated => return,
            Order::Next => None,
            Order::Gap => {
                self.damage.continuity_errors += 1;
                track.assembly.lost()
            }
            Order::Jump if packet.is_start => None,
            Order::Jump => track.assembly.lost(),
        };
        if let Some(pes) = cut_short {
            self.finish(at, &pes, now, frames);
        }
        if packet.is_unusable {
            return;
        }
        let Some(track) = self.tracks.get_mut(at) else { return };
        let finished = track.assembly.push(packet);
        self.damage.dropped_units += u64::from(finished.lost);
        for pes in finished.units.iter().flatten() {
            self.finish(at, pes, now, frames);
        }
    }

    /// Makes frames of a PES packet that is over.
    fn finish(&mut self, at: usize, pes: &Pes, now: Instant, frames: &mut Vec<Frame>) {
        let Some(track) = self.tracks.get_mut(at) else { return };
        let presented = pes.presented.map(|it| self.clock.unwrap(it));
        let dropped = match &mut track.decoder {
            Decoder::Video(codec, video) => {
                let decoded = pes.decoded.map(|it| self.clock.unwrap(it)).or(presented);
                let mut units = Vec::new();
                let dropped = video.push(pes, decoded.zip(presented), &mut units);
                frames.extend(units.into_iter().map(|unit| Frame {
                    coding: Coding::Video(*codec),
                    decode_ticks: unit.decoded,
                    present_ticks: unit.presented,
                    arrival: now,
                    data: unit.data,
                }));
                dropped
            }
            Decoder::Audio(audio) => {
                let mut sounds = Vec::new();
                let dropped = audio.push(pes, presented, &mut sounds);
                frames.extend(sounds.into_iter().map(|sound| Frame {
                    coding: Coding::Audio(sound.coding),
                    decode_ticks: sound.presented,
                    present_ticks: sound.presented,
                    arrival: now,
                    data: sound.data,
                }));
                dropped
            }
        };
        self.damage.dropped_units += u64::from(dropped);
    }
}

impl Table {
    fn push(&mut self, packet: &Packet<'_>, found: impl FnMut(&[u8])) {
        if packet.is_unusable {
            return self.sections.lost();
        }
        match self.continuity.check(packet) {
            Order::Repeated => return,
            Order::Next => {}
            Order::Gap | Order::Jump => self.sections.lost(),
        }
        self.sections.push(packet.payload, packet.is_start, found);
    }
}

#[cfg(test)]
mod tests;
