//! What must always hold of what the server does, checked with each datagram and after each step.
//!
//! The oracle stands between the engines and the network: it reads what leaves with the clients'
//! keys, before anything is lost, and knows what of the publishers' packets has reached the server.
//!
//! - `bounds`: no queue grows without end, and nothing is left when all is over
//! - `nonce`: nothing is sealed twice with different bytes
//! - `selected`: what viewers are to get
//! - `source`: what the publishers have sent, and what of it has reached the server
//! - `tallies`: how much was seen
//! - `track`: one track to one viewer, what it gets and what it is owed

pub(crate) mod bounds;
mod nonce;
mod selected;
mod source;
mod tallies;
mod track;

use crate::client::{Client, Side};
use crate::sessions::session;
use crate::tells::Tells;
use millrace::engine::command::{Agreement, Event};
use millrace::media::id::SessionId;
use millrace::peer::header::RtpHeader;
use millrace::peer::stun::{DatagramKind, classify};
use nonce::Nonces;
use rtc_rtcp::packet::unmarshal;
use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::sender_report::SenderReport;
use selected::Selected;
use source::Sources;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use track::{Opened, Track, Watch};

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// No nonce protects two different packets.
    Nonce,
    /// Media and reports come under the SSRCs that were agreed.
    Ssrc,
    /// Payload types are those agreed for the codec.
    PayloadType,
    /// What a viewer gets, its publisher has sent.
    Content,
    /// What a client is sent is sealed with its keys.
    Keys,
    /// The end of a picture is marked where its publisher has marked it.
    Marker,
    /// Numbers go on without a gap of the server's making.
    Gap,
    /// What has reached the server is passed on, once a viewer has begun.
    Missing,
    /// What is live is passed on in the order in which it came.
    Order,
    /// Pictures begin with a keyframe.
    Keyframe,
    /// What a frame refers to is sent before it.
    Reference,
    /// Picture ids and counts of base layer frames go on as if nothing were left out.
    Numbers,
    /// Timestamps rise as the publisher's do.
    Timestamp,
    /// No media before the client's certificate is checked, nor after its session has ended.
    Session,
    /// A client is sent media only where its checks have come from.
    Address,
    /// What is sent again is what was sent.
    Retransmission,
    /// Retransmissions have a bounded part of what a viewer is sent.
    RtxShare,
    /// A publisher is asked for a keyframe once a second at most.
    KeyframeRequests,
    /// Whoever watches a stream that flows sees something of it.
    Starved,
    /// A sender report tells the timestamp of its moment.
    Report,
    /// By the sender reports sound and picture stay together, whichever layer it is.
    LipSync,
    /// A layer that has stopped is left.
    Stopped,
    /// On a steady link layers do not take turns.
    Oscillation,
    /// A viewer is to get what its link is taken to carry.
    Target,
    /// What a viewer gets for long is what its link carries.
    Overload,
    /// No code panics, and no message between shards is lost.
    Fault,
    /// Whatever an engine keeps has a bound.
    Bounds,
    /// A session ends once, and nothing of it is left.
    Ending,
}

/// A rule that was broken, and how.
pub(crate) type Verdict = Result<(), (Rule, String)>;

pub(crate) fn broken(rule: Rule, how: String) -> Verdict {
    Err((rule, how))
}

/// What was broken when, and by what is done to which client.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    at: Duration,
    client: Option<usize>,
    how: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} at {:.3} s", self.rule, self.at.as_secs_f64())?;
        if let Some(client) = self.client {
            write!(out, ", client {client}")?;
        }
        write!(out, ": {}", self.how)
    }
}

/// A session as the oracle knows it.
#[derive(Debug)]
struct Known {
    stream: String,
    /// Of a viewer.
    tracks: Vec<Track>,
    /// It must never get media: its certificate is not the one of its offer.
    is_impostor: bool,
    connected: Option<Instant>,
    ended: bool,
    /// Of a viewer: what it is to get, as far as that is told.
    selected: Selected,
    /// Since when nothing was changed about it: its link, its choice, what its stream sends.
    steady_since: Instant,
    /// Where its checks have come from.
    checked: HashSet<SocketAddr>,
    /// What was sent to it before it had its keys.
    early: Vec<(Instant, Vec<u8>)>,
}

