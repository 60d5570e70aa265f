// An encoder sends one size by RTMP; the smaller ones are made here. Chromium decodes each that is
// chosen, by the API and in the player's menu.

import assert from "node:assert/strict";
import { TAKES_ALL, ffmpeg, rtmp } from "./encoders.mjs";
import { PATIENT, ask, scenarioInParts, textOf, until } from "./harness.mjs";
import { received, shows, watchLadder } from "./ladder.mjs";
import { servePages } from "./pages.mjs";

const SOURCE = { size: "1280x720", kbps: 2500 };
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
  } finally {
    await pages.end();
  }
});
