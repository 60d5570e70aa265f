//! Lets happen what is planned, with the oracle looking on.

use crate::client::Side;
use crate::flood::{ask_for_keyframe, flood};
use crate::oracle::Violation;
use crate::plan::{Act, Coming, Leaving, Plan};
use crate::sessions::session;
use crate::world::{World, ms, secs};
use millrace::engine::command::{Command, EndReason};
use std::collections::{HashMap, HashSet};
use std::ops::AddAssign;
use std::time::Duration;

/// What came of a plan.
#[derive(Debug)]
pub(crate) struct Played {
    /// What was broken first.
    pub(crate) violation: Option<Violation>,
    /// Of everything that viewers were sent, and when.
    pub(crate) digest: u64,
    pub(crate) counts: Counts,
}

/// How much happened: an oracle that has seen nothing finds nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) connected: usize,
    pub(crate) packets: usize,
    pub(crate) retransmissions: u64,
    pub(crate) repeated: u64,
    pub(crate) cached: u64,
    pub(crate) requested: u64,
    pub(crate) keyframe_requests: u64,
    pub(crate) forwarded: u64,
    pub(crate) went_on: usize,
    pub(crate) impostors: usize,
    pub(crate) switched: usize,
    pub(crate) probes: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.connected += other.connected;
        self.packets += other.packets;
        self.retransmissions += other.retransmissions;
        self.repeated += other.repeated;
        self.cached += other.cached;
        self.requested += other.requested;
        self.keyframe_requests += other.keyframe_requests;
        self.forwarded += other.forwarded;
        self.went_on += other.went_on;
        self.impostors += other.impostors;
        self.switched += other.switched;
        self.probes += other.probes;
    }
}

/// So often it is looked for viewers who come back.
const LOOK: Duration = ms(200);

/// The player of one plan.
struct Player<'p> {
    plan: &'p Plan,
    world: World,
    /// The clients by the plan's numbers: viewers may come back in between.
    clients: HashMap<usize, usize>,
    /// Viewers who have come back, or will not.
    settled: HashSet<usize>,
    moved: u16,
}

/// Plays it to the end, or to the first rule that is broken.
pub(crate) fn play(plan: &Plan) -> Played {
    play_with(plan, |_| {})
}

/// The same in a world that was prepared in some way.
pub(crate) fn play_with(plan: &Plan, prepare: impl FnOnce(&mut World)) -> Played {
    let mut world = World::sharded(plan.seed, plan.shards);
    (world.eager, world.burst_max, world.strict) = (plan.eager, plan.burst_max, false);
    world.listen = true;
    prepare(&mut world);
    let (clients, settled) = (HashMap::new(), HashSet::new());
    let mut player = Player { plan, world, clients, settled, moved: 0 };
    let sound = player.acts() && player.stops();
    let world = player.world;
    debug_assert_eq!(sound, world.oracle.violations.is_empty(), "all that was found is told");
    let mut counts = Counts {
        connected: (0..world.clients.len()).filter(|&number| world.connected(number)).count(),
        packets: world.oracle.packets(),
        repeated: world.oracle.repeated(),
        went_on: world.oracle.went_on(),
        switched: world.oracle.switched(),
        impostors: world.clients.iter().filter(|client| client.is_impostor).count(),
        ..Counts::default()
    };
    for engine in world.shards() {
        let counters = engine.counters();
        counts.retransmissions += counters.retransmissions;
        counts.cached += counters.starts_cached;
        counts.requested += counters.starts_requested;
        counts.keyframe_requests += counters.keyframe_requests;
        counts.forwarded += counters.datagrams_forwarded;
        counts.probes += counters.probe_packets;
    }
    let violation = world.oracle.violations.first().cloned();
    Played { violation, digest: world.oracle.digest(), counts }
}

