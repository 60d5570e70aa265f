//! The thread that all viewers live in: epoll, batches, timers.

use super::inbox::{Inbox, now_nanos};
use super::lag::LagProbe;
use super::process::{Usage, thread_cpu};
use super::stats::{Counts, Flow, Lag, Mark, Phase, Status, ViewerOutcome};
use super::viewer::{Invitation, State, Times, Viewer};
use super::{Outcome, SwarmOptions};
use crate::swarm::histogram::Histogram;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::EventFd;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Between two rounds over the sockets once everybody is connected. The kernel stamps what comes
/// meanwhile, and a sleeping generator need not be woken by each packet, which would be the
/// server's work.
const ROUND: Duration = Duration::from_millis(1);
/// Longest wait while somebody connects, in milliseconds.
const WAIT_MS: u8 = 1;
/// Commands taken between two rounds.
const COMMANDS: usize = 4;
/// Sockets told ready by one system call.
const EVENTS: usize = 4_096;
/// Between two reports on how it goes.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// The span of the latency in a report.
const RECENT: Duration = Duration::from_secs(1);
/// The descriptor by which others wake the thread.
const WAKE: u64 = u64::MAX;

/// What the thread is told.
pub(super) enum Command {
    /// A viewer has an answer.
    Join(Box<Invitation>),
    /// A phase begins, and with it the one before ends.
    Phase(&'static str),
    /// The last phase ends; what comes from now on does not count.
    Finish(oneshot::Sender<()>),
    /// It is over.
    End,
}

/// The thread's state.
pub(super) struct EventLoop {
    options: SwarmOptions,
    commands: Receiver<Command>,
    wake: Arc<EventFd>,
    status: Arc<Mutex<Status>>,
    epoll: Epoll,
    inbox: Inbox,
    viewers: Vec<Viewer>,
    lags: Vec<Option<Lag>>,
    /// When each viewer's timer in the heap is due; others of it are stale.
    armed: Vec<Option<Instant>>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    lag_probe: LagProbe,
    phases: Vec<Phase>,
    /// How the viewers had fared when counting ended.
    outcomes: Option<Vec<ViewerOutcome>>,
    started: Instant,
    connecting: usize,
    status_at: Instant,
    recent_at: Instant,
    recent: Histogram,
    recent_p99: Option<u64>,
}

impl EventLoop {
    pub(super) fn new(
        options: SwarmOptions,
        commands: Receiver<Command>,
        wake: Arc<EventFd>,
        status: Arc<Mutex<Status>>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let now = Instant::now();
        let mut this = Self {
            options,
            commands,
            wake,
            status,
            epoll,
            inbox: Inbox::new(),
            viewers: Vec::new(),
            lags: Vec::new(),
            armed: Vec::new(),
            timers: BinaryHeap::new(),
            lag_probe: LagProbe::new(),
            phases: Vec::new(),
            outcomes: None,
            started: now,
            connecting: 0,
            status_at: now,
            recent_at: now,
            recent: Histogram::default(),
            recent_p99: None,
        };
        this.begin_phase("joining");
        Ok(this)
    }

    /// Runs until it is told to end.
    pub(super) fn run(mut self) -> io::Result<Outcome> {
        let mut events = vec![EpollEvent::empty(); EVENTS];
        loop {
            // A few at a time: those who are connecting are not to wait for all who come.
            for _ in 0..COMMANDS {
                let Ok(command) = self.commands.try_recv() else { break };
                match command {
                    Command::Join(invitation) => self.join(*invitation),
                    Command::Phase(name) => self.begin_phase(name),
                    Command::Finish(done) => {
                        self.finish();
                        let _ = done.send(());
                    }
                    Command::End => return Ok(self.end()),
                }
            }
            self.do_due();
            let wait = if self.connecting > 0 {
                WAIT_MS
            } else {
                std::thread::sleep(ROUND);
                0
            };
            let count = match self.epoll.wait(&mut events, wait) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            let now = Instant::now();
            for event in events.iter().take(count) {
                if event.data() == WAKE {
                    let _ = self.wake.read();
                } else {
                    self.receive(event.data() as usize, now)?;
                }
            }
        }
    }

    fn join(&mut self, invitation: Invitation) {
        let now = Instant::now();
        let index = self.viewers.len();
        let viewer = Viewer::new(invitation, &self.options.identity, self.options.nack, now);
        let added = viewer.map_err(anyhow::Error::from).and_then(|viewer| {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
            self.epoll.add(&viewer.socket, event)?;
            Ok(viewer)
        });
        match added {
            Ok(viewer) => {
                self.viewers.push(viewer);
                self.lags.push(None);
                self.armed.push(None);
                self.connecting += 1;
                self.fire(index, now);
            }
            // The set-up of a socket does not fail but for want of descriptors or memory.
            Err(error) => tracing::error!(%error, "a viewer could not be made"),
        }
    }

    fn receive(&mut self, index: usize, now: Instant) -> io::Result<()> {
        let Self { viewers, inbox, phases, lag_probe, .. } = self;
        let Some(viewer) = viewers.get_mut(index) else { return Ok(()) };
        let Some(phase) = phases.last_mut() else { return Ok(()) };
        let Some(flow) = phase.flows.get_mut(viewer.group) else { return Ok(()) };
        let was_watching = viewer.endpoint.state == State::Watching;
        let is_earliest = lag_probe.is_earliest(index);
        while viewer.receive(inbox, flow, now, |sample| {
            if is_earliest {
                lag_probe.note(sample);
            }
        })? {}
        match (was_watching, &viewer.endpoint.state) {
            (true, State::Watching) => return Ok(()),
            (false, State::Watching) => {
                self.connecting = self.connecting.saturating_sub(1);
                lag_probe.connected(index, now);
            }
            (was_watching, State::Over(_)) => {
                self.connecting = self.connecting.saturating_sub(usize::from(!was_watching));
                lag_probe.gone(index);
                let _ = self.epoll.delete(&viewer.socket);
            }
            (_, State::Connecting) => {}
        }
        self.arm(index);
        Ok(())
    }

