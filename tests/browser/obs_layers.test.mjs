// Three layers as OBS 32 sends them: named 0, 1 and 2, with no word of the network but REMB, and
// with keyframes when they come, whoever asks. What is sent was recorded from an encoder before.

import assert from "node:assert/strict";
import { PATIENT, pause, scenarioInParts, until } from "./harness.mjs";
import { servePages } from "./pages.mjs";

const LAYERS = [
  { size: "960x540", kbps: 1_500 },
  { size: "480x270", kbps: 420 },
  { size: "240x136", kbps: 110 },
];
const FRAMES_PER_SECOND = 30;
const KEYFRAME_EVERY_SECONDS = 1;
/** What each link lets through, and the height of the layer that it carries. */
const LINKS = [
  { kbps: undefined, height: 540 },
  { kbps: 800, height: 270 },
  { kbps: 250, height: 136 },
];
/** A home's link: what waits before it drops, and how far away it is. */
const LINK = { queueMs: 300, delayMs: 10 };
const SETTLED_WITHIN_MS = 40_000;
/** So often and so long is measured until one has settled: a busy machine delays what it relays. */
const MEASURED_TIMES = 4;
const MEASURED_SECONDS = 6;
/** This share of a layer's frames is to come, and of those to be shown. */
const KEPT = 0.95;
/** For so long two other viewers watch beside one. */
const BESIDE_SECONDS = 12;

scenarioInParts("who watches three layers of an encoder like OBS", async (world, part) => {
  const pages = await servePages();
  try {
    const server = await world.server(PATIENT);
    const sent = { keyframeEvery: KEYFRAME_EVERY_SECONDS, layers: LAYERS };
    world.publishLikeObs(server, "stage", sent);
    await until("the API has three layers that flow", async () => {
      const video = (await server.report("stage"))?.tracks.find(({ kind }) => kind === "video");
      const flows = video?.layers?.filter(({ active, height }) => active && height);
      return flows?.map(({ rid }) => rid).join() === "0,1,2";
    });
    const chromium = await world.chromium();
    const networks = [];
    for (const { kbps } of LINKS) networks.push(await world.impair(server, { kbps, ...LINK }));
    for (const [index, { kbps }] of LINKS.entries()) {
      const name = `${kbps ?? "any"} kb/s carry a layer, and all of its frames`;
      await part(name, () => settles({ world, chromium, pages, networks }, index));
    }
  } finally {
    await pages.end();
  }
});

/** On this link one settles on the layer that it carries, and gets all of it. */
async function settles({ world, chromium, pages, networks }, index) {
  const { kbps, height } = LINKS[index];
  const others = networks.filter((_, at) => at !== index);
  const beside = { seconds: BESIDE_SECONDS };
  const light = others.map((network) => world.lightViewers(network, "stage", beside));
  const viewer = await world.open(chromium, `${pages.url}/ladder.html`);
  await until("the page is ready", () => viewer.evaluate(() => window.isReady));
  const began = Date.now();
  await viewer.evaluate((url) => window.watch(url), `${networks[index]}/whep/stage`);
  const measured = [];
  const keeps = ({ came, decoded, heights }) =>
    heights.every((it) => it === height) &&
    came >= FRAMES_PER_SECOND * KEPT &&
    decoded >= came * KEPT;
  try {
    while (!measured.some(keeps) && measured.length < MEASURED_TIMES) {
      const after = (await shows(viewer, height)) - began;
      measured.push({ after, ...(await rates(viewer)) });
    }
  } finally {
    console.log(JSON.stringify({ kbps, measured, told: await toldTo(viewer, began) }));
  }
  const reports = await Promise.all(light);
  const last = reports.map(({ groups }) => Object.keys(groups[0].layers?.last ?? {}).join());
  console.log(JSON.stringify({ beside: last }));
  assert.ok(measured.some(keeps), JSON.stringify(measured));
  const sizes = LAYERS.map(({ size }) => size);
  for (const size of last) assert.ok(sizes.includes(size), `a viewer beside it has ${size}`);
  await viewer.browserContext().close();
}

/** Waits until the last 60 frames have had this height; gives when the first of them was shown. */
function shows(viewer, height) {
  const look = (height) => {
    const last = window.shown.slice(-60);
    return last.length === 60 && last.every((it) => it.height === height) && last[0].at;
  };
  const what = `frames of ${height} lines are shown`;
  return until(what, () => viewer.evaluate(look, height), SETTLED_WITHIN_MS);
}

/** Frames per second that came and that were decoded, and their heights before and after. */
async function rates(viewer) {
  const read = async () => (await viewer.evaluate(() => window.videoStats())).streams[0];
  const before = await read();
  await pause(MEASURED_SECONDS * 1_000);
  const after = await read();
  const seconds = (after.timestamp - before.timestamp) / 1_000;
  return {
    came: (after.framesReceived - before.framesReceived) / seconds,
    decoded: (after.framesDecoded - before.framesDecoded) / seconds,
    heights: [before.frameHeight, after.frameHeight],
  };
}

/** What a viewer was told of its link and its layer, and how many seconds after it began. */
async function toldTo(viewer, began) {
  const told = await viewer.evaluate(() => window.told);
  return told.map(({ at, layers: { estimate, current, target } = {} }) => {
    const seconds = ((at - began) / 1_000).toFixed(1);
    return [seconds, estimate, current?.encodingId, target?.encodingId].join(" ");
  });
}
