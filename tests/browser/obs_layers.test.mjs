// Three layers as OBS 32 sends them: named 0, 1 and 2, with no word of the network but REMB, and
// with keyframes when they come, whoever asks. What is sent was recorded from an encoder before.

import assert from "node:assert/strict";
import { PATIENT, pause, scenarioInParts, until } from "./harness.mjs";
import {
  BESIDE_SECONDS,
  KEPT,
  LINK,
  MEASURED_SECONDS,
  MEASURED_TIMES,
  perSecond,
  received,
  shows,
  toldTo,
  watchLadder,
} from "./ladder.mjs";
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
/** So many frames on end are of one layer before that counts as settled. */
const SHOWN_FRAMES = 60;

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
  const began = Date.now();
  const viewer = await watchLadder(world, chromium, pages, networks[index]);
  const measured = [];
  const keeps = ({ came, decoded, heights }) =>
    heights.every((it) => it === height) &&
    came >= FRAMES_PER_SECOND * KEPT &&
    decoded >= came * KEPT;
  try {
    while (!measured.some(keeps) && measured.length < MEASURED_TIMES) {
      const after = (await shows(viewer, height, SHOWN_FRAMES)) - began;
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

/** Frames per second that came and that were decoded, and their heights before and after. */
async function rates(viewer) {
  const before = await received(viewer);
  await pause(MEASURED_SECONDS * 1_000);
  const after = await received(viewer);
  return {
    came: perSecond(before, after, "framesReceived"),
    decoded: perSecond(before, after, "framesDecoded"),
    heights: [before.frameHeight, after.frameHeight],
  };
}
