//! Transport-wide feedback: which packets came, and when
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use super::rtcp::{Buffer, CompoundWriter};
use crate::media::time::Unwrapper;
use std::time::{Duration, Instant};

/// How long a packet waits to be reported.
const INTERVAL: Duration = Duration::from_millis(50);
/// As many unreported packets are reported at once.
const UNREPORTED_MAX: u32 = 32;
/// How many arrivals are remembered; a power of two.
const ARRIVALS: usize = 2048;
/// The most packets in one feedback packet: all received with large deltas fit a compound.
const STATUSES_MAX: usize = 400;
/// Ticks of 250 us: the unit of deltas (§3.1.5).
const TICK_MICROS: u64 = 250;
/// Ticks of 64 ms: the unit of the reference time (§3.1).
const REFERENCE_TICKS: u64 = 256;

/// Status symbols (§3.1.1); the small and large ones are followed by a delta.
const LOST: u8 = 0;
const SMALL: u8 = 1;
const LARGE: u8 = 2;

#[derive(Debug, Clone, Copy, Default)]
struct Arrival {
    sequence: u64,
    ticks: u64,
}

/// Records arrivals and reports them.
#[derive(Debug)]
pub(super) struct TransportFeedback {
    epoch: Instant,
    sequences: Unwrapper,
    arrivals: Box<[Arrival]>,
    /// The first packet of the next report.
    next: u64,
    unreported: u32,
    due: Option<Instant>,
    /// Counts feedback packets (§3.1).
    number: u8,
}

impl TransportFeedback {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            sequences: Unwrapper::default(),
            arrivals: vec![Arrival::default(); ARRIVALS].into_boxed_slice(),
            next: 0,
            unreported: 0,
            due: None,
            number: 0,
        }
    }

    /// Records the arrival of a packet with this transport-wide number.
    pub(super) fn record(&mut self, sequence: u16, now: Instant) {
        let newest = self.sequences.newest();
        let sequence = self.sequences.extend(u32::from(sequence), 16);
        let Some(newest) = newest else {
            self.next = sequence;
            return self.note(sequence, now);
        };
        if sequence > newest + STATUSES_MAX as u64 {
            // A jump too long to report; what lies within is not reported at all.
            self.next = sequence;
            self.unreported = 0;
        } else if sequence + (STATUSES_MAX as u64) < self.next {
            return;
        }
        // A packet from before the last report is reported late, with those after it again.
        self.next = self.next.min(sequence);
        if self.find(sequence).is_none() {
            self.note(sequence, now);
        }
    }

    fn note(&mut self, sequence: u64, now: Instant) {
        let micros = now.saturating_duration_since(self.epoch).as_micros() as u64;
        self.arrivals[sequence as usize % ARRIVALS] =
            Arrival { sequence, ticks: micros / TICK_MICROS };
        self.unreported += 1;
        let due = if self.unreported >= UNREPORTED_MAX { now } else { now + INTERVAL };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    fn find(&self, sequence: u64) -> Option<u64> {
        let arrival = self.arrivals[sequence as usize % ARRIVALS];
        (arrival.sequence == sequence).then_some(arrival.ticks)
    }

    /// When a report is due.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Writes what is due, about the transport of `media`.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        sender: u32,
        media: u32,
        writer: &mut CompoundWriter<'_>,
    ) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        self.unreported = 0;
        let Some(newest) = self.sequences.newest() else { return };
        while self.next <= newest {
            let end = (newest + 1).min(self.next + STATUSES_MAX as u64);
            let Some(first_ticks) = (self.next..end).find_map(|sequence| self.find(sequence))
            else {
                self.next = end;
                continue;
            };
            self.write(first_ticks, end, sender, media, writer);
        }
    }

    /// Writes one feedback packet on what lies before `end`, or as far as its deltas reach.
    fn write(
        &mut self,
        first_ticks: u64,
        end: u64,
        sender: u32,
        media: u32,
        writer: &mut CompoundWriter<'_>,
    ) {
        let reference = first_ticks / REFERENCE_TICKS;
        let mut symbols = [LOST; STATUSES_MAX];
        let mut deltas = [0_i16; STATUSES_MAX];
        let mut previous = reference * REFERENCE_TICKS;
        let mut count = 0;
        for (sequence, (symbol, delta)) in
            (self.next..end).zip(symbols.iter_mut().zip(deltas.iter_mut()))
        {
            if let Some(ticks) = self.find(sequence) {
                let Ok(span) = i16::try_from(ticks.cast_signed() - previous.cast_signed()) else {
                    break;
                };
                *delta = span;
                *symbol = if (0..=255).contains(&span) { SMALL } else { LARGE };
                previous = ticks;
            }
            count += 1;
        }
        let mut packet = Buffer::feedback(205, 15, sender, media);
        packet.push(&(self.next as u16).to_be_bytes());
        packet.push(&(count as u16).to_be_bytes());
        packet.push(&(((reference as u32) << 8) | u32::from(self.number)).to_be_bytes());
        write_chunks(&mut packet, &symbols[..count]);
        for (symbol, delta) in symbols[..count].iter().zip(deltas) {
            match *symbol {
                SMALL => packet.push(&[delta as u8]),
                LARGE => packet.push(&delta.to_be_bytes()),
                _ => true,
            };
        }
        packet.close();
        writer.add(&packet);
        self.number = self.number.wrapping_add(1);
        self.next += count as u64;
    }
}

