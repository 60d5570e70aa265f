//! H.264 that can be decoded, from a file: Annex B (ITU-T H.264) as encoders write it, cut into
//! RTP packets (RFC 6184) and sent again from its start when it is over.
//!
//! Its keyframes come when they come: whoever asks for one is not heard, as with a publisher whose
//! encoder ignores PLI. The file must have no B-frames, since pictures are timed in their order.

use super::Frame;
use anyhow::Context;
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const IDR_SLICE: u8 = 5;
const ACCESS_UNIT_DELIMITER: u8 = 9;
const FU_A: u8 = 28;
/// The longest payload.
const PAYLOAD_MAX: usize = 1_180;
/// RTP ticks per second.
const CLOCK_RATE: u32 = 90_000;

/// The access units of a file.
#[derive(Debug)]
pub struct AnnexB {
    /// Each as its NAL units, without start codes.
    pictures: Vec<Vec<Vec<u8>>>,
}

impl AnnexB {
    /// Reads a whole file.
    ///
    /// # Errors
    ///
    /// When it cannot be read or has no picture.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
        Self::parse(&bytes).with_context(|| format!("{}: no H.264", path.display()))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut pictures: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut has_slice = true;
        for nal in nal_units(bytes) {
            let kind = nal.first()? & 0x1f;
            let is_slice = matches!(kind, 1..=IDR_SLICE);
            // `first_mb_in_slice` is zero, whose code is a single set bit.
            let is_first_slice = is_slice && nal.get(1).is_some_and(|byte| byte & 0x80 != 0);
            // What stands before a first slice belongs to its picture.
            if has_slice && (!is_slice || is_first_slice) {
                pictures.push(Vec::new());
                has_slice = false;
            }
            has_slice |= is_slice;
            if kind != ACCESS_UNIT_DELIMITER {
                pictures.last_mut()?.push(nal.to_vec());
            }
        }
        if !has_slice {
            pictures.pop();
        }
        (!pictures.is_empty()).then_some(Self { pictures })
    }
}

/// What stands between start codes of three or four bytes.
fn nal_units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts = bytes.windows(3).enumerate().filter(|(_, three)| *three == [0, 0, 1]);
    let starts: Vec<usize> = starts.map(|(at, _)| at + 3).collect();
    let ends: Vec<usize> =
        starts.iter().skip(1).map(|start| start - 3).chain([bytes.len()]).collect();
    starts.into_iter().zip(ends).filter_map(move |(start, end)| {
        let mut nal = bytes.get(start..end)?;
        while let Some((0, rest)) = nal.split_last() {
            nal = rest;
        }
        (!nal.is_empty()).then_some(nal)
    })
}

/// Sends the pictures of a file one after the other, for ever.
#[derive(Debug)]
pub struct FileSource {
    file: Arc<AnnexB>,
    frame_rate: u32,
    header: rtp::Header,
    next: usize,
}

impl FileSource {
    /// From the file's first picture on.
    pub fn new(file: Arc<AnnexB>, frame_rate: u32, payload_type: u8, ssrc: u32) -> Self {
        let (sequence_number, timestamp) = (65_400, u32::MAX - 45_000);
        let header = rtp::Header {
            version: 2,
            payload_type,
            ssrc,
            sequence_number,
            timestamp,
            ..Default::default()
        };
        Self { file, frame_rate: frame_rate.max(1), header, next: 0 }
    }

