// Which way the player plays by, with ways that are made up and a time that is driven by hand.

import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";
import { Time } from "./time.mjs";

const { Director } = await load("player/director.ts");
const { Fault } = await load("fault.ts");

const fault = (kind, retryAfterMs) => new Fault(kind, `a fault: ${kind}`, retryAfterMs);

/** A player whose ways are played by the test. */
class Player {
  time = new Time();
  phase = { at: "idle" };
  front = undefined;
  /** What was in front, in order. */
  fronts = [];
  opened = { whep: [], hls: [] };

  constructor({ choice = "auto", without = [] } = {}) {
    const opener = (protocol) => (reports) => {
      const attempt = { protocol, ...reports, isOver: false, stop: () => (attempt.isOver = true) };
      this.opened[protocol].push(attempt);
      return attempt;
    };
    const openers = {};
    for (const protocol of ["whep", "hls"]) {
      if (!without.includes(protocol)) openers[protocol] = opener(protocol);
    }
    this.director = new Director(openers, choice, this.time, (phase, front) => {
      this.phase = phase;
      this.front = front;
      if (front !== undefined && front.isOver) throw new Error("what is over is in front");
      if (front?.protocol !== this.fronts.at(-1)) this.fronts.push(front?.protocol);
    });
    this.director.start();
  }

  get whep() {
    return this.opened.whep.at(-1);
  }

  get hls() {
    return this.opened.hls.at(-1);
  }

  get running() {
    const all = [...this.opened.whep, ...this.opened.hls];
    return all.filter(({ isOver }) => !isOver).map(({ protocol }) => protocol);
  }

  plays(protocol) {
    assert.equal(this.phase.at, "live");
    assert.equal(this.front?.protocol, protocol);
  }
}

/** A player that has fallen back to LL-HLS since nothing comes by WHEP. */
function fallenBack() {
  const player = new Player();
  player.time.run(2_500);
  player.hls.ready();
  player.time.run(1_500);
  player.plays("hls");
  return player;
}

test("where WHEP works nothing else is tried", () => {
  const player = new Player();
  player.time.run(1_500);
  player.whep.flowing();
  player.plays("whep");
  player.time.run(600_000);
  assert.equal(player.opened.hls.length, 0);
  assert.equal(player.opened.whep.length, 1);
});

test("LL-HLS is got ready after 2 s without media and shown after 4", () => {
  const player = new Player();
  player.time.run(1_999);
  assert.equal(player.opened.hls.length, 0);
  player.time.run(1);
  assert.equal(player.opened.hls.length, 1);
  player.hls.ready();
  assert.equal(player.phase.at, "connecting");
  player.time.run(1_999);
  assert.equal(player.phase.at, "connecting");
  player.time.run(1);
  player.plays("hls");
  assert.deepEqual(player.running, ["whep", "hls"], "WHEP goes on trying behind it");
});

test("WHEP that gets through in the meantime is taken, and LL-HLS let go", () => {
  const player = new Player();
  player.time.run(3_000);
  player.hls.ready();
  player.whep.flowing();
  player.plays("whep");
  assert.deepEqual(player.running, ["whep"]);
  player.time.run(60_000);
  player.plays("whep");
  assert.equal(player.opened.hls.length, 1);
});

test("WHEP that is late is shown in place of LL-HLS with its first picture, not before", () => {
  const player = fallenBack();
  player.whep.flowing();
  player.plays("hls");
  player.whep.ready();
  player.plays("whep");
  assert.deepEqual(player.running, ["whep"]);
  assert.deepEqual(player.fronts, ["hls", "whep"], "at no time was there nothing");
});

test("WHEP is looked for again while LL-HLS plays, ever less often", () => {
  const player = fallenBack();
  player.whep.failed(fault("no-path"));
  const begun = [];
  for (let ms = 0; ms < 300_000; ms += 100) {
    player.time.run(100);
    if (player.running.includes("whep")) {
      begun.push(ms);
      player.whep.failed(fault("no-path"));
    }
    player.plays("hls");
  }
  const pauses = begun.slice(1).map((ms, index) => ms - begun[index]);
  assert.ok(begun[0] <= 6_000, `first after ${begun[0]} ms`);
  assert.ok(pauses.every((pause, index) => pause >= (pauses[index - 1] ?? 0) - 100), `${pauses}`);
  assert.ok(pauses.at(-1) >= 55_000 && pauses.at(-1) <= 75_000, `${pauses}`);
});

