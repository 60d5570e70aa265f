//! What a real publisher sent, packet by packet: sizes and times, filled with synthetic media.
//!
//! The file is CSV, as those in `tests/data/rtp`: lines that start with `#` are comments, the next
//! line names the columns, and each further line is a packet:
//!
//! ```text
//! time_us,kind,payload_bytes,marker,timestamp,keyframe
//! 0,video,735,0,0,1
//! ```
//!
//! `time_us` counts from the first packet on, `kind` is `audio` or `video`, `payload_bytes` leaves
//! header, extensions and tag out, `timestamp` is the RTP time from the first packet of its kind
//! on, `marker` and `keyframe` are 1 or 0.

use super::payload::{SIZE, h264_fragment, h264_parameters};
use super::{STAMP_BYTES, Stamp};
use crate::codec::Kind;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// From the last packet of a round to the first of the next: one frame at 30 fps.
const PAUSE: Duration = Duration::from_millis(33);
/// The same in ticks of the two RTP clocks.
const PAUSE_TICKS: [u32; 2] = [1_600, 3_000];

/// Why a file is no recording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    /// A line does not have the form.
    #[error("line {0} is no packet: {1}")]
    Line(usize, String),
    /// There is nothing to send.
    #[error("the recording has no packet of video")]
    Empty,
}

/// One packet of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    at: Duration,
    kind: Kind,
    payload_bytes: usize,
    marker: bool,
    timestamp: u32,
    keyframe: bool,
}

/// A recording, to be sent again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    rows: Arc<[Row]>,
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    ///
    /// [`RecordingError`].
    pub fn parse(csv: &str) -> Result<Self, RecordingError> {
        let lines = (1..).zip(csv.lines()).filter(|(_, line)| !line.starts_with('#')).skip(1);
        let rows: Vec<Row> = lines
            .map(|(number, line)| {
                read_row(line).ok_or_else(|| RecordingError::Line(number, line.to_owned()))
            })
            .collect::<Result<_, _>>()?;
        if !rows.iter().any(|row| row.kind == Kind::Video) {
            return Err(RecordingError::Empty);
        }
        Ok(Self { rows: rows.into() })
    }
}

fn read_row(line: &str) -> Option<Row> {
    let mut fields = line.split(',');
    let row = Row {
        at: Duration::from_micros(fields.next()?.parse().ok()?),
        kind: match fields.next()? {
            "audio" => Kind::Audio,
            "video" => Kind::Video,
            _ => return None,
        },
        payload_bytes: fields.next()?.parse().ok().filter(|bytes| *bytes <= 1_400)?,
        marker: fields.next()? == "1",
        timestamp: fields.next()?.parse().ok()?,
        keyframe: fields.next()? == "1",
    };
    fields.next().is_none().then_some(row)
}

/// Where one kind's packets go.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    pub(crate) header: rtp::Header,
    packets: u64,
    /// RTP time at which the present round began.
    base: u32,
}

/// Plays a recording.
#[derive(Debug, Clone)]
pub(crate) struct RecordedSource {
    recording: Recording,
    next: usize,
    /// When the present round began, from the first on.
    round: Duration,
    /// Audio and video; what has no outlet is left out.
    outlets: [Option<Outlet>; 2],
    frame_begins: bool,
    pub(crate) keyframes: u64,
}

impl RecordedSource {
    pub(crate) fn new(recording: Recording) -> Self {
        Self {
            recording,
            next: 0,
            round: Duration::ZERO,
            outlets: [None, None],
            frame_begins: true,
            keyframes: 0,
        }
    }

    /// Sends packets of a kind with this payload type and SSRC, from this RTP time on.
    pub(crate) fn open(&mut self, kind: Kind, payload_type: u8, ssrc: u32, base: u32) {
        let header = rtp::Header { version: 2, payload_type, ssrc, ..Default::default() };
        self.outlets[place(kind)] = Some(Outlet { header, packets: 0, base });
    }

    /// When the next packet is due, from the start on.
    pub(crate) fn due(&self) -> Duration {
        self.round + self.recording.rows[self.next].at
    }

