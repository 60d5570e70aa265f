// A browser publishes what players of HLS do not take; H.264 is made of it, and they play that.

import assert from "node:assert/strict";
import { TAKES_ALL } from "./encoders.mjs";
import { PATIENT, PUBLISH_TOKEN, counters, plays, scenario, until } from "./harness.mjs";
import { servePages } from "./pages.mjs";

const SENT = { scale: 2, framesPerSecond: 15, encodings: [{ maxBitrate: 1_000_000 }] };
const FRAMES = 60;

for (const codec of ["VP8", "VP9"]) {
  scenario(`${codec} is watched by WebRTC as it is, and as H.264 by LL-HLS`, async (world) => {
    const server = await world.server({ ...TAKES_ALL, ...PATIENT, TRANSCODE__LADDER: "on" });
    const pages = await servePages();
    try {
      const chromium = await world.chromium();
      const camera = await world.open(chromium, `${pages.url}/camera.html`);
      const isThere = () => camera.evaluate(() => window.publish !== undefined);
      await until("the camera is there", isThere);
      const endpoint = `${server.url}/whip/stage`;
      const what = { ...SENT, codec };
      await camera.evaluate((...all) => window.publish(...all), endpoint, PUBLISH_TOKEN, what);
      await until("layers can be made", async () => {
        const video = (await server.report("stage"))?.tracks.find(({ kind }) => kind === "video");
        return video?.layers?.some(({ made, active }) => made && active);
      });
      const viewer = await world.open(chromium, server.watchPage("stage"));
      await plays(viewer);
      assert.ok((await counters(viewer)).codecs.includes(`video/${codec}`));
      const wall = await world.open(chromium, `${pages.url}/wall.html`);
      await until("the wall is there", () => wall.evaluate(() => window.isReady === true));
      await wall.evaluate((url) => window.hang("hls.js", "hls.js", url, "stage"), server.url);
      const shown = () => wall.evaluate(() => window.screens["hls.js"].readings.length);
      await until("hls.js shows it", async () => (await shown()) > FRAMES);
      const codecs = await wall.evaluate(() =>
        window.screens["hls.js"].hls.levels.map((level) => level.videoCodec),
      );
      assert.ok(codecs.length > 0 && codecs.every((it) => it.startsWith("avc1")), codecs.join());
      assert.deepEqual(wall.faults, []);
    } finally {
      await pages.end();
    }
  });
}