    /// Does what is due at all viewers.
    fn do_due(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, index))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            if self.armed.get(index) == Some(&Some(at)) {
                self.fire(index, now);
            }
        }
        let Self { lag_probe, viewers, lags, .. } = self;
        let newest = |index: usize| viewers.get(index)?.endpoint.newest();
        lag_probe.poll(now, now_nanos() / 1_000, newest, |index, lag| {
            if let Some(place) = lags.get_mut(index) {
                *place = Some(lag);
            }
        });
        if self.status_at <= now {
            self.status_at = now + STATUS_INTERVAL;
            self.tell_status(now);
        }
    }

    fn fire(&mut self, index: usize, now: Instant) {
        let Some(viewer) = self.viewers.get_mut(index) else { return };
        let was_connecting = viewer.endpoint.state == State::Connecting;
        viewer.handle_timeout(now);
        if was_connecting && matches!(viewer.endpoint.state, State::Over(_)) {
            self.connecting = self.connecting.saturating_sub(1);
            let _ = self.epoll.delete(&viewer.socket);
        }
        self.arm(index);
    }

    fn arm(&mut self, index: usize) {
        let deadline = self.viewers.get(index).and_then(|viewer| viewer.endpoint.deadline());
        if let Some(armed) = self.armed.get_mut(index)
            && *armed != deadline
        {
            *armed = deadline;
            self.timers.extend(deadline.map(|at| Reverse((at, index))));
        } else if let Some(at) = deadline {
            // The same moment again: the entry for it may have been taken out just now.
            self.timers.push(Reverse((at, index)));
        }
    }

    fn tell_status(&mut self, now: Instant) {
        if self.recent_at <= now {
            self.recent_at = now + RECENT;
            let mut total = Histogram::default();
            self.phases.iter().flat_map(|phase| &phase.flows).for_each(|flow| {
                total.merge(&flow.latency);
            });
            self.recent_p99 = total.since(&self.recent).percentile(99.0);
            self.recent = total;
        }
        let over = |viewer: &&Viewer| matches!(viewer.endpoint.state, State::Over(_));
        let served = |viewer: &&Viewer| viewer.endpoint.times.first_packet.is_some();
        let over = self.viewers.iter().filter(over).count();
        let mut counts = Counts::default();
        self.counts().into_iter().for_each(|group| counts.add(group));
        let status = Status {
            invited: self.viewers.len(),
            connecting: self.connecting,
            watching: self.viewers.len() - over - self.connecting,
            served: self.viewers.iter().filter(served).count(),
            over,
            settling: self.lag_probe.waiting(),
            packets: self.phases.iter().map(Phase::packets).sum(),
            lost: counts.lost,
            recovered: counts.recovered,
            latency_p99_us: self.recent_p99,
        };
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    fn counts(&self) -> Vec<Counts> {
        let mut counts = vec![Counts::default(); self.options.groups];
        for viewer in &self.viewers {
            if let Some(group) = counts.get_mut(viewer.group) {
                group.add(viewer.endpoint.counts());
            }
        }
        counts
    }

    fn mark(&self) -> Mark {
        Mark {
            at: self.started.elapsed(),
            counts: self.counts(),
            generator_cpu: thread_cpu(),
            server: self.options.server_process.and_then(|id| Usage::of(id).ok()),
        }
    }

    fn begin_phase(&mut self, name: &'static str) {
        let mark = self.mark();
        if let Some(phase) = self.phases.last_mut() {
            phase.end = mark.clone();
        }
        let flows = vec![Flow::default(); self.options.groups];
        self.phases.push(Phase { name, start: mark, flows, ..Phase::default() });
    }

    /// Viewers go on, so that the server finds them alive while it ends their sessions, but what
    /// they see counts no more.
    fn finish(&mut self) {
        self.begin_phase("ending");
        let viewers = self.viewers.iter().zip(&self.lags);
        self.outcomes = Some(viewers.map(|(viewer, lag)| outcome(viewer, *lag)).collect());
    }

    fn end(mut self) -> Outcome {
        if self.outcomes.is_none() {
            self.finish();
        }
        // What came while the sessions were ended.
        self.phases.pop();
        let now = Instant::now();
        self.viewers.iter_mut().for_each(|viewer| viewer.close(now));
        Outcome { viewers: self.outcomes.unwrap_or_default(), phases: self.phases }
    }
}

fn outcome(viewer: &Viewer, lag: Option<Lag>) -> ViewerOutcome {
    let Times { posted, connected, first_packet, first_keyframe, first_frame } =
        viewer.endpoint.times;
    let since = |from: Option<i64>, to: Option<i64>| {
        let nanos = to?.saturating_sub(from?);
        Some(u64::try_from(nanos / 1_000).unwrap_or(0))
    };
    ViewerOutcome {
        group: viewer.group,
        connect_us: since(Some(posted), connected),
        first_packet_us: since(connected, first_packet),
        first_keyframe_us: since(connected, first_keyframe),
        post_to_frame_us: since(Some(posted), first_frame),
        lag,
        counts: viewer.endpoint.counts(),
        layers: viewer.endpoint.layers().cloned().unwrap_or_default(),
        over: match &viewer.endpoint.state {
            State::Watching => None,
            State::Connecting => Some("not connected at the end".to_owned()),
            State::Over(reason) => Some(reason.clone()),
        },
    }
}