/// Writes symbols as runs of one kind where they are long, else as vectors (§3.1.3, §3.1.4).
fn write_chunks(packet: &mut Buffer, symbols: &[u8]) {
    let mut rest = symbols;
    while let Some(&first) = rest.first() {
        let run = rest.iter().take_while(|&&symbol| symbol == first).count();
        let one_bit = &rest[..rest.len().min(14)];
        let (chunk, taken) = if run > 14 || run == rest.len() {
            (u16::from(first) << 13 | run as u16, run)
        } else if !one_bit.contains(&LARGE) {
            let bits = vector(one_bit, 14, 1);
            (0x8000 | bits, one_bit.len())
        } else {
            let two_bit = &rest[..rest.len().min(7)];
            (0xc000 | vector(two_bit, 7, 2), two_bit.len())
        };
        packet.push(&chunk.to_be_bytes());
        rest = &rest[taken..];
    }
}

/// `size` symbols of `width` bits, the first on top, filled up with lost ones.
fn vector(symbols: &[u8], size: usize, width: usize) -> u16 {
    (0..size).fold(0, |bits, index| {
        bits << width | u16::from(symbols.get(index).copied().unwrap_or(LOST))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc_rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
    };
    use std::collections::BTreeMap;

    /// What rtc-rtcp, an independent reader, makes of our feedback: sequence -> 250 us ticks.
    fn read(compounds: &[Vec<u8>]) -> (BTreeMap<u16, i64>, Vec<u16>, Vec<u8>) {
        let (mut came, mut lost, mut numbers) = (BTreeMap::new(), Vec::new(), Vec::new());
        for compound in compounds {
            let parsed = rtc_rtcp::packet::unmarshal(&mut compound.as_slice())
                .expect("rtc-rtcp reads what we write");
            for packet in parsed {
                let Some(feedback) = packet.as_any().downcast_ref::<TransportLayerCc>() else {
                    continue;
                };
                numbers.push(feedback.fb_pkt_count);
                let symbols = feedback.packet_chunks.iter().flat_map(|chunk| match chunk {
                    PacketStatusChunk::RunLengthChunk(run) => {
                        vec![run.packet_status_symbol; usize::from(run.run_length)]
                    }
                    PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
                });
                let mut deltas = feedback.recv_deltas.iter();
                let mut ticks = i64::from(feedback.reference_time) * 256;
                for (offset, symbol) in
                    symbols.take(usize::from(feedback.packet_status_count)).enumerate()
                {
                    let sequence = feedback.base_sequence_number.wrapping_add(offset as u16);
                    if symbol == SymbolTypeTcc::PacketNotReceived {
                        lost.push(sequence);
                        continue;
                    }
                    let delta = deltas.next().expect("a delta for each packet that came");
                    ticks += delta.delta / 250;
                    came.insert(sequence, ticks);
                }
                assert!(deltas.next().is_none(), "and none beyond");
            }
        }
        (came, lost, numbers)
    }

    fn poll(feedback: &mut TransportFeedback, now: Instant) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        let mut send = |compound: &[u8]| sent.push(compound.to_vec());
        let mut writer = CompoundWriter::new(1, &mut send);
        feedback.poll(now, 1, 7, &mut writer);
        writer.flush();
        sent
    }

    #[test]
    fn an_independent_reader_finds_what_came_when_and_what_did_not() {
        let start = Instant::now();
        let mut feedback = TransportFeedback::new(start);
        let mut expected = BTreeMap::new();
        let mut lost = Vec::new();
        let mut compounds = Vec::new();
        let mut micros = 3_000_000_u32;
        // Losses single and in runs, gaps in time that need large deltas, the wrap of the numbers.
        for index in 0..5_000_u32 {
            let sequence = (64_000 + index) as u16;
            micros += if index % 97 == 0 { 120_000 } else { 700 };
            if index % 13 == 5 || (2_000..2_040).contains(&index) {
                lost.push(sequence);
                continue;
            }
            let now = start + Duration::from_micros(u64::from(micros));
            feedback.record(sequence, now);
            expected.insert(sequence, i64::from(micros / 250));
            if feedback.deadline().is_some_and(|due| due <= now) {
                compounds.extend(poll(&mut feedback, now));
            }
        }
        compounds.extend(poll(&mut feedback, start + Duration::from_mins(1)));
        let (came, not, numbers) = read(&compounds);
        assert_eq!(came, expected);
        assert_eq!(not, lost);
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)));
        assert!(compounds.iter().all(|compound| compound.len() <= 1200));
    }

    #[test]
    fn a_late_packet_is_reported_late() {
        let start = Instant::now();
        let mut feedback = TransportFeedback::new(start);
        let at = |millis| start + Duration::from_millis(millis);
        feedback.record(10, at(0));
        feedback.record(12, at(1));
        assert_eq!(feedback.deadline(), Some(at(50)));
        assert_eq!(read(&poll(&mut feedback, at(50))).1, [11]);
        feedback.record(11, at(60));
        feedback.record(13, at(61));
        let (came, lost, _) = read(&poll(&mut feedback, at(110)));
        assert_eq!(came.into_keys().collect::<Vec<_>>(), [11, 12, 13]);
        assert!(lost.is_empty());
    }

    #[test]
    fn wild_numbers_neither_panic_nor_grow() {
        let start = Instant::now();
        let mut feedback = TransportFeedback::new(start);
        let mut sequence = 1_u16;
        for step in 0..20_000_u64 {
            sequence = sequence.wrapping_mul(31).wrapping_add(step as u16);
            let now = start + Duration::from_millis(step / 7);
            feedback.record(sequence, now);
            if step % 50 == 0 {
                let sent = poll(&mut feedback, now + INTERVAL);
                assert!(sent.len() <= 16, "a report is bounded");
                read(&sent);
            }
        }
    }
}
