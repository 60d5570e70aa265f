// What players show of LL-HLS in Chromium, read from the clock in the picture: hls.js and Shaka
// Player as page authors use them, and our own player beside itself on WebRTC.
//
// A few play at a time, on a page of another origin than the server's; the figures are printed, so
// that they can be quoted.

import assert from "node:assert/strict";
import { TAKES_ALL, burnt, rtmp } from "./encoders.mjs";
import { PATIENT, PUBLISH_TOKEN, pause, scenarioInParts, screenshot, until } from "./harness.mjs";
import { servePages } from "./pages.mjs";

/** What is late at its start plays faster, by a tenth, so long. */
const CATCHES_UP_MS = 6_000;
/** How `currentMediaTime` may differ from the clock in the picture. */
const WHEP_ERROR_MS = 50;
const HLS_ERROR_MS = 100;
const FRAME_MS = 1_000 / 30;
/** A player that waits for media is seen to stand, but for three frames or less. */
const WAIT_MS = 100;
/** So is one that says nothing. */
const STALL_MS = 1_000;
/** Where WebRTC's own picture is so late, the machine is too busy to judge players by. */
const BUSY_LATE_MS = 250;
/**
 * Where that stood for so long, or the page's scripts did, whoever stands then or a little later is
 * excused: buffers hold three parts or more, and are filled by one request after another.
 */
const BUSY_GAP_MS = 150;
const BUSY_AFTER_MS = 1_500;

const CONTROLS = [
  ["WHEP of WHIP", "player", "whip", "whep"],
  ["WHEP of RTMP", "player", "rtmp", "whep"],
];

/**
 * Who plays beside each other, and for how long: name, player, stream, and by which way our player
 * is to play.
 */
const WALLS = [
  [
    60,
    [["hls.js of WHIP", "hls.js", "whip"], ["hls.js of RTMP", "hls.js", "rtmp"], ...CONTROLS],
  ],
  [
    15,
    [
      ["Shaka of WHIP", "shaka", "whip"],
      ["hls.js without parts", "hls.js without parts", "rtmp"],
      ...CONTROLS,
    ],
  ],
  [
    30,
    [
      ...CONTROLS,
      ["LL-HLS of WHIP", "player", "whip", "hls"],
      ["LL-HLS of RTMP", "player", "rtmp", "hls"],
    ],
  ],
];

scenarioInParts("players show LL-HLS in time", async (world, part) => {
  const server = await world.server({ ...TAKES_ALL, ...PATIENT });
  const pages = await servePages();
  try {
    const chromium = await world.chromium();
    world.encode(...burnt(rtmp(await server.ports(), "rtmp")));
    const camera = await world.open(chromium, `${pages.url}/camera.html`);
    const endpoint = `${server.url}/whip/whip`;
    await until("the camera is there", () => camera.evaluate(() => window.publish !== undefined));
    await camera.evaluate((url, token) => window.publish(url, token), endpoint, PUBLISH_TOKEN);
    for (const stream of ["whip", "rtmp"]) await isPackaged(server, stream);
    for (const [seconds, screens] of WALLS) {
      const wall = await hangAll(world, chromium, pages, server, screens);
      let all = await watch(wall, seconds);
      print(all, seconds);
      if (isLate(all) || screens.some(([name]) => stands(all, name).some(isExcused(all)))) {
        console.log("the machine was busy: once more");
        all = await watch(wall, seconds);
        print(all, seconds);
      }
      await screenshot(wall, `players of LL-HLS, ${screens[0][0]}`);
      await judge(part, screens, all, await playlistOf(server, "whip", "video.m3u8"));
      // A clock that is measured by late packets is off, for all players alike.
      if ("LL-HLS of WHIP" in all && !isLate(all)) await judgeTimes(part, all);
      assert.deepEqual(wall.faults, []);
      await wall.close();
    }
  } finally {
    await pages.end();
  }
});

