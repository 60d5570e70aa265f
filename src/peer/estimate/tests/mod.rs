//! Whether the estimate follows a link: a sender of layers, a bottleneck, a receiver's feedback, in
//! virtual time.
//!
//! - `link`: the bottleneck and the receiver

mod link;

use super::{Basis, Estimate, Estimator};
use crate::media::bitrate::Bitrate;
use link::{Link, Receiver};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Rates of the layers, in kb/s.
const LAYERS: [u64; 4] = [150, 500, 1_200, 2_500];
/// Sound, with its headers.
const AUDIO_KBPS: u64 = 40;
/// A layer is taken if the estimate exceeds it by this.
const HEADROOM: f64 = 1.1;

/// A viewer of a stream of layers behind a link.
struct World {
    start: Instant,
    now: Instant,
    link: Link,
    receiver: Receiver,
    estimator: Estimator,
    can_probe: bool,
    /// Whether any picture flows.
    has_picture: bool,
    /// What flows, and from when on another does.
    layer: usize,
    layers: usize,
    next_layer: Option<(usize, Instant)>,
    next_frame: Instant,
    frame: u64,
    next_audio: Instant,
    /// Somebody else's traffic on the link.
    cross: Bitrate,
    next_cross: Instant,
    probe_bytes: u64,
    media_bytes: u64,
    switches: Vec<(Duration, usize)>,
    /// Every tenth of a second: time, layer, estimate.
    trace: Vec<(Duration, usize, Bitrate)>,
}

impl World {
    fn new(rate: Bitrate) -> Self {
        Self::with_probes(rate, true)
    }

