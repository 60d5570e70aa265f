// Chromium publishes three layers, and viewers get the one that their link carries, or that they
// choose: with real decoders, and networks that are too slow for all of it.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PUBLISH_TOKEN, scenario, scenarioInParts, until } from "./harness.mjs";
import { servePages } from "./pages.mjs";

/** Whether a machine is busy or not is not the question here. */
const PATIENT = { LIMITS__LOAD_MAX_PERCENT: "100", LIMITS__LATENESS_MAX_MS: "10000" };
/** The layers of the page that publishes, by their height; best first. */
const LAYERS = { 544: "f", 272: "h", 136: "q" };
/** What each link lets through, and the height of the layer that it carries. */
const LINKS = [
  { kbps: undefined, height: 544 },
  { kbps: 800, height: 272 },
  { kbps: 250, height: 136 },
];
/** A home's link: what waits before it drops, and how far away it is. */
const LINK = { queueMs: 300, delayMs: 10 };
/** Settling takes longer on a machine that encodes three layers as well. */
const SETTLED_WITHIN_MS = 40_000;
/** So often and so long is measured until one has settled: a busy machine delays what it relays. */
const MEASURED_TIMES = 4;
const MEASURED_SECONDS = 6;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Pages of the tests' own, for as long as `play` takes. */
async function withPages(play) {
  const pages = await servePages();
  try {
    return await play(pages);
  } finally {
    await pages.end();
  }
}

/** A page that publishes three layers, all of which flow. */
async function publish(world, chromium, pages, server, codec) {
  const page = await world.open(chromium, `${pages.url}/ladder.html`);
  await until("the page is ready", () => page.evaluate(() => window.isReady));
  const start = (url, token, codec) => window.publish(url, token, codec);
  await page.evaluate(start, `${server.url}/whip/stage`, PUBLISH_TOKEN, codec);
  await until("the API has three layers that flow", async () => {
    const video = (await server.report("stage"))?.tracks.find(({ kind }) => kind === "video");
    const heights = video?.layers?.filter(({ active }) => active).map(({ height }) => height);
    return heights?.join() === Object.keys(LAYERS).reverse().join() ? heights : undefined;
  });
  const before = await framesSent(page);
  await until("Chromium sends frames of all of them", async () => {
    const [now, rids] = [await framesSent(page), Object.keys(before)];
    return rids.length === 3 && rids.every((rid) => now[rid] > before[rid]);
  });
  return page;
}

/** Frames of each layer that a page has sent, by rid, and when. */
async function framesSent(page) {
  const { streams } = await page.evaluate(() => window.videoStats());
  return Object.fromEntries(streams.map(({ rid, framesSent }) => [rid, framesSent]));
}

async function watch(world, chromium, pages, url) {
  const page = await world.open(chromium, `${pages.url}/ladder.html`);
  await until("the page is ready", () => page.evaluate(() => window.isReady));
  await page.evaluate((url) => window.watch(url), `${url}/whep/stage`);
  return page;
}

/** What a page's video has come to. */
async function received(page) {
  const { at, streams } = await page.evaluate(() => window.videoStats());
  return { at, ...streams[0] };
}

/** Waits until so many frames on end have had this height; gives when the first was shown. */
function shows(page, height, frames = 10, withinMs = SETTLED_WITHIN_MS) {
  const look = (height, frames) => {
    const last = window.shown.slice(-frames);
    return last.length === frames && last.every((it) => it.height === height) && last[0].at;
  };
  return until(
    `frames of ${height} lines are shown`,
    () => page.evaluate(look, height, frames),
    withinMs,
  );
}

