//! Reads transport-wide feedback: which packets came, and when
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1). Fuzz target: `transport_feedback`.
//!
//! The library's reader writes down 65,535 arrivals for thirty bytes; this one reads in place, and
//! no more statuses than packets are remembered.

/// The most statuses read of one packet: beyond what is remembered they say nothing.
const STATUSES_MAX: usize = 2048;
/// Ticks of 250 us: the unit of deltas.
pub const TICKS_PER_MILLISECOND: u64 = 4;
/// Ticks in the unit of the reference time, which is 64 ms.
const REFERENCE_TICKS: u32 = 256;

/// One feedback packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feedback<'a> {
    base: u16,
    count: usize,
    /// In ticks; wraps at 32 bits.
    reference: u32,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

/// What is said of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its transport-wide sequence number.
    pub number: u16,
    /// When it came on the viewer's clock, in ticks that wrap at 32 bits; `None` if it did not.
    pub arrival: Option<u32>,
}

impl<'a> Feedback<'a> {
    /// Reads a whole RTCP packet with its header; `None` if it is none of these, or malformed.
    pub fn read(packet: &'a [u8]) -> Option<Self> {
        let (&[first, 205, _, _, _, _, _, _, _, _, _, _], rest) = packet.split_first_chunk()?
        else {
            return None;
        };
        let (&[base, base_low, count, count_low, time, time_middle, time_low, _], rest) =
            rest.split_first_chunk()?;
        if first >> 6 != 2 || first & 0x1f != 15 {
            return None;
        }
        let count = usize::from(u16::from_be_bytes([count, count_low]));
        let mut covered = 0;
        let mut after = rest;
        while covered < count {
            let (&chunk, tail) = after.split_first_chunk()?;
            covered += symbols(u16::from_be_bytes(chunk));
            after = tail;
        }
        let reference = u32::from_be_bytes([0, time, time_middle, time_low]);
        Some(Self {
            base: u16::from_be_bytes([base, base_low]),
            count,
            reference: reference.wrapping_mul(REFERENCE_TICKS),
            chunks: &rest[..rest.len() - after.len()],
            deltas: after,
        })
    }

    /// How much work it is to read it, in packets.
    pub fn cost(&self) -> u32 {
        self.count.min(STATUSES_MAX) as u32
    }

    /// What it says of each packet in turn, up to the first that is malformed.
    pub fn statuses(&self) -> impl Iterator<Item = Status> + 'a {
        let Self { base, count, reference, .. } = *self;
        let (mut chunks, mut deltas) = (self.chunks, self.deltas);
        let mut ticks = reference;
        let (mut chunk, mut len, mut position, mut said) = (0_u16, 0, 0, 0_usize);
        std::iter::from_fn(move || {
            if said == count.min(STATUSES_MAX) {
                return None;
            }
            while position == len {
                let (&next, tail) = chunks.split_first_chunk()?;
                (chunk, chunks) = (u16::from_be_bytes(next), tail);
                (len, position) = (symbols(chunk), 0);
            }
            let number = base.wrapping_add(said as u16);
            let arrival = match symbol(chunk, position) {
                0 => None,
                1 => {
                    let (&delta, tail) = deltas.split_first()?;
                    deltas = tail;
                    ticks = ticks.wrapping_add(u32::from(delta));
                    Some(ticks)
                }
                2 => {
                    let (&delta, tail) = deltas.split_first_chunk()?;
                    deltas = tail;
                    let delta = i32::from(i16::from_be_bytes(delta));
                    ticks = ticks.wrapping_add_signed(delta);
                    Some(ticks)
                }
                _ => return None,
            };
            said += 1;
            position += 1;
            Some(Status { number, arrival })
        })
    }
}

/// How many packets a chunk is about (§3.1.3, §3.1.4).
const fn symbols(chunk: u16) -> usize {
    match chunk >> 14 {
        0 | 1 => (chunk & 0x1fff) as usize,
        2 => 14,
        _ => 7,
    }
}

