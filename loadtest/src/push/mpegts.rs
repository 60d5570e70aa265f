//! Writes MPEG-TS (ISO/IEC 13818-1) as encoders send it over SRT: one programme, H.264 in PES
//! packets without a length, Opus if wanted.

use crate::source::{PARAMETER_SETS, Picture};

/// A transport packet.
pub const PACKET_BYTES: usize = 188;
/// As all programs send it: seven transport packets in a datagram.
pub const MESSAGE_BYTES: usize = 7 * PACKET_BYTES;
/// Of a packet, what is left after the header.
const ROOM: usize = PACKET_BYTES - 4;
const SYNC: u8 = 0x47;
const PAT: u16 = 0;
const PMT: u16 = 0x1000;
const VIDEO: u16 = 0x100;
const AUDIO: u16 = 0x101;
/// Where these stand in [`Muxer::counters`].
const PIDS: [u16; 4] = [PAT, PMT, VIDEO, AUDIO];
/// Pictures from one pair of tables to the next; they come before every keyframe as well.
const TABLES_EVERY: u64 = 6;
/// The clock starts five seconds before its 33 bits wrap, so that every run crosses that.
const START: u64 = (1 << 33) - 450_000;
const CLOCK_MASK: u64 = (1 << 33) - 1;
/// How long a decoder is given, 100 ms.
const DECODER_TICKS: u64 = 9_000;

/// Writes one stream.
#[derive(Debug)]
pub struct Muxer {
    audio: bool,
    /// The next continuity counter of each PID.
    counters: [u8; PIDS.len()],
}

/// What stands before a PES packet in its first transport packet.
#[derive(Debug, Clone, Copy)]
struct Clock {
    reference: u64,
    random_access: bool,
}

impl Muxer {
    /// A stream of pictures, and of sound if there is some.
    pub const fn new(audio: bool) -> Self {
        Self { audio, counters: [0; PIDS.len()] }
    }

    /// One picture, after the tables where they are due.
    pub fn picture(&mut self, picture: &Picture) -> Vec<u8> {
        const START_CODE: [u8; 4] = [0, 0, 0, 1];
        /// ITU-T H.264 §7.3.2.4: any type of slice.
        const DELIMITER: [u8; 2] = [0x09, 0xF0];
        let mut out = Vec::with_capacity(picture.nal.len() * 21 / 20 + 4 * PACKET_BYTES);
        if picture.keyframe || picture.number.is_multiple_of(TABLES_EVERY) {
            self.tables(&mut out);
        }
        let time = (START + DECODER_TICKS + picture.ticks) & CLOCK_MASK;
        let mut pes = pes_header(0xE0, None, time);
        let parameters = PARAMETER_SETS.iter().filter(|_| picture.keyframe).copied();
        for nal in [&DELIMITER[..]].into_iter().chain(parameters).chain([&picture.nal[..]]) {
            pes.extend(START_CODE);
            pes.extend_from_slice(nal);
        }
        let reference = (START + picture.ticks) & CLOCK_MASK;
        let clock = Clock { reference, random_access: picture.keyframe };
        self.cut(VIDEO, &pes, Some(clock), &mut out);
        out
    }

    /// One packet of sound (ETSI TS 101 154 has none of Opus: "Carriage of Opus in MPEG-2 TS").
    pub fn audio(&mut self, ticks: u64, packet: &[u8]) -> Vec<u8> {
        let mut control = vec![0x7F, 0xE0];
        control.extend(std::iter::repeat_n(255, packet.len() / 255));
        control.push((packet.len() % 255) as u8);
        let time = (START + DECODER_TICKS + ticks) & CLOCK_MASK;
        let mut pes = pes_header(0xBD, Some(control.len() + packet.len()), time);
        pes.extend(control);
        pes.extend_from_slice(packet);
        let mut out = Vec::with_capacity(2 * PACKET_BYTES);
        self.cut(AUDIO, &pes, None, &mut out);
        out
    }

    fn tables(&mut self, out: &mut Vec<u8>) {
        let association = [0x00, 0x01, 0xE0 | (PMT >> 8) as u8, PMT as u8];
        self.section(PAT, 0x00, &association, out);
        let mut map = vec![0xE0 | (VIDEO >> 8) as u8, VIDEO as u8, 0xF0, 0];
        map.extend([0x1B, 0xE0 | (VIDEO >> 8) as u8, VIDEO as u8, 0xF0, 0]);
        if self.audio {
            // A registration descriptor, and the extension one with two channels.
            let descriptors = [&[0x05, 4][..], b"Opus", &[0x7F, 2, 0x80, 2]].concat();
            map.extend([0x06, 0xE0 | (AUDIO >> 8) as u8, AUDIO as u8, 0xF0]);
            map.push(descriptors.len() as u8);
            map.extend(descriptors);
        }
        self.section(PMT, 0x02, &map, out);
    }

    /// A section of one packet, with number and version 0 (§2.4.4).
    fn section(&mut self, pid: u16, table: u8, body: &[u8], out: &mut Vec<u8>) {
        let length = body.len() + 9;
        let mut section = vec![table, 0xB0 | (length >> 8) as u8, length as u8, 0, 1, 0xC1, 0, 0];
        section.extend_from_slice(body);
        let sum = crc(&section);
        section.extend(sum.to_be_bytes());
        let counter = self.next_counter(pid);
        out.extend([SYNC, 0x40 | (pid >> 8) as u8, pid as u8, 0x10 | counter, 0]);
        let filling = ROOM - 1 - section.len();
        out.extend(section);
        out.extend(std::iter::repeat_n(0xFF, filling));
    }