/** Frames per second that one sends of each layer and another decodes, in the same time. */
async function rates(publisher, viewer) {
  const read = async () => [await framesSent(publisher), await received(viewer)];
  const [sentBefore, before] = await read();
  await sleep(MEASURED_SECONDS * 1_000);
  const [sentAfter, after] = await read();
  const seconds = (after.at - before.at) / 1_000;
  const sent = Object.keys(sentAfter).map((rid) => {
    return [rid, (sentAfter[rid] - sentBefore[rid]) / seconds];
  });
  return {
    sent: Object.fromEntries(sent),
    decoded: (after.framesDecoded - before.framesDecoded) / seconds,
    heights: [before.frameHeight, after.frameHeight],
  };
}

/** The layer that a viewer of the load generator is with, and its frames per second. */
function lightLayer(report) {
  const [[size, row], ...others] = Object.entries(report.groups[0].layers?.last ?? {});
  assert.deepEqual(others, [], "there is one viewer");
  return { height: Number(size.split("x")[1]), rate: row.frame_rate_mean };
}

scenarioInParts("each link gets the layer that it carries", (world, part) =>
  withPages(async (pages) => {
    const server = await world.server(PATIENT);
    const chromium = await world.chromium();
    const publisher = await publish(world, chromium, pages, server, "VP8");
    const networks = [];
    for (const { kbps } of LINKS) networks.push(await world.impair(server, { kbps, ...LINK }));
    for (const [index, { kbps, height }] of LINKS.entries()) {
      await part(`Chromium by ${kbps ?? "any"} kb/s`, async () => {
        const seconds = 25;
        const others = LINKS.map((_, at) => at).filter((at) => at !== index);
        const light = others.map((at) => world.lightViewers(networks[at], "stage", { seconds }));
        const viewer = await watch(world, chromium, pages, networks[index]);
        const measured = [];
        const keeps = ({ sent, decoded, heights }) =>
          heights.every((it) => it === height) && decoded >= sent[LAYERS[height]] * 0.95;
        while (!measured.some(keeps) && measured.length < MEASURED_TIMES) {
          await shows(viewer, height, 50);
          measured.push(await rates(publisher, viewer));
        }
        const reports = (await Promise.all(light)).map(lightLayer);
        const figures = JSON.stringify({ kbps, measured, reports });
        console.log(figures);
        assert.ok(measured.some(keeps), figures);
        for (const { height } of reports) assert.ok(height in LAYERS, figures);
        await viewer.browserContext().close();
      });
    }
  }),
);

scenario("a viewer goes up and down as it chooses, without a visible break", (world) =>
  withPages(async (pages) => {
    const server = await world.server(PATIENT);
    const chromium = await world.chromium();
    await publish(world, chromium, pages, server, "VP8");
    // Who stays where it is tells what the machine does to pictures.
    const control = await watch(world, chromium, pages, server.url);
    const viewer = await watch(world, chromium, pages, server.url);
    for (const page of [control, viewer]) await shows(page, 544);
    await control.evaluate((choice) => window.choose(choice), { encodingId: "f" });
    const heights = [136, 544, 272, 544];
    const figures = [];
    for (let turn = 0; turn < 20; turn += 1) {
      const height = heights[turn % heights.length];
      const [before, beside] = [await received(viewer), await received(control)];
      const start = Date.now();
      await viewer.evaluate((choice) => window.choose(choice), { encodingId: LAYERS[height] });
      const ms = (await shows(viewer, height)) - start;
      const after = await received(viewer);
      const rise = (key) => after[key] - before[key];
      figures.push({
        height,
        ms,
        freezes: rise("freezeCount"),
        machines: (await received(control)).freezeCount - beside.freezeCount,
        frozenMs: Math.round(rise("totalFreezesDuration") * 1_000),
        keyframes: rise("keyFramesDecoded"),
        plis: rise("pliCount"),
      });
      assert.ok(rise("framesDecoded") > 0, JSON.stringify(figures));
    }
    console.log(JSON.stringify(figures));
    const sum = (key) => figures.reduce((sum, row) => sum + row[key], 0);
    assert.ok(sum("freezes") <= figures.length + sum("machines"), JSON.stringify(figures));
    const { packetsLost, framesDropped } = await received(viewer);
    console.log(JSON.stringify({ packetsLost, framesDropped }));
    assert.deepEqual(await viewer.evaluate(() => window.faults), []);
    // A gap of the server's making would count as loss, and be asked for in vain.
    assert.equal(packetsLost, 0);
  }),
);

