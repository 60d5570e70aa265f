//! The last flight of a DTLS handshake, and when it is sent again (RFC 6347 §4.2.4).
//!
//! The library's own retransmission stops for ever once the peer repeats any handshake record,
//! so one lost flight would mean never connected. Here the flight is kept as it went out and is
//! sent again when the peer repeats what it answers, and by a timer of our own. Records get a new
//! number each time, or a peer that had one before takes it for a replay: OpenSSL would never
//! learn that we miss its Finished. The numbers of unencrypted records are given here; encrypted
//! ones the library has to make anew.

use super::assembly::Message;
use super::record::{CHANGE_CIPHER_SPEC, Fragment, HANDSHAKE, RECORD_NUMBER, records};
use std::time::{Duration, Instant};

/// Handshake types that end a flight (RFC 6347 §4.2.2): what they belong to was answered when
/// our next flight goes out.
pub(super) const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;
const SERVER_HELLO_DONE: u8 = 14;

/// What was sent last, and what it answered.
#[derive(Debug, Default)]
pub(super) struct Flight {
    datagrams: Vec<Vec<u8>>,
    /// The number of the next unencrypted record, of whatever flight.
    next_record: u64,
    /// The message that ended the newest flight heard.
    heard: Option<u16>,
    /// The message up to which the last flight answers.
    answered: Option<u16>,
    /// When it was last sent.
    sent: Option<Instant>,
    /// When the timer sends it again, and how long it then waits.
    due: Option<(Instant, Duration)>,
    resends: u32,
}

impl Flight {
    /// The first wait for an answer. RFC 6347 §4.2.4.1 suggests one second and allows less where
    /// time is short: a lost flight must not cost a viewer that much.
    const WAIT: Duration = Duration::from_millis(200);
    /// The longest wait, reached by doubling.
    const WAIT_MAX: Duration = Duration::from_millis(1_600);
    /// A repeat that comes sooner after the last sending is part of the same repeated flight.
    const GAP: Duration = Duration::from_millis(20);
    /// How often one flight is sent again: whoever forges repeats gains no more than that.
    const RESENDS_MAX: u32 = 32;

    /// Whether a fragment belongs to a flight that was answered already.
    pub(super) fn answers(&self, part: &Fragment<'_>) -> bool {
        self.answered.is_some_and(|answered| part.message <= answered)
    }

    /// Notes what was heard, so that the next flight is known to answer it.
    pub(super) fn hear(&mut self, message: &Message) {
        let ends_flight = match message.kind {
            // The first hello, and the one with the cookie.
            CLIENT_HELLO => message.number <= 1,
            HELLO_VERIFY_REQUEST | SERVER_HELLO_DONE => true,
            _ => false,
        };
        if ends_flight {
            self.heard = self.heard.max(Some(message.number));
        }
    }

    /// Sends what the library made. A new flight replaces the last one.
    pub(super) fn send_new(
        &mut self,
        datagrams: Vec<Vec<u8>>,
        now: Instant,
        send: &mut dyn FnMut(&[u8]),
    ) {
        let is_flight = |datagram: &Vec<u8>| {
            records(datagram).any(|r| matches!(r.content, HANDSHAKE | CHANGE_CIPHER_SPEC))
        };
        if !datagrams.iter().any(is_flight) {
            for mut datagram in datagrams {
                self.number(&mut datagram);
                send(&datagram);
            }
            return;
        }
        // A hello verify request is not retransmitted by timer (RFC 6347 §4.2.1).
        let timed = !datagrams.iter().any(|datagram| is_verify_request(datagram));
        self.datagrams = datagrams;
        self.answered = self.heard;
        self.resends = 0;
        self.due = timed.then(|| (now + Self::WAIT, Self::WAIT * 2));
        self.transmit(now, send);
    }

    /// The peer repeated what this flight answers, so it was lost: whether to send it again.
    pub(super) fn is_missed(&mut self, now: Instant) -> bool {
        let just_sent = self.sent.is_some_and(|sent| now < sent + Self::GAP);
        !just_sent && self.may_resend()
    }

    /// Whether no answer came for so long that the flight is to be sent again.
    pub(super) fn is_overdue(&mut self, now: Instant) -> bool {
        let Some((_, wait)) = self.due.filter(|(due, _)| *due <= now) else { return false };
        self.due = Some((now + wait, (wait * 2).min(Self::WAIT_MAX)));
        self.may_resend()
    }

    fn may_resend(&mut self) -> bool {
        if self.resends >= Self::RESENDS_MAX {
            self.due = None;
            return false;
        }
        self.resends += 1;
        true
    }