test("a probe that shows nothing is given up and another one follows", () => {
  const player = fallenBack();
  player.whep.failed(fault("no-path"));
  player.time.run(6_000);
  assert.equal(player.opened.whep.length, 2);
  player.time.run(20_000);
  assert.ok(player.opened.whep[1].isOver);
  player.time.run(10_000);
  assert.equal(player.opened.whep.length, 3);
  player.whep.ready();
  player.plays("whep");
});

test("WHEP that fails soon after a return is left at once, and longer alone", () => {
  const player = fallenBack();
  player.whep.ready();
  player.plays("whep");
  player.time.run(30_000);
  player.whep.failed(fault("lost"));
  player.time.run(4_500);
  player.hls.ready();
  player.plays("hls");
  player.whep.failed(fault("no-path"));
  player.time.run(6_000);
  player.whep.ready();
  player.plays("whep");
  player.time.run(5_000);
  player.whep.failed(fault("lost"));
  assert.equal(player.phase.at, "connecting");
  assert.deepEqual(player.running, ["hls"], "no second try by WHEP");
  player.hls.ready();
  player.plays("hls");
});

test("WHEP that failed twice within 20 s is not tried a third time", () => {
  const player = new Player();
  player.whep.failed(fault("unreachable"));
  assert.equal(player.phase.at, "waiting");
  player.time.run(1_000);
  player.whep.failed(fault("unreachable"));
  assert.deepEqual(player.running, ["hls"]);
  player.hls.ready();
  player.plays("hls");
});

test("failures that are far apart are each followed by another try", () => {
  const player = new Player();
  for (let count = 0; count < 5; count += 1) {
    player.whep.flowing();
    player.plays("whep");
    player.time.run(21_000);
    player.whep.failed(fault("lost"));
    assert.equal(player.phase.at, "waiting");
    player.time.run(1_000);
  }
  assert.equal(player.opened.hls.length, 0);
});

test("a session that the server ends in good order is no failure", () => {
  const player = new Player();
  for (let count = 0; count < 5; count += 1) {
    player.whep.flowing();
    player.whep.failed(fault("ended", 200));
    player.time.run(300);
  }
  assert.equal(player.opened.hls.length, 0);
});

test("what WHEP can never play is played by LL-HLS at once", () => {
  const player = new Player();
  player.whep.failed(fault("unplayable", 6_000));
  assert.deepEqual(player.running, ["hls"]);
  player.hls.ready();
  player.plays("hls");
});

test("what neither can play waits, with the words of WHEP", () => {
  const player = new Player();
  player.whep.failed(fault("unplayable", 6_000));
  player.hls.failed(fault("refused"));
  assert.equal(player.phase.at, "waiting");
  assert.equal(player.phase.fault.kind, "unplayable");
  player.time.run(6_000);
  assert.deepEqual(player.running, ["whep"], "its publisher may have mended it");
  player.time.run(9_000);
  assert.equal(player.opened.hls.length, 1, "LL-HLS is left alone for a while");
});

test("without WebRTC LL-HLS plays at once, and no probe is made", () => {
  const player = new Player({ without: ["whep"] });
  player.hls.ready();
  player.plays("hls");
  player.time.run(600_000);
  assert.deepEqual(player.running, ["hls"]);
});

test("without WebRTC a stream that LL-HLS cannot play is asked for again", () => {
  const player = new Player({ without: ["whep"] });
  player.hls.failed(fault("unplayable", 6_000));
  assert.equal(player.phase.at, "waiting");
  player.time.run(6_000);
  assert.deepEqual(player.running, ["hls"]);
});

test("a browser that can neither says so", () => {
  const player = new Player({ without: ["whep", "hls"] });
  assert.equal(player.phase.at, "stopped");
  assert.match(player.phase.fault.message, /neither/);
});

test("whoever wants only one way gets no other", () => {
  const whep = new Player({ choice: "whep" });
  whep.time.run(8_000);
  whep.whep.failed(fault("no-path"));
  whep.time.run(60_000);
  assert.equal(whep.opened.hls.length, 0);
  const hls = new Player({ choice: "hls" });
  hls.hls.ready();
  hls.plays("hls");
  hls.time.run(600_000);
  hls.hls.failed(fault("lost"));
  hls.time.run(60_000);
  assert.equal(hls.opened.whep.length, 0);
});

test("a stream that is not live is waited for, longer and longer", () => {
  const player = new Player();
  player.whep.failed(fault("not-live"));
  assert.equal(player.phase.at, "waiting");
  assert.equal(player.phase.until - player.time.now(), 500);
  for (let count = 0; count < 10; count += 1) {
    player.time.run(player.phase.until - player.time.now());
    player.whep.failed(fault("not-live"));
  }
  assert.equal(player.phase.until - player.time.now(), 10_000);
  assert.equal(player.opened.hls.length, 0);
  player.time.run(10_000);
  player.whep.flowing();
  player.plays("whep");
});