    /// Cuts a PES packet into transport packets; the last is stuffed (§2.4.3.4).
    fn cut(&mut self, pid: u16, mut pes: &[u8], mut clock: Option<Clock>, out: &mut Vec<u8>) {
        let mut first = true;
        while !pes.is_empty() {
            let mut field = clock.take().map_or_else(Vec::new, Clock::field);
            let room = ROOM - if field.is_empty() { 0 } else { field.len() + 1 };
            if pes.len() < room {
                if field.is_empty() && pes.len() < room - 1 {
                    field.push(0);
                }
                field.resize(ROOM - 1 - pes.len(), 0xFF);
            }
            // A field of a single byte is its length, 0.
            let adapted = !field.is_empty() || pes.len() < ROOM;
            let start = u8::from(first) << 6;
            let control = 0x10 | u8::from(adapted) << 5 | self.next_counter(pid);
            out.extend([SYNC, start | (pid >> 8) as u8, pid as u8, control]);
            if adapted {
                out.push(field.len() as u8);
                out.extend(&field);
            }
            let taken = pes.len().min(ROOM - usize::from(adapted) - field.len());
            let (piece, rest) = pes.split_at(taken);
            out.extend_from_slice(piece);
            pes = rest;
            first = false;
        }
    }

    fn next_counter(&mut self, pid: u16) -> u8 {
        let place = PIDS.iter().position(|it| *it == pid).unwrap_or_default();
        let counter = self.counters[place];
        self.counters[place] = (counter + 1) & 0x0F;
        counter
    }
}

impl Clock {
    /// Flags and the clock reference (§2.4.3.5), without its extension.
    fn field(self) -> Vec<u8> {
        let [_, _, _, b4, b3, b2, b1, b0] = (self.reference << 7).to_be_bytes();
        let flags = 0x10 | u8::from(self.random_access) << 6;
        vec![flags, b4, b3, b2, b1, b0 | 0x7E, 0]
    }
}

/// A header with a presentation time (§2.4.3.7); pictures have no length.
fn pes_header(stream: u8, payload: Option<usize>, time: u64) -> Vec<u8> {
    let length = payload.map_or(0, |payload| (payload + 8) as u16);
    let mut header = vec![0, 0, 1, stream];
    header.extend(length.to_be_bytes());
    header.extend([0x84, 0x80, 5]);
    header.push(0x21 | (time >> 29) as u8 & 0x0E);
    header.extend(((time >> 14) as u16 | 1).to_be_bytes());
    header.extend(((time << 1) as u16 | 1).to_be_bytes());
    header
}

/// Annex A: polynomial 0x04C11DB7, from the top, nothing inverted at the end.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| {
            (sum << 1) ^ if sum >> 31 == 1 { 0x04C1_1DB7 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{PictureSource, Stamp, VideoSettings};

    /// The payload of each packet of a PID, and whether it starts something; checks the counters.
    fn payloads(stream: &[u8], pid: u16) -> Vec<(bool, Vec<u8>)> {
        let mut payloads = Vec::new();
        let mut counter = None;
        for packet in stream.chunks(PACKET_BYTES) {
            assert_eq!((packet.len(), packet[0]), (PACKET_BYTES, SYNC));
            if u16::from_be_bytes([packet[1] & 0x1F, packet[2]]) != pid {
                continue;
            }
            let count = packet[3] & 0x0F;
            assert!(counter.is_none_or(|last: u8| (last + 1) & 0x0F == count));
            counter = Some(count);
            let start = if packet[3] & 0x20 == 0 { 4 } else { 5 + usize::from(packet[4]) };
            payloads.push((packet[1] & 0x40 != 0, packet[start..].to_vec()));
        }
        payloads
    }

    #[test]
    fn pictures_of_every_size_come_out_as_they_went_in() {
        let mut muxer = Muxer::new(false);
        let mut stream = Vec::new();
        let picture = PictureSource::new(VideoSettings::default()).next_picture();
        let picture = |bytes| Picture { nal: vec![7; bytes], keyframe: false, ..picture.clone() };
        for bytes in 1..600 {
            stream.extend(muxer.picture(&picture(bytes)));
        }
        let mut pes: Vec<Vec<u8>> = Vec::new();
        for (starts, payload) in payloads(&stream, VIDEO) {
            if starts {
                pes.push(Vec::new());
            }
            pes.last_mut().expect("a start comes first").extend(payload);
        }
        let ends: Vec<usize> = pes.iter().map(|it| it.len() - (14 + 6 + 4)).collect();
        assert_eq!(ends, (1..600).collect::<Vec<_>>());
    }

    #[test]
    fn tables_come_before_keyframes_and_their_sums_are_right() {
        let mut source = PictureSource::new(VideoSettings::default());
        let mut muxer = Muxer::new(true);
        let stream = muxer.picture(&source.next_picture());
        for pid in [PAT, PMT] {
            let tables = payloads(&stream, pid);
            assert_eq!(tables.len(), 1);
            let section = &tables[0].1[1..];
            let length = usize::from(u16::from_be_bytes([section[1] & 0x0F, section[2]])) + 3;
            assert_eq!(crc(&section[..length]), 0, "a sum over its own sum is nothing");
        }
        assert_eq!(crc(b"123456789"), 0x0376_E6E7);
    }

    #[test]
    fn the_stamp_is_the_end_of_a_picture() {
        let mut source = PictureSource::new(VideoSettings::default());
        let mut muxer = Muxer::new(false);
        for number in 0..70 {
            let stream = muxer.picture(&source.next_picture());
            let pieces = payloads(&stream, VIDEO).into_iter().map(|(_, payload)| payload);
            let stamp = Stamp::read(&pieces.collect::<Vec<_>>().concat()).expect("a stamp");
            assert_eq!(stamp.counter, number);
        }
    }
}
