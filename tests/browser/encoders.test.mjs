// What encoders send that do not speak WebRTC is seen and heard in Chromium, each by the way in
// that people use it with; and what cannot be played says why.

import assert from "node:assert/strict";
import * as encoders from "./encoders.mjs";
import { ffmpeg, gstreamer, rtmp, rtmps, srt, withBFrames } from "./encoders.mjs";
import * as browser from "./harness.mjs";
import { counters, plays, scenario, scenarioInParts, textOf, until } from "./harness.mjs";

const FRAMES = 30;
const SAMPLES = 48_000;

/** Each with the programs that make it, the first writing to the second. */
const ENCODERS = [
  ["ffmpeg by RTMP", "rtmp", (to) => [["ffmpeg", ffmpeg(rtmp(to, "rtmp"))]]],
  ["ffmpeg by RTMPS", "rtmps", (to) => [["ffmpeg", ffmpeg(rtmps(to, "rtmps"))]]],
  ["ffmpeg by SRT", "srt", (to) => [["ffmpeg", ffmpeg(srt(to, "srt"))]]],
  ["ffmpeg by SRT with AES-256", "secret-256", (to) => {
    const secret = `&passphrase=${encoders.PASSPHRASE}&pbkeylen=32`;
    return [["ffmpeg", ffmpeg(srt(to, "secret-256", secret))]];
  }],
  ["ffmpeg by SRT with its default key length", "secret-default", (to) => {
    const secret = `&passphrase=${encoders.PASSPHRASE}`;
    return [["ffmpeg", ffmpeg(srt(to, "secret-default", secret))]];
  }],
  ["GStreamer's rtmp2sink", "rtmp2sink", (to) => {
    const [, , location] = rtmp(to, "rtmp2sink");
    const sink = ["flvmux name=mux streamable=true ! rtmp2sink", `location=${location}`];
    return [["gst-launch-1.0", gstreamer(...sink)]];
  }],
  ["GStreamer's srtsink", "srtsink", (to) => {
    const address = [`uri=${encoders.srtAddress(to)}`, `streamid=${encoders.keyedId("srtsink")}`];
    const sink = ["mpegtsmux name=mux alignment=7 ! srtsink wait-for-connection=false", ...address];
    return [["gst-launch-1.0", gstreamer(...sink)]];
  }],
  ["srt-live-transmit", "transmit", (to) => {
    const [, , address] = srt(to, "transmit");
    const transmit = ["-q", "-chunk:1316", "file://con", address];
    return [["ffmpeg", ffmpeg(["-f", "mpegts", "-"])], ["srt-live-transmit", transmit]];
  }],
];

/** The page shows a picture that goes on, and plays sound that is none of its own making. */
async function isSeenAndHeard(page) {
  const shown = () => page.evaluate(() => window.testFrames.length);
  const before = { shown: await shown(), ...(await counters(page)) };
  await until("pictures are shown", async () => (await shown()) >= before.shown + FRAMES);
  await until("sound is heard", async () => {
    const { audioSamples, audioEnergy } = await counters(page);
    return audioSamples >= before.audioSamples + SAMPLES && audioEnergy > before.audioEnergy;
  });
}

scenarioInParts("what encoders send is seen and heard", async (world, part) => {
  const server = await world.server(encoders.TAKES_ALL);
  const ports = await server.ports();
  const chromium = await world.chromium();
  for (const [, , programs] of ENCODERS) world.encode(...programs(ports));
  for (const [name, stream] of ENCODERS) {
    await part(`${name} is seen and heard in Chromium`, async () => {
      await until("the stream is live", () => server.report(stream));
      const viewer = await world.open(chromium, server.watchPage(stream));
      await isSeenAndHeard(viewer);
      const { publisher } = await server.report(stream);
      const protocol = /^rtmps?$/.test(stream) ? stream : /rtmp/.test(stream) ? "rtmp" : "srt";
      assert.equal(publisher.protocol, protocol);
      assert.deepEqual(publisher.notices, []);
      if (protocol === "srt") assert.ok(publisher.link.latency_ms >= 120, "the link is told of");
      await viewer.close();
    });
  }
});