/** What is listed is enough for any player: Shaka looks into several segments before it plays. */
async function isPackaged(server, stream) {
  await until(`${stream} is live, sound and picture`, async () => {
    return (await server.report(stream))?.tracks.length === 2;
  });
  await until(`some segments of ${stream} are listed`, async () => {
    await playlistOf(server, stream, "index.m3u8");
    const texts = ["video.m3u8", "aac.m3u8"].map((name) => playlistOf(server, stream, name));
    return (await Promise.all(texts)).every((text) => text.match(/#EXTINF/g)?.length >= 4);
  });
}

async function playlistOf(server, stream, name) {
  const response = await fetch(`${server.url}/hls/${stream}/${name}`);
  const text = await response.text();
  if (!response.ok) throw new Error(`${name}: ${response.status} ${text}`);
  return text;
}

async function hangAll(world, chromium, pages, server, screens) {
  const wall = await world.open(chromium, `${pages.url}/wall.html`);
  await until("the wall is there", () => wall.evaluate(() => window.isReady === true));
  const hang = (...parameters) => wall.evaluate((...all) => window.hang(...all), ...parameters);
  for (const [name, kind, stream, choice] of screens) {
    await hang(name, kind, server.url, stream, choice);
  }
  for (const [name] of screens) {
    const plays = (name) => window.screens[name].readings.length > 30;
    await until(`${name} plays`, () => wall.evaluate(plays, name));
  }
  // What catching up costs at the start is over.
  await pause(CATCHES_UP_MS);
  return wall;
}

/** What is seen in so many seconds, by the names of the screens. */
async function watch(wall, seconds) {
  const before = await wall.evaluate(() => window.taken());
  await pause(seconds * 1_000);
  const after = await wall.evaluate(() => window.taken());
  const since = (name) => {
    const [old, now] = [before[name], after[name]];
    return {
      ...now,
      waits: now.waits.slice(old.waits.length),
      faults: now.faults.slice(old.faults.length),
      unread: now.unread - old.unread,
      // A player that begins anew after a fault counts anew.
      heard: now.heard < old.heard ? now.heard : now.heard - old.heard,
    };
  };
  return Object.fromEntries(Object.keys(after).map((name) => [name, since(name)]));
}

function quantile(numbers, share) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.min(Math.floor(share * sorted.length), sorted.length - 1)];
}

const latencies = ({ readings }) => readings.map(({ at, clock }) => at - clock);
const isTold = ({ moment }) => moment !== undefined && moment !== null;
const errors = ({ readings }) => readings.filter(isTold).map((it) => it.moment - it.clock);
const sizes = (numbers) => numbers.map((number) => Math.abs(number));

/** The times between a frame and the next that were so long, since when and until when. */
function gaps({ readings }, ms) {
  const spans = readings.slice(1).map(({ at }, index) => ({ at: readings[index].at, until: at }));
  return spans.filter(({ at, until }) => until - at >= ms);
}

/** The longest time for which no new frame was shown. */
function longestGap(seen) {
  return Math.max(...gaps(seen, 0).map(({ at, until }) => until - at));
}

/** When a viewer saw a player stand. */
function stands(all, name) {
  const waits = all[name].waits.filter(({ at, until }) => until - at >= WAIT_MS);
  return [...waits, ...gaps(all[name], STALL_MS)];
}

/** Whether something that befell a player is for what held up the page, or the machine. */
function isExcused(all) {
  const slow = CONTROLS.flatMap(([name]) => gaps(all[name], BUSY_GAP_MS));
  const holdUps = all[CONTROLS[0][0]].holdUps.filter(({ at, until }) => until - at >= BUSY_GAP_MS);
  const busy = [...slow, ...holdUps];
  return (it) => busy.some(({ at, until }) => at <= it.until && it.at <= until + BUSY_AFTER_MS);
}

function isLate(all) {
  return quantile(latencies(all[CONTROLS[0][0]]), 0.5) > BUSY_LATE_MS;
}

function print(all, seconds) {
  const columns = "latency: median    p95  worst  longest gap  frames  waits";
  console.log(`${seconds} s, ms       ${columns}`);
  for (const [name, seen] of Object.entries(all)) {
    const late = latencies(seen);
    const cells = [quantile(late, 0.5), quantile(late, 0.95), Math.max(...late), longestGap(seen)];
    const [median, ...rest] = cells.map((value) => value.toFixed(0));
    const widths = [7, 7, 13];
    const text = rest.map((cell, index) => cell.padStart(widths[index])).join("");
    const frames = String(seen.readings.length).padStart(8);
    const waits = String(seen.waits.length).padStart(7);
    console.log(`${name.padEnd(22)}${median.padStart(13)}${text}${frames}${waits}${told(seen)}`);
  }
}