/// The symbol at a place within a chunk (§3.1.1).
const fn symbol(chunk: u16, position: usize) -> u16 {
    match chunk >> 14 {
        0 | 1 => chunk >> 13 & 3,
        2 => chunk >> (13 - position) & 1,
        _ => chunk >> (12 - 2 * position) & 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtc_rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
    };
    use rtc_shared::marshal::Unmarshal;

    /// What the library makes of it, for packets of which it makes the same as we.
    fn by_the_library(mut packet: &[u8]) -> Option<Vec<Status>> {
        let read = TransportLayerCc::unmarshal(&mut packet).ok()?;
        let symbols = read.packet_chunks.iter().flat_map(|chunk| match chunk {
            PacketStatusChunk::RunLengthChunk(run) => {
                vec![run.packet_status_symbol; usize::from(run.run_length)]
            }
            PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
        });
        let mut deltas = read.recv_deltas.iter();
        let mut ticks = i64::from(read.reference_time) * 256;
        let status = |(offset, symbol)| {
            let number = read.base_sequence_number.wrapping_add(offset as u16);
            let arrival = if symbol == SymbolTypeTcc::PacketNotReceived {
                None
            } else {
                ticks += deltas.next()?.delta / 250;
                Some(ticks as u32)
            };
            Some(Status { number, arrival })
        };
        symbols.take(usize::from(read.packet_status_count)).enumerate().map(status).collect()
    }

    /// A packet with these fields, filled up to whole words.
    fn packet(count: u16, reference: u32, chunks: &[u16], deltas: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        packet.extend(65_530_u16.to_be_bytes());
        packet.extend(count.to_be_bytes());
        packet.extend((reference << 8 | 7).to_be_bytes());
        packet.extend(chunks.iter().flat_map(|chunk| chunk.to_be_bytes()));
        packet.extend(deltas);
        packet.resize(packet.len().next_multiple_of(4), 0);
        let words = (packet.len() / 4 - 1) as u16;
        packet[2..4].copy_from_slice(&words.to_be_bytes());
        packet
    }

    #[test]
    fn runs_and_vectors_are_read_as_an_independent_reader_does() {
        // A run of 3 that came, a vector of 14, one of 7 with large deltas; numbers wrap.
        let chunks = [0x2003, 0x8000 | 0b10_1010_1010_1010, 0xc000 | 0b01_10_00_01_10_00_01];
        let deltas = [4, 0, 255, 1, 2, 3, 4, 5, 6, 7, 9, 0xff, 0xf0, 1, 1, 0x7f];
        let packet = packet(22, 5, &chunks, &deltas);
        let read: Vec<_> = Feedback::read(&packet).expect("well-formed").statuses().collect();
        assert_eq!(read.len(), 22);
        assert_eq!(read[0], Status { number: 65_530, arrival: Some(5 * 256 + 4) });
        assert_eq!(Some(read), by_the_library(&packet));
    }

    #[test]
    fn thirty_bytes_are_not_read_for_long() {
        let chunks = [0x3fff; 9];
        let packet = packet(u16::MAX, 0, &chunks, &[0; 8]);
        let feedback = Feedback::read(&packet).expect("well-formed");
        assert_eq!(feedback.cost(), 2_048);
        assert_eq!(feedback.statuses().count(), 10, "there are no more deltas");
        let missing = self::packet(u16::MAX, 0, &[0x1fff; 9], &[]);
        assert_eq!(Feedback::read(&missing).expect("well-formed").statuses().count(), 2_048);
    }

    #[test]
    fn what_is_cut_short_is_not_read_beyond_its_end() {
        let whole = packet(20, 1, &[0xe5a6, 0x2000, 0xa5a5, 0x2010], &[1; 40]);
        for end in 0..whole.len() {
            let Some(feedback) = Feedback::read(&whole[..end]) else { continue };
            assert!(feedback.statuses().count() <= 20);
        }
        assert!(Feedback::read(&whole).is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(feedback) = Feedback::read(&bytes) {
                prop_assert!(feedback.statuses().count() <= feedback.cost() as usize);
            }
        }

        #[test]
        fn what_is_well_formed_is_read_as_the_library_reads_it(
            symbols in prop::collection::vec(0_u16..3, 1..60),
            reference in 0_u32..1 << 24,
            small: [u8; 60],
            large: [i16; 60],
        ) {
            let chunk = |symbols: &[u16]| {
                let place = |bits, (at, symbol): (usize, &u16)| bits | symbol << (12 - 2 * at);
                symbols.iter().enumerate().fold(0xc000, place)
            };
            let chunks: Vec<_> = symbols.chunks(7).map(chunk).collect();
            let mut deltas = Vec::new();
            for ((symbol, small), large) in symbols.iter().zip(small).zip(large) {
                match symbol {
                    1 => deltas.push(small),
                    2 => deltas.extend(large.to_be_bytes()),
                    _ => {}
                }
            }
            let packet = packet(symbols.len() as u16, reference, &chunks, &deltas);
            let read: Vec<_> = Feedback::read(&packet).expect("well-formed").statuses().collect();
            prop_assert_eq!(read.len(), symbols.len());
            if let Some(other) = by_the_library(&packet) {
                prop_assert_eq!(read, other);
            }
        }
    }
}
