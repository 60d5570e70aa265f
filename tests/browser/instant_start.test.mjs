// A newcomer sees a picture at once, whatever the publisher's encoder does, and is soon as close to
// live as who was there before.

import assert from "node:assert/strict";
import { pause, plays, scenario, until } from "./harness.mjs";

const NEWCOMERS = 3;
/** How far within a group newcomers come, for each second that it lasts. */
const [EARLIEST_MS, LATEST_MS] = [250, 650];
const RTP_TICKS_PER_MS = 90;

function median(numbers) {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
}

/** How long after the page began to connect its first frame was shown; nothing before that. */
function firstFrame(page) {
  return page.evaluate(() => {
    const [first] = window.testFrames;
    return first && first.at - performance.timeOrigin - window.testBegan[0];
  });
}

/** How many frames left the page's jitter buffer, how long they were in it, over all. */
function buffered(page) {
  return page.evaluate(async () => {
    const report = await window.testPeers.at(-1).getStats();
    const entry = [...report.values()].find(({ type }) => type === "inbound-rtp");
    const { jitterBufferDelay: delay, jitterBufferEmittedCount: count, freezeCount } = entry;
    return { delay, count, freezes: freezeCount };
  });
}

/** Milliseconds that a frame stays in the jitter buffer, of late. */
function delayBetween(before, after) {
  return ((after.delay - before.delay) / (after.count - before.count)) * 1_000;
}

/** By how many milliseconds the newcomer shows a frame later than the old viewer. */
async function behind(newcomer, old) {
  const frames = (page) => page.evaluate(() => window.testFrames.slice(-30));
  const [late, early] = await Promise.all([frames(newcomer), frames(old)]);
  const shown = new Map(early.map(({ at, rtpTimestamp }) => [rtpTimestamp, at]));
  const both = late.filter(({ rtpTimestamp }) => shown.has(rtpTimestamp));
  assert.ok(both.length > 5, "both show the same frames");
  return median(both.map(({ at, rtpTimestamp }) => at - shown.get(rtpTimestamp)));
}

async function keyframes(server) {
  return (await server.report("stage")).tracks[0].keyframes;
}

/** Notes when groups begin, each with a keyframe. */
function followGroups(server, keyframeEvery) {
  let [known, since] = [Infinity, undefined];
  const look = async () => {
    const count = await keyframes(server);
    if (count > known) since = Date.now();
    known = known === Infinity ? count : Math.max(known, count);
  };
  const timer = setInterval(() => look().catch(() => {}), 100).unref();
  const passed = () => (Date.now() - since) / keyframeEvery;
  return {
    isInMidst: () => passed() > EARLIEST_MS && passed() < LATEST_MS,
    left: () => since + keyframeEvery * 1_000 - Date.now(),
    end: () => clearInterval(timer),
  };
}

for (const [keyframeEvery, ladder] of [
  [2, "off"],
  [10, "on"],
]) {
  const name = `a keyframe every ${keyframeEvery} s is not waited for (ladder ${ladder})`;
  scenario(name, async (world) => {
    const server = await world.server({ TRANSCODE__LADDER: ladder });
    const chromium = await world.chromium();
    world.publishFile(server, "stage", { keyframeEvery });
    await until("the stream is live", () => server.report("stage"));
    const old = await world.open(chromium, server.watchPage("stage"));
    await plays(old);
    const results = [];
    const group = followGroups(server, keyframeEvery);
    while (results.length < NEWCOMERS) {
      // Well within a group: there is a past to catch up with, and the next keyframe is not near.
      await until("a newcomer is in the midst of a group", () => group.isInMidst());
      const before = await keyframes(server);
      const left = group.left();
      const newcomer = await world.open(chromium, server.watchPage("stage"));
      const first = await until("it shows a frame", () => firstFrame(newcomer), 10_000);
      const came = (await keyframes(server)) - before;
      await pause(2_000);
      const pages = [newcomer, old];
      const then = await Promise.all(pages.map(buffered));
      await pause(1_000);
      const now = await Promise.all(pages.map(buffered));
      const [kept, keptByOld] = now.map((counts, index) => delayBetween(then[index], counts));
      const later = await behind(newcomer, old);
      const { freezes } = now[0];
      results.push({ first, saved: left - first, came, kept, keptByOld, later, freezes });
      await newcomer.close();
    }
    group.end();
    const of = (key) => median(results.map((result) => result[key]));
    const ms = (number) => `${number.toFixed(0)} ms`;
    console.log(`keyframe every ${keyframeEvery} s, medians of ${NEWCOMERS} newcomers:`);
    console.log(`  first frame ${ms(of("first"))} after the page began to connect`);
    console.log(`  3 s later a frame is kept ${ms(of("kept"))}, by the old viewer ` +
      `${ms(of("keptByOld"))}, and shown ${ms(of("later"))} later than there`);
    console.log(`  each: ${JSON.stringify(results)}`);
    assert.equal(of("came"), 0, "no keyframe came before the first frame");
    assert.ok(of("saved") > 0, `${JSON.stringify(results)}: the wait that was left`);
    // A frame's time is what the moment of joining within it can cost; machines stall as long.
    const frames = (2 * 3_000) / RTP_TICKS_PER_MS;
    assert.ok(of("kept") < of("keptByOld") + frames, JSON.stringify(results));
    assert.ok(of("later") < frames, JSON.stringify(results));
  });
}