/** How our player's `currentMediaTime` fared. */
function told(seen) {
  const off = errors(seen);
  if (off.length === 0) return "";
  const [median, most] = [quantile(off, 0.5), quantile(sizes(off), 0.95)];
  return `  currentMediaTime off by ${median.toFixed(1)} (median), |p95| ${most.toFixed(1)}`;
}

async function judge(part, screens, all, playlist) {
  const number = (name) => Number(new RegExp(`${name}=([\\d.]+)`).exec(playlist)[1]) * 1_000;
  const [partHoldBack, holdBack] = ["PART-HOLD-BACK", "[:,]HOLD-BACK"].map(number);
  const target = Number(/#EXT-X-TARGETDURATION:(\d+)/.exec(playlist)[1]) * 1_000;
  const isFair = !isLate(all);
  if (!isFair) console.log("the machine is too busy: stalls and latencies are not judged");
  const excused = isExcused(all);
  for (const [name, kind, , choice] of screens) {
    const seen = all[name];
    await part(`${name} shows pictures, and sounds`, () => {
      assert.ok(seen.readings.length > 100, `${seen.readings.length} frames`);
      assert.equal(seen.unread, 0, "each frame is whole");
      if (choice !== "whep") assert.ok(seen.heard > 0, "sound is decoded");
    });
    // Shaka stays as near to live as it is let, and waits where it comes too near.
    if (choice === "whep" || kind === "shaka" || !isFair) continue;
    await part(`${name} plays on, no later than it has to be`, () => {
      const stood = stands(all, name);
      const excuses = stood.filter(excused).length;
      if (excuses > 0) console.log(`${name} stood ${excuses} times, as the machine did`);
      assert.deepEqual(stood.filter((it) => !excused(it)), [], "it stands");
      // hls.js tells of each time that it stands.
      const isOfStand = ({ text }) => /^bufferStalled|^bufferNudge/.test(text);
      assert.deepEqual(seen.faults.filter((it) => !isOfStand(it)), []);
      const asked = kind === "hls.js without parts" ? holdBack : partHoldBack;
      // hls.js stays further behind after each stall, those before this time too.
      const behind = Math.max(asked, (seen.target ?? 0) * 1_000);
      const late = quantile(latencies(seen), 0.5);
      // A segment more is where a player begins that has no keyframe before.
      assert.ok(late < behind + target, `${late} ms, of ${behind} that it is to be`);
    });
  }
}

/** Whether our player tells of each frame when it was live. */
async function judgeTimes(part, all) {
  for (const [protocol, most] of [["WHEP", WHEP_ERROR_MS], ["LL-HLS", HLS_ERROR_MS]]) {
    for (const stream of ["WHIP", "RTMP"]) {
      await part(`currentMediaTime is right on ${protocol} of ${stream}`, () => {
        const off = errors(all[`${protocol} of ${stream}`]);
        assert.ok(off.length > 100, `told of ${off.length} frames`);
        const median = quantile(sizes(off), 0.5);
        assert.ok(median <= most, `${median} ms off`);
      });
    }
  }
  for (const stream of ["WHIP", "RTMP"]) {
    await part(`WHEP and LL-HLS agree on frames of ${stream}`, () => {
      const apart = disagreements(all[`WHEP of ${stream}`], all[`LL-HLS of ${stream}`]);
      assert.ok(apart.length > 100, `${apart.length} frames were seen on both`);
      console.log(`the same frame of ${stream} on both: ${quantile(apart, 0.5).toFixed(1)} ms ` +
        `apart (median), ${quantile(apart, 0.95).toFixed(1)} (p95)`);
      assert.ok(quantile(apart, 0.5) <= WHEP_ERROR_MS + FRAME_MS);
    });
  }
}

/** By how much two players differ in what they say of one and the same frame. */
function disagreements(one, other) {
  const moments = new Map(one.readings.filter(isTold).map((it) => [it.clock, it.moment]));
  const both = other.readings.filter((it) => isTold(it) && moments.has(it.clock));
  return both.map(({ clock, moment }) => Math.abs(moment - moments.get(clock)));
}