impl Player<'_> {
    fn is_sound(&self) -> bool {
        self.world.oracle.violations.is_empty()
    }

    /// Lets time pass up to this moment; false once a rule is broken.
    fn until(&mut self, moment: Duration) -> bool {
        let end = self.world.epoch.instant + moment;
        while self.world.now < end {
            self.world.run_for(LOOK.min(end - self.world.now));
            if !self.is_sound() {
                return false;
            }
            self.come_back();
        }
        true
    }

    /// Whoever has to agree anew does so, as pages do.
    fn come_back(&mut self) {
        for number in 0..self.world.clients.len() {
            if self.settled.contains(&number) || self.world.clients[number].dead {
                continue;
            }
            let Side::Viewer(watching) = &self.world.clients[number].side else { continue };
            let reason = self.world.ended(number).map(|(_, reason)| reason.clone());
            let Some(reason) = reason else { continue };
            self.settled.insert(number);
            if matches!(reason, EndReason::StreamEnded | EndReason::CodecNotAgreed) {
                let (screen, stream) = (watching.screen, self.world.clients[number].stream.clone());
                self.world.view(&stream, screen);
            }
        }
    }

    fn acts(&mut self) -> bool {
        for (at, who, act) in &self.plan.acts {
            if !self.until(*at) {
                return false;
            }
            if let Act::Comes { .. } = act {
                self.comes(*who, act);
            } else {
                let number = self.clients[who];
                self.happens(number, act);
            }
        }
        self.until(self.plan.span)
    }

    fn comes(&mut self, who: usize, act: &Act) {
        let Act::Comes { stream, coming, options, weather } = act else { return };
        let world = &mut self.world;
        let number = match coming {
            Coming::Publisher(camera) => world.publish_as(stream, *camera, *options),
            Coming::Viewer(screen, knows) => world.view_with(stream, *screen, knows, *options),
        };
        let client = &mut world.clients[number];
        weather[0].apply(&mut client.up);
        weather[1].apply(&mut client.down);
        self.clients.insert(who, number);
    }

    fn happens(&mut self, number: usize, act: &Act) {
        let world = &mut self.world;
        match act {
            Act::Leaves(Leaving::Closes) => {
                let now = world.now;
                world.clients[number].peer.close(now);
                while let Some(alert) = world.clients[number].peer.poll() {
                    world.up(number, &alert);
                }
                world.clients[number].dead = true;
            }
            Act::Leaves(Leaving::Deletes) => {
                let end = || Command::End(session(number), EndReason::Deleted);
                (0..self.plan.shards).for_each(|shard| world.command_at(shard, end()));
                world.clients[number].dead = true;
            }
            Act::Leaves(Leaving::Vanishes) => world.clients[number].dead = true,
            Act::Floods if world.clients[number].peer.is_connected() => {
                flood(world, number);
                (0..100).for_each(|request| ask_for_keyframe(world, number, request));
            }
            Act::Comes { .. } | Act::Floods => {}
            Act::Stops(encoding, stopped) => {
                if let Side::Publisher(publishing) = &mut world.clients[number].side {
                    publishing.stop(*encoding, *stopped);
                }
                (0..world.clients.len()).for_each(|it| world.oracle.disturb(it, world.now));
            }
            Act::Chooses(choice) => {
                world.oracle.disturb(number, world.now);
                world.oracle.wishes(number, choice.paused, world.now);
                for shard in 0..self.plan.shards {
                    world.command_at(shard, Command::Choose(session(number), choice.clone()));
                }
            }
            Act::Carries(rate) => {
                let now = world.now;
                world.clients[number].down.set_rate(*rate, now);
                world.oracle.disturb(number, now);
            }
            Act::Moves => {
                self.moved += 1;
                world.rebind(number, 20_000 + self.moved);
            }
            Act::Outage { up, down, lasts } => {
                let span = (world.now, world.now + *lasts);
                let client = &mut world.clients[number];
                if *up {
                    client.up.outages.push(span);
                }
                if *down {
                    client.down.outages.push(span);
                }
            }
        }
    }

    /// The server stops, and nothing is left.
    fn stops(&mut self) -> bool {
        self.world.turn_away();
        for shard in 0..self.plan.shards {
            self.world.command_at(shard, Command::Stop);
        }
        // Who has not heard of it goes on sending for a while, and comes to nobody.
        self.world.run_for(secs(1));
        self.world.assert_over();
        self.is_sound()
    }
}
