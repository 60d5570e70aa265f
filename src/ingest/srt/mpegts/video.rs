//! H.264 and H.265 byte streams (Annex B of both) -> access units of NAL units with lengths.
//!
//! A PES packet usually holds one access unit. It may hold several, and some multiplexers begin it
//! in the middle of one: then the last of each waits for the next PES packet.

use super::pes::{Pes, VIDEO_MAX};
use crate::codec::packetizer::write_nal_unit;
use crate::media::codec::Codec;
use bytes::Bytes;

/// Access units of one PES packet; more are no video.
const UNITS_MAX: usize = 64;
/// The time between access units where nothing tells it: 30 per second.
const SPACING_TICKS: i64 = 3000;
/// The longest time between two that is believed.
const SPACING_TICKS_MAX: i64 = 90_000;
/// PES packets of one access unit where these begin anywhere: the largest has 64 of the longest.
/// Each is another look at all that has come of it.
const PIECES_MAX: usize = 128;
/// Parameter sets that wait for their picture.
const APART_MAX: usize = 1 << 16;

/// One access unit, as [`crate::media::frame::Frame`] wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) decoded: i64,
    pub(super) presented: i64,
    pub(super) data: Bytes,
}

/// One video stream.
#[derive(Debug)]
pub(super) struct Video {
    codec: Codec,
    /// The last access unit's times, and how far it was from the one before.
    last: Option<i64>,
    spacing: i64,
    /// PES packets begin anywhere: the last access unit of each waits here, as a byte stream.
    held: Option<(Times, Vec<u8>)>,
    /// How many PES packets have looked at it.
    pieces: usize,
    /// Delimiters stand before every access unit (ISO/IEC 13818-1 §2.14.1 asks for it): then
    /// nothing else begins one.
    has_delimiters: bool,
    /// Parameter sets that came without a picture.
    apart: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    decoded: i64,
    presented: i64,
}

/// What a NAL unit is to the access unit that it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Begins one, and is for nothing else.
    Delimiter,
    /// Begins one, where a picture has come before.
    Before,
    /// The first part of a picture.
    FirstSlice,
    Slice,
    After,
    /// Ends a sequence, or fills.
    Nothing,
}

/// The NAL units of an access unit.
type Nals<'a> = Vec<(Role, &'a [u8])>;

