// Chromium publishes through the publish page; Chromium and Firefox watch through the watch page.

import assert from "node:assert/strict";
import * as browser from "./harness.mjs";
import { counters, goLive, plays, scenario, until } from "./harness.mjs";

const GCM = "AEAD_AES_128_GCM";

/** Everything a viewer has to get: each frame, sound, a picture that moves. */
async function watchesAll(publisher, viewers) {
  for (const viewer of viewers) await plays(viewer);
  const ratios = await browser.decodedPerSent(publisher, viewers);
  for (const ratio of ratios) {
    // At the borders of the measurement some frames are on their way.
    assert.ok(ratio > 0.85 && ratio < 1.15, `decoded per sent frame: ${ratios}`);
  }
  for (const viewer of viewers) {
    await browser.sounds(viewer);
    await browser.moves(viewer);
  }
}

async function viewersHaveGcm(server, stream, viewers) {
  return until(`the API shows ${viewers} viewers with GCM`, async () => {
    const report = await server.report(stream);
    const profiles = report?.viewers.map((viewer) => viewer.srtp_profile) ?? [];
    const isAll = profiles.length === viewers && profiles.every((profile) => profile === GCM);
    return isAll && report;
  });
}

for (const codec of ["H264", "VP8"]) {
  scenario(`two pages watch what Chromium publishes in ${codec}`, async (world) => {
    const server = await world.server();
    const chromium = await world.chromium();
    const publisher = await world.open(chromium, server.publishPage("hall/stage"));
    await goLive(publisher, { codec });
    const viewers = [
      await world.open(chromium, server.watchPage("hall/stage")),
      await world.open(chromium, server.watchPage("hall/stage")),
    ];
    await watchesAll(publisher, viewers);
    for (const viewer of viewers) {
      const { codecs } = await counters(viewer);
      assert.deepEqual([...codecs].sort(), ["audio/opus", `video/${codec}`]);
    }
    const report = await viewersHaveGcm(server, "hall/stage", 2);
    assert.equal(report.publisher.srtp_profile, GCM);
    const tracks = report.tracks.map((track) => `${track.kind} ${track.codec}`.toLowerCase());
    assert.deepEqual(tracks.sort(), ["audio opus", `video ${codec.toLowerCase()}`]);
    await browser.screenshot(publisher, `publish ${codec}`);
    await browser.screenshot(viewers[0], `watch ${codec}`);
  });
}

scenario("Firefox watches what Chromium publishes in VP8", async (world) => {
  const server = await world.server(browser.reachableByFirefox());
  const [chromium, firefox] = await Promise.all([world.chromium(), world.firefox()]);
  const publisher = await world.open(chromium, server.publishPage("stage"));
  await goLive(publisher, { codec: "VP8" });
  const viewer = await world.open(firefox, server.watchPage("stage"));
  await watchesAll(publisher, [viewer]);
  await viewersHaveGcm(server, "stage", 1);
  await browser.screenshot(viewer, "watch in Firefox");
});

scenario("Chromium watches what Firefox publishes", async (world) => {
  const server = await world.server(browser.reachableByFirefox());
  const [chromium, firefox] = await Promise.all([world.chromium(), world.firefox()]);
  const publisher = await world.open(firefox, server.publishPage("stage"));
  await goLive(publisher, { codec: "VP8" });
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await watchesAll(publisher, [viewer]);
  await viewersHaveGcm(server, "stage", 1);
  await browser.screenshot(publisher, "publish in Firefox");
});

scenario("a stream of sound only is heard", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("radio"));
  await goLive(publisher, { picture: "none" });
  const viewer = await world.open(chromium, server.watchPage("radio"));
  await browser.sounds(viewer);
  await until("the page says so", () => browser.isShown(viewer, "#sound-only"));
  const { tracks } = await server.report("radio");
  assert.deepEqual(tracks.map(({ kind }) => kind), ["audio"]);
  await browser.screenshot(viewer, "watch sound only");
});

scenario("a stream of pictures only is seen", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("window"));
  await goLive(publisher, { sound: "none" });
  const viewer = await world.open(chromium, server.watchPage("window"));
  await plays(viewer);
  await browser.moves(viewer);
  const { tracks } = await server.report("window");
  assert.deepEqual(tracks.map(({ kind }) => kind), ["video"]);
});

scenario("the test picture is published and watched", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("stage"));
  await publisher.click("#source-test + span");
  const isChosen = () => document.querySelector("video").videoWidth === 1280;
  await until("the test picture is previewed", () => publisher.evaluate(isChosen));
  await goLive(publisher);
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await plays(viewer);
  await browser.sounds(viewer);
  await browser.moves(viewer);
  await browser.screenshot(viewer, "watch test picture");
});
