//! What a simulated publisher encodes its pictures to: its layers.

use std::fmt;

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

/// One that has all pictures, each of so many packets and bytes of a packet.
pub(crate) const fn encoding(
    rid: &'static str,
    size: (u16, u16),
    [packets, payload_bytes]: [usize; 2],
) -> Encoding {
    Encoding { rid, size, packets, payload_bytes, every: 1, wavers: 0 }
}

const fn wavering(
    rid: &'static str,
    size: (u16, u16),
    [packets, payload_bytes]: [usize; 2],
) -> Encoding {
    Encoding { rid, size, packets, payload_bytes, every: 1, wavers: 40 }
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