    /// The next packet; a keyframe's first is preceded by parameter sets.
    pub(crate) fn next_packets(&mut self) -> Vec<rtp::Packet> {
        let row = self.recording.rows[self.next];
        let mut packets = Vec::new();
        let begins = row.kind == Kind::Video && self.frame_begins;
        if row.kind == Kind::Video {
            self.frame_begins = row.marker;
        }
        if let Some(outlet) = &mut self.outlets[place(row.kind)] {
            if begins && row.keyframe {
                self.keyframes += 1;
                packets.push(outlet.packet(&row, h264_parameters(SIZE), false));
            }
            let mut payload = match row.kind {
                Kind::Audio => vec![0xFC; row.payload_bytes.max(STAMP_BYTES + 1)],
                Kind::Video => h264_fragment(
                    row.keyframe,
                    begins,
                    row.marker,
                    row.payload_bytes.max(STAMP_BYTES + 2),
                ),
            };
            Stamp::now(outlet.packets).write(&mut payload);
            packets.push(outlet.packet(&row, payload, row.marker));
        }
        self.step();
        packets
    }

    fn step(&mut self) {
        self.next += 1;
        if self.next < self.recording.rows.len() {
            return;
        }
        let rows = &self.recording.rows;
        self.round += rows.last().map_or(PAUSE, |row| row.at + PAUSE);
        for (kind, outlet) in [Kind::Audio, Kind::Video].into_iter().zip(&mut self.outlets) {
            let last = rows.iter().rev().find(|row| row.kind == kind);
            if let (Some(outlet), Some(last)) = (outlet, last) {
                let ticks = last.timestamp.wrapping_add(PAUSE_TICKS[place(kind)]);
                outlet.base = outlet.base.wrapping_add(ticks);
            }
        }
        self.next = 0;
        self.frame_begins = true;
    }
}

impl Outlet {
    fn packet(&mut self, row: &Row, payload: Vec<u8>, marker: bool) -> rtp::Packet {
        let timestamp = self.base.wrapping_add(row.timestamp);
        let header = rtp::Header { marker, timestamp, ..self.header.clone() };
        self.header.sequence_number = self.header.sequence_number.wrapping_add(1);
        self.packets += 1;
        rtp::Packet { header, payload: Bytes::from(payload) }
    }
}

fn place(kind: Kind) -> usize {
    usize::from(kind == Kind::Video)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a recording\n\
        time_us,kind,payload_bytes,marker,timestamp,keyframe\n\
        0,video,900,0,0,1\n\
        5,video,100,1,0,1\n\
        20000,audio,160,1,960,0\n\
        33000,video,10,1,3000,0\n";

    #[test]
    fn a_recording_is_played_round_after_round() {
        let mut source = RecordedSource::new(Recording::parse(TEXT).expect("a recording"));
        source.open(Kind::Video, 96, 7, 500);
        let mut seen = Vec::new();
        for _ in 0..8 {
            let due = source.due().as_micros();
            for packet in source.next_packets() {
                let size = packet.payload.len();
                seen.push((due, packet.header.sequence_number, packet.header.timestamp, size));
            }
        }
        // Parameter sets come before each keyframe; a packet has room for its stamp at least.
        let (sets, least) = (h264_parameters(SIZE).len(), STAMP_BYTES + 2);
        let round = |start: u128, sequence: u16, base: u32| {
            [
                (start, sequence, base, sets),
                (start, sequence + 1, base, 900),
                (start + 5, sequence + 2, base, 100),
                (start + 33_000, sequence + 3, base + 3_000, least),
            ]
        };
        assert_eq!(seen, [round(0, 0, 500), round(66_000, 4, 6_500)].concat());
        assert_eq!(source.keyframes, 2);
    }

    #[test]
    fn a_file_that_is_no_recording_is_told_by_its_line() {
        let error = Recording::parse("head\n0,video,1,0,0\n").expect_err("a field is missing");
        assert_eq!(error, RecordingError::Line(2, "0,video,1,0,0".to_owned()));
        assert_eq!(Recording::parse("head\n"), Err(RecordingError::Empty));
    }
}
