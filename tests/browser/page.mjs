// What a person does with a page, sees and hears of it.

import { until } from "./harness.mjs";

/** Goes live on a publish page; `choices` are its fields by id. */
export async function goLive(page, choices = {}) {
  const isReady = () => document.querySelector("#controls").hidden === false;
  await until("the publish page previews", () => page.evaluate(isReady));
  // More than a test needs would only cost the machine that runs it.
  await choose(page, { height: "360", sizes: "one", ...choices });
  await page.click("#go");
  await until("the publish page is live", () => badge(page, "Live"));
}

/** Sets fields of a page as a person does. */
export async function choose(page, choices) {
  for (const [id, value] of Object.entries(choices)) {
    const set = (id, value) => {
      const field = document.getElementById(id);
      field.value = value;
      if (field.value !== value) throw new Error(`${id} has no ${value}`);
      field.dispatchEvent(new Event("change", { bubbles: true }));
    };
    await page.evaluate(set, id, value);
  }
}

/** Whether the badge of a page says so. */
export async function badge(page, text) {
  return (await textOf(page, "#badge")) === text;
}

export function textOf(page, selector) {
  return page.evaluate((selector) => window.testFind(selector).textContent.trim(), selector);
}

export function isShown(page, selector) {
  return page.evaluate((selector) => {
    const element = window.testFind(selector);
    return element !== null && element.checkVisibility();
  }, selector);
}

/** Something of the player of a page. */
export function ask(page, property) {
  return page.evaluate((property) => document.querySelector("millrace-player")[property], property);
}

/** The counters of the page's newest peer. */
export function counters(page) {
  return page.evaluate(async () => {
    const peer = window.testPeers.at(-1);
    const sums = { framesSent: 0, framesDecoded: 0, freezes: 0, audioEnergy: 0, audioSamples: 0 };
    const found = { ...sums, codecs: [] };
    if (peer === undefined) return found;
    const report = await peer.getStats();
    for (const entry of report.values()) {
      if (entry.type === "outbound-rtp") found.framesSent += entry.framesSent ?? 0;
      if (entry.type !== "inbound-rtp") continue;
      found.framesDecoded += entry.framesDecoded ?? 0;
      found.freezes += entry.freezeCount ?? 0;
      found.audioEnergy += entry.totalAudioEnergy ?? 0;
      // Those that were made up for lost ones are no samples that came.
      found.audioSamples += (entry.totalSamplesReceived ?? 0) - (entry.concealedSamples ?? 0);
      const codec = report.get(entry.codecId)?.mimeType;
      if (codec !== undefined) found.codecs.push(codec);
    }
    return found;
  });
}

/** The local candidate of the pair that the page's newest peer has chosen, or nothing. */
export function chosenCandidate(page) {
  return page.evaluate(async () => {
    const report = await window.testPeers.at(-1)?.getStats();
    const transport = [...(report?.values() ?? [])].find(({ type }) => type === "transport");
    const pair = report?.get(transport?.selectedCandidatePairId);
    const local = report?.get(pair?.localCandidateId);
    return local && { protocol: local.protocol, tcpType: local.tcpType };
  });
}

/** Plays: frames are decoded, more and more of them. */
export function plays(page) {
  let from;
  return until("decoded frames advance", async () => {
    const { framesDecoded } = await counters(page);
    // A page that connects again begins again with a new peer.
    if (from === undefined || framesDecoded < from) from = framesDecoded;
    return framesDecoded >= from + 10;
  });
}

/** Decoded frames of each viewer by sent frame of the publisher, over so many sent frames. */
export async function decodedPerSent(publisher, viewers, frames = 75) {
  const sentBefore = (await counters(publisher)).framesSent;
  const decodedBefore = await Promise.all(viewers.map(counters));
  const sent = await until(`${frames} more frames are sent`, async () => {
    const sent = (await counters(publisher)).framesSent - sentBefore;
    return sent >= frames && sent;
  });
  const decodedAfter = await Promise.all(viewers.map(counters));
  return decodedAfter.map((after, index) => {
    return (after.framesDecoded - decodedBefore[index].framesDecoded) / sent;
  });
}

/** What is heard grows louder than nothing. */
export async function sounds(page) {
  const before = (await counters(page)).audioEnergy;
  await until("audio energy grows", async () => (await counters(page)).audioEnergy > before);
}

/** The picture on the screen changes: two samples of it differ, with new frames shown between. */
export async function moves(page) {
  await page.evaluate(() => {
    const video = window.testVideo();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [64, 36];
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    window.testSample = () => {
      pen.drawImage(video, 0, 0, 64, 36);
      return [...pen.getImageData(0, 0, 64, 36).data];
    };
    window.testShown = 0;
    const onFrame = () => {
      window.testShown += 1;
      video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback(onFrame);
  });
  const first = await page.evaluate(() => window.testSample());
  await until("the picture moves", async () => {
    const { shown, sample } = await page.evaluate(() => {
      return { shown: window.testShown, sample: window.testSample() };
    });
    const change = sample.reduce((sum, value, index) => sum + Math.abs(value - first[index]), 0);
    return shown >= 10 && change > 5_000;
  });
}
