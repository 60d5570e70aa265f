// How long the picture stands in Chromium when the network loses packets, and how long it would
// without retransmissions.
//
//   node tests/browser/loss.mjs [RUNS [SECONDS]]     prints the figures; `make loss`
//
// All viewers of a run watch at the same time, so that what the machine does to one it does to all:
// one has a clean path, which tells what the machine itself costs.

import { fileURLToPath } from "node:url";
import { goLive, inWorld, plays, until } from "./harness.mjs";

const FRAME_MS = 1_000 / 30;
/** A picture that stands so long is seen to stand. */
const GAP_MS = 3 * FRAME_MS;

const LOSS = { lossPercent: 5, delayMs: 20 };

/** What of its offer a page leaves out, and so does without. */
const WITHOUT = {
  /** It does not learn the round trip: as any player but our page. */
  roundTrip: ["rrtr"],
  /** What is lost comes again as it was, not on a stream of its own. */
  rtx: ["rtx"],
  /** What is lost is lost. */
  nack: ["rtx", "nack"],
};

/** Runs in a page before its own scripts: what the page then offers lacks this. */
function leaveOut(what) {
  const without = (sdp) => {
    const repairs = [...sdp.matchAll(/^a=rtpmap:(\d+) rtx\//gm)].map(([, number]) => number);
    const isRepair = (number) => what.includes("rtx") && repairs.includes(number);
    const isLeftOut = (line) =>
      isRepair(/^a=(?:rtpmap|fmtp|rtcp-fb):(\d+) /.exec(line)?.[1]) ||
      (what.includes("rtx") && line.startsWith("a=ssrc-group:FID ")) ||
      what.includes(/^a=rtcp-fb:\S+ (\S+)$/.exec(line)?.[1]);
    const lines = sdp.split("\r\n").filter((line) => !isLeftOut(line));
    const formats = (line) => line.split(" ").filter((word, at) => at < 3 || !isRepair(word));
    const shortened = lines.map((line) => (line.startsWith("m=") ? formats(line).join(" ") : line));
    return shortened.join("\r\n");
  };
  const { fetch } = window;
  window.fetch = (url, request) => {
    const isOffer = request?.method === "POST";
    return fetch(url, isOffer ? { ...request, body: without(request.body) } : request);
  };
  const { setLocalDescription } = RTCPeerConnection.prototype;
  RTCPeerConnection.prototype.setLocalDescription = function ({ type, sdp }) {
    return setLocalDescription.call(this, { type, sdp: without(sdp) });
  };
}

/** What the page's video has come to: counters of its receiver, and how long its picture stood. */
function watched(page, sinceMs) {
  const read = async (sinceMs, gapMs, frameMs) => {
    const report = await window.testPeers.at(-1).getStats();
    const entries = [...report.values()];
    const video = entries.find((it) => it.type === "inbound-rtp" && it.kind === "video");
    const now = performance.timeOrigin + performance.now();
    const shown = window.testFrames.map(({ at }) => at).filter((at) => at >= sinceMs);
    // What stands now has stood too, which the browser's own count of freezes leaves out.
    const gaps = [...shown, now].map((at, index) => at - (shown[index - 1] ?? sinceMs));
    const stood = gaps.filter((gap) => gap > gapMs).map((gap) => gap - frameMs);
    const gapSeconds = stood.reduce((sum, gap) => sum + gap, 0) / 1_000;
    return { now, video, gapSeconds };
  };
  return page.evaluate(read, sinceMs, GAP_MS, FRAME_MS);
}

/** What the viewers of these pages see of a stream in so many seconds. */
async function watch(pages, seconds) {
  const before = await Promise.all(pages.map((page) => watched(page, 0)));
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
  const after = await Promise.all(pages.map((page, index) => watched(page, before[index].now)));
  return after.map(({ video, gapSeconds }, index) => {
    const old = before[index].video;
    const rise = (key) => (video[key] ?? 0) - (old[key] ?? 0);
    const msOf = (key) => (rise(key) / rise("jitterBufferEmittedCount")) * 1_000;
    return {
      freezeSeconds: rise("totalFreezesDuration"),
      freezes: rise("freezeCount"),
      gapSeconds,
      frames: rise("framesDecoded"),
      dropped: rise("framesDropped"),
      packets: rise("packetsReceived"),
      lost: rise("packetsLost"),
      resent: rise("retransmittedPacketsReceived"),
      nacks: rise("nackCount"),
      plis: rise("pliCount"),
      keptMs: msOf("jitterBufferDelay"),
      wantedMs: msOf("jitterBufferTargetDelay"),
    };
  });
}

/** Opens the pages, and waits until media comes to each, and those that can repair play. */
async function opened(names, pages) {
  const all = await Promise.all(pages);
  const comes = (page) => watched(page, 0).then(({ video }) => video?.packetsReceived > 0);
  for (const [index, page] of all.entries()) {
    if (names[index] === "no NACK") await until("media comes", () => comes(page));
    else await plays(page);
  }
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  return all;
}

/** How they watch or publish: each on the path that loses, but for the first. */
const CLEAN = "clean path";
const ALL = [CLEAN, "RTX", "RTX, no RTT", "no RTX", "no NACK"];

/** What of each one's offer is left out. */
function leftOut(name) {
  const what = {
    "RTX, no RTT": WITHOUT.roundTrip,
    "no RTX": WITHOUT.rtx,
    "no NACK": WITHOUT.nack,
  };
  return what[name] ? [leaveOut, what[name]] : [];
}

/** A clean publisher; viewers behind a network that loses, with and without what mends it. */
export async function viewersBehindLoss(world, { seconds, seed, video, names = ALL }) {
  const server = await world.server();
  const chromium = await world.chromium();
  world.publishFile(server, "stage", { keyframeEvery: 2, ...video });
  await until("the stream is live", () => server.report("stage"));
  const lossy = await world.impair(server, { ...LOSS, seed });
  const open = (name) => {
    const base = name === CLEAN ? server.url : lossy;
    return world.open(chromium, `${base}/watch/stage`, ...leftOut(name));
  };
  const results = await watch(await opened(names, names.map(open)), seconds);
  return Object.fromEntries(names.map((name, index) => [name, results[index]]));
}

/** Chromium publishes through a network that loses; viewers on a clean path. */
export async function publishersBehindLoss(world, { seconds, seed }) {
  const server = await world.server();
  const chromium = await world.chromium();
  const lossy = await world.impair(server, { ...LOSS, seed });
  const names = [CLEAN, "RTX", "no NACK"];
  for (const [index, name] of names.entries()) {
    const base = name === CLEAN ? server.url : lossy;
    const address = server.publishPage(`${index}`).replace(server.url, base);
    const publisher = await world.open(chromium, address, ...leftOut(name));
    await goLive(publisher);
  }
  const pages = names.map((_, index) => world.open(chromium, server.watchPage(`${index}`)));
  const results = await watch(await opened(names, pages), seconds);
  return Object.fromEntries(names.map((name, index) => [name, results[index]]));
}

function median(numbers) {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
}

/** One line a viewer: medians over the runs, and of the freezes also each run. */
function table(title, runs) {
  console.log(`\n${title}`);
  console.log(
    "                 frozen s   (each run)            gaps s  freezes  frames  dropped" +
      "  lost  resent  NACKs  PLIs  kept ms",
  );
  for (const name of Object.keys(runs[0])) {
    const of = (key) => runs.map((run) => run[name][key]);
    const each = of("freezeSeconds").map((seconds) => seconds.toFixed(2)).join(" ");
    const cell = (key, width, digits = 0) => median(of(key)).toFixed(digits).padStart(width);
    console.log(
      `  ${name.padEnd(12)}${cell("freezeSeconds", 11, 2)}   ${each.padEnd(20)}` +
        `${cell("gapSeconds", 8, 2)}${cell("freezes", 9)}${cell("frames", 8)}` +
        `${cell("dropped", 9)}${cell("lost", 6)}${cell("resent", 8)}${cell("nacks", 7)}` +
        `${cell("plis", 6)}${cell("keptMs", 9)}`,
    );
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [runs = 3, seconds = 30] = process.argv.slice(2).map(Number);
  const measured = { viewers: [], publishers: [] };
  const play = async (what, scene, options) => {
    measured[what].push(await inWorld((world) => scene(world, options)));
    console.error(JSON.stringify({ [what]: measured[what].at(-1) }));
  };
  for (let seed = 1; seed <= runs; seed += 1) {
    const options = { seconds, seed, video: { size: "1280x720", kbps: 2500 } };
    await play("viewers", viewersBehindLoss, options);
    await play("publishers", publishersBehindLoss, options);
  }
  const network = `${LOSS.lossPercent} % loss each way, ${2 * LOSS.delayMs} ms round trip`;
  console.log(`Chromium, ${network}, ${seconds} s, medians of ${runs} runs`);
  table("viewers behind the loss, a clean H.264 publisher", measured.viewers);
  table("publishers behind the loss, viewers on a clean path", measured.publishers);
}