    /// Time between pictures.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.frame_rate
    }

    /// The RTP timestamp of the next picture.
    pub fn timestamp(&self) -> u32 {
        self.header.timestamp
    }

    /// The next picture.
    pub fn next_frame(&mut self) -> Frame {
        let picture = &self.file.pictures[self.next % self.file.pictures.len()];
        let keyframe = picture.iter().any(|nal| nal.first().is_some_and(|b| b & 0x1f == IDR_SLICE));
        let payloads: Vec<Vec<u8>> = picture.iter().flat_map(|nal| packetize(nal)).collect();
        let last = payloads.len().saturating_sub(1);
        let mut packets = Vec::with_capacity(payloads.len());
        for (at, payload) in payloads.into_iter().enumerate() {
            let header = rtp::Header { marker: at == last, ..self.header.clone() };
            packets.push(rtp::Packet { header, payload: Bytes::from(payload) });
            self.header.sequence_number = self.header.sequence_number.wrapping_add(1);
        }
        self.next += 1;
        self.header.timestamp = self.header.timestamp.wrapping_add(CLOCK_RATE / self.frame_rate);
        Frame { keyframe, packets }
    }
}

/// RFC 6184: a single NAL unit (§5.6), or its fragments (§5.8) where it is too long for a packet.
fn packetize(nal: &[u8]) -> Vec<Vec<u8>> {
    let Some((&header, body)) = nal.split_first().filter(|_| nal.len() > PAYLOAD_MAX) else {
        return vec![nal.to_vec()];
    };
    let count = body.len().div_ceil(PAYLOAD_MAX - 2);
    // Equal pieces: that is what encoders' packetisers make, and what travels best.
    let pieces = body.chunks(body.len().div_ceil(count));
    let fragment = |(at, piece): (usize, &[u8])| {
        let place = u8::from(at == 0) << 7 | u8::from(at + 1 == count) << 6;
        [&[header & 0xe0 | FU_A, place | header & 0x1f], piece].concat()
    };
    pieces.enumerate().map(fragment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameter sets, an IDR picture of two slices, and one more picture.
    fn file() -> Vec<u8> {
        let mut bytes = Vec::new();
        for nal in [&[0x67, 1][..], &[0x68, 2], &[0x65, 0x88, 3], &[0x65, 0x40, 4]] {
            bytes.extend([0, 0, 0, 1]);
            bytes.extend(nal);
        }
        bytes.extend([0, 0, 1, 0x41, 0x9a]);
        bytes.extend(vec![7; 3_000]);
        bytes
    }

    #[test]
    fn pictures_are_told_apart_and_parameter_sets_come_before_theirs() {
        let file = AnnexB::parse(&file()).expect("it has pictures");
        let lengths: Vec<Vec<usize>> =
            file.pictures.iter().map(|nals| nals.iter().map(Vec::len).collect()).collect();
        assert_eq!(lengths, [vec![2, 2, 3, 3], vec![3_002]]);
        assert!(AnnexB::parse(b"no start code").is_none());
    }

    #[test]
    fn a_file_is_sent_in_packets_again_and_again() {
        let file = Arc::new(AnnexB::parse(&file()).expect("it has pictures"));
        let mut source = FileSource::new(file, 30, 102, 7);
        let frames: Vec<Frame> = (0..4).map(|_| source.next_frame()).collect();
        let keyframes: Vec<bool> = frames.iter().map(|frame| frame.keyframe).collect();
        assert_eq!(keyframes, [true, false, true, false]);
        let pieces = &frames[1].packets;
        assert_eq!(pieces.len(), 3);
        let heads: Vec<_> = pieces.iter().map(|p| (p.payload[0], p.payload[1])).collect();
        assert_eq!(heads, [(0x5c, 0x81), (0x5c, 0x01), (0x5c, 0x41)]);
        let whole: usize = pieces.iter().map(|p| p.payload.len() - 2).sum();
        assert_eq!(whole, 3_001);
        for frame in &frames {
            let markers = frame.packets.iter().map(|p| p.header.marker);
            assert_eq!(markers.filter(|marker| *marker).count(), 1);
        }
        let numbers: Vec<u16> =
            frames.iter().flat_map(|f| &f.packets).map(|p| p.header.sequence_number).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)));
        assert_eq!(
            frames[1].packets[0].header.timestamp,
            frames[0].packets[0].header.timestamp.wrapping_add(3_000)
        );
    }
}