impl Video {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            codec,
            last: None,
            spacing: SPACING_TICKS,
            held: None,
            pieces: 0,
            has_delimiters: false,
            apart: Vec::new(),
        }
    }

    /// Takes in what a PES packet carried, with its times unwrapped; returns how many access units
    /// had to be dropped.
    pub(super) fn push(
        &mut self,
        pes: &Pes,
        times: Option<(i64, i64)>,
        out: &mut Vec<Unit>,
    ) -> u32 {
        if !pes.is_whole {
            // Half a picture is not shown: decoders hide a missing one better.
            self.held = None;
            self.apart.clear();
            return 1;
        }
        let times = match times {
            Some((decoded, presented)) => Times { decoded, presented },
            None => match self.last {
                Some(last) => {
                    Times { decoded: last + self.spacing, presented: last + self.spacing }
                }
                None => return 1,
            },
        };
        let aligned = begins_with_start_code(&pes.data);
        if aligned && self.held.is_none() {
            return self.units(&pes.data, times, out);
        }
        self.join(&pes.data, times, out)
    }

    /// All access units of an aligned PES packet.
    fn units(&mut self, data: &[u8], times: Times, out: &mut Vec<Unit>) -> u32 {
        let units = self.split(data);
        if let (Some(last), true) = (self.last, units.len() == 1) {
            self.note_spacing(times.decoded - last);
        }
        let mut times = times;
        let mut dropped = 0;
        for (_, nals) in units {
            dropped += self.finish(&nals, times, out);
            times = self.after(times);
        }
        dropped
    }

    /// A PES packet that begins anywhere: its times are those of the first access unit that begins
    /// in it, and its last one goes on in the next.
    fn join(&mut self, data: &[u8], times: Times, out: &mut Vec<Unit>) -> u32 {
        let (held_times, mut bytes) =
            self.held.take().unwrap_or_else(|| (times, Vec::with_capacity(data.len())));
        let offset = bytes.len();
        self.pieces = if offset == 0 { 1 } else { self.pieces + 1 };
        if offset + data.len() > VIDEO_MAX || self.pieces > PIECES_MAX {
            return 1;
        }
        bytes.extend_from_slice(data);
        let mut units = self.split(&bytes);
        let Some((last_begin, _)) = units.pop() else { return 1 };
        let mut dropped = 0;
        let mut next = times;
        for (begin, nals) in units {
            let of_unit = if begin < offset { held_times } else { next };
            dropped += self.finish(&nals, of_unit, out);
            if begin >= offset {
                next = self.after(next);
            }
        }
        let last_times = if last_begin < offset { held_times } else { next };
        if last_begin > 0 {
            bytes.drain(..last_begin);
            self.pieces = 1;
        }
        self.held = Some((last_times, bytes));
        dropped
    }

    fn note_spacing(&mut self, spacing: i64) {
        if (1..=SPACING_TICKS_MAX).contains(&spacing) {
            self.spacing = spacing;
        }
    }

    fn after(&self, times: Times) -> Times {
        let decoded = times.decoded + self.spacing;
        Times { decoded, presented: decoded.max(times.presented) }
    }

    /// The access units of a byte stream: where each begins, and its NAL units.
    fn split<'a>(&mut self, data: &'a [u8]) -> Vec<(usize, Nals<'a>)> {
        let mut units: Vec<(usize, Nals<'_>)> = Vec::new();
        let mut has_picture = false;
        for (at, nal) in nals(data) {
            let role = role(self.codec, nal);
            self.has_delimiters |= role == Role::Delimiter;
            let begins = match role {
                Role::Delimiter => true,
                Role::Before | Role::FirstSlice => has_picture && !self.has_delimiters,
                Role::Slice | Role::After | Role::Nothing => false,
            };
            if (begins || units.is_empty()) && units.len() < UNITS_MAX {
                units.push((at, Vec::new()));
                has_picture = false;
            }
            has_picture |= matches!(role, Role::FirstSlice | Role::Slice);
            if let Some((_, nals)) = units.last_mut() {
                nals.push((role, nal));
            }
        }
        units
    }

    /// Writes an access unit with lengths; returns 1 where it is none.
    fn finish(&mut self, nals: &[(Role, &[u8])], times: Times, out: &mut Vec<Unit>) -> u32 {
        let is_picture = |role: &Role| matches!(role, Role::FirstSlice | Role::Slice);
        let kept = nals.iter().filter(|(role, _)| !matches!(role, Role::Delimiter | Role::Nothing));
        let size: usize = kept.clone().map(|(_, nal)| 4 + nal.len()).sum();
        if !nals.iter().any(|(role, _)| is_picture(role)) {
            // Parameter sets on their own go with the next picture.
            if self.apart.len() + size > APART_MAX {
                self.apart.clear();
                return 1;
            }
            kept.for_each(|(_, nal)| write_nal_unit(nal, &mut self.apart));
            return 0;
        }
        let mut data = std::mem::take(&mut self.apart);
        data.reserve_exact(size);
        kept.for_each(|(_, nal)| write_nal_unit(nal, &mut data));
        self.last = Some(times.decoded);
        out.push(Unit {
            decoded: times.decoded,
            presented: times.presented,
            data: Bytes::from(data),
        });
        0
    }
}

/// Whether a byte stream begins with a NAL unit: some zeros and a one (H.264 §B.1.1).
fn begins_with_start_code(data: &[u8]) -> bool {
    let zeros = data.iter().take_while(|&&byte| byte == 0).count();
    zeros >= 2 && data.get(zeros) == Some(&1)
}

/// The NAL units of a byte stream, each with the place of its start code.
fn nals(data: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut next = start_code(data, 0);
    std::iter::from_fn(move || {
        loop {
            let at = next?;
            let begin = at + 3;
            next = start_code(data, begin);
            let nal = data.get(begin..next.unwrap_or(data.len()))?;
            // Zeros before the next start code belong to nobody.
            let len = nal.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            if len > 0 {
                return nal.get(..len).map(|nal| (at, nal));
            }
        }
    })
}

