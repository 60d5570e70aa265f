// What viewers do not play as it comes is made into what they do, and seen by WebRTC and by LL-HLS.

import assert from "node:assert/strict";
import { TAKES_ALL, ffmpeg, rtmp, withBFrames } from "./encoders.mjs";
import { PATIENT, PUBLISH_TOKEN, counters, plays, scenario, until } from "./harness.mjs";
import { servePages } from "./pages.mjs";
import { shownByHls } from "./wall.mjs";

const SENT = { scale: 2, framesPerSecond: 15, encodings: [{ maxBitrate: 1_000_000 }] };

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
      const levels = await shownByHls(world, chromium, server);
      const isH264 = ({ videoCodec }) => videoCodec.startsWith("avc1");
      assert.ok(levels.length > 0 && levels.every(isH264), JSON.stringify(levels));
    } finally {
      await pages.end();
    }
  });
}

scenario("B-frames are seen by WebRTC as what is made, by LL-HLS as they came", async (world) => {
  const server = await world.server({ ...TAKES_ALL, ...PATIENT, TRANSCODE__LADDER: "on" });
  const chromium = await world.chromium();
  const choices = { video: withBFrames("normal"), size: "640x360", kbps: 800 };
  world.encode(["ffmpeg", ffmpeg(rtmp(await server.ports(), "stage"), choices)]);
  await until("the stream is live", () => server.report("stage"));
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await plays(viewer);
  assert.equal(await viewer.evaluate(() => document.querySelector("#player").protocol), "whep");
  assert.ok((await server.report("stage")).publisher.frames.b_frames > 0);
  const levels = await shownByHls(world, chromium, server);
  // The encoder's is of the High profile, which alone has B-frames of those here.
  const asItCame = ({ videoCodec }) => videoCodec.startsWith("avc1.64");
  assert.ok(levels.some(asItCame), JSON.stringify(levels));
});
