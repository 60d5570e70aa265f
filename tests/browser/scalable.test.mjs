// A viewer that asks for fewer temporal or spatial layers of one encoding gets what remains of it:
// every second picture, or a smaller one, and nothing in its counters tells that there was more.

import assert from "node:assert/strict";
import { PUBLISH_TOKEN, decodedPerSent, plays, scenario, until } from "./harness.mjs";

/** Runs in a page: publishes a moving picture in this codec and scalability mode (WebRTC-SVC). */
async function publish(url, token, { codec, mode, width, height }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const pen = canvas.getContext("2d");
  let number = 0;
  const draw = () => {
    number += 1;
    pen.fillStyle = `hsl(${number % 360} 60% 50%)`;
    pen.fillRect(0, 0, width, height);
    pen.fillStyle = "white";
    pen.fillRect((number * 7) % width, (number * 5) % height, 80, 80);
  };
  setInterval(draw, 1_000 / 30);
  const [track] = canvas.captureStream(30).getTracks();
  const peer = new RTCPeerConnection();
  const encodings = [{ scalabilityMode: mode, maxBitrate: 1_500_000 }];
  const options = { direction: "sendonly", sendEncodings: encodings };
  const transceiver = peer.addTransceiver(track, options);
  const { codecs } = RTCRtpSender.getCapabilities("video");
  const is = (name) => (it) => it.mimeType.toLowerCase() === `video/${name}`;
  const wanted = codecs.filter(is(codec.toLowerCase()));
  transceiver.setCodecPreferences([...wanted, ...codecs.filter(is("rtx"))]);
  await peer.setLocalDescription();
  const headers = { "Content-Type": "application/sdp", Authorization: `Bearer ${token}` };
  const body = peer.localDescription.sdp;
  const response = await fetch(url, { method: "POST", headers, body });
  if (response.status !== 201) throw new Error(`${response.status}: ${await response.text()}`);
  await peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
}

/** The counters of the video that a page receives. */
function received(page) {
  return page.evaluate(async () => {
    const report = await window.testPeers.at(-1).getStats();
    const is = ({ type, kind }) => type === "inbound-rtp" && kind === "video";
    const { framesDecoded, freezeCount, frameWidth, pliCount, packetsLost } = [
      ...report.values(),
    ].find(is);
    return { framesDecoded, freezeCount, frameWidth, pliCount, packetsLost };
  });
}

/** What a viewer chooses of the layers (draft-ietf-wish-whep, Video Layer Selection). */
async function choose(page, choice) {
  const status = await page.evaluate(async (choice) => {
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify(choice);
    const url = `${window.testSessions.at(-1)}/layer`;
    return (await fetch(url, { method: "POST", headers, body })).status;
  }, choice);
  assert.equal(status, 200);
}

/** Pictures of a viewer per picture of another's: what the machine does, it does to both. */
async function share(publisher, viewer, other) {
  const [its, others] = await decodedPerSent(publisher, [viewer, other], 90);
  return its / others;
}

/** One that publishes, one that is limited and one that is not. */
async function stage(world, what) {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.url);
  await publisher.evaluate(publish, `${server.url}/whip/stage`, PUBLISH_TOKEN, what);
  await until("the stream is live", () => server.report("stage"));
  const pages = [1, 2].map(() => world.open(chromium, server.watchPage("stage")));
  const [limited, other] = await Promise.all(pages);
  await plays(limited);
  await plays(other);
  return { server, publisher, limited, other };
}

/**
 * Nothing was missed or asked for since, and no more stood still than for who was let alone, but
 * for a change there and one back.
 */
async function isUndisturbed([page, before], [other, othersBefore]) {
  const [now, others] = [await received(page), await received(other)];
  const text = JSON.stringify({ before, now, othersBefore, others });
  assert.equal(now.pliCount, before.pliCount, text);
  assert.equal(now.packetsLost, before.packetsLost, text);
  const allowed = 2 + others.freezeCount - othersBefore.freezeCount;
  assert.ok(now.freezeCount - before.freezeCount <= allowed, text);
}

const TEMPORAL = [
  ["VP8", "L1T3", 1],
  ["VP9", "L1T3", 1],
  ["AV1", "L1T2", 0],
  ["AV1", "L1T3", 1],
  ["H264", "L1T2", 0],
];

