//! What happens in a world, drawn from one seed, and told in words.

use crate::agreed::VIDEO;
use crate::camera::{BROWSER, Camera, Encoding, OBS, Repair, SAME_SIZE, TWO};
use crate::link::{Link, Random};
use crate::scalable::Mode;
use crate::tells::Tells;
use crate::viewer::Screen;
use crate::world::{ROLES, ms};
use millrace::engine::command::LayerChoice;
use millrace::media::bitrate::Bitrate;
use millrace::media::codec::Codec;
use millrace::peer::testing::{ClientOptions, Profiles};
use std::fmt;
use std::time::Duration;

/// One direction of a network, as long as it is not out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    delay: Duration,
    jitter: Duration,
    loss: f64,
    bursts: (f64, u32),
    reordering: f64,
    duplication: f64,
    rate: Option<Bitrate>,
}

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It closes its association.
    Closes,
    /// It says so over HTTP.
    Deletes,
    /// It is not heard of any more.
    Vanishes,
}

/// Who comes, and for what.
#[derive(Debug, Clone)]
pub(crate) enum Coming {
    Publisher(Camera),
    /// With the codecs that it knows.
    Viewer(Screen, Vec<Codec>),
}

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Comes {
        stream: String,
        coming: Coming,
        options: ClientOptions,
        weather: Box<[Weather; 2]>,
    },
    Leaves(Leaving),
    /// Its address becomes another.
    Moves,
    /// It asks for a thousand packets again and for a hundred keyframes, all at once.
    Floods,
    /// It sends nothing of one of its encodings any more, or something again.
    Stops(usize, bool),
    /// It wishes to see something else.
    Chooses(LayerChoice),
    /// Its link from the server has another rate.
    Carries(Bitrate),
    /// Nothing gets through from it, or to it, for so long.
    Outage {
        up: bool,
        down: bool,
        lasts: Duration,
    },
}

/// All that happens: when, to whom, what.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) shards: usize,
    pub(crate) eager: bool,
    pub(crate) burst_max: usize,
    pub(crate) span: Duration,
    pub(crate) acts: Vec<(Duration, usize, Act)>,
}

impl Weather {
    /// Sets a link so.
    pub(crate) fn apply(&self, link: &mut Link) {
        link.delay = self.delay;
        link.jitter = self.jitter;
        link.loss = self.loss;
        link.bursts = self.bursts;
        link.reordering = self.reordering;
        link.duplication = self.duplication;
        link.rate = self.rate;
    }
}

/// Draws what is to happen.
struct Draw {
    random: Random,
    /// Of its own, so that what can be left out of encodings does not change all else.
    modes: Random,
    comers: usize,
    acts: Vec<(Duration, usize, Act)>,
    span: Duration,
}

impl Plan {
    /// The purpose of its random numbers: links have those of their own.
    const PURPOSE: u64 = 1 << 40;

    /// What happens in the world of this seed.
    pub(crate) fn drawn(seed: u64) -> Self {
        let mut random = Random::seeded(seed, Self::PURPOSE);
        let span = ms(5_000 + random.next() % 5_000);
        let shards = 1 + (random.next() % 4) as usize;
        let eager = random.happens(0.5);
        let burst_max = if random.happens(0.3) { 3 } else { 500 };
        let modes = Random::seeded(seed, Self::PURPOSE + 1);
        let mut draw = Draw { random, modes, comers: 0, acts: Vec::new(), span };
        let streams = 1 + draw.upto(3);
        for stream in 0..streams {
            draw.publishers(&format!("lot-{stream}"));
        }
        for _ in 0..=draw.upto(12) {
            let stream = draw.upto(streams);
            draw.viewer(&format!("lot-{stream}"));
        }
        let mut acts = draw.acts;
        acts.retain(|(at, ..)| *at + ms(200) < span);
        acts.sort_by_key(|(at, who, _)| (*at, *who));
        Self { seed, shards, eager, burst_max, span, acts }
    }
}

