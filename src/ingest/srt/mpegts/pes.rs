//! Puts the PES packets of one PID together (ISO/IEC 13818-1 §2.4.3.6), and finds their ends early.
//!
//! Most encoders leave the length of video out, so that a PES packet is over only when the next
//! one begins: a frame later. But its last packet is filled up by an adaptation field, as the ones
//! before are not, unless it ends with it by chance. Where that has been so for a while, the
//! stuffing is taken for the end; the first time that it is not ends the practice for good.

use super::packet::Packet;

/// Access units are smaller: a keyframe of 4K at 100 Mb/s has 2 MB.
pub(super) const VIDEO_MAX: usize = 4 << 20;
/// What a PES packet with a length can be, and more than any audio needs.
pub(super) const AUDIO_MAX: usize = 1 << 17;
/// After so many PES packets that ended with the stuffing it is taken for the end.
const TRUSTED_AFTER: u32 = 8;
/// The fixed part of a header, with the flags and the length of what follows.
const HEADER: usize = 9;

/// What one PES packet carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pes {
    /// In 90 kHz ticks modulo 2^33.
    pub(super) presented: Option<u64>,
    /// Where it differs from `presented`.
    pub(super) decoded: Option<u64>,
    pub(super) data: Vec<u8>,
    /// Nothing of it was lost.
    pub(super) is_whole: bool,
}

/// One PID's PES packets.
#[derive(Debug)]
pub(super) struct Assembly {
    state: State,
    /// The PES packet so far, header included.
    bytes: Vec<u8>,
    /// How long it will be, where it says so.
    len: Option<usize>,
    len_max: usize,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has begun, or what had is lost.
    Waiting,
    Reading,
    /// It was handed out by the stuffing.
    Ended,
}

/// What is known of how this PID's PES packets end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// So many in a row ended with stuffing; whether the current one had any.
    Learning {
        seen: u32,
        stuffed: bool,
    },
    Trusted,
    /// There was more after some stuffing.
    Unclear,
}

/// What came of a packet: PES packets that are over, in their order, and whether one was lost.
#[derive(Debug, Default)]
pub(super) struct Finished {
    pub(super) units: [Option<Pes>; 2],
    pub(super) lost: bool,
}

impl Assembly {
    pub(super) fn new(len_max: usize) -> Self {
        let end = End::Learning { seen: 0, stuffed: false };
        Self { state: State::Waiting, bytes: Vec::new(), len: None, len_max, end }
    }

    /// Takes in the next packet of the PID.
    pub(super) fn push(&mut self, packet: &Packet<'_>) -> Finished {
        let mut finished = Finished::default();
        if packet.is_start {
            if self.state == State::Reading {
                self.learn();
                let is_whole = self.len.is_none();
                finished.lost = !is_whole;
                finished.units[0] = self.take(is_whole);
            }
            self.bytes.clear();
            self.len = None;
            self.state = State::Reading;
        }
        match self.state {
            State::Waiting => return finished,
            State::Ended => {
                // It was not over: what was handed out was half of it.
                if !packet.payload.is_empty() {
                    self.end = End::Unclear;
                    self.state = State::Waiting;
                    finished.lost = true;
                }
                return finished;
            }
            State::Reading => {}
        }
        if self.bytes.len() + packet.payload.len() > self.len_max {
            self.state = State::Waiting;
            self.bytes = Vec::new();
            finished.lost = true;
            return finished;
        }
        if let End::Learning { stuffed: true, .. } = self.end
            && !packet.is_start
            && !packet.payload.is_empty()
        {
            self.end = End::Unclear;
        }
        self.bytes.extend_from_slice(packet.payload);
        self.note_len();
        let complete = self.len.is_some_and(|len| self.bytes.len() >= len);
        if let Some(len) = self.len.filter(|_| complete) {
            self.bytes.truncate(len);
            finished.units[1] = self.take(true);
            self.state = State::Waiting;
        } else if packet.is_stuffed && self.len.is_none() {
            match &mut self.end {
                End::Learning { stuffed, .. } => *stuffed = true,
                End::Trusted => {
                    finished.units[1] = self.take(true);
                    self.state = State::Ended;
                }
                End::Unclear => {}
            }
        }
        finished
    }

    /// Packets are missing: what has begun will never be whole, unless it had its end already.
    /// Gives what there is of it.
    pub(super) fn lost(&mut self) -> Option<Pes> {
        let began = self.state == State::Reading;
        let had_end = matches!(self.end, End::Learning { stuffed: true, .. }) && self.len.is_none();
        if had_end {
            self.learn();
        }
        self.state = State::Waiting;
        if began { self.take(had_end) } else { None }
    }

    /// A PES packet without a length has ended where the next one begins.
    fn learn(&mut self) {
        if self.len.is_some() {
            return;
        }
        if let End::Learning { seen, stuffed } = self.end {
            let seen = if stuffed { seen + 1 } else { seen };
            self.end = if seen >= TRUSTED_AFTER {
                End::Trusted
            } else {
                End::Learning { seen, stuffed: false }
            };
        }
    }

    /// Reads the length as soon as it is there; 0 is none, which is allowed of video.
    fn note_len(&mut self) {
        if self.len.is_none()
            && let Some(&[_, _, _, _, high, low]) = self.bytes.first_chunk()
            && (high, low) != (0, 0)
        {
            self.len = Some(6 + usize::from(u16::from_be_bytes([high, low])));
        }
    }

    fn take(&mut self, is_whole: bool) -> Option<Pes> {
        let bytes = std::mem::take(&mut self.bytes);
        split(bytes, is_whole)
    }
}

