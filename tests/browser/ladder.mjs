// What tests of layers have in common: a page that publishes or watches them, the links between,
// and what is read from a page that watches.

import { until } from "./harness.mjs";

/** A home's link: what waits before it drops, and how far away it is. */
export const LINK = { queueMs: 300, delayMs: 10 };
/** Settling takes longer on a machine that encodes three layers as well. */
const SETTLED_WITHIN_MS = 40_000;
/** So often and so long is measured until one has settled: a busy machine delays what it relays. */
export const MEASURED_TIMES = 4;
export const MEASURED_SECONDS = 6;
/** This share of a layer's frames is to come and to be shown. */
export const KEPT = 0.95;
/** For so long two other viewers watch beside one. */
export const BESIDE_SECONDS = 12;

/** A page for layers: it publishes, or watches. */
export async function openLadder(world, chromium, pages) {
  const page = await world.open(chromium, `${pages.url}/ladder.html`);
  await until("the page is ready", () => page.evaluate(() => window.isReady));
  return page;
}

/** One that watches the stream of the tests there. */
export async function watchLadder(world, chromium, pages, url) {
  const page = await openLadder(world, chromium, pages);
  await page.evaluate((url) => window.watch(url), `${url}/whep/stage`);
  return page;
}

/** The statistics of the video that a page receives. */
export async function received(page) {
  const { streams } = await page.evaluate(() => window.videoStats());
  return streams[0];
}

/** Waits until so many frames on end have had this height; gives when the first was shown. */
export function shows(page, height, frames = 10, withinMs = SETTLED_WITHIN_MS) {
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

/** How often something was counted in a second, by the clock of the page that has counted. */
export function perSecond(before, after, key) {
  return ((after[key] - before[key]) / (after.timestamp - before.timestamp)) * 1_000;
}

/** What a viewer was told of its link and its layer, and how many seconds after it began. */
export async function toldTo(viewer, began) {
  const told = await viewer.evaluate(() => window.told);
  return told.map(({ at, layers: { estimate, current, target } = {} }) => {
    const seconds = ((at - began) / 1_000).toFixed(1);
    return [seconds, estimate, current?.encodingId, target?.encodingId].join(" ");
  });
}
