//! What a simulated publisher sends: one encoding of its camera's pictures, or several.

use crate::scalable::Mode;
use millrace::media::codec::{Codec, Kind};
use std::fmt;

/// How a publisher answers a NACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Not at all.
    No,
    /// By RTX (RFC 4588).
    Rtx,
    /// With the same packet again.
    Resend,
}

/// One of several encodings of a camera's pictures (RFC 8853).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) rid: &'static str,
    pub(crate) size: (u16, u16),
    /// Packets of a picture; a keyframe has four times as many.
    pub(crate) packets: usize,
    /// Bytes of a packet's payload, give or take two.
    pub(crate) payload_bytes: usize,
    /// Of so many of the camera's pictures it has one.
    pub(crate) every: u64,
    /// By so many percent pictures are larger or smaller than that.
    pub(crate) wavers: u64,
}

impl Encoding {
    /// What it makes of the picture of this number: each has a size of its own, always the same.
    pub(crate) fn at(self, picture: u64) -> Self {
        let percent = 100 - self.wavers + picture * 7_919 % 1_009 % (2 * self.wavers + 1);
        Self { payload_bytes: self.payload_bytes * percent as usize / 100, ..self }
    }
}

impl fmt::Debug for Encoding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rid, size: (width, height), packets, payload_bytes, every, .. } = self;
        write!(out, "{rid:?}: {width}x{height}, {packets} of {payload_bytes} bytes, 1/{every}")
    }
}

const fn encoding(rid: &'static str, size: (u16, u16), [packets, bytes]: [usize; 2]) -> Encoding {
    Encoding { rid, size, packets, payload_bytes: bytes, every: 1, wavers: 0 }
}

const fn wavering(rid: &'static str, size: (u16, u16), packets: [usize; 2]) -> Encoding {
    Encoding { wavers: 40, ..encoding(rid, size, packets) }
}

/// As browsers send them, in kb/s at 30 pictures a second: 150, 600, 2,000.
pub(crate) const BROWSER: &[Encoding] = &[
    encoding("q", (320, 192), [1, 1_250]),
    encoding("h", (640, 368), [3, 1_000]),
    encoding("f", (1_280, 720), [8, 1_110]),
];

/// As Chromium sends a page's camera of 960x544, in kb/s at 30 pictures a second: 110, 470, 1,500.
pub(crate) const CHROMIUM: &[Encoding] = &[
    wavering("q", (240, 144), [1, 800]),
    wavering("h", (480, 272), [2, 1_300]),
    wavering("f", (960, 544), [6, 1_110]),
];

/// As OBS does, the largest first; the middle one has half the pictures.
pub(crate) const OBS: &[Encoding] = &[
    encoding("0", (1_920, 1_072), [8, 1_150]),
    Encoding { every: 2, ..encoding("1", (1_280, 720), [4, 1_100]) },
    encoding("2", (640, 368), [1, 900]),
];

/// Two whose names say the wrong thing.
pub(crate) const TWO: &[Encoding] =
    &[encoding("low", (960, 544), [4, 900]), encoding("high", (480, 272), [1, 800])];

/// Two of one size, which differ by their rates alone.
pub(crate) const SAME_SIZE: &[Encoding] =
    &[encoding("a", (640, 368), [1, 700]), encoding("b", (640, 368), [3, 1_000])];

/// The most encodings of a camera.
pub(crate) const ENCODINGS_MAX: usize = 3;

/// What a publisher sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Camera {
    /// What its pictures are encoded with.
    pub(crate) codec: Codec,
    /// Pictures per second.
    pub(crate) frame_rate: u32,
    /// Its encodings, in the order of its offer; one without a name where there is none.
    pub(crate) ladder: &'static [Encoding],
    /// Whether all encodings have a keyframe when one does.
    pub(crate) together: bool,
    /// Packets of a picture; a keyframe has four times as many.
    pub(crate) packets: usize,
    /// Bytes of a video packet's payload, give or take two.
    pub(crate) payload_bytes: usize,
    /// Pictures from one keyframe to the next, if nobody asks.
    pub(crate) group: u64,
    /// Whether there is audio.
    pub(crate) audio: bool,
    /// How it answers NACKs.
    pub(crate) repair: Repair,
    /// Whether it answers PLIs with a keyframe.
    pub(crate) obliges: bool,
    /// What of each encoding can be left out.
    pub(crate) mode: Mode,
}

impl Default for Camera {
    fn default() -> Self {
        let (frame_rate, packets, payload_bytes, group) = (30, 4, 300, 300);
        let (audio, repair, obliges) = (true, Repair::Rtx, true);
        let (codec, ladder, together) = (Codec::H264, [].as_slice(), false);
        Self {
            codec,
            frame_rate,
            ladder,
            together,
            packets,
            payload_bytes,
            group,
            audio,
            repair,
            obliges,
            mode: Mode::L1T1,
        }
    }
}

impl Camera {
    /// What it encodes a kind with.
    pub(crate) fn codec_of(&self, kind: Kind) -> Codec {
        match kind {
            Kind::Audio => Codec::Opus,
            Kind::Video => self.codec,
        }
    }

    /// Its encodings.
    pub(crate) fn encodings(&self) -> Vec<Encoding> {
        if self.ladder.is_empty() {
            return vec![encoding("", (1_280, 720), [self.packets, self.payload_bytes])];
        }
        self.ladder.to_vec()
    }

    /// What it numbers: its sound and its encodings.
    pub(crate) fn lanes(&self) -> usize {
        1 + self.ladder.len().max(1)
    }
}