/// All that is looked at.
#[derive(Debug)]
pub(crate) struct Oracle {
    epoch: Instant,
    nonces: Nonces,
    sources: Sources,
    known: BTreeMap<usize, Known>,
    sessions: HashMap<SessionId, usize>,
    /// What was found, oldest first.
    pub(crate) violations: Vec<Violation>,
    digest: DefaultHasher,
}

impl Oracle {
    /// Between two keyframe requests to one publisher, less what a clock may round.
    const REQUEST_INTERVAL: Duration = Duration::from_millis(999);
    /// Sound and picture are apart by so many microseconds at most, over the worst of networks.
    const TOGETHER: i64 = 90_000;
    /// More than anything is looked at for is not kept.
    const VIOLATIONS_MAX: usize = 100;

    pub(crate) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            nonces: Nonces::default(),
            sources: Sources::default(),
            known: BTreeMap::new(),
            sessions: HashMap::new(),
            violations: Vec::new(),
            digest: DefaultHasher::new(),
        }
    }

    /// A client comes that has agreed on this.
    pub(crate) fn comes(&mut self, number: usize, client: &Client, agreement: &Agreement) {
        let tracks = match agreement {
            Agreement::Viewer(agreement) => agreement.media.iter().cloned().map(Track::new),
            Agreement::Publisher(_) => [].iter().cloned().map(Track::new),
        };
        if let Side::Publisher(publishing) = &client.side {
            self.sources.add(number, &client.stream, publishing);
        }
        let known = Known {
            stream: client.stream.clone(),
            tracks: tracks.collect(),
            is_impostor: client.is_impostor,
            connected: None,
            ended: false,
            selected: Selected::default(),
            steady_since: self.epoch,
            checked: HashSet::new(),
            early: Vec::new(),
        };
        self.known.insert(number, known);
        self.sessions.insert(session(number), number);
    }

    /// This client must never be connected.
    pub(crate) fn suspect(&mut self, number: usize) {
        self.known.get_mut(&number).into_iter().for_each(|known| known.is_impostor = true);
    }

    fn judge(&mut self, client: Option<usize>, now: Instant, verdict: Verdict) {
        if let Err((rule, how)) = verdict
            && self.violations.len() < Self::VIOLATIONS_MAX
        {
            self.violations.push(Violation { rule, at: now - self.epoch, client, how });
        }
    }

    /// An engine tells something.
    pub(crate) fn told(&mut self, event: &Event, now: Instant) {
        if let Event::Layers { session, selection } = event {
            let Some(&number) = self.sessions.get(session) else { return };
            let Some(known) = self.known.get_mut(&number) else { return };
            let verdict = known.selected.told(selection, now);
            return self.judge(Some(number), now, verdict);
        }
        let (Event::Connected { session, .. } | Event::Ended { session, .. }) = event else {
            return;
        };
        let Some(&number) = self.sessions.get(session) else { return };
        let Some(known) = self.known.get_mut(&number) else { return };
        (now - self.epoch, number, matches!(event, Event::Ended { .. })).hash(&mut self.digest);
        let verdict = match event {
            Event::Connected { .. } if known.is_impostor => {
                broken(Rule::Session, "an impostor is connected".to_owned())
            }
            Event::Connected { .. } => {
                known.connected = Some(now);
                self.sources.get_mut(number).into_iter().for_each(|it| it.connected = Some(now));
                Ok(())
            }
            _ if known.ended => broken(Rule::Ending, "it ends twice".to_owned()),
            _ => {
                known.ended = true;
                self.sources.get_mut(number).into_iter().for_each(|it| it.ended = true);
                Ok(())
            }
        };
        self.judge(Some(number), now, verdict);
    }

    /// A datagram of a client has reached the server.
    pub(crate) fn reached(
        &mut self,
        number: usize,
        client: &Client,
        (remote, datagram): (SocketAddr, &[u8]),
        now: Instant,
    ) {
        let Some(known) = self.known.get_mut(&number) else { return };
        match (classify(datagram), &client.side) {
            (DatagramKind::Stun, _) => _ = known.checked.insert(remote),
            (DatagramKind::Rtp, Side::Publisher(publishing)) if known.checked.contains(&remote) => {
                self.sources.reached(number, publishing, datagram, now);
            }
            _ => {}
        }
    }

    /// The server sends a datagram to where no client is or was.
    pub(crate) fn astray(&mut self, remote: SocketAddr, now: Instant) {
        let verdict = broken(Rule::Address, format!("nobody is at {remote}"));
        self.judge(None, now, verdict);
    }

    /// The server sends a datagram to an address of this client.
    pub(crate) fn departs(
        &mut self,
        number: usize,
        client: &mut Client,
        (remote, datagram): (SocketAddr, &[u8]),
        now: Instant,
    ) {
        let kind = classify(datagram);
        if !matches!(kind, DatagramKind::Rtp | DatagramKind::Rtcp) {
            return;
        }
        let Some(known) = self.known.get_mut(&number) else { return };
        let verdict = if known.is_impostor || known.connected.is_none() || known.ended {
            broken(Rule::Session, format!("{kind:?} to a session that is not connected"))
        } else if !known.checked.contains(&remote) {
            broken(Rule::Address, format!("{kind:?} to {remote}, where no check came from"))
        } else if kind == DatagramKind::Rtp {
            self.nonces.note(number, datagram)
        } else {
            Ok(())
        };
        self.judge(Some(number), now, verdict);
        let Some(known) = self.known.get_mut(&number) else { return };
        known.early.push((now, datagram.to_vec()));
        if client.tap().is_none() {
            return;
        }
        for (at, datagram) in std::mem::take(&mut known.early) {
            let verdict = self.open(number, client, &datagram, at);
            self.judge(Some(number), at, verdict);
        }
    }

    fn open(&mut self, number: usize, client: &mut Client, sealed: &[u8], at: Instant) -> Verdict {
        let watching = match &client.side {
            Side::Viewer(watching) => Some(watching),
            Side::Publisher(_) => None,
        };
        let asked = watching.and_then(|watching| watching.asked);
        let sequence = RtpHeader::read(sealed).map_or(0, |header| header.sequence);
        let is_again = watching.is_some_and(|it| it.asked_again.contains(&sequence));
        let is_viewer = matches!(client.side, Side::Viewer(_));
        let Some(tap) = client.tap() else { return Ok(()) };
        let unread = || (Rule::Keys, "it cannot be opened".to_owned());
        if classify(sealed) == DatagramKind::Rtcp {
            let plain = tap.open_rtcp(sealed).ok_or_else(unread)?;
            return if is_viewer {
                self.reported(number, &plain, at)
            } else {
                self.asked(number, &plain, at)
            };
        }
        let plain = tap.open(sealed).ok_or_else(unread)?;
        (at - self.epoch, number, &plain).hash(&mut self.digest);
        let header = RtpHeader::read(&plain).ok_or_else(unread)?;
        let payload = header.payload(&plain).ok_or_else(unread)?;
        let Some(known) = self.known.get_mut(&number) else { return Ok(()) };
        let (len, probes) = (sealed.len(), known.selected.probes(at));
        let wishes = known.selected.has_wishes();
        let plain = plain.as_slice();
        let opened = Opened { header, plain, payload, len, at, asked, is_again, probes, wishes };
        for track in &mut known.tracks {
            if track.agreed.ssrc == header.ssrc {
                return track.media(&opened, &known.stream, &self.sources);
            }
            if track.agreed.rtx_ssrc == Some(header.ssrc) {
                return track.repair(&opened, &self.sources);
            }
        }
        broken(Rule::Ssrc, format!("nobody has agreed to SSRC {}", header.ssrc))
    }

    /// What a viewer is told: its tracks' clocks.
    fn reported(&mut self, number: usize, mut compound: &[u8], at: Instant) -> Verdict {
        let packets = unmarshal(&mut compound).map_err(|error| (Rule::Keys, error.to_string()))?;
        let Some(known) = self.known.get(&number) else { return Ok(()) };
        for packet in &packets {
            let Some(report) = packet.as_any().downcast_ref::<SenderReport>() else { continue };
            let Some(track) = known.tracks.iter().find(|it| it.agreed.ssrc == report.ssrc) else {
                return broken(Rule::Ssrc, format!("a report on SSRC {}", report.ssrc));
            };
            track.reported(report.rtp_time, at)?;
        }
        let clocks: Vec<_> = packets
            .iter()
            .filter_map(|packet| packet.as_any().downcast_ref::<SenderReport>())
            .filter_map(|report| {
                let track = known.tracks.iter().find(|it| it.agreed.ssrc == report.ssrc)?;
                track.capture_clock(report, at)
            })
            .collect();
        if let [(source, one), (same, other)] = clocks[..]
            && source == same
            && (one - other).abs() > Self::TOGETHER
        {
            return broken(Rule::LipSync, format!("{} us apart", one - other));
        }
        Ok(())
    }

    /// What a publisher is told: keyframe requests are counted.
    fn asked(&mut self, number: usize, mut compound: &[u8], at: Instant) -> Verdict {
        let packets = unmarshal(&mut compound).map_err(|error| (Rule::Keys, error.to_string()))?;
        let requests = packets.iter().map(|packet| packet.as_any()).filter_map(|packet| {
            let pli = packet.downcast_ref::<PictureLossIndication>().map(|it| it.media_ssrc);
            let fir = || packet.downcast_ref::<FullIntraRequest>()?.fir.first().map(|it| it.ssrc);
            pli.or_else(fir)
        });
        let Some(source) = self.sources.get_mut(number) else { return Ok(()) };
        for media in requests {
            let before = source.asked.insert(media, at);
            if let Some(before) = before.filter(|before| at < *before + Self::REQUEST_INTERVAL) {
                return broken(Rule::KeyframeRequests, format!("two within {:?}", at - before));
            }
        }
        Ok(())
    }

    /// Looks at what everybody is owed, after each step.
    pub(crate) fn step(&mut self, clients: &[Client], now: Instant) {
        let mut verdicts = Vec::new();
        for (&number, known) in &mut self.known {
            let client = &clients[number];
            if let (Side::Publisher(publishing), Some(source)) =
                (&client.side, self.sources.get_mut(number))
            {
                let clean = client.up.is_clean() && client.down.is_clean();
                source.obliges = publishing.camera.obliges && clean;
            }
            let (Some(connected), false, true) =
                (known.connected, known.ended, known.early.is_empty())
            else {
                continue;
            };
            let selected = &known.selected;
            let watch = Watch { stream: &known.stream, connected, now, selected };
            if let (Side::Viewer(watching), Some(rate)) = (&client.side, client.down.rate)
                && watching.screen.tells == Tells::Arrivals
                && watching.screen.rtx
                && client.down.competing.is_none()
            {
                let since = known.steady_since.max(connected);
                let carried = (rate, now.saturating_duration_since(since));
                let has_choice = self.sources.of_stream(&known.stream);
                let has_choice = has_choice.is_some_and(|(_, source)| source.has_choice());
                let mut tracks = known.tracks.iter().filter(|track| track.is_picture());
                let verdict = tracks.try_for_each(|track| track.fits(carried, now));
                verdicts.push((
                    number,
                    verdict.or_else(|it| if has_choice { Err(it) } else { Ok(()) }),
                ));
            }
            for track in &mut known.tracks {
                verdicts.push((number, track.owed(&watch, &self.sources)));
                verdicts.push((number, track.is_calm(known.steady_since)));
            }
        }
        for (number, verdict) in verdicts.into_iter().filter(|(_, verdict)| verdict.is_err()) {
            self.judge(Some(number), now, verdict);
        }
    }

    /// Looks at what an engine holds, after a step.
    pub(crate) fn holds(&mut self, verdict: Verdict, now: Instant) {
        self.judge(None, now, verdict);
    }

    /// All is over: every session that was connected has ended.
    pub(crate) fn over(&mut self, now: Instant) {
        let open = |(_, known): &(&usize, &Known)| known.connected.is_some() && !known.ended;
        let left: Vec<usize> = self.known.iter().filter(open).map(|(&number, _)| number).collect();
        for number in left {
            let verdict = broken(Rule::Ending, "it has not ended".to_owned());
            self.judge(Some(number), now, verdict);
        }
    }

    /// Something has changed for a viewer: layers may take turns until it is settled.
    pub(crate) fn disturb(&mut self, number: usize, now: Instant) {
        if let Some(known) = self.known.get_mut(&number) {
            known.steady_since = now;
            known.selected.disturb(now);
        }
    }
}
