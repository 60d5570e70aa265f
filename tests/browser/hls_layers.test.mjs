// A browser publishes three layers by WHIP; hls.js plays them by LL-HLS and moves between them.
//
// What a player shows is read from its frames: how wide each is, and the clock in it. The figures
// are printed, so that they can be quoted.

import assert from "node:assert/strict";
import { TAKES_ALL } from "./encoders.mjs";
import { PATIENT, PUBLISH_TOKEN, pause, scenarioInParts, screenshot, until } from "./harness.mjs";
import { servePages } from "./pages.mjs";

/** Wide enough for Chromium to send three layers; the widths of these, best first. */
const SCALE = 3;
const WIDTHS = [960, 480, 240];
const FRAMES_PER_SECOND = 15;
const SENT = {
  scale: SCALE,
  framesPerSecond: FRAMES_PER_SECOND,
  encodings: [
    { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 120_000 },
    { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 350_000 },
    { rid: "f", maxBitrate: 1_200_000 },
  ],
};

/** Which level is asked for next, counted from the best: each change there is, and back. */
const SWITCHES = [2, 0, 1, 2, 1, 0, 2, 0];
/** For so long a level is looked at. */
const LOOK_MS = 3_000;
/**
 * At the live edge hls.js begins with a level within a segment, and has its first picture at a
 * keyframe, of which there is one in a segment; sound goes on meanwhile.
 */
const STAND_MS = 2_000;
/** Where WebRTC's own picture stood for so long, the machine was too busy to judge players by. */
const BUSY_GAP_MS = 400;

scenarioInParts("players of LL-HLS move between layers", async (world, part) => {
  const server = await world.server({ ...TAKES_ALL, ...PATIENT });
  const pages = await servePages();
  try {
    const chromium = await world.chromium();
    const camera = await world.open(chromium, `${pages.url}/camera.html`);
    const endpoint = `${server.url}/whip/three`;
    await until("the camera is there", () => camera.evaluate(() => window.publish !== undefined));
    await camera.evaluate((...all) => window.publish(...all), endpoint, PUBLISH_TOKEN, SENT);
    const text = await listed(server, WIDTHS.length);
    await part("each layer is listed once for each sound, best first", () => listsAll(text));
    const wall = await world.open(chromium, `${pages.url}/wall.html`);
    await until("the wall is there", () => wall.evaluate(() => window.isReady === true));
    await hang(wall, "hls.js", "hls.js", server);
    await hang(wall, "WHEP", "player", server, "whep");
    // What catching up costs at the start is over.
    await pause(6_000);
    const seen = [];
    let before = WIDTHS[0];
    for (const [index, level] of SWITCHES.entries()) {
      let look = await moveTo(wall, WIDTHS[level]);
      print(index, WIDTHS[level], look);
      if (hasStalled(look)) {
        console.log("it stalled: the same change once more");
        await moveTo(wall, before);
        look = await moveTo(wall, WIDTHS[level]);
        print(index, WIDTHS[level], look);
      }
      before = WIDTHS[level];
      seen.push(look);
    }
    await screenshot(wall, "layers of LL-HLS");
    await part("each level is shown, whole", () => {
      for (const [index, { hls }] of seen.entries()) {
        const wide = hls.readings.filter(({ width }) => width === WIDTHS[SWITCHES[index]]);
        assert.ok(wide.length > 10, `${index}: ${wide.length} of ${hls.readings.length} frames`);
        assert.deepEqual(hls.faults.filter(({ text }) => text.includes(", fatal")), []);
      }
    });
    await part("no change stops the picture", () => {
      const fair = seen.filter(({ whep }) => longestGap(whep) < BUSY_GAP_MS);
      console.log(`${fair.length} of ${seen.length} changes are judged`);
      for (const look of fair) {
        const stood = `it stood for ${longestGap(look.hls)} ms`;
        assert.ok(!hasStalled(look), `${look.waits} waits, ${stood}`);
      }
    });
    await part("the same moment is shown at the same time in all levels", () => {
      const off = seen.flatMap(({ hls }) => jumps(hls));
      console.log(`clock against media time, at changes: ${off.map((it) => it.toFixed(0))} ms`);
      assert.ok(off.every((it) => Math.abs(it) < 100), `${off}`);
    });
    assert.deepEqual(wall.faults, []);
  } finally {
    await pages.end();
  }
});

