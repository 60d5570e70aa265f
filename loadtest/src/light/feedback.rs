//! What a viewer tells of how packets arrive, so that the server can estimate its link: transport-
//! wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1), or REMB.

use super::answer::Answer;
use super::offer::TRANSPORT_CC;
use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate as remb;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

/// Numbers in one report; the rest comes with the next.
const NUMBERS_MAX: i64 = 1_000;
/// Numbers behind the highest whose arrival is told again with that of a late one among them.
const NUMBERS_REMEMBERED: i64 = 500;
/// A reference time counts 64 ms, a delta 250 us.
const REFERENCE_MICROS: i64 = 64_000;
const DELTA_MICROS: i64 = 250;
/// A packet's status, two bits each, seven to a chunk.
const LOST: u16 = 0;
const SMALL: u16 = 1;
const LARGE: u16 = 2;
const STATUSES: usize = 7;

/// What is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Feedback {
    /// Nothing beside receiver reports.
    #[default]
    None,
    /// When each packet came, as browsers tell.
    TransportCc,
    /// So many bits per second, whatever comes (draft-alvestrand-rmcat-remb-03).
    Remb(u64),
}

impl FromStr for Feedback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "none" => Ok(Self::None),
            None if text == "transport-cc" => Ok(Self::TransportCc),
            Some(("remb", kbps)) => {
                let bits = kbps.parse().ok().and_then(|kbps: u64| kbps.checked_mul(1_000));
                bits.map(Self::Remb).ok_or_else(|| format!("{kbps} is no rate in kb/s"))
            }
            _ => Err(format!("{text} is none of none, transport-cc, remb=KBPS")),
        }
    }
}

impl Feedback {
    /// Between reports of when packets came: a browser's are 50 to 250 ms apart.
    pub const INTERVAL: Duration = Duration::from_millis(50);

    /// What notes when packets come, and the extension with their numbers, where that is told and
    /// was agreed.
    pub fn arrivals(self, answer: &Answer) -> Option<(u8, TransportFeedback)> {
        let id = answer.sections.iter().find_map(|section| section.extension(TRANSPORT_CC))?;
        (self == Self::TransportCc).then(|| (id, TransportFeedback::default()))
    }

    /// What goes along with a receiver report on these streams.
    pub fn estimate(self, sender_ssrc: u32, ssrcs: Vec<u32>) -> Option<Box<dyn rtc_rtcp::Packet>> {
        let Self::Remb(bits) = self else { return None };
        let bitrate = bits as f32;
        Some(Box::new(remb::ReceiverEstimatedMaximumBitrate { sender_ssrc, bitrate, ssrcs }))
    }
}

/// Notes when packets come, and reports it.
#[derive(Debug, Default)]
pub struct TransportFeedback {
    /// The last ones: extended number, and when it came.
    arrivals: BTreeMap<i64, i64>,
    highest: Option<i64>,
    /// The lowest number that came since the last report, and the first that none was of.
    fresh: Option<i64>,
    next: i64,
    reports: u8,
}

impl TransportFeedback {
    /// Notes a packet by its transport-wide number; `at` in microseconds since any moment.
    pub fn note(&mut self, number: u16, at_micros: i64) {
        let highest = self.highest.unwrap_or_else(|| {
            self.next = number.into();
            self.next
        });
        let extended = highest + i64::from(number.wrapping_sub(highest as u16).cast_signed());
        self.highest = Some(highest.max(extended));
        self.fresh = Some(self.fresh.map_or(extended, |fresh| fresh.min(extended)));
        self.arrivals.insert(extended, at_micros);
    }

    /// A report of what came since the last, if anything did.
    pub fn report(&mut self, sender_ssrc: u32, media_ssrc: u32) -> Option<Vec<u8>> {
        let base = self.fresh.take()?.min(self.next);
        let last = self.highest?.min(base + NUMBERS_MAX - 1);
        let (_, &first_at) = self.arrivals.range(base..).next()?;
        let reference = first_at.div_euclid(REFERENCE_MICROS);
        let mut at = reference * REFERENCE_MICROS;
        let (mut statuses, mut deltas) = (Vec::new(), Vec::new());
        for number in base..=last {
            let Some(came) = self.arrivals.get(&number) else {
                statuses.push(LOST);
                continue;
            };
            // Rounded as the sum is, so that the error does not grow.
            let delta = (came - at).div_euclid(DELTA_MICROS);
            at += delta * DELTA_MICROS;
            if let Ok(small) = u8::try_from(delta) {
                statuses.push(SMALL);
                deltas.push(small);
            } else {
                // Eight seconds and more are not worth the reading.
                let large = delta.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
                statuses.push(LARGE);
                deltas.extend(large.to_be_bytes());
            }
        }
        self.next = self.next.max(last + 1);
        self.fresh = self.arrivals.range(self.next..).next().map(|(number, _)| *number);
        self.arrivals = self.arrivals.split_off(&(last - NUMBERS_REMEMBERED));
        let report = self.write([sender_ssrc, media_ssrc], (base, reference), &statuses, &deltas);
        self.reports = self.reports.wrapping_add(1);
        Some(report)
    }

