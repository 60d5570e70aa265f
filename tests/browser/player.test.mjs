// `<millrace-player>`: which way a stream comes, what the picture's time is, what a page author can
// do with it.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import * as browser from "./harness.mjs";
import { filmClock, readClock } from "./burnt_clock.mjs";
import { ask, goLive, isShown, moves, plays, scenario, textOf, until } from "./harness.mjs";
import { withoutWebRtc } from "./hooks.mjs";

/** Runs in a page before its own scripts: media gets no further than this until it is let. */
function blockMedia(isBlocked) {
  window.testBlocked = isBlocked;
  const { setRemoteDescription } = RTCPeerConnection.prototype;
  RTCPeerConnection.prototype.setRemoteDescription = function (answer) {
    // Nothing listens there, by UDP or TCP.
    const nowhere = (line) => line.replace(/^(a=candidate:\S+ \d+ \w+ \d+) \S+/, "$1 127.0.0.9");
    if (!window.testBlocked) return setRemoteDescription.call(this, answer);
    const sdp = answer.sdp.split("\r\n").map(nowhere).join("\r\n");
    return setRemoteDescription.call(this, { type: answer.type, sdp });
  };
}

/** It plays by that way: time advances in the picture that is shown. */
async function playsBy(page, protocol) {
  await until(`it plays by ${protocol}`, async () => {
    return (await ask(page, "state")) === "playing" && (await ask(page, "protocol")) === protocol;
  });
  await moves(page);
}

/** How long after the page was opened its picture moved. */
async function firstTime(page) {
  return until("something is shown", () =>
    page.evaluate(() => {
      const [first] = window.testFrames;
      return first && first.at - performance.timeOrigin - window.testOpenedAt;
    }),
  );
}

/** Runs in a page before its own scripts: when the player began. */
function keepOpening() {
  document.addEventListener("DOMContentLoaded", () => (window.testOpenedAt = performance.now()));
}

/** Several of these functions, run in a page before its own scripts. */
function hooks(...functions) {
  const calls = functions.map((it) => `(${it})(...parameters);`);
  return new Function("...parameters", calls.join("\n"));
}

async function published(world, options = {}) {
  const server = await world.server(options);
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("stage"), filmClock);
  await goLive(publisher, { codec: "H264" });
  return { server, chromium, publisher };
}

/** Opens a page that comes from elsewhere than the server's. */
async function openElsewhere(world, browser, html) {
  const host = createServer((_, response) => {
    response.writeHead(200, { "Content-Type": "text/html" }).end(`<!doctype html>${html}`);
  });
  await new Promise((resolve) => host.listen(0, "127.0.0.1", resolve));
  try {
    return await world.open(browser, `http://127.0.0.1:${host.address().port}/`);
  } finally {
    host.close();
    host.closeAllConnections();
  }
}

scenario("a page of somebody else has a player of its own", async (world) => {
  const { server, chromium } = await published(world);
  const page = await openElsewhere(
    world,
    chromium,
    `<style>button { display: none }</style>
     <script type="module" src="${server.url}/player.js"></script>
     <millrace-player stream="stage" autoplay muted style="width: 480px"></millrace-player>`,
  );
  await page.evaluate(() => {
    window.testEvents = [];
    const player = document.querySelector("millrace-player");
    const names = ["statechange", "protocolchange", "play", "pause", "volumechange", "stats"];
    for (const name of names) {
      player.addEventListener(name, ({ detail }) => window.testEvents.push([name, detail]));
    }
  });
  const events = (wanted) =>
    page.evaluate(
      (wanted) => window.testEvents.filter(([name]) => name === wanted).map(([, it]) => it),
      wanted,
    );
  await playsBy(page, "whep");
  assert.ok(await isShown(page, "#fullscreen"), "the page's styles stay outside");
  await until("it tells what flows", async () => {
    const [newest] = (await events("stats")).slice(-1);
    return newest?.width === 640 && newest.videoCodec === "H264" && newest.protocol === "whep";
  });

  await page.focus(">>> #stage");
  await page.keyboard.press("k");
  await until("it is paused", async () => (await ask(page, "state")) === "paused");
  assert.ok(await page.evaluate(() => document.querySelector("millrace-player").video.paused));
  assert.ok(await isShown(page, "#unmute"), "a button in the middle plays again");
  await page.keyboard.press("k");
  await playsBy(page, "whep");
  await page.keyboard.press("m");
  await until("there is sound", async () => (await ask(page, "muted")) === false);
  await page.keyboard.press("ArrowDown");
  await until("it is softer", async () => Math.abs((await ask(page, "volume")) - 0.9) < 0.01);
  assert.equal((await events("pause")).length, 1);
  assert.equal((await events("play")).length, 1);
  await until("the page is told of it", async () => {
    const newest = (await events("volumechange")).at(-1);
    return newest?.volume === 0.9 && newest.muted === false;
  });

  await page.evaluate(() => document.querySelector("millrace-player").remove());
  await until("a player that is taken out of the page ends its session", async () => {
    return (await server.report("stage")).viewers.length === 0;
  });
});

