//! What a real publisher sent, packet by packet: sizes and times recorded on loopback.

use millrace::media::codec::Kind;
use std::time::Duration;

/// Chromium: paced, each frame in packets of nearly equal size.
pub(crate) const CHROMIUM: &str = include_str!("../data/rtp/chromium-156-h264-720p30.csv");
/// ffmpeg: each frame at once, in full packets.
pub(crate) const BURST: &str = include_str!("../data/rtp/ffmpeg-x264-720p30-burst.csv");

/// One RTP packet of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// When it came, from the first packet on.
    pub(crate) at: Duration,
    /// Audio or video.
    pub(crate) kind: Kind,
    /// Bytes of its payload, without header, extensions and tag.
    pub(crate) payload_bytes: usize,
    /// The RTP marker.
    pub(crate) marker: bool,
    /// The RTP timestamp, from the first packet of its kind on.
    pub(crate) timestamp: u32,
    /// Whether its frame is a keyframe.
    pub(crate) keyframe: bool,
}

/// Reads a recording; lines that start with `#` say where it comes from.
pub(crate) fn read(csv: &str) -> Vec<Recorded> {
    let rows = csv.lines().filter(|line| !line.starts_with('#')).skip(1);
    rows.map(|row| read_row(row).unwrap_or_else(|| unreachable!("a recording has no row {row:?}")))
        .collect()
}

fn read_row(row: &str) -> Option<Recorded> {
    let mut fields = row.split(',');
    let recorded = Recorded {
        at: Duration::from_micros(fields.next()?.parse().ok()?),
        kind: match fields.next()? {
            "audio" => Kind::Audio,
            "video" => Kind::Video,
            _ => return None,
        },
        payload_bytes: fields.next()?.parse().ok()?,
        marker: fields.next()? == "1",
        timestamp: fields.next()?.parse().ok()?,
        keyframe: fields.next()? == "1",
    };
    fields.next().is_none().then_some(recorded)
}
