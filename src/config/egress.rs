//! `[whep]`, `[hls]`: what viewers get.

use super::reader::Reader;
use std::time::Duration;

/// Settings of WHEP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whep {
    /// Retransmissions take at most this share of what a viewer is sent: a link that loses more
    /// is too small, and resending would only make it worse.
    pub rtx_share_percent: u8,
    /// How far back a packet can be asked for again. Two seconds outlast every player's buffer.
    pub history: Duration,
    /// How long a packet may wait for others of its frame to share one system call: so long where a
    /// shard is half busy, less where it has more time.
    pub batch_wait: Duration,
}

impl Whep {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            rtx_share_percent: reader.number("whep.rtx_share_percent", 15, 0..=100),
            history: reader.milliseconds("whep.history_ms", 2000, 100..=10_000),
            batch_wait: reader.milliseconds("whep.batch_wait_ms", 8, 0..=50),
        }
    }
}

/// Settings of LL-HLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hls {
    /// When streams are packaged.
    pub mode: HlsMode,
    /// How long a part is, about: the frame rate decides. Shorter parts come sooner and cost more
    /// requests.
    pub part: Duration,
    /// How long a segment is, about: it ends before a keyframe.
    pub segment: Duration,
    /// How far back the playlists reach. Delta updates need more than six segments.
    pub window: Duration,
    /// A stream that nobody has asked for so long is packaged no longer.
    pub idle_timeout: Duration,
    /// What one stream may hold in memory; beyond that its window is shorter.
    pub stream_bytes_max: usize,
}

/// When streams are packaged for HLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HlsMode {
    /// While somebody asks for them.
    OnDemand,
    /// As long as they are live.
    Always,
    /// Never.
    Off,
}

impl Hls {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            mode: reader.text(
                "hls.mode",
                "on-demand",
                "on-demand, always or off",
                |text| match text {
                    "on-demand" => Some(HlsMode::OnDemand),
                    "always" => Some(HlsMode::Always),
                    "off" => Some(HlsMode::Off),
                    _ => None,
                },
            ),
            part: reader.milliseconds("hls.part_ms", 200, 100..=1000),
            segment: reader.milliseconds("hls.segment_ms", 2000, 1000..=10_000),
            window: reader.seconds("hls.window_s", 30, 10..=600),
            idle_timeout: reader.seconds("hls.idle_timeout_s", 30, 5..=3600),
            stream_bytes_max: reader.number(
                "hls.stream_bytes_max",
                64 << 20,
                (8 << 20)..=(1 << 30),
            ),
        }
    }
}