/// Takes the header off.
fn split(mut bytes: Vec<u8>, is_whole: bool) -> Option<Pes> {
    let &[0, 0, 1, stream, _, _, marks, flags, header_len] = bytes.first_chunk::<HEADER>()? else {
        return None;
    };
    // §2.4.3.7: these have no such header, and nothing that could be played.
    if matches!(stream, 0xbc | 0xbe | 0xbf | 0xf0..=0xf2 | 0xf8 | 0xff) || marks >> 6 != 0b10 {
        return None;
    }
    let header = bytes.get(HEADER..)?;
    let presented = (flags & 0x80 != 0).then(|| timestamp(header)).flatten();
    let decoded = (flags >> 6 == 0b11).then(|| timestamp(header.get(5..)?)).flatten();
    let begin = HEADER + usize::from(header_len);
    if bytes.len() < begin {
        return None;
    }
    bytes.drain(..begin);
    Some(Pes { presented, decoded, data: bytes, is_whole })
}

/// 33 bits in 5 bytes, with marker bits between.
fn timestamp(bytes: &[u8]) -> Option<u64> {
    let bits = bytes.first_chunk::<5>()?.map(u64::from);
    Some(
        (bits[0] >> 1 & 7) << 30
            | bits[1] << 22
            | (bits[2] >> 1) << 15
            | bits[3] << 7
            | bits[4] >> 1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a PES packet with a PTS of 90,000 and this length field.
    fn header(len: u16) -> Vec<u8> {
        let [high, low] = len.to_be_bytes();
        vec![0, 0, 1, 0xe0, high, low, 0x80, 0x80, 5, 0x21, 0, 5, 0xbf, 0x21]
    }

    fn packet(payload: &[u8], is_start: bool, is_stuffed: bool) -> Packet<'_> {
        Packet {
            pid: 0x100,
            is_start,
            is_unusable: false,
            continuity: 0,
            is_discontinuous: false,
            is_stuffed,
            payload,
        }
    }

    fn data(finished: Finished) -> Vec<Vec<u8>> {
        finished.units.into_iter().flatten().map(|pes| pes.data).collect()
    }

    /// One PES packet of two packets, the second stuffed.
    fn feed(assembly: &mut Assembly, mark: u8) -> Vec<Vec<u8>> {
        let first = [header(0), vec![mark]].concat();
        let mut all = data(assembly.push(&packet(&first, true, false)));
        all.extend(data(assembly.push(&packet(&[mark], false, true))));
        all
    }

    #[test]
    fn timestamps_are_read() {
        let pes = split(header(0), true).expect("a header");
        assert_eq!((pes.presented, pes.decoded), (Some(90_000), None));
        let both = [0, 0, 1, 0xe0, 0, 0, 0x80, 0xc0, 10, 0x3f, 0xff, 0xff, 0xff, 0xff];
        let both = [&both[..], &[0x11, 0, 5, 0xbf, 0x21]].concat();
        let pes = split(both, true).expect("a header");
        assert_eq!((pes.presented, pes.decoded), (Some((1 << 33) - 1), Some(90_000)));
    }

    #[test]
    fn a_known_length_ends_it_at_once() {
        let mut assembly = Assembly::new(VIDEO_MAX);
        let bytes = [header(12), vec![7, 8, 9, 9]].concat();
        let finished = assembly.push(&packet(&bytes[..10], true, false));
        assert!(data(finished).is_empty());
        let finished = assembly.push(&packet(&bytes[10..], false, false));
        assert_eq!(data(finished), [[7, 8, 9, 9]]);
    }

    #[test]
    fn an_unknown_length_is_ended_by_the_next_until_the_stuffing_is_trusted() {
        let mut assembly = Assembly::new(VIDEO_MAX);
        assert!(feed(&mut assembly, 0).is_empty());
        for mark in 1..TRUSTED_AFTER as u8 {
            assert_eq!(feed(&mut assembly, mark), [[mark - 1; 2]]);
        }
        // The one before, which is not trusted yet, and this one at once.
        let last = TRUSTED_AFTER as u8;
        assert_eq!(feed(&mut assembly, last), [[last - 1; 2], [last; 2]]);
        assert_eq!(feed(&mut assembly, 99), [[99; 2]]);
    }

    #[test]
    fn stuffing_in_the_middle_is_never_trusted_again() {
        let mut assembly = Assembly::new(VIDEO_MAX);
        for mark in 0..=TRUSTED_AFTER as u8 {
            feed(&mut assembly, mark);
        }
        let finished = assembly.push(&packet(&[1], false, false));
        assert!(finished.lost, "what was handed out was not all");
        for mark in 0..20 {
            let early = data(assembly.push(&packet(&[header(0), vec![mark]].concat(), true, true)));
            assert_eq!(early.len(), usize::from(mark > 0), "only the one before");
        }
    }

    #[test]
    fn what_is_cut_short_or_endless_is_lost() {
        let mut assembly = Assembly::new(64);
        let cut = [header(200), vec![1, 2]].concat();
        assembly.push(&packet(&cut, true, false));
        let finished = assembly.push(&packet(&header(0), true, false));
        assert!(finished.lost);
        assert!(finished.units[0].as_ref().is_some_and(|it| !it.is_whole));
        assert!(assembly.push(&packet(&[0; 64], false, false)).lost, "longer than allowed");
        assert!(data(assembly.push(&packet(&[0; 10], false, false))).is_empty());
        assembly.push(&packet(&[header(0), vec![5]].concat(), true, false));
        let rest = assembly.lost().expect("the beginning of it");
        assert_eq!((rest.data, rest.is_whole), (vec![5], false));
        assert_eq!(assembly.lost(), None);
    }
}
