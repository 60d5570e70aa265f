//! What server and worker tell each other where the worker transcodes sound. Fuzz target:
//! `transcode_ipc`.

use super::{Wire, fault_text, write_fault};

/// How sound is encoded, as both sides name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sound {
    /// Opus packets.
    Opus,
    /// Raw AAC frames, with their `AudioSpecificConfig`; empty where it is only wanted.
    Aac(Vec<u8>),
    /// MPEG audio, layers 1 to 3.
    Mpeg,
    /// AC-3.
    Ac3,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// To the worker: from now on frames come so, and are to be made into that. Comes first, and
    /// again whenever what comes in changes.
    Configure {
        /// How the frames that follow are encoded.
        from: Sound,
        /// What they are to become.
        to: Sound,
        /// For this many bits per second.
        bitrate_bps: u32,
    },
    /// From the worker: it has started, and waits for frames.
    Ready,
    /// From the worker: how the frames that follow are encoded.
    Format(Sound),
    /// Both ways: one frame.
    Frame {
        /// When it is heard, in ticks of 90 kHz.
        ticks: i64,
        /// Its bytes.
        data: Vec<u8>,
    },
    /// From the worker, and its last: what went wrong.
    Failed(String),
}

impl Wire for Message {
    /// An audio frame has some hundred bytes, the longest of AAC (6 channels) 4.6 kB, and a PES
    /// packet with several frames 64 KiB.
    const BYTES_MAX: usize = 1 << 20;

    fn write_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Configure { from, to, bitrate_bps } => {
                out.push(b'C');
                out.extend(bitrate_bps.to_be_bytes());
                to.write_to(out);
                from.write_to(out);
            }
            Self::Ready => out.push(b'R'),
            Self::Format(sound) => {
                out.push(b'T');
                sound.write_to(out);
            }
            Self::Frame { ticks, data } => {
                out.push(b'F');
                out.extend(ticks.to_be_bytes());
                out.extend(data);
            }
            Self::Failed(fault) => {
                out.push(b'E');
                write_fault(fault, out);
            }
        }
    }

    fn parse_body(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        Some(match kind {
            b'C' => {
                let (bitrate, rest) = rest.split_first_chunk()?;
                let (to, rest) = Sound::parse(rest)?;
                let (from, rest) = Sound::parse(rest)?;
                let bitrate_bps = u32::from_be_bytes(*bitrate);
                rest.is_empty().then_some(Self::Configure { from, to, bitrate_bps })?
            }
            b'R' => rest.is_empty().then_some(Self::Ready)?,
            b'T' => {
                let (sound, rest) = Sound::parse(rest)?;
                rest.is_empty().then_some(Self::Format(sound))?
            }
            b'F' => {
                let (ticks, data) = rest.split_first_chunk()?;
                Self::Frame { ticks: i64::from_be_bytes(*ticks), data: data.to_vec() }
            }
            b'E' => Self::Failed(fault_text(rest)),
            _ => return None,
        })
    }
}

impl Sound {
    fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Opus => out.push(b'O'),
            Self::Mpeg => out.push(b'M'),
            Self::Ac3 => out.push(b'3'),
            Self::Aac(config) => {
                // Real ones have 2 to 64 bytes; none fits into a message that the length of
                // which does not fit here.
                let length = u16::try_from(config.len()).unwrap_or(u16::MAX);
                out.push(b'A');
                out.extend(length.to_be_bytes());
                out.extend(config.iter().take(usize::from(length)));
            }
        }
    }

    /// Reads one; what follows it is left.
    fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (kind, rest) = bytes.split_first()?;
        Some(match kind {
            b'O' => (Self::Opus, rest),
            b'M' => (Self::Mpeg, rest),
            b'3' => (Self::Ac3, rest),
            b'A' => {
                let (length, rest) = rest.split_first_chunk()?;
                let (config, rest) =
                    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
                (Self::Aac(config.to_vec()), rest)
            }
            _ => return None,
        })
    }
}