/// The place of the next 00 00 01.
fn start_code(data: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    // The third byte tells how far the next one can be.
    while let Some(&[first, second, third]) = data.get(at..)?.first_chunk() {
        match third {
            0 => at += 1,
            1 if (first, second) == (0, 0) => return Some(at),
            _ => at += 3,
        }
    }
    None
}

fn role(codec: Codec, nal: &[u8]) -> Role {
    let header = nal.first().copied().unwrap_or(0);
    // The slice header opens with first_mb_in_slice == 0 or first_slice_segment_in_pic_flag: in
    // both codecs a set bit.
    let is_first = |at: usize| nal.get(at).is_some_and(|byte| byte & 0x80 != 0);
    let slice = |at| if is_first(at) { Role::FirstSlice } else { Role::Slice };
    if codec == Codec::H265 {
        // H.265 table 7-1, §7.4.2.4.4.
        return match header >> 1 & 0x3f {
            0..=31 => slice(2),
            32..=34 | 39 | 41..=44 | 48..=55 => Role::Before,
            35 => Role::Delimiter,
            36..=38 => Role::Nothing,
            _ => Role::After,
        };
    }
    // H.264 table 7-1, §7.4.1.2.3.
    match header & 0x1f {
        1 | 2 | 5 => slice(1),
        3 | 4 => Role::Slice,
        6..=8 | 14..=18 => Role::Before,
        9 => Role::Delimiter,
        10..=12 => Role::Nothing,
        _ => Role::After,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: [u8; 4] = [0, 0, 0, 1];
    const AUD: &[u8] = &[0x09, 0xf0];
    const SPS: &[u8] = &[0x67, 0x42];
    const IDR: &[u8] = &[0x65, 0x88, 0x84];
    const P: &[u8] = &[0x41, 0x9a, 0x24];
    const P_SECOND: &[u8] = &[0x41, 0x1a, 0x24];

    fn annex_b(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&START[..], nal].concat()).collect()
    }

    fn with_lengths(nals: &[&[u8]]) -> Vec<u8> {
        let mut data = Vec::new();
        for nal in nals {
            write_nal_unit(nal, &mut data);
        }
        data
    }

    fn pes(data: Vec<u8>) -> Pes {
        Pes { presented: None, decoded: None, data, is_whole: true }
    }

    /// Times in which the picture is shown 10 ticks later.
    fn push(video: &mut Video, data: Vec<u8>, decoded: i64) -> Vec<Unit> {
        let mut out = Vec::new();
        assert_eq!(video.push(&pes(data), Some((decoded, decoded + 10)), &mut out), 0);
        out
    }

    #[test]
    fn an_access_unit_loses_delimiter_and_filler_only() {
        let mut video = Video::new(Codec::H264);
        let filler = [0x0c, 0xff, 0x80];
        let data = annex_b(&[AUD, SPS, IDR, P_SECOND, &filler]);
        let units = push(&mut video, data, 5);
        assert_eq!(units.len(), 1);
        assert_eq!((units[0].decoded, units[0].presented), (5, 15));
        assert_eq!(units[0].data, with_lengths(&[SPS, IDR, P_SECOND]));
    }

    #[test]
    fn a_picture_in_ever_more_pieces_is_given_up() {
        let mut video = Video::new(Codec::H264);
        let begin = [&[0x55], &annex_b(&[P])[..]].concat();
        let mut push = |data| video.push(&pes(data), Some((0, 0)), &mut Vec::new());
        assert_eq!(push(begin), 0);
        let dropped: Vec<u32> = (0..200).map(|_| push(vec![0x24])).collect();
        assert_eq!(dropped.iter().position(|&it| it > 0), Some(PIECES_MAX - 1));
    }

    #[test]
    fn several_access_units_are_told_apart_with_and_without_delimiters() {
        for delimiter in [&[AUD][..], &[]] {
            let mut video = Video::new(Codec::H264);
            let one = [delimiter, &[SPS, IDR]].concat();
            push(&mut video, annex_b(&one), 0);
            push(&mut video, annex_b(&[delimiter, &[P]].concat()), 1500);
            let two = [delimiter, &[P, P_SECOND], delimiter, &[P], delimiter, &[SPS, IDR]].concat();
            let units = push(&mut video, annex_b(&two), 3000);
            let times: Vec<i64> = units.iter().map(|unit| unit.decoded).collect();
            assert_eq!(times, [3000, 4500, 6000], "{delimiter:?}");
            assert_eq!(units[0].data, with_lengths(&[P, P_SECOND]));
            assert_eq!(units[2].data, with_lengths(&[SPS, IDR]));
        }
    }

    #[test]
    fn parameter_sets_on_their_own_stand_before_the_next_picture() {
        let mut video = Video::new(Codec::H264);
        assert_eq!(push(&mut video, annex_b(&[AUD, SPS]), 0), []);
        let units = push(&mut video, annex_b(&[AUD, IDR]), 3000);
        assert_eq!(units[0].data, with_lengths(&[SPS, IDR]));
        assert_eq!(push(&mut video, annex_b(&[AUD, P]), 6000)[0].data, with_lengths(&[P]));
    }

    #[test]
    fn a_pes_packet_may_begin_in_the_middle_of_an_access_unit() {
        let mut video = Video::new(Codec::H264);
        let all = annex_b(&[AUD, SPS, IDR, AUD, P, AUD, P, AUD, IDR]);
        // In the IDR picture, in the first P picture.
        let (first, rest) = all.split_at(17);
        let (second, third) = rest.split_at(14);
        let mut units = push(&mut video, first.to_vec(), 0);
        units.extend(push(&mut video, second.to_vec(), 3000));
        units.extend(push(&mut video, third.to_vec(), 6000));
        // The first was cut, and handed out before that could be known.
        let whole: Vec<&Bytes> = units.iter().map(|unit| &unit.data).skip(1).collect();
        assert!(whole.contains(&&Bytes::from(with_lengths(&[P]))), "{units:?}");
        assert!(units.iter().skip(1).all(|unit| unit.decoded > 0));
    }

    #[test]
    fn h265_is_split_by_its_own_types() {
        let mut video = Video::new(Codec::H265);
        let [aud, vps, idr, rest, sei] = [
            &[0x46, 0x01, 0x50][..],
            &[0x40, 0x01, 0x0c],
            &[0x26, 0x01, 0xaf],
            &[0x02, 0x01, 0x50],
            &[0x50, 0x01, 0x84],
        ];
        let units = push(&mut video, annex_b(&[aud, vps, idr, rest, sei, aud, rest]), 0);
        assert_eq!(units.len(), 2);
        assert_eq!(units[0].data, with_lengths(&[vps, idr, rest, sei]));
    }

    #[test]
    fn what_is_not_whole_is_dropped() {
        let mut video = Video::new(Codec::H264);
        let mut out = Vec::new();
        let half = Pes { is_whole: false, ..pes(annex_b(&[AUD, SPS, IDR])) };
        assert_eq!(video.push(&half, Some((0, 0)), &mut out), 1);
        assert_eq!(video.push(&pes(annex_b(&[AUD, P])), None, &mut out), 1, "at no time");
        assert_eq!(out, []);
    }

    #[test]
    fn start_codes_are_found_whatever_is_around_them() {
        let data = [0, 0, 0, 1, 0x65, 0, 0, 3, 0, 0, 0, 0, 1, 0x41, 2, 0, 0, 1, 0, 0, 1, 0x42];
        let found: Vec<_> = nals(&data).collect();
        let expected: [(usize, &[u8]); 3] =
            [(1, &[0x65, 0, 0, 3]), (10, &[0x41, 2]), (18, &[0x42])];
        assert_eq!(found, expected);
        assert_eq!(nals(&[0, 0, 1]).count() + nals(&[0, 0]).count() + nals(&[]).count(), 0);
    }
}
