// Chromium in a network without UDP publishes and watches over TCP; with UDP it takes that.

import assert from "node:assert/strict";
import * as browser from "./harness.mjs";
import { chosenCandidate, counters, goLive, plays, scenario, until } from "./harness.mjs";

function chooses(page, protocol) {
  return until(`the page's peer goes over ${protocol}`, async () => {
    return (await chosenCandidate(page))?.protocol === protocol;
  });
}

scenario("Chromium without UDP publishes and watches over TCP", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium({ withoutUdp: true });
  const publisher = await world.open(chromium, server.publishPage("lane"));
  await goLive(publisher, { codec: "H264" });
  await chooses(publisher, "tcp");
  const viewer = await world.open(chromium, server.watchPage("lane"));
  await plays(viewer);
  await chooses(viewer, "tcp");
  assert.equal((await chosenCandidate(viewer)).tcpType, "active");
  const [ratio] = await browser.decodedPerSent(publisher, [viewer]);
  // At the borders of the measurement some frames are on their way.
  assert.ok(ratio > 0.85 && ratio < 1.15, `decoded per sent frame: ${ratio}`);
  await browser.sounds(viewer);
  await browser.moves(viewer);
  assert.deepEqual([...(await counters(viewer)).codecs].sort(), ["audio/opus", "video/H264"]);
  await browser.screenshot(viewer, "watch over TCP");
});

scenario("Chromium with UDP takes that and not TCP", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("road"));
  await goLive(publisher, { codec: "VP8" });
  const viewer = await world.open(chromium, server.watchPage("road"));
  await plays(viewer);
  await chooses(publisher, "udp");
  await chooses(viewer, "udp");
});
