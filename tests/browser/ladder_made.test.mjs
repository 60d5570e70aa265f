// An encoder sends one size by RTMP; the smaller ones are made here. Chromium decodes each that its
// link carries, and each that is chosen, by the API and in the player's menu.

import assert from "node:assert/strict";
import { TAKES_ALL, ffmpeg, rtmp } from "./encoders.mjs";
import { PATIENT, ask, pause, scenarioInParts, textOf, until } from "./harness.mjs";
import {
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

const SOURCE = { size: "1280x720", kbps: 2500 };
/** What each link lets through, and the height of the layer that it carries. */
const LINKS = [
  { kbps: undefined, height: 720 },
  { kbps: 1_600, height: 480 },
  { kbps: 750, height: 360 },
];
/** What viewers may choose, by height, in the order in which this one does. */
const CHOSEN = [
  [480, "480p"],
  [360, "360p"],
  [720, "source"],
  [360, "360p"],
  [480, "480p"],
];
/** Frames on end by which a picture goes on. */
const FRAMES = 30;

/** The layers of the stream as the API has them. */
async function layers(server) {
  const video = (await server.report("stage"))?.tracks.find(({ kind }) => kind === "video");
  return video?.layers ?? [];
}

/** What a viewer was told last of the layers there are. */
function told(viewer) {
  return viewer.evaluate(() => window.told.at(-1)?.layers);
}

/** Behind this link one settles on the layer that it carries, and gets all of it. */
async function settles({ world, chromium, pages, server }, { kbps, height }) {
  const network = await world.impair(server, { kbps, ...LINK });
  const began = Date.now();
  const viewer = await watchLadder(world, chromium, pages, network);
  const measured = [];
  const keeps = ({ made, came, heights }) =>
    heights.every((it) => it === height) && came >= made * KEPT;
  while (!measured.some(keeps) && measured.length < MEASURED_TIMES) {
    const since = await shows(viewer, height, 50).catch(() => undefined);
    // What is known by then tells why.
    if (since === undefined) break;
    const before = await received(viewer);
    await pause(MEASURED_SECONDS * 1_000);
    const after = await received(viewer);
    measured.push({
      after: since - began,
      made: (await layers(server)).find((layer) => layer.height === height)?.frame_rate,
      came: perSecond(before, after, "framesReceived"),
      decoded: perSecond(before, after, "framesDecoded"),
      heights: [before.frameHeight, after.frameHeight],
    });
  }
  const figures = JSON.stringify({ kbps, measured, told: await toldTo(viewer, began) });
  console.log(figures);
  assert.ok(measured.some(keeps), figures);
  await viewer.browserContext().close();
}

async function choosesEach(viewer, server) {
  for (const [height, layer] of CHOSEN) {
    const at = Date.now();
    await viewer.evaluate((choice) => window.choose(choice), { encodingId: layer });
    const since = await shows(viewer, height, FRAMES);
    const before = await received(viewer);
    await until("it goes on", async () => {
      return (await received(viewer)).framesDecoded >= before.framesDecoded + FRAMES;
    });
    console.log(JSON.stringify({ layer, shownAfterMs: Math.round(since - at) }));
    const { encoder } = (await layers(server)).find(({ rid }) => rid === layer);
    assert.equal(encoder !== undefined, layer !== "source", `${layer} is made by ${encoder}`);
  }
  const { freezeCount } = await received(viewer);
  console.log(JSON.stringify({ freezeCount }));
}

/** Asks hls.js for the level of that height; done when it has been shown for a while. */
async function movesTo(wall, height) {
  const taken = async () => (await wall.evaluate(() => window.taken()))["hls.js"];
  await wall.evaluate((height) => {
    const { hls } = window.screens["hls.js"];
    hls.loadLevel = hls.levels.findIndex((level) => level.height === height);
  }, height);
  const isShown = ({ size }) => size.endsWith(`x${height}`);
  await until(`${height} lines are shown`, async () => isShown(await taken()));
  const { currentTime } = await taken();
  await until("it goes on", async () => {
    const now = await taken();
    return isShown(now) && now.currentTime > currentTime + 1.5;
  });
  const fatal = (await taken()).faults.filter(({ text }) => text.includes(", fatal"));
  assert.deepEqual(fatal, []);
}

scenarioInParts("the sizes that an encoder does not send are made", async (world, part) => {
  const options = { ...PATIENT, ...TAKES_ALL, SRT__LISTEN: "off", TRANSCODE__LADDER: "on" };
  const server = await world.server(options);
  const pages = await servePages();
  try {
    const chromium = await world.chromium();
    world.encode(["ffmpeg", ffmpeg(rtmp(await server.ports(), "stage"), SOURCE)]);
    await until("the API has all layers", async () => {
      const heights = (await layers(server)).filter(({ active }) => active);
      return heights.map(({ height }) => height).join() === "720,480,360";
    });

    for (const link of LINKS) {
      await part(`${link.kbps ?? "any"} kb/s carry a layer, and all of its frames`, () =>
        settles({ world, chromium, pages, server }, link),
      );
    }

    await part("each size that is chosen by the API is shown, and goes on", async () => {
      const viewer = await watchLadder(world, chromium, pages, server.url);
      await until("it is told of them", async () => (await told(viewer))?.layers?.length === 3);
      await choosesEach(viewer, server);
      assert.deepEqual(viewer.faults, []);
      await viewer.browserContext().close();
    });

    await part("the player's menu lists them, and shows what is chosen", async () => {
      const viewer = await world.open(chromium, server.watchPage("stage"));
      await until("the menu lists three sizes", async () => {
        const layers = await ask(viewer, "layers");
        return layers.filter(({ active }) => active).length === 3;
      });
      for (const [place, size] of [[3, "360p"], [1, "720p"], [2, "480p"]]) {
        await viewer.click(">>> #layer");
        const lines = await viewer.evaluate(() =>
          [...window.testFind("#layers").children].map(({ textContent }) => textContent),
        );
        assert.ok(lines[place].startsWith(`${size},`), lines.join(" | "));
        await viewer.click(`>>> #layers > :nth-child(${place + 1})`);
        await until(`${size} is shown`, async () => {
          const isSaid = (await textOf(viewer, "#layer-cell")) === size;
          const height = await viewer.evaluate(() => window.testVideo().videoHeight);
          return isSaid && `${height}p` === size;
        });
      }
      assert.deepEqual(viewer.faults, []);
    });

    await part("hls.js moves between the same layers", async () => {
      const wall = await world.open(chromium, `${pages.url}/wall.html`);
      await until("the wall is there", () => wall.evaluate(() => window.isReady === true));
      const hang = (url) => window.hang("hls.js", "hls.js", url, "stage");
      await wall.evaluate(hang, server.url);
      const heights = () =>
        wall.evaluate(() => window.screens["hls.js"].hls.levels.map((it) => it.height));
      await until("all layers are listed", async () => {
        return [...new Set(await heights())].sort((a, b) => b - a).join() === "720,480,360";
      });
      for (const height of [360, 720, 480, 360]) await movesTo(wall, height);
      assert.deepEqual(wall.faults, []);
    });
  } finally {
    await pages.end();
  }
});
