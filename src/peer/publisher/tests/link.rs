//! A publisher over a bad link, by seed.

use super::*;

/// A sender behind a link with 20 ms each way that loses, delays and doubles packets.
struct BadLink {
    world: World,
    dice: Dice,
    loss_percent: u64,
    /// What is on its way: when it arrives, and a running number to tell equals apart.
    to_receiver: BTreeMap<(Instant, u64), Vec<u8>>,
    nacks_to_sender: BTreeMap<(Instant, u64), u16>,
    sent: BTreeMap<u16, Rtp>,
    /// When each packet was asked for.
    asked: BTreeMap<u16, Vec<Instant>>,
    forwarded: Vec<Arc<Packet>>,
    counter: u64,
    rtx_sequence: u16,
    with_rtx: bool,
}

const ONE_WAY: Duration = Duration::from_millis(20);

impl BadLink {
    fn new(seed: u64, loss_percent: u64, with_rtx: bool) -> Self {
        let mut media = video();
        if !with_rtx {
            media.formats[0].rtx = None;
        }
        Self {
            world: World::new(&[media]),
            dice: Dice(seed),
            loss_percent,
            to_receiver: BTreeMap::new(),
            nacks_to_sender: BTreeMap::new(),
            sent: BTreeMap::new(),
            asked: BTreeMap::new(),
            forwarded: Vec::new(),
            counter: 0,
            rtx_sequence: 65_500,
            with_rtx,
        }
    }

    fn transmit(&mut self, packet: &Rtp) {
        let copies = 1 + u64::from(self.dice.hits(2));
        for _ in 0..copies {
            if self.dice.hits(self.loss_percent) {
                continue;
            }
            // Up to 5 ms of jitter reorders packets that are 1 ms apart.
            let delay = ONE_WAY + Duration::from_millis(self.dice.roll(6));
            self.counter += 1;
            self.to_receiver.insert((self.world.now + delay, self.counter), packet.to_bytes());
        }
    }

    fn step(&mut self) {
        self.world.advance(1);
        let now = self.world.now;
        while let Some(entry) = self.to_receiver.first_entry().filter(|e| e.key().0 <= now) {
            let packet = self.world.deliver_bytes(&entry.remove());
            self.forwarded.extend(packet);
        }
        if self.world.receiver.deadline().is_some_and(|due| due <= now) {
            for sequence in self.world.nacked() {
                self.asked.entry(sequence).or_default().push(now);
                self.counter += 1;
                self.nacks_to_sender.insert((now + ONE_WAY, self.counter), sequence);
            }
            assert!(self.world.receiver.deadline().is_none_or(|due| due > now), "no busy loop");
        }
        while let Some(entry) = self.nacks_to_sender.first_entry().filter(|e| e.key().0 <= now) {
            let Some(packet) = self.sent.get(&entry.remove()).cloned() else { continue };
            if self.with_rtx {
                self.rtx_sequence = self.rtx_sequence.wrapping_add(1);
                let rtx = packet.as_rtx(8, self.rtx_sequence);
                self.transmit(&rtx);
            } else {
                self.transmit(&packet);
            }
        }
    }

    /// Sends so many packets, one each millisecond, across the wrap of sequence numbers.
    fn run(&mut self, packets: u16) {
        for index in 0..packets {
            let mut payload = if index % 600 == 0 { KEY.to_vec() } else { DELTA.to_vec() };
            payload.extend(index.to_be_bytes());
            let packet = Rtp::new(VIDEO, 7, 65_000_u16.wrapping_add(index), &payload);
            let packet = packet.at(4_294_000_000_u32.wrapping_add(u32::from(index) * 90));
            self.sent.insert(packet.sequence, packet.clone());
            if index == 0 {
                // The first one arrives: what lies before the first packet is nobody's loss.
                self.to_receiver.insert((self.world.now + ONE_WAY, 0), packet.to_bytes());
            } else {
                self.transmit(&packet);
            }
            self.step();
        }
        for _ in 0..1_500 {
            self.step();
        }
    }

    fn assert_whole(&mut self, packets: u16) {
        self.forwarded.sort_by_key(|packet| packet.sequence);
        assert_eq!(self.forwarded.len(), usize::from(packets), "each packet once");
        let first = (self.forwarded[0].sequence, self.forwarded[0].timestamp);
        for (index, packet) in (0_u16..).zip(&self.forwarded) {
            assert_eq!(packet.sequence, first.0 + u64::from(index), "no hole in the numbering");
            assert_eq!(packet.timestamp, first.1 + u64::from(index) * 90);
            assert_eq!(packet.payload[packet.payload.len() - 2..], index.to_be_bytes());
            assert_eq!(packet.keyframe, index % 600 == 0);
        }
        let report = self.world.report(Kind::Video);
        assert_eq!((report.packets, report.lost_packets), (u64::from(packets), 0));
    }
}

#[test]
fn over_a_bad_link_each_packet_comes_once_and_is_asked_for_once_per_round_trip() {
    for seed in 1..=8 {
        let mut link = BadLink::new(seed, 5, true);
        link.run(3_000);
        link.assert_whole(3_000);
        let requests: usize = link.asked.values().map(Vec::len).sum();
        assert!(link.asked.len() > 100, "about one in twenty is missing: {}", link.asked.len());
        assert!(requests < link.asked.len() * 5 / 4, "{requests} for {}", link.asked.len());
        for times in link.asked.values() {
            let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(gaps.min().is_none_or(|gap| gap >= ONE_WAY * 2), "{times:?}");
        }
        assert_eq!(link.world.report(Kind::Video).nacks, requests as u64);
        let round_trip = link.world.receiver.round_trip().expect("retransmissions came");
        assert!((40..60).contains(&round_trip.as_millis()), "{round_trip:?}");
    }
}

#[test]
fn a_sender_without_rtx_repairs_with_identical_packets() {
    for seed in 1..=4 {
        let mut link = BadLink::new(seed, 5, false);
        link.run(3_000);
        link.assert_whole(3_000);
        assert_eq!(link.world.receiver.round_trip(), None, "sampled from RTX only");
    }
}

#[test]
fn on_a_clean_link_nothing_is_asked_for() {
    let mut link = BadLink::new(3, 0, true);
    link.run(3_000);
    link.assert_whole(3_000);
    assert!(link.asked.is_empty(), "reordering within 8 ms is no loss: {:?}", link.asked);
}