impl Draw {
    /// A number below this one.
    fn upto(&mut self, bound: u64) -> u64 {
        self.random.next() % bound.max(1)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.upto(all.len() as u64) as usize]
    }

    /// A moment from here on, with a second left.
    fn moment(&mut self, from: Duration) -> Duration {
        let left = self.span.saturating_sub(from + ms(1_000));
        from + self.random.below(left)
    }

    fn share(&mut self, most: f64) -> f64 {
        self.upto(1_000) as f64 / 1_000.0 * most
    }

    fn weather(&mut self) -> Weather {
        let kind = self.upto(20);
        let [jitter, delay, harm] = match kind {
            0..9 => [5, 60, 0],
            9..16 => [20, 80, 1],
            _ => [40, 150, 4],
        };
        let harm = harm as f64;
        let bursts = if kind > 17 { (0.005, 2 + self.upto(7) as u32) } else { (0.0, 0) };
        let rate = self.random.happens(0.15).then(|| 300 + self.upto(4_000));
        Weather {
            delay: ms(1 + self.upto(delay)),
            jitter: ms(self.upto(jitter)),
            loss: self.share(0.02 * harm),
            bursts,
            reordering: self.share(0.03 * harm),
            duplication: self.share(0.02 * harm),
            rate: rate.map(|kbps| Bitrate::bps(kbps * 1_000)),
        }
    }

    /// The encodings of a camera: half of them have one.
    fn ladder(&mut self) -> &'static [Encoding] {
        self.one_of(&[&[], &[], &[], BROWSER, OBS, TWO, SAME_SIZE])
    }

    /// What somebody wishes to see.
    fn choice(&mut self) -> LayerChoice {
        let mut choice = LayerChoice::default();
        match self.upto(5) {
            0 => choice.paused = true,
            1 | 2 => choice.rid = Some(self.one_of(&["q", "h", "f", "0", "low", "x"]).to_owned()),
            3 => choice.ceiling.width = Some(self.one_of(&[300, 640, 1_000])),
            _ => {}
        }
        choice
    }

    fn camera(&mut self) -> Camera {
        let frame_rate = self.one_of(&[10, 15, 24, 30]);
        let group = self.one_of(&[10, 30, 60, 150, u64::MAX]);
        let codec = self.one_of(&VIDEO);
        Camera {
            codec,
            frame_rate,
            ladder: self.ladder(),
            together: self.random.happens(0.5),
            packets: 1 + self.upto(4) as usize,
            payload_bytes: 60 + self.upto(1_000) as usize,
            group,
            audio: self.random.happens(0.85),
            repair: self.one_of(&[Repair::No, Repair::Rtx, Repair::Rtx, Repair::Resend]),
            obliges: group == u64::MAX || self.random.happens(0.7),
            mode: self.mode(codec),
        }
    }

    /// What can be left out of the encodings: of every third camera something.
    fn mode(&mut self, codec: Codec) -> Mode {
        match (codec, self.modes.next() % 6) {
            (Codec::H265, _) | (_, 2..) => Mode::L1T1,
            (Codec::Vp9 | Codec::Av1, 0) => Mode::L3T3KEY,
            (_, _) => Mode::L1T3,
        }
    }

    fn options(&mut self, impostors: f64) -> ClientOptions {
        ClientOptions {
            server_role: self.one_of(&ROLES),
            profiles: self.one_of(&[Profiles::Chromium, Profiles::Firefox, Profiles::CmOnly]),
            impostor: self.random.happens(impostors),
            ..ClientOptions::default()
        }
    }

    /// A client comes, and much may happen to it.
    fn comes(&mut self, at: Duration, stream: &str, coming: Coming, impostors: f64) -> usize {
        let who = self.comers;
        self.comers += 1;
        let (stream, options) = (stream.to_owned(), self.options(impostors));
        let weather = Box::new([self.weather(), self.weather()]);
        self.acts.push((at, who, Act::Comes { stream, coming, options, weather }));
        if self.random.happens(0.2) {
            let moment = self.moment(at);
            self.acts.push((moment, who, Act::Moves));
        }
        if self.random.happens(0.2) {
            let (moment, lasts) = (self.moment(at), ms(50 + self.upto(700)));
            let (up, down) = self.one_of(&[(true, false), (false, true), (true, true)]);
            self.acts.push((moment, who, Act::Outage { up, down, lasts }));
        }
        who
    }

    fn leaves(&mut self, at: Duration, who: usize) {
        let leaving = self.one_of(&[Leaving::Closes, Leaving::Deletes, Leaving::Vanishes]);
        self.acts.push((at, who, Act::Leaves(leaving)));
    }

    /// A stream's publisher, who may leave and come back, and those who take it over.
    fn publishers(&mut self, stream: &str) {
        let at = ms(self.upto(600));
        let mut camera = self.camera();
        let mut who = self.comes(at, stream, Coming::Publisher(camera), 0.0);
        if camera.ladder.len() > 1 && self.random.happens(0.4) {
            let encoding = self.upto(camera.ladder.len() as u64) as usize;
            let first = self.moment(at);
            let again = self.moment(first + ms(300));
            self.acts.push((first, who, Act::Stops(encoding, true)));
            self.acts.push((again, who, Act::Stops(encoding, false)));
        }
        let mut since = at;
        for _ in 0..self.upto(3) {
            let moment = self.moment(since + ms(300));
            let takes_over = self.random.happens(0.4);
            if !takes_over {
                self.leaves(moment, who);
            }
            if !takes_over && self.random.happens(0.3) {
                return;
            }
            if self.random.happens(0.6) {
                camera = self.camera();
            }
            since = if takes_over { moment } else { moment + ms(50 + self.upto(1_500)) };
            who = self.comes(since, stream, Coming::Publisher(camera), 0.0);
        }
    }

    fn viewer(&mut self, stream: &str) {
        let at = self.moment(Duration::ZERO);
        let rtx = self.random.happens(0.6);
        let screen = Screen {
            rtx,
            dependencies: rtx,
            nack: self.random.happens(0.85),
            tells: self.one_of(&[Tells::Arrivals, Tells::Arrivals, Tells::Remb, Tells::Nothing]),
        };
        let lacks = self.one_of(&[None, None, None, Some(Codec::H265), Some(Codec::Av1)]);
        let knows = VIDEO.into_iter().filter(|&codec| Some(codec) != lacks).collect();
        let who = self.comes(at, stream, Coming::Viewer(screen, knows), 0.04);
        if self.random.happens(0.25) {
            let (moment, rate) = (self.moment(at), 200 + self.upto(3_000));
            self.acts.push((moment, who, Act::Carries(Bitrate::bps(rate * 1_000))));
        }
        if self.random.happens(0.25) {
            for _ in 0..=self.upto(3) {
                let (moment, choice) = (self.moment(at), self.choice());
                self.acts.push((moment, who, Act::Chooses(choice)));
            }
        }
        if self.random.happens(0.1) {
            let first = self.moment(at);
            self.acts.extend((0..4).map(|n| (first + ms(n * 50), who, Act::Floods)));
        }
        if self.random.happens(0.35) {
            let moment = self.moment(at);
            self.leaves(moment, who);
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, shards, eager, burst_max, span, acts } = self;
        let sends = if *eager { "at once" } else { "in batches" };
        writeln!(out, "seed {seed}: {span:?} on {shards} shards, which send {sends}, at most")?;
        writeln!(out, "{burst_max} packets of the past a turn; then the server stops")?;
        for (at, who, act) in acts {
            writeln!(out, "{:>8.3} s  comer {who} {act}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

impl fmt::Display for Act {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Comes { stream, coming, options, weather } => {
                match coming {
                    Coming::Publisher(camera) => write!(out, "publishes {stream}: {camera:?}")?,
                    Coming::Viewer(screen, knows) => {
                        write!(out, "views {stream}: {screen:?}, knows {knows:?}")?;
                    }
                }
                let ClientOptions { server_role, profiles, impostor, .. } = options;
                let impostor = if *impostor { ", an impostor" } else { "" };
                write!(out, ", server is DTLS {server_role:?}, {profiles:?}{impostor}")?;
                write!(out, ", up {}, down {}", weather[0], weather[1])
            }
            Self::Leaves(Leaving::Closes) => out.write_str("closes"),
            Self::Leaves(Leaving::Deletes) => out.write_str("leaves by DELETE"),
            Self::Leaves(Leaving::Vanishes) => out.write_str("vanishes"),
            Self::Floods => out.write_str("asks for everything again"),
            Self::Moves => out.write_str("moves to another address"),
            Self::Stops(encoding, stopped) => {
                let does = if *stopped { "stops" } else { "resumes" };
                write!(out, "{does} its encoding {encoding}")
            }
            Self::Chooses(choice) => write!(out, "wishes to see {choice:?}"),
            Self::Carries(rate) => write!(out, "has {} kb/s from now on", rate.as_bps() / 1_000),
            Self::Outage { up, down, lasts } => {
                let way = match (up, down) {
                    (true, true) => "both ways",
                    (true, false) => "up",
                    _ => "down",
                };
                write!(out, "is cut off {way} for {lasts:?}")
            }
        }
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        write!(out, "{:?}+{:?}", self.delay, self.jitter)?;
        for (what, share) in [
            ("lost", self.loss),
            ("overtaken", self.reordering),
            ("doubled", self.duplication),
            ("bursts", self.bursts.0),
        ] {
            if share > 0.0 {
                write!(out, " {:.1} % {what}", percent(share))?;
            }
        }
        match self.rate {
            Some(rate) => write!(out, " {} kb/s", rate.as_bps() / 1_000),
            None => Ok(()),
        }
    }
}