/** What a relay has written: a row for each tenth of a second. */
function readTrace(file) {
  const [, ...lines] = readFileSync(file, "utf8").trim().split("\n");
  return lines.map((line) => {
    const [at, kbps, queueMs, lost] = line.split(",").map(Number);
    return { at, kbps, queueMs, lost };
  });
}

function mean(rows, key) {
  return Math.round(rows.reduce((sum, row) => sum + row[key], 0) / rows.length);
}

function percentile(rows, key, share) {
  const sorted = rows.map((row) => row[key]).sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) * share)];
}

scenario("a viewer follows a link that falls to 600 kb/s and recovers", (world) =>
  withPages(async (pages) => {
    const server = await world.server(PATIENT);
    const chromium = await world.chromium();
    await publish(world, chromium, pages, server, "VP8");
    const directory = mkdtempSync(join(tmpdir(), "millrace-browser-"));
    try {
      const trace = join(directory, "trace.csv");
      const [fallsAt, recoversAt, endsAt] = [20, 40, 60];
      const steps = [
        [fallsAt, "rate_kbps = 600"],
        [recoversAt, "rate_kbps = 3000"],
      ];
      const network = await world.impair(server, { kbps: 3_000, ...LINK, steps, trace });
      const began = Date.now();
      const viewer = await watch(world, chromium, pages, network);
      await sleep(began + endsAt * 1_000 - Date.now());
      const shown = await viewer.evaluate(() => window.shown);
      const told = await viewer.evaluate(() => window.told);
      const { freezeCount, totalFreezesDuration } = await received(viewer);
      const rows = readTrace(trace);
      const between = (from, to) => rows.filter(({ at }) => at > from && at <= to);
      const firstAfter = (seconds, height) => {
        const since = began + seconds * 1_000;
        const found = shown.find((frame) => frame.at > since && frame.height === height);
        return found && (found.at - since) / 1_000;
      };
      const phase = (from, to) => {
        const steady = between(to - 8, to);
        return {
          kbps: mean(steady, "kbps"),
          queueP50: percentile(steady, "queueMs", 0.5),
          queueP95: percentile(steady, "queueMs", 0.95),
          queueMax: percentile(between(from, to), "queueMs", 1),
        };
      };
      const queued = between(fallsAt, recoversAt).filter(({ queueMs }) => queueMs > 200);
      const heights = [];
      for (const { at, height } of shown) {
        const seconds = ((at - began) / 1_000).toFixed(1);
        if (heights.at(-1)?.[1] !== height) heights.push([seconds, height]);
      }
      const figures = {
        before: phase(2, fallsAt),
        during: phase(fallsAt, recoversAt),
        after: phase(recoversAt, endsAt),
        lastQueueOver200MsAfter: queued.length > 0 ? queued.at(-1).at - fallsAt : 0,
        downAfter: firstAfter(fallsAt, 272),
        upAfter: firstAfter(recoversAt, 544),
        freezeCount,
        totalFreezesDuration,
        heights,
        estimates: told.map(({ at, layers }) => {
          return [((at - began) / 1_000).toFixed(1), layers?.estimate, layers?.target?.encodingId];
        }),
      };
      console.log(JSON.stringify(figures));
      const text = JSON.stringify(figures);
      // How fast is printed, and depends on the machine too.
      const low = shown.filter(({ at }) => at < began + recoversAt * 1_000).at(-1);
      assert.ok(low?.height < 544, text);
      assert.ok(figures.upAfter !== undefined, text);
      assert.ok(firstAfter(0, 544) < fallsAt, text);
      assert.ok(figures.during.queueP50 < 200, text);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }),
);