    fn with_probes(rate: Bitrate, can_probe: bool) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            link: Link::new(rate, start),
            receiver: Receiver::new(start),
            estimator: Estimator::new(can_probe, start),
            can_probe,
            has_picture: true,
            layer: 1,
            layers: LAYERS.len(),
            next_layer: None,
            next_frame: start,
            frame: 0,
            next_audio: start,
            cross: Bitrate::default(),
            next_cross: start,
            probe_bytes: 0,
            media_bytes: 0,
            switches: Vec::new(),
            trace: Vec::new(),
        }
    }

    fn send(&mut self, size: usize) {
        let number = self.estimator.history().next_number();
        self.estimator.history().departs(size, self.now);
        self.link.push(Some(number), size, self.now);
    }

    /// A frame of the layer, as one burst; sizes waver, and keyframes are five times as large.
    fn send_frame(&mut self) {
        let mean = LAYERS[self.layer] as f64 * 1_000.0 / 8.0 / 30.0;
        let wavers = 0.7 + 0.6 * self.link.random();
        let is_key = self.frame == 0;
        let mut left = (mean * if is_key { 5.0 } else { wavers }) as usize;
        self.frame += 1;
        self.media_bytes += left as u64;
        while left > 0 {
            let size = left.min(1_200);
            self.send(size + 40);
            left -= size;
        }
        self.next_frame += Duration::from_micros(33_333);
    }

    /// What a simple allocator does: down at once, up after half a second.
    fn choose(&mut self, seconds_up: f64) {
        let estimate = self.estimator.estimate(self.now).map_or(Estimate::START, |it| it.bitrate);
        let need = |layer: usize| Bitrate::kbps(LAYERS[layer] + AUDIO_KBPS);
        let fits = |layer: &usize| *layer == 0 || need(*layer) <= estimate;
        let carried = (0..self.layers).rev().find(fits).unwrap_or(0);
        let with_room = |layer: &usize| *layer == 0 || need(*layer).scaled(HEADROOM) <= estimate;
        let reached = (0..self.layers).rev().find(with_room).unwrap_or(0);
        let next = self.layer + 1;
        let want =
            if next < self.layers { need(next).scaled(HEADROOM) } else { Bitrate::default() };
        self.estimator.want(want, self.now);
        if carried < self.layer {
            // The keyframe has to come first.
            let at = self.now + Duration::from_millis(100);
            let at = self.next_layer.filter(|(to, _)| *to < self.layer).map_or(at, |(_, at)| at);
            self.next_layer = Some((carried, at));
        } else if reached > self.layer {
            let at = self.now + Duration::from_secs_f64(seconds_up);
            self.next_layer.get_or_insert((reached, at));
        } else {
            self.next_layer = None;
        }
        if let Some((to, at)) = self.next_layer
            && at <= self.now
        {
            self.switches.push((self.now - self.start, to));
            (self.layer, self.frame, self.next_layer) = (to, 0, None);
        }
    }

    fn is_stopped(&self) -> bool {
        let queue = self.estimator.estimate(self.now).map_or(Duration::ZERO, |it| it.queue);
        let goes_down = self.next_layer.is_some_and(|(to, _)| to < self.layer);
        goes_down && queue > Duration::from_millis(60)
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(1);
        let now = self.now;
        self.choose(0.5);
        while self.next_frame <= now {
            // What the path does not carry waits for the keyframe of a lower layer.
            if self.is_stopped() || !self.has_picture {
                self.next_frame += Duration::from_micros(33_333);
            } else {
                self.send_frame();
            }
        }
        while self.next_audio <= now {
            self.send(AUDIO_KBPS as usize * 20 / 8);
            self.next_audio += Duration::from_millis(20);
        }
        while self.next_cross <= now && self.cross > Bitrate::default() {
            self.link.push(None, 1_200, now);
            let gap = 1_200.0 * 8.0 / self.cross.as_bps() as f64;
            // Evenly random around the mean.
            self.next_cross += Duration::from_secs_f64(gap * 2.0 * self.link.random());
        }
        self.next_cross = self.next_cross.max(now);
        if self.can_probe && self.estimator.deadline().is_some_and(|at| at <= now) {
            let mut due = self.estimator.probe(now);
            while due > 0 {
                self.send(1_100);
                self.estimator.probed(1_100, now);
                self.probe_bytes += 1_100;
                due = due.saturating_sub(1_100);
            }
        }
        for (number, at) in self.link.serve(now) {
            self.receiver.receive(number, at);
        }
        let back = self.link.delay;
        self.receiver.report(back, now, &mut self.estimator);
        let elapsed = now - self.start;
        if elapsed.as_millis().is_multiple_of(100) {
            let estimate = self.estimator.estimate(now).map_or(Estimate::START, |it| it.bitrate);
            self.trace.push((elapsed, self.layer, estimate));
        }
    }

    fn run(&mut self, seconds: f64) -> &mut Self {
        let until = self.now + Duration::from_secs_f64(seconds);
        while self.now < until {
            self.step();
        }
        self
    }

    /// Forgets the longest wait, and tells it.
    fn waited(&mut self) -> Duration {
        std::mem::take(&mut self.link.waited_max)
    }

    fn estimate(&self) -> Bitrate {
        self.estimator.estimate(self.now).expect("it was measured").bitrate
    }

    /// How long after a moment the layer was at most this, to stay for a second.
    fn reached(&self, since: Duration, is_there: impl Fn(usize) -> bool) -> Option<Duration> {
        let after: Vec<_> = self.trace.iter().filter(|(at, ..)| *at >= since).collect();
        let first = after.windows(10).find(|it| it.iter().all(|(_, layer, _)| is_there(*layer)))?;
        Some(first[0].0.saturating_sub(since))
    }

    fn switches_after(&self, seconds: u64) -> usize {
        self.switches.iter().filter(|(at, _)| *at >= Duration::from_secs(seconds)).count()
    }

    /// The most switches in ten seconds.
    fn most_switches(&self) -> usize {
        let until = |from: Duration| from + Duration::from_secs(10);
        let count = |(from, _): &(Duration, usize)| {
            let within = |(at, _): &&(Duration, usize)| *at >= *from && *at < until(*from);
            self.switches.iter().filter(within).count()
        };
        self.switches.iter().map(count).max().unwrap_or(0)
    }

    /// One line for each second, for those who look.
    fn told(&self) -> String {
        let mut told = format!("switches {:?}\n", self.switches);
        for second in self.trace.chunks(10) {
            let estimates: Vec<_> = second.iter().map(|(.., it)| it.as_bps() / 1000).collect();
            let _ = writeln!(told, "{:?} layer {} {estimates:?}", second[0].0, second[0].1);
        }
        told
    }
}

#[test]
fn a_viewer_starts_and_climbs_to_what_its_link_carries() {
    for (kbps, layer, within) in [(250, 0, 2.0), (800, 1, 2.0), (2_000, 2, 3.0), (20_000, 3, 3.0)] {
        let mut world = World::new(Bitrate::kbps(kbps));
        world.run(20.0);
        let reached = world.reached(Duration::ZERO, |it| it == layer);
        assert!(reached.is_some_and(|it| it.as_secs_f64() <= within), "{kbps}: {}", world.told());
        assert_eq!(world.layer, layer, "{kbps} kb/s");
        assert!(world.switches_after(5) <= 3, "{kbps}: {:?}", world.switches);
    }
}

