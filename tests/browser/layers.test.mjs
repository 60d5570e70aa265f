// Chromium publishes three layers, and viewers get the one that their link carries, or that they
// choose: with real decoders, and networks that are too slow for all of it.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PATIENT, PUBLISH_TOKEN, pause, scenarioInParts, until } from "./harness.mjs";
import {
  BESIDE_SECONDS,
  KEPT,
  LINK,
  MEASURED_SECONDS,
  MEASURED_TIMES,
  openLadder,
  perSecond,
  received,
  shows,
  toldTo,
  watchLadder,
} from "./ladder.mjs";
import { servePages } from "./pages.mjs";

/** The layers of the page that publishes, by their height; best first. */
const LAYERS = { 544: "f", 272: "h", 136: "q" };
/** What each link lets through, and the height of the layer that it carries. */
const LINKS = [
  { kbps: undefined, height: 544 },
  { kbps: 800, height: 272 },
  { kbps: 250, height: 136 },
];
/** The heights that a viewer is moved to, and back: each change there is. */
const SWITCHES = [136, 544, 272, 544, 136, 272, 136, 544, 272, 544];
/** Of frames that are sent each 50 ms two or more were not there. */
const GAP_MS = 150;
/** A frame is not kept longer than this before it is shown. */
const BUFFERED_MS = 300;

/** A page that publishes three layers, all of which flow. */
async function publish(world, chromium, pages, server, codec) {
  const page = await openLadder(world, chromium, pages);
  const start = (url, token, codec) => window.publish(url, token, codec);
  await page.evaluate(start, `${server.url}/whip/stage`, PUBLISH_TOKEN, codec);
  await until("the API has three layers that flow", async () => {
    const video = (await server.report("stage"))?.tracks.find(({ kind }) => kind === "video");
    const heights = video?.layers?.filter(({ active }) => active).map(({ height }) => height);
    return heights?.join() === Object.keys(LAYERS).reverse().join() ? heights : undefined;
  });
  const before = await sending(page);
  await until("Chromium sends frames of all of them", async () => {
    const [now, rids] = [await sending(page), Object.keys(before)];
    const isSent = (rid) => now[rid].framesSent > before[rid].framesSent;
    return rids.length === 3 && rids.every(isSent);
  });
  return page;
}

/** The statistics of each layer that a page sends, by rid. */
async function sending(page) {
  const { streams } = await page.evaluate(() => window.videoStats());
  return Object.fromEntries(streams.map((it) => [it.rid, it]));
}

/** Watches there; with `layer` that one and no other. */
async function watch(world, chromium, pages, url, layer) {
  const page = await watchLadder(world, chromium, pages, url);
  if (layer !== undefined) await choose(page, layer);
  return page;
}

function choose(page, layer) {
  return page.evaluate((choice) => window.choose(choice), { encodingId: layer });
}

/**
 * Frames per second of a layer: that the publisher sends, that come to a viewer and are decoded
 * there, and that are decoded of the same layer where nothing is between it and the server.
 */
async function rates(publisher, layer, viewer, control) {
  const read = () => Promise.all([sending(publisher), received(viewer), received(control)]);
  const before = await read();
  await pause(MEASURED_SECONDS * 1_000);
  const after = await read();
  const rate = (index, key) => perSecond(before[index], after[index], key);
  return {
    sent: perSecond(before[0][layer], after[0][layer], "framesSent"),
    came: rate(1, "framesReceived"),
    decoded: rate(1, "framesDecoded"),
    control: rate(2, "framesDecoded"),
    heights: [before[1].frameHeight, after[1].frameHeight],
  };
}

/** The layer that a viewer of the load generator is with, and its frames per second. */
function lightLayer(report) {
  const [[size, row], ...others] = Object.entries(report.groups[0].layers?.last ?? {});
  assert.deepEqual(others, [], "there is one viewer");
  return { height: Number(size.split("x")[1]), rate: row.frame_rate_mean };
}

/** On this link one settles on the layer that it carries, and gets all of it. */
async function settles(stage, index) {
  const { world, chromium, pages, publisher, controls, networks } = stage;
  const { kbps, height } = LINKS[index];
  const layer = LAYERS[height];
  const others = networks.filter((_, at) => at !== index);
  const options = { seconds: BESIDE_SECONDS };
  const light = others.map((network) => world.lightViewers(network, "stage", options));
  const began = Date.now();
  const viewer = await watch(world, chromium, pages, networks[index]);
  const measured = [];
  // What a busy machine does not decode, it decodes of nobody's.
  const keeps = ({ sent, came, decoded, control, heights }) =>
    heights.every((it) => it === height) &&
    came >= sent * KEPT &&
    decoded >= Math.min(sent, control) * KEPT;
  while (!measured.some(keeps) && measured.length < MEASURED_TIMES) {
    const since = await shows(viewer, height, 50).catch(() => undefined);
    // What is known by then tells why.
    if (since === undefined) break;
    const seen = await rates(publisher, layer, viewer, controls[layer]);
    measured.push({ after: since - began, ...seen });
  }
  const reports = (await Promise.all(light)).map(lightLayer);
  const told = await toldTo(viewer, began);
  const figures = JSON.stringify({ kbps, measured, reports, told });
  console.log(figures);
  assert.ok(measured.some(keeps), figures);
  for (const { height } of reports) assert.ok(height in LAYERS, figures);
  await viewer.browserContext().close();
}

