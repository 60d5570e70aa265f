//! What a viewer tells of the path to it: when each packet came, or what it carries.

use crate::agreed::TRANSPORT_CC;
use crate::sessions::ssrc;
use loadtest::light::TransportFeedback;
use millrace::media::codec::Kind;
use millrace::peer::header::RtpHeader;
use rtc_rtcp::packet::{Packet, marshal};
use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate as remb;
use std::time::{Duration, Instant};

/// What a viewer tells of the path to it, beside receiver reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Tells {
    Nothing,
    /// When each packet came, as browsers do.
    #[default]
    Arrivals,
    /// What it takes the path to carry (draft-alvestrand-rmcat-remb).
    Remb,
}

/// Writes it.
pub(crate) struct Telling {
    tells: Tells,
    first_ssrc: u32,
    began: Instant,
    arrivals: TransportFeedback,
    /// When it tells next, once there is anything to tell.
    due: Option<Instant>,
    estimate: Estimate,
}

/// A receiver's own estimate: up by a twelfth a second while pictures come in time, though never
/// far above what comes; down to less than what comes once they are late.
#[derive(Debug)]
struct Estimate {
    bitrate: f64,
    bytes: usize,
    since: Instant,
    /// The least by which arrival and RTP timestamp have differed, and the latest.
    least: Option<f64>,
    latest: f64,
    first: Option<(Instant, u32)>,
}

impl Telling {
    /// How often: browsers take 50 to 100 ms.
    const INTERVALS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(100)];
    const REMB_INTERVAL: Duration = Duration::from_millis(250);

    pub(crate) fn new(tells: Tells, first_ssrc: u32, began: Instant) -> Self {
        let estimate = Estimate {
            bitrate: 300_000.0,
            bytes: 0,
            since: began,
            least: None,
            latest: 0.0,
            first: None,
        };
        let arrivals = TransportFeedback::default();
        Self { tells, first_ssrc, began, arrivals, due: None, estimate }
    }

    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// A packet has come.
    pub(crate) fn arrives(&mut self, header: &RtpHeader, datagram: &[u8], now: Instant) {
        let interval = match self.tells {
            Tells::Nothing => return,
            Tells::Arrivals => {
                let number = header.extension(datagram, TRANSPORT_CC);
                let Some(number) = number.and_then(|it| it.first_chunk()) else { return };
                let micros = (now - self.began).as_micros() as i64;
                self.arrivals.note(u16::from_be_bytes(*number), micros);
                Self::INTERVALS[self.first_ssrc as usize / 4 % 2]
            }
            Tells::Remb => {
                let is_picture = header.ssrc == ssrc(self.first_ssrc, Kind::Video);
                let timestamp = is_picture.then_some(header.timestamp);
                self.estimate.arrives(datagram.len(), timestamp, now);
                Self::REMB_INTERVAL
            }
        };
        self.due.get_or_insert(now + interval);
    }

    /// What it tells, if it is time.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.due.take_if(|at| *at <= now)?;
        if self.tells == Tells::Arrivals {
            return self.arrivals.report(77, self.first_ssrc);
        }
        let bitrate = self.estimate.poll(now) as f32;
        let ssrcs = Kind::ALL.map(|kind| ssrc(self.first_ssrc, kind)).to_vec();
        let remb = remb::ReceiverEstimatedMaximumBitrate { sender_ssrc: 77, bitrate, ssrcs };
        marshal(&[Box::new(remb) as Box<dyn Packet>]).ok().map(|compound| compound.to_vec())
    }
}

impl Estimate {
    /// Later than that a picture is late, in seconds.
    const LATE: f64 = 0.06;

    fn arrives(&mut self, bytes: usize, timestamp: Option<u32>, now: Instant) {
        self.bytes += bytes;
        let Some(timestamp) = timestamp else { return };
        let (at, first) = *self.first.get_or_insert((now, timestamp));
        let ticks = timestamp.wrapping_sub(first).cast_signed();
        self.latest = (now - at).as_secs_f64() - f64::from(ticks) / 90_000.0;
        self.least = Some(self.least.unwrap_or(self.latest).min(self.latest));
    }

    fn poll(&mut self, now: Instant) -> f64 {
        let span = (now - self.since).as_secs_f64().max(0.001);
        let comes = self.bytes as f64 * 8.0 / span;
        (self.bytes, self.since) = (0, now);
        let queue = self.latest - self.least.unwrap_or(self.latest);
        self.bitrate = if queue > Self::LATE {
            self.bitrate.min(0.85 * comes)
        } else {
            let grown = self.bitrate * 1.08_f64.powf(span) + 1_000.0;
            grown.min(1.5 * comes + 10_000.0).max(self.bitrate.min(1.5 * comes))
        };
        self.bitrate
    }
}