for (const [codec, mode, highest] of TEMPORAL) {
  const name = `of ${codec} ${mode} a viewer takes every second picture, and then all again`;
  scenario(name, async (world) => {
    const what = { codec, mode, width: 640, height: 360 };
    const { publisher, limited, other } = await stage(world, what);
    const before = [await received(limited), await received(other)];
    await choose(limited, { maxTemporalLayerId: highest });
    await until("half of the pictures come", async () => {
      return Math.abs((await share(publisher, limited, other)) - 0.5) < 0.06;
    });
    await choose(limited, {});
    await until("all pictures come", async () => (await share(publisher, limited, other)) > 0.9);
    await isUndisturbed([limited, before[0]], [other, before[1]]);
  });
}

scenario("of VP9 L3T3_KEY a viewer takes the spatial layer that it wants", async (world) => {
  const what = { codec: "VP9", mode: "L3T3_KEY", width: 1280, height: 720 };
  const { server, publisher, limited, other } = await stage(world, what);
  const isWide = (page, width) => async () => (await received(page)).frameWidth === width;
  await until("the largest comes", isWide(limited, 1280), 60_000);
  const before = [await received(limited), await received(other)];
  for (const [spatial, width] of [[1, 640], [0, 320], [2, 1280], [0, 320], [2, 1280]]) {
    await choose(limited, { maxSpatialLayerId: spatial });
    await until(`it is ${width} wide`, isWide(limited, width));
    const isWhole = async () => (await share(publisher, limited, other)) > 0.85;
    await until("it comes at the whole frame rate", isWhole);
  }
  assert.equal((await received(other)).frameWidth, 1280);
  await isUndisturbed([limited, before[0]], [other, before[1]]);
  await tellsOfEach(server, 1280);
});

// Browsers put AV1's spatial layers together by an extension that the player asks for.
scenario("of AV1 L2T2_KEY a viewer takes the spatial layer that it wants", async (world) => {
  const what = { codec: "AV1", mode: "L2T2_KEY", width: 640, height: 360 };
  const { server, publisher, limited, other } = await stage(world, what);
  const isWide = (page, width) => async () => (await received(page)).frameWidth === width;
  await until("the largest comes", isWide(limited, 640), 60_000);
  const before = [await received(limited), await received(other)];
  for (const [spatial, width] of [[0, 320], [1, 640], [0, 320], [1, 640]]) {
    await choose(limited, { maxSpatialLayerId: spatial });
    await until(`it is ${width} wide`, isWide(limited, width));
    const isWhole = async () => (await share(publisher, limited, other)) > 0.85;
    await until("it comes at the whole frame rate", isWhole);
  }
  assert.equal((await received(other)).frameWidth, 640);
  await isUndisturbed([limited, before[0]], [other, before[1]]);
  const { tracks } = await server.report("stage");
  const [{ width, spatial }] = tracks.find(({ kind }) => kind === "video").layers;
  assert.deepEqual([width, spatial.map((it) => it.width)], [640, [320, 640]]);
});

// What is lost is sent again, and until it is there no picture goes on without it: libwebrtc would
// lack it from then on, until the next keyframe.
scenario("of AV1 L2T2_KEY pictures go on over a network that loses", async (world) => {
  const what = { codec: "AV1", mode: "L2T2_KEY", width: 640, height: 360 };
  const { server, publisher, other } = await stage(world, what);
  const network = await world.impair(server, { lossPercent: 2, delayMs: 20 });
  const chromium = await world.chromium();
  const url = server.watchPage("stage").replace(server.url, network);
  const page = await world.open(chromium, url);
  await plays(page);
  const [its, others] = await decodedPerSent(publisher, [page, other], 300);
  const text = JSON.stringify({ its, others, received: await received(page) });
  // It was a third where pictures did not wait.
  assert.ok(its / others > 0.6, text);
});

/** Sizes are told as they are, and rates as they were measured: each includes those below. */
async function tellsOfEach(server, width) {
  const { tracks } = await server.report("stage");
  const [{ spatial }] = tracks.find(({ kind }) => kind === "video").layers;
  const text = JSON.stringify(spatial);
  assert.deepEqual(spatial.map((it) => it.width), [width / 4, width / 2, width], text);
  const rates = spatial.map(({ temporal_bps: rates }) => rates.at(-1));
  assert.ok(rates[0] > 0 && rates[0] < rates[1] && rates[1] < rates[2], text);
  for (const { temporal_bps: rates } of spatial) {
    assert.equal(rates.length, 3, text);
    assert.ok(rates[0] < rates[1] && rates[1] < rates[2], text);
  }
}