scenario("a player begins when it is told to", async (world) => {
  const { server, chromium } = await published(world);
  const page = await openElsewhere(
    world,
    chromium,
    `<script type="module" src="${server.url}/player.js"></script>
     <millrace-player stream="stage"></millrace-player>`,
  );
  await until("there is a button", () => isShown(page, "#unmute"));
  assert.equal(await ask(page, "state"), "idle");
  assert.equal((await server.report("stage")).viewers.length, 0);
  await page.click(">>> #unmute");
  await playsBy(page, "whep");
  await plays(page);
});

scenario("without WebRTC the stream comes by LL-HLS", async (world) => {
  const { server, chromium } = await published(world);
  const hook = hooks(withoutWebRtc, readClock);
  const viewer = await world.open(chromium, server.watchPage("stage"), hook);
  await playsBy(viewer, "hls");
  await until("the page says so", async () => {
    return (await textOf(viewer, "#standing")).includes("LL-HLS");
  });
  await browser.screenshot(viewer, "watch by HLS");
});

scenario("with UDP and TCP blocked it falls back within 5 s, and returns", async (world) => {
  const { server, chromium } = await published(world);
  const hook = hooks(blockMedia, keepOpening);
  const viewer = await world.open(chromium, server.watchPage("stage"), hook, true);
  const first = await firstTime(viewer);
  console.log(`blocked: first picture ${first.toFixed(0)} ms after the page was there`);
  await playsBy(viewer, "hls");
  await viewer.evaluate(() => {
    window.testBlack = [];
    const player = document.querySelector("millrace-player");
    const look = () => {
      const { video } = player;
      if (video.readyState < 2) window.testBlack.push(player.state);
      requestAnimationFrame(look);
    };
    look();
    window.testBlocked = false;
  });
  await playsBy(viewer, "whep");
  assert.deepEqual(await viewer.evaluate(() => window.testBlack), [], "there was always a picture");
  await viewer.evaluate(() => (window.testBlocked = true));
});

/** What the player's time and the clock in the picture differ by, in ms, for so many frames. */
async function differences(page, frames = 60) {
  await page.evaluate(() => {
    window.testDifferences = [];
    const player = document.querySelector("millrace-player");
    const { video } = player;
    const onFrame = () => {
      const shown = window.testReadClock(video);
      const told = player.currentMediaTime;
      if (shown !== undefined && told !== null) window.testDifferences.push(told - shown);
      video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback(onFrame);
  });
  const read = () => page.evaluate(() => window.testDifferences);
  const found = await until("enough frames were compared", async () => {
    const all = await read();
    return all.length >= frames && all;
  });
  return found.sort((a, b) => a - b);
}

function summary(sorted) {
  const at = (share) => sorted[Math.floor((sorted.length - 1) * share)].toFixed(1);
  return `median ${at(0.5)} ms, 5 % ${at(0.05)}, 95 % ${at(0.95)}`;
}

for (const [protocol, boundMs] of [["whep", 50], ["hls", 100]]) {
  scenario(`currentMediaTime is that of the picture by ${protocol}`, async (world) => {
    const { server, chromium } = await published(world);
    const hook = protocol === "hls" ? hooks(withoutWebRtc, readClock) : readClock;
    const viewer = await world.open(chromium, server.watchPage("stage"), hook);
    await playsBy(viewer, protocol);
    await until("the time is known", async () => (await ask(viewer, "currentMediaTime")) !== null);
    const all = await differences(viewer);
    const latency = await ask(viewer, "latency");
    console.log(`${protocol}: time told less time shown: ${summary(all)}; latency ${latency} s`);
    const middle = Math.abs(all[Math.floor(all.length / 2)]);
    assert.ok(middle < boundMs, `${middle} ms off: ${summary(all)}`);
    assert.match(await textOf(viewer, "#latency"), /^[\d.]+ s$/);
  });
}
