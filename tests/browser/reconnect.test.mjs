// Pages that come back by themselves.

import assert from "node:assert/strict";
import { badge, counters, goLive, plays, scenario, textOf, until } from "./harness.mjs";

/** What the page shows and how it came by it. */
function shown(page) {
  return page.evaluate(() => {
    const { videoWidth, videoHeight } = window.testVideo();
    return { size: `${videoWidth}x${videoHeight}`, peers: window.testPeers.length };
  });
}

async function shows(page, size) {
  await until(`the picture is ${size}`, async () => (await shown(page)).size === size);
  await plays(page);
}

/** Runs in a page before its own scripts: its first offer has no picture but VP8. */
function offerVp8First() {
  const { createOffer } = RTCPeerConnection.prototype;
  let offers = 0;
  RTCPeerConnection.prototype.createOffer = function (...parameters) {
    offers += 1;
    const isVp8 = ({ mimeType }) => /VP8|rtx/i.test(mimeType);
    const { codecs } = RTCRtpReceiver.getCapabilities("video");
    for (const transceiver of offers === 1 ? this.getTransceivers() : []) {
      const isVideo = transceiver.receiver.track.kind === "video";
      if (isVideo) transceiver.setCodecPreferences(codecs.filter(isVp8));
    }
    return createOffer.apply(this, parameters);
  };
}

scenario("a page that waits for a stream plays as soon as it is live", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await until("the page says that it waits", async () => {
    return (await textOf(viewer, "#title")) === "Not live yet";
  });
  const publisher = await world.open(chromium, server.publishPage("stage"));
  await goLive(publisher);
  await plays(viewer);
  assert.ok(await badge(viewer, "Live"));
});

scenario("a publisher leaves and comes back, and the page plays again", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("stage"));
  await goLive(publisher);
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await plays(viewer);
  await publisher.click("#go");
  await until("the publisher is off", () => badge(publisher, "Off"));
  await until("the page says that nothing comes", async () => {
    return ["Not live yet", "The stream has paused"].includes(await textOf(viewer, "#title"));
  });
  await publisher.click("#go");
  await until("the publisher is live again", () => badge(publisher, "Live"));
  await until("the page says no more that nothing comes", async () => {
    return (await textOf(viewer, "#title")) === "";
  });
  await plays(viewer);
});

scenario("after a restart of the server both sides come back", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("stage"));
  await goLive(publisher);
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await plays(viewer);
  assert.equal(await server.stop(), 0, "the server ends without a fault");
  await until("the publisher notices", async () => !(await badge(publisher, "Live")));
  await until("the viewer notices", async () => !(await badge(viewer, "Live")));
  await server.start();
  await until("the publisher is live again", () => badge(publisher, "Live"));
  await until("the viewer is live again", () => badge(viewer, "Live"));
  await plays(viewer);
});

scenario("whoever is taken over says so and does not fight for the stream", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const first = await world.open(chromium, server.publishPage("stage"));
  await goLive(first);
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await plays(viewer);
  const second = await world.open(chromium, server.publishPage("stage"));
  await goLive(second);
  await until("the first page says so", async () => {
    return /took the stream over/.test(await textOf(first, "#notice"));
  });
  assert.ok(await badge(first, "Off"));
  await plays(viewer);
  assert.ok(await badge(second, "Live"));
});

scenario("a page that is left ends its session at once", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("stage"));
  await goLive(publisher);
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await plays(viewer);
  // Both well before the server would notice by their silence.
  await viewer.goto("about:blank");
  const isAlone = async () => (await server.report("stage")).viewers.length === 0;
  await until("the viewer's session is gone", isAlone, 10_000);
  await publisher.goto("about:blank");
  const isOver = async () => (await server.report("stage")) === undefined;
  await until("the stream is gone", isOver, 10_000);
});

scenario("an encoder that dies and others that follow keep the audience", async (world) => {
  const server = await world.server({ LIMITS__PUBLISHER_SILENCE_TIMEOUT_S: "1" });
  const chromium = await world.chromium();
  const first = world.publishFile(server, "stage", { keyframeEvery: 2, size: "1280x720" });
  await until("the stream is live", () => server.report("stage"));
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await shows(viewer, "1280x720");

  first.kill("SIGKILL");
  await until("the page says that the publisher is away", async () => {
    return (await textOf(viewer, "#title")) === "The stream has paused";
  });
  assert.ok(await badge(viewer, "Waiting"), "what has paused is not live");
  assert.equal((await server.report("stage")).publisher, null);
  world.publishFile(server, "stage", { keyframeEvery: 2, size: "1920x1080" });
  await shows(viewer, "1920x1080");
  await until("the page says no more that the publisher is away", async () => {
    return (await textOf(viewer, "#title")) === "";
  });

  // Another codec, and sound; and it takes over while the one before still sends.
  const page = await world.open(chromium, server.publishPage("stage"));
  await goLive(page, { codec: "VP8" });
  await shows(viewer, "640x360");
  await until("VP8 and Opus flow", async () => {
    const { codecs } = await counters(viewer);
    return ["video/VP8", "audio/opus"].every((codec) => codecs.includes(codec));
  });
  assert.equal((await shown(viewer)).peers, 1, "all in one session");
  assert.ok(await badge(viewer, "Live"));
});

scenario("a page whose session cannot take the next codec makes another one", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("stage"));
  await goLive(publisher, { codec: "VP8" });
  const viewer = await world.open(chromium, server.watchPage("stage"), offerVp8First);
  await shows(viewer, "640x360");
  world.publishFile(server, "stage", { keyframeEvery: 2, size: "1280x720" });
  await shows(viewer, "1280x720");
  assert.equal((await shown(viewer)).peers, 2, "it was told to reconnect, once");
  assert.ok((await counters(viewer)).codecs.includes("video/H264"));
});