    fn write(
        &self,
        ssrcs: [u32; 2],
        (base, reference): (i64, i64),
        statuses: &[u16],
        deltas: &[u8],
    ) -> Vec<u8> {
        let mut report = vec![0x80 | 15, 205, 0, 0];
        report.extend(ssrcs.map(u32::to_be_bytes).as_flattened());
        report.extend((base as u16).to_be_bytes());
        report.extend((statuses.len() as u16).to_be_bytes());
        report.extend_from_slice(&(reference as u32).to_be_bytes()[1..]);
        report.push(self.reports);
        for chunk in statuses.chunks(STATUSES) {
            let place = |(at, status): (usize, &u16)| status << (2 * (STATUSES - 1 - at));
            let vector: u16 = chunk.iter().enumerate().map(place).sum();
            report.extend((0xC000 | vector).to_be_bytes());
        }
        report.extend_from_slice(deltas);
        let padding = report.len().wrapping_neg() % 4;
        if padding > 0 {
            report[0] |= 0x20;
            report.extend((1..=padding).map(|at| if at == padding { padding as u8 } else { 0 }));
        }
        let words = (report.len() / 4 - 1) as u16;
        report[2..4].copy_from_slice(&words.to_be_bytes());
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc_rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, TransportLayerCc};
    use rtc_shared::marshal::Unmarshal;

    /// What another implementation reads: numbers and when they came, by the microsecond.
    fn read(report: &[u8]) -> (u8, Vec<(u16, Option<i64>)>) {
        let read = TransportLayerCc::unmarshal(&mut bytes::Bytes::copy_from_slice(report));
        let read = read.expect("it is well-formed");
        let chunks = read.packet_chunks.iter().flat_map(|chunk| match chunk {
            PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
            PacketStatusChunk::RunLengthChunk(_) => Vec::new(),
        });
        let mut deltas = read.recv_deltas.iter();
        let mut at = i64::from(read.reference_time) * REFERENCE_MICROS;
        let statuses = chunks.take(read.packet_status_count.into()).enumerate();
        let packets = statuses.map(|(place, status)| {
            let came = (status as u16 != LOST).then(|| {
                at += deltas.next().expect("a delta for each that came").delta;
                at
            });
            (read.base_sequence_number.wrapping_add(place as u16), came)
        });
        (read.fb_pkt_count, packets.collect())
    }

    #[test]
    fn another_implementation_reads_when_packets_came() {
        let mut feedback = TransportFeedback::default();
        let start = 1_000_000_000;
        for (number, at) in [(65_534, 0), (65_535, 250), (1, 100_000), (2, 99_000)] {
            feedback.note(number, start + at);
        }
        let (count, packets) = read(&feedback.report(1, 2).expect("four came"));
        let expected = [
            (65_534, Some(0)),
            (65_535, Some(250)),
            (0, None),
            (1, Some(100_000)),
            (2, Some(99_000)),
        ];
        assert_eq!(packets, expected.map(|(number, at)| (number, at.map(|at| start + at))));
        assert_eq!((count, feedback.report(1, 2)), (0, None));
    }

    #[test]
    fn what_is_lost_between_two_reports_is_in_the_second() {
        let mut feedback = TransportFeedback::default();
        feedback.note(10, 5_000);
        let _ = feedback.report(1, 2);
        feedback.note(12, 9_000);
        let (count, packets) = read(&feedback.report(1, 2).expect("one came"));
        assert_eq!((count, packets), (1, vec![(11, None), (12, Some(9_000))]));
        feedback.note(11, 10_000);
        let (_, packets) = read(&feedback.report(1, 2).expect("a late one"));
        assert_eq!(packets, [(11, Some(10_000)), (12, Some(9_000))]);
    }

    #[test]
    fn feedback_is_chosen_by_a_word() {
        assert_eq!("transport-cc".parse(), Ok(Feedback::TransportCc));
        assert_eq!("remb=800".parse(), Ok(Feedback::Remb(800_000)));
        for text in ["", "remb", "remb=x", "twcc", "none=1"] {
            assert!(text.parse::<Feedback>().is_err(), "{text}");
        }
    }
}