    /// Whether part of the flight is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.datagrams.iter().any(|datagram| records(datagram).any(|record| record.epoch > 0))
    }

    /// Sends the flight again; `renewed` is the same flight made anew, if it was.
    pub(super) fn resend(
        &mut self,
        renewed: Option<Vec<Vec<u8>>>,
        now: Instant,
        send: &mut dyn FnMut(&[u8]),
    ) {
        if let Some(renewed) = renewed {
            self.datagrams = renewed;
        }
        self.transmit(now, send);
    }

    /// When [`Flight::is_overdue`] will say so.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.map(|(due, _)| due)
    }

    /// The handshake is over: the timer stops. A server keeps its last flight for a client that
    /// did not get it; a client's last flight has been answered.
    pub(super) fn finish(&mut self, keep: bool) {
        self.due = None;
        if !keep {
            self.datagrams = Vec::new();
        }
    }

    /// Gives the unencrypted records of a datagram their numbers.
    pub(super) fn number(&mut self, datagram: &mut [u8]) {
        let mut start = 0;
        while let Some(record) = datagram.get(start..).and_then(|rest| records(rest).next()) {
            let (epoch, len) = (record.epoch, record.whole.len());
            if epoch == 0 {
                let number = &self.next_record.to_be_bytes()[2..];
                datagram[start..][RECORD_NUMBER].copy_from_slice(number);
                self.next_record += 1;
            }
            start += len;
        }
    }

    fn transmit(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        let mut datagrams = std::mem::take(&mut self.datagrams);
        for datagram in &mut datagrams {
            self.number(datagram);
            send(datagram);
        }
        self.datagrams = datagrams;
        self.sent = Some(now);
    }
}

fn is_verify_request(datagram: &[u8]) -> bool {
    records(datagram).any(|record| {
        record.content == HANDSHAKE
            && record.epoch == 0
            && record.body.first() == Some(&HELLO_VERIFY_REQUEST)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content: u8, epoch: u8, number: u8) -> Vec<u8> {
        vec![content, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, number, 0, 1, 9]
    }

    fn part(message: u16) -> Fragment<'static> {
        Fragment { kind: CLIENT_HELLO, length: 0, message, offset: 0, bytes: &[] }
    }

    #[test]
    fn unencrypted_records_are_numbered_anew_and_encrypted_ones_stay() {
        let mut flight = Flight::default();
        let mut sent = Vec::new();
        let start = Instant::now();
        let datagram = [record(HANDSHAKE, 0, 0), record(HANDSHAKE, 1, 0)].concat();
        flight.send_new(vec![datagram], start, &mut |d| sent.push(d.to_vec()));
        assert!(flight.is_encrypted() && flight.is_overdue(start + Flight::WAIT));
        flight.resend(None, start + Flight::WAIT, &mut |d| sent.push(d.to_vec()));
        let expected = |number| [record(HANDSHAKE, 0, number), record(HANDSHAKE, 1, 0)].concat();
        assert_eq!(sent, [expected(0), expected(1)]);
    }

    #[test]
    fn the_timer_backs_off_and_gives_up() {
        let mut flight = Flight::default();
        let start = Instant::now();
        flight.send_new(vec![record(HANDSHAKE, 0, 0)], start, &mut |_| {});
        let mut last = start;
        let mut waits = Vec::new();
        let mut resends = 0;
        while let Some(due) = flight.deadline() {
            assert!(!flight.is_overdue(last), "not before its time");
            waits.push((due - last).as_millis());
            last = due;
            resends += u32::from(flight.is_overdue(due));
        }
        assert_eq!(waits[..5], [200, 400, 800, 1_600, 1_600]);
        assert_eq!(resends, Flight::RESENDS_MAX);
    }

    #[test]
    fn only_what_was_answered_counts_as_a_repeat() {
        let mut flight = Flight::default();
        assert!(!flight.answers(&part(0)));
        flight.hear(&Message { kind: CLIENT_HELLO, number: 0, body: Vec::new() });
        assert!(!flight.answers(&part(0)), "nothing was sent yet");
        flight.send_new(vec![record(HANDSHAKE, 0, 0)], Instant::now(), &mut |_| {});
        assert!(flight.answers(&part(0)));
        assert!(!flight.answers(&part(1)));
    }

    #[test]
    fn a_repeated_flight_of_several_datagrams_is_answered_once() {
        let mut flight = Flight::default();
        let start = Instant::now();
        flight.send_new(vec![record(HANDSHAKE, 0, 0)], start, &mut |_| {});
        let mut resent = Vec::new();
        for after in [5, 50, 51, 52, 100] {
            let now = start + Duration::from_millis(after);
            if flight.is_missed(now) {
                flight.resend(None, now, &mut |_| {});
                resent.push(after);
            }
        }
        assert_eq!(resent, [50, 100]);
    }
}