scenario("no newcomer waits for an encoder's next keyframe, 10 s away", async (world) => {
  const server = await world.server(encoders.TAKES_ALL);
  const chromium = await world.chromium();
  world.encode(["ffmpeg", ffmpeg(rtmp(await server.ports(), "stage"), { keyframeEvery: 10 })]);
  const keyframes = async () => {
    const { tracks } = (await server.report("stage")) ?? { tracks: [] };
    return tracks.find(({ kind }) => kind === "video")?.keyframes ?? 0;
  };
  // A machine that is slow enough to open a page for as long as that gets a second chance.
  let came;
  for (let attempt = 0; attempt < 3 && came !== 0; attempt += 1) {
    const since = await keyframes();
    await until("a keyframe comes", async () => (await keyframes()) > since);
    const { taken } = (await server.report("stage")).publisher.frames;
    await until("there is a past", async () => {
      return (await server.report("stage")).publisher.frames.taken > taken + FRAMES;
    });
    const before = await keyframes();
    const newcomer = await world.open(chromium, server.watchPage("stage"));
    await until("it shows a picture", () => newcomer.evaluate(() => window.testFrames.length > 0));
    came = (await keyframes()) - before;
    await newcomer.close();
  }
  assert.equal(came, 0, "its picture was there before the next keyframe");
});

scenario("a killed sound worker costs no picture, and the sound comes back", async (world) => {
  const server = await world.server(encoders.TAKES_ALL);
  const chromium = await world.chromium();
  world.encode(["ffmpeg", ffmpeg(rtmp(await server.ports(), "stage"))]);
  await until("the stream is live", () => server.report("stage"));
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await isSeenAndHeard(viewer);
  const [worker, ...others] = server.soundWorkers();
  assert.deepEqual(others, [], "one worker for the one stream");
  process.kill(worker, "SIGKILL");
  await plays(viewer);
  await until("another worker runs", () => {
    const [next] = server.soundWorkers();
    return next !== undefined && next !== worker;
  });
  await isSeenAndHeard(viewer);
  const peers = await viewer.evaluate(() => window.testPeers.length);
  assert.equal(peers, 1, "all in one session");
  assert.ok(await browser.badge(viewer, "Live"));
});

scenario("B-frames that others need come by LL-HLS, later pictures by WebRTC", async (world) => {
  const server = await world.server(encoders.TAKES_ALL);
  const ports = await server.ports();
  const chromium = await world.chromium();
  const wrong = ffmpeg(rtmp(ports, "stage"), { video: withBFrames("normal") });
  world.encode(["ffmpeg", wrong]);
  await until("the API says so", async () => {
    const notices = (await server.report("stage"))?.publisher?.notices ?? [];
    return notices.some((notice) => /B-frames.*bframes=0/.test(notice));
  });
  const viewer = await world.open(chromium, server.watchPage("stage"));
  const way = () => viewer.evaluate(() => document.querySelector("#player").protocol);
  await until("the watch page plays by LL-HLS", async () => (await way()) === "hls");
  await browser.moves(viewer);
  const token = `#token=${browser.PUBLISH_TOKEN}`;
  const address = `${server.url}/publish/stage?source=encoder${token}`;
  const publisher = await world.open(chromium, address);
  await until("the publish page says so", async () => {
    return /B-frames.*bframes=0/.test(await textOf(publisher, "#fares-notices"));
  });
  await browser.screenshot(publisher, "publish B-frames");
  await browser.screenshot(viewer, "watch B-frames");
  // The same token takes the stream over at once, and the page looks again by itself: less and
  // less often, so that the test says that the network has changed.
  world.encode(["ffmpeg", ffmpeg(rtmp(ports, "stage"))]);
  await until("the watch page plays by WebRTC", async () => {
    await viewer.evaluate(() => window.dispatchEvent(new Event("online")));
    return (await way()) === "whep";
  });
  await plays(viewer);
  await until("the publish page says no more that something is wrong", async () => {
    return (await textOf(publisher, "#fares-notices")) === "";
  });
});

scenario("B-frames that no picture needs are left out, and the picture plays", async (world) => {
  const server = await world.server(encoders.TAKES_ALL);
  const chromium = await world.chromium();
  const video = withBFrames("none");
  world.encode(["ffmpeg", ffmpeg(rtmp(await server.ports(), "stage"), { video })]);
  await until("the stream is live", () => server.report("stage"));
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await isSeenAndHeard(viewer);
  const { frames } = (await server.report("stage")).publisher;
  assert.ok(frames.b_frames > 0, JSON.stringify(frames));
});