/** The multivariant playlist, once so many layers are in it. */
async function listed(server, layers) {
  return until("all layers are listed", async () => {
    const response = await fetch(`${server.url}/hls/three/index.m3u8`);
    const text = await response.text();
    return new Set(text.match(/^video.*$/gm)).size === layers ? text : undefined;
  });
}

function listsAll(text) {
  console.log(text);
  const variants = text.match(/#EXT-X-STREAM-INF.*\n.*/g);
  const widths = variants.map((it) => Number(/RESOLUTION=(\d+)x/.exec(it)[1]));
  assert.deepEqual([...new Set(widths)], WIDTHS);
  const sorted = [...widths].sort((a, b) => b - a);
  assert.deepEqual(widths, sorted);
  for (const variant of variants) {
    assert.match(variant, /BANDWIDTH=\d+,AVERAGE-BANDWIDTH=\d+,CODECS=".+",RESOLUTION=/);
    assert.match(variant, /FRAME-RATE=1\d\.\d+,AUDIO=/);
  }
}

async function hang(wall, name, kind, server, choice) {
  await wall.evaluate((...all) => window.hang(...all), name, kind, server.url, "three", choice);
  const plays = (name) => window.screens[name].readings.length > 30;
  await until(`${name} plays`, () => wall.evaluate(plays, name));
}

/** Asks for the level of that width; what is seen until it is shown, and for a while after. */
async function moveTo(wall, width) {
  const known = (await wall.evaluate(() => window.taken()))["hls.js"].waits.length;
  const began = Date.now();
  await wall.evaluate((width) => {
    const { hls } = window.screens["hls.js"];
    hls.loadLevel = hls.levels.findIndex((level) => level.width === width);
  }, width);
  const isShown = (width) => window.screens["hls.js"].readings.at(-1)?.width === width;
  await until(`${width} is shown`, () => wall.evaluate(isShown, width));
  const took = Date.now() - began;
  await pause(LOOK_MS);
  const { "hls.js": hls, WHEP: whep } = await wall.evaluate(() => window.taken());
  return { took, hls, whep, waits: hls.waits.length - known };
}

/** Whether the player had nothing to play, or the picture stood longer than it has to. */
function hasStalled({ waits, hls }) {
  return waits > 0 || longestGap(hls) >= STAND_MS;
}

function longestGap({ readings }) {
  return Math.max(...readings.slice(1).map(({ at }, index) => at - readings[index].at));
}

/** By how much the clock in the picture jumps against media time where the width changes. */
function jumps({ readings }) {
  const pairs = readings.slice(1).map((after, index) => [readings[index], after]);
  const changes = pairs.filter(([before, after]) => before.width !== after.width);
  const offset = ({ clock, mediaTime }) => clock - mediaTime * 1_000;
  return changes.map(([before, after]) => offset(after) - offset(before));
}

function print(index, width, { took, hls, whep, waits }) {
  const counts = new Map();
  for (const { width } of hls.readings) counts.set(width, (counts.get(width) ?? 0) + 1);
  const shown = [...counts].map(([width, count]) => `${count} of ${width}`).join(", ");
  const gaps = `${longestGap(hls)} ms (WHEP ${longestGap(whep)})`;
  console.log(`${index}: to ${width} in ${took} ms; longest gap ${gaps}; frames: ${shown}; ` +
    `waits ${waits}, unread ${hls.unread}`);
}
