//! How a session's media comes in or goes out.

use std::fmt;

/// The protocol of a session, as users call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// WebRTC in (RFC 9725).
    Whip,
    /// WebRTC out (draft-ietf-wish-whep).
    Whep,
    /// Adobe's RTMP 1.0 and Enhanced RTMP.
    Rtmp,
    /// The same over TLS.
    Rtmps,
    /// SRT (draft-sharabayko-srt) with MPEG-TS.
    Srt,
}

impl Protocol {
    /// Its name in the API and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whip => "whip",
            Self::Whep => "whep",
            Self::Rtmp => "rtmp",
            Self::Rtmps => "rtmps",
            Self::Srt => "srt",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