/** When nothing came to a page for long; what was not told of each frame says nothing. */
async function gaps(page) {
  const shown = await page.evaluate(() => window.shown);
  const pairs = shown.slice(1).map((after, index) => [shown[index], after]);
  const isGap = ([before, after]) =>
    after.number === before.number + 1 && after.came - before.came >= GAP_MS;
  return pairs.filter(isGap).map(([before, after]) => ({ at: before.came, until: after.came }));
}

/** A viewer is moved up and down; whoever stays with a layer tells what came of that anyway. */
async function moves({ world, chromium, pages, server, controls }) {
  const viewer = await watch(world, chromium, pages, server.url);
  await shows(viewer, 544);
  await viewer.evaluate(() => window.keepFreezes());
  const turns = [];
  let from = 544;
  for (const height of [...SWITCHES, ...SWITCHES]) {
    const at = Date.now();
    const before = await received(viewer);
    await choose(viewer, LAYERS[height]);
    const ms = (await shows(viewer, height)) - at;
    const after = await received(viewer);
    const rise = (key) => after[key] - before[key];
    const [keyframes, decoded] = ["keyFramesDecoded", "framesDecoded"].map(rise);
    turns.push({ from, height, at, ms, keyframes, decoded });
    from = height;
  }
  const frozen = await viewer.evaluate(() => window.frozen);
  const nothingCame = {};
  for (const height of Object.keys(LAYERS)) {
    nothingCame[height] = await gaps(controls[LAYERS[height]]);
  }
  for (const [index, turn] of turns.entries()) {
    const next = turns[index + 1]?.at ?? Date.now();
    const stood = frozen.filter(({ until }) => until > turn.at && until <= next);
    const gone = [turn.from, turn.height].flatMap((height) => nothingCame[height]);
    const isOfLayer = ({ at, until }) =>
      gone.some((gap) => gap.at < until && gap.until > at - BUFFERED_MS);
    turn.freezes = stood.length;
    turn.own = stood.filter((it) => !isOfLayer(it)).length;
    turn.frozenMs = Math.round(stood.reduce((sum, { at, until }) => sum + until - at, 0));
  }
  const figures = turns.map(({ at, ...rest }) => JSON.stringify(rest)).join("\n");
  console.log(figures);
  for (const { decoded, own } of turns) {
    assert.ok(decoded > 0, figures);
    assert.ok(own <= 1, figures);
  }
  const { packetsLost, framesDropped } = await received(viewer);
  console.log(JSON.stringify({ packetsLost, framesDropped }));
  assert.deepEqual(await viewer.evaluate(() => window.faults), []);
  // A gap of the server's making would count as loss, and be asked for in vain.
  assert.equal(packetsLost, 0);
  await viewer.browserContext().close();
}

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

/** A viewer follows its link: 3 Mb/s, which fall to 600 kb/s and come back. */
async function follows({ world, chromium, pages, server }) {
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
    await pause(began + endsAt * 1_000 - Date.now());
    const shown = await viewer.evaluate(() => window.shown);
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
      told: await toldTo(viewer, began),
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
}

scenarioInParts("a browser's layers and who watches them", async (world, part) => {
  const pages = await servePages();
  try {
    const server = await world.server(PATIENT);
    const chromium = await world.chromium();
    const publisher = await publish(world, chromium, pages, server, "VP8");
    // Who stays with a layer, straight at the server, tells what the machine does to it.
    const controls = {};
    for (const layer of Object.values(LAYERS)) {
      controls[layer] = await watch(world, chromium, pages, server.url, layer);
    }
    const networks = [];
    for (const { kbps } of LINKS) networks.push(await world.impair(server, { kbps, ...LINK }));
    const stage = { world, chromium, pages, server, publisher, controls, networks };
    for (const [index, { kbps }] of LINKS.entries()) {
      await part(`${kbps ?? "any"} kb/s carry a layer, and all of its frames`, () =>
        settles(stage, index),
      );
    }
    await part("one goes up and down as it chooses, without a visible break", () => moves(stage));
    for (const control of Object.values(controls)) await control.browserContext().close();
    await part("one follows a link that falls to 600 kb/s and recovers", () => follows(stage));
  } finally {
    await pages.end();
  }
});