#[test]
fn a_link_that_halves_is_followed_and_so_is_its_recovery() {
    let mut world = World::new(Bitrate::kbps(3_000));
    world.run(10.0);
    assert_eq!(world.layer, 3);
    world.waited();
    let before = world.now - world.start;
    world.link.rate = Bitrate::kbps(1_500);
    world.run(10.0);
    let reached = world.reached(before, |it| it <= 2);
    assert!(reached.is_some_and(|it| it < Duration::from_secs(2)), "{}", world.told());
    assert_eq!(world.layer, 2);
    let waited = world.waited();
    assert!(waited <= Duration::from_millis(200), "{waited:?}");
    let estimate = world.estimate();
    assert!(estimate >= Bitrate::kbps(1_200) && estimate <= Bitrate::kbps(1_500), "{estimate}");
    world.link.rate = Bitrate::kbps(3_000);
    let recovered = world.now - world.start;
    world.run(15.0);
    let reached = world.reached(recovered, |it| it == 3);
    assert!(reached.is_some_and(|it| it < Duration::from_secs(8)), "{}", world.told());
}

#[test]
fn a_link_that_falls_to_a_fifth_is_followed_and_so_is_its_recovery() {
    let mut world = World::new(Bitrate::kbps(3_000));
    world.run(10.0);
    let before = world.now - world.start;
    world.link.rate = Bitrate::kbps(600);
    world.run(20.0);
    let reached = world.reached(before, |it| it <= 1);
    assert!(reached.is_some_and(|it| it < Duration::from_secs(1)), "{}", world.told());
    assert!(world.estimate() <= Bitrate::kbps(600));
    world.link.rate = Bitrate::kbps(3_000);
    let recovered = world.now - world.start;
    world.run(15.0);
    let reached = world.reached(recovered, |it| it == 3);
    assert!(reached.is_some_and(|it| it < Duration::from_secs(8)), "{}", world.told());
}

#[test]
fn a_steady_link_is_left_alone() {
    for kbps in [250, 400, 700, 1_000, 1_400, 1_800, 2_600, 2_800, 3_500, 8_000] {
        let mut world = World::new(Bitrate::kbps(kbps));
        world.run(60.0);
        let share = world.probe_bytes as f64 / (kbps * 1_000 / 8 * 60) as f64;
        assert!(world.most_switches() <= 3, "{kbps}: {:?}", world.switches);
        assert!(world.switches_after(10) <= 2, "{kbps}: {:?}", world.switches);
        // 3 % of what the link carries, and what may be spent at once at the beginning.
        let at_once = 48_000.0 / (kbps * 1_000 / 8 * 60) as f64;
        assert!(share < 0.03 + at_once, "{kbps}: {share}");
    }
}

#[test]
fn packets_that_are_late_by_chance_are_no_queue() {
    for jitter in [5, 10, 20] {
        let mut world = World::new(Bitrate::kbps(4_000));
        world.link.jitter = Duration::from_millis(jitter);
        world.run(60.0);
        assert_eq!(world.layer, 3, "{jitter} ms");
        assert!(world.switches_after(5) <= 2, "{jitter} ms: {:?}", world.switches);
    }
}

#[test]
fn a_path_that_loses_by_itself_keeps_its_layer() {
    for percent in [1, 5, 12] {
        let mut world = World::new(Bitrate::kbps(4_000));
        world.link.loss = f64::from(percent) / 100.0;
        world.run(60.0);
        assert_eq!(world.layer, 3, "{percent} %");
        assert!(world.most_switches() <= 4, "{percent} %: {:?}", world.switches);
    }
}

#[test]
fn a_short_queue_that_overflows_is_followed_by_its_losses() {
    let mut world = World::new(Bitrate::kbps(3_000));
    world.link.queue_max = Duration::from_millis(100);
    world.run(10.0);
    let before = world.now - world.start;
    world.link.rate = Bitrate::kbps(1_500);
    world.run(10.0);
    let reached = world.reached(before, |it| it <= 2);
    assert!(reached.is_some_and(|it| it < Duration::from_secs(2)), "{}", world.told());
}

