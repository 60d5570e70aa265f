// Somebody else's page, which plays a stream by LL-HLS with hls.js.

import assert from "node:assert/strict";
import { until } from "./harness.mjs";
import { servePages } from "./pages.mjs";

const FRAMES = 60;

/** Waits until hls.js has shown the stream for a while; gives the levels that it chooses from. */
export async function shownByHls(world, chromium, server) {
  const pages = await servePages();
  try {
    const wall = await world.open(chromium, `${pages.url}/wall.html`);
    await until("the wall is there", () => wall.evaluate(() => window.isReady === true));
    await wall.evaluate((url) => window.hang("hls.js", "hls.js", url, "stage"), server.url);
    const shown = () => wall.evaluate(() => {
      return window.screens["hls.js"].shown().getVideoPlaybackQuality().totalVideoFrames;
    });
    await until("hls.js shows it", async () => (await shown()) > FRAMES);
    const levels = await wall.evaluate(() =>
      window.screens["hls.js"].hls.levels.map(({ videoCodec, height }) => ({ videoCodec, height })),
    );
    assert.deepEqual(wall.faults, []);
    return levels;
  } finally {
    await pages.end();
  }
}