test("the network's or the viewer's return ends a wait", () => {
  const player = new Player();
  player.whep.failed(fault("busy", 30_000));
  player.director.hasten();
  assert.deepEqual(player.running, ["whep"]);
  const other = fallenBack();
  other.whep.failed(fault("no-path"));
  other.director.hasten();
  assert.deepEqual(other.running, ["whep", "hls"]);
});

test("a token that is wanted stops everything", () => {
  const player = new Player();
  player.time.run(3_000);
  player.whep.failed(fault("token"));
  assert.equal(player.phase.at, "stopped");
  assert.deepEqual(player.running, []);
});

test("a probe that is refused takes nothing from the viewer", () => {
  for (const kind of ["token", "not-live", "refused", "busy"]) {
    const player = fallenBack();
    player.whep.failed(fault(kind));
    player.plays("hls");
    player.time.run(60_000);
    player.plays("hls");
  }
});

test("LL-HLS takes over from a session that falls silent, unless it comes again", () => {
  const player = new Player();
  player.whep.flowing();
  player.time.run(30_000);
  player.whep.stalled(true);
  player.time.run(500);
  player.hls.ready();
  player.whep.stalled(false);
  player.time.run(10_000);
  player.plays("whep");
  assert.deepEqual(player.running, ["whep"]);
  player.whep.stalled(true);
  player.time.run(500);
  player.hls.ready();
  player.plays("whep");
  player.time.run(1_500);
  player.plays("hls");
  assert.deepEqual(player.running, ["hls"]);
});

test("once fallen back, LL-HLS is the first choice until WHEP works", () => {
  const player = fallenBack();
  player.whep.failed(fault("no-path"));
  player.hls.failed(fault("lost"));
  assert.equal(player.phase.at, "waiting");
  player.time.run(1_000);
  assert.deepEqual(player.running, ["hls"]);
  player.hls.ready();
  player.plays("hls");
  player.time.run(6_000);
  player.whep.ready();
  player.plays("whep");
  player.time.run(70_000);
  player.whep.failed(fault("lost"));
  player.time.run(1_000);
  assert.deepEqual(player.running, ["whep"]);
});

test("LL-HLS that is switched off meanwhile leaves WHEP", () => {
  const player = fallenBack();
  player.whep.failed(fault("no-path"));
  player.hls.failed(fault("lost"));
  player.time.run(1_000);
  player.hls.failed(fault("refused"));
  assert.notEqual(player.phase.at, "stopped");
  player.time.run(1_000);
  assert.deepEqual(player.running, ["whep"]);
});

test("what is stopped does nothing more", () => {
  const player = fallenBack();
  player.director.stop();
  assert.equal(player.phase.at, "idle");
  assert.equal(player.front, undefined);
  assert.deepEqual(player.running, []);
  player.whep.ready();
  player.hls.failed(fault("lost"));
  player.director.hasten();
  player.time.run(600_000);
  assert.equal(player.phase.at, "idle");
  assert.equal(player.opened.whep.length + player.opened.hls.length, 2);
});

/** Numbers that look random and are the same in each run. */
function* numbers(seed) {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    yield state / 2 ** 32;
  }
}

test("whatever happens, it plays or tries or says why not, with one attempt by each way", () => {
  const kinds = ["lost", "no-path", "busy", "ended", "not-live", "unplayable", "unreachable"];
  for (let seed = 1; seed <= 300; seed += 1) {
    const random = numbers(seed);
    const next = (limit) => Math.floor(random.next().value * limit);
    const player = new Player();
    for (let step = 0; step < 200; step += 1) {
      const running = [...player.opened.whep, ...player.opened.hls].filter((it) => !it.isOver);
      const counts = running.map(({ protocol }) => protocol);
      assert.equal(new Set(counts).size, counts.length, `seed ${seed}: ${counts}`);
      if (player.phase.at === "live") assert.ok(running.includes(player.front), `seed ${seed}`);
      if (player.phase.at === "connecting") assert.ok(running.length > 0, `seed ${seed}: nothing`);
      if (player.phase.at === "waiting") assert.deepEqual(running, [], `seed ${seed}`);
      const one = running[next(running.length)];
      const what = next(6);
      if (one === undefined || what === 0) player.time.run(next(15_000));
      else if (what === 1) one.flowing();
      else if (what === 2) one.ready();
      else if (what === 3) one.stalled(next(2) === 0);
      else if (what === 4) one.failed(fault(kinds[next(kinds.length)]));
      else player.director.hasten();
    }
  }
});