#[test]
fn traffic_of_others_is_made_room_for_and_what_it_leaves_is_taken() {
    for (kbps, most) in [(500, 3), (1_500, 3), (2_500, 2)] {
        let mut world = World::new(Bitrate::kbps(4_000));
        world.run(10.0);
        world.cross = Bitrate::kbps(kbps);
        world.run(30.0);
        let estimate = world.estimate();
        assert!((1..=most).contains(&world.layer), "{kbps}: {estimate} {}", world.told());
        assert!(world.most_switches() <= 6, "{kbps}: {:?}", world.switches);
        world.cross = Bitrate::default();
        world.run(35.0);
        assert_eq!(world.layer, 3, "{kbps}: {}", world.told());
    }
}

#[test]
fn what_is_known_of_a_link_stays_while_little_is_sent() {
    let mut world = World::new(Bitrate::kbps(3_500));
    world.run(10.0);
    let before = world.estimate();
    world.layers = 1;
    world.layer = 0;
    world.run(60.0);
    let after = world.estimate();
    assert!(after >= before.scaled(0.9) && after <= before.scaled(1.1), "{before} {after}");
    assert_eq!(world.estimator.estimate(world.now).map(|it| it.basis), Some(Basis::Feedback));
}

#[test]
fn the_way_up_is_found_while_nothing_but_sound_flows() {
    let mut world = World::new(Bitrate::kbps(3_000));
    world.run(5.0);
    world.link.rate = Bitrate::kbps(50);
    world.run(10.0);
    let fell = world.estimate();
    assert!(fell <= Bitrate::kbps(60), "{fell}");
    world.has_picture = false;
    world.link.rate = Bitrate::kbps(3_000);
    world.run(15.0);
    let estimate = world.estimate();
    assert!(estimate >= Bitrate::kbps(250), "{estimate}: {}", world.told());
    world.has_picture = true;
    world.run(10.0);
    assert_eq!(world.layer, 3, "{}", world.told());
}

#[test]
fn without_probes_a_viewer_climbs_by_trying() {
    let mut world = World::with_probes(Bitrate::kbps(4_000), false);
    world.run(25.0);
    assert_eq!(world.layer, 3, "{}", world.told());
    let mut world = World::with_probes(Bitrate::kbps(2_000), false);
    world.run(120.0);
    assert_eq!(world.layer, 2, "{}", world.told());
    assert!(world.most_switches() <= 3, "{:?}", world.switches);
}

#[test]
fn a_receivers_own_estimate_counts_where_there_is_no_feedback() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut estimator = Estimator::new(false, start);
    assert_eq!(estimator.estimate(start), None);
    for second in 0..10_u64 {
        let now = at(second * 1_000);
        estimator.on_remb(Bitrate::kbps(400), now);
        // 500 kb/s are sent.
        estimator.on_report(0.0, second * 62_500, now);
        let estimate = estimator.estimate(now).expect("it was told");
        assert_eq!((estimate.basis, estimate.bitrate), (Basis::Remb, Bitrate::kbps(400)));
    }
    let later = estimator.estimate(at(30_000)).expect("reports stay");
    assert_eq!(later.basis, Basis::Reports);
}

#[test]
fn losses_in_reports_count_where_there_is_nothing_else() {
    let start = Instant::now();
    let mut estimator = Estimator::new(false, start);
    let mut bytes = 0;
    for (until, loss) in [(5, 0.0), (15, 0.3)] {
        for second in until - 5..until {
            bytes += 100_000;
            estimator.on_report(loss, bytes, start + Duration::from_secs(second));
        }
    }
    let estimate = estimator.estimate(start + Duration::from_secs(15)).expect("reported");
    assert!(estimate.bitrate < Bitrate::kbps(800), "{}", estimate.bitrate);
    assert_eq!(estimate.basis, Basis::Reports);
    let later = estimator.estimate(start + Duration::from_mins(1)).expect("reports stay");
    assert_eq!(later.bitrate, Estimate::CEILING, "a limit is not for ever");
}

/// Players that know no feedback per packet could else never leave the layer they began with.
#[test]
fn reports_without_losses_tell_of_no_limit() {
    let start = Instant::now();
    let mut estimator = Estimator::new(true, start);
    for second in 0..10_u64 {
        let now = start + Duration::from_secs(second);
        estimator.on_report(0.0, second * 30_000, now);
        let estimate = estimator.estimate(now).expect("reported");
        assert_eq!((estimate.basis, estimate.bitrate), (Basis::Reports, Estimate::CEILING));
    }
}
