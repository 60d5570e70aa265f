// A viewer chooses among the layers that Chromium publishes, and its player does by itself: with
// the real server. What happens in rarer cases is in `layer_menu.test.mjs`.

import assert from "node:assert/strict";
import {
  PATIENT,
  PUBLISH_TOKEN,
  ask,
  badge,
  counters,
  isShown,
  plays,
  scenarioInParts,
  screenshot,
  textOf,
  until,
} from "./harness.mjs";
import { withoutWebRtc } from "./hooks.mjs";

/** The test picture, its half and its quarter. */
const WIDTHS = { "720p": 1280, "360p": 640, "180p": 320 };

/** Puts the page behind another one, or back. */
function hide(page, isHidden) {
  return page.evaluate((isHidden) => {
    const state = isHidden ? "hidden" : "visible";
    Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
    document.dispatchEvent(new Event("visibilitychange"));
  }, isHidden);
}

function shows(page, width) {
  return until(`a picture ${width} wide is shown`, () =>
    page.evaluate((width) => window.testVideo().videoWidth === width, width),
  );
}

/** Opens the menu; gives its lines. */
async function openMenu(page) {
  await until("the menu lists three layers", async () => {
    const layers = await ask(page, "layers");
    return layers.filter(({ active, height }) => active && height !== undefined).length === 3;
  });
  await page.click(">>> #layer");
  assert.ok(await isShown(page, "#layers"));
  return page.evaluate(() =>
    [...window.testFind("#layers").children].map(({ textContent }) => textContent),
  );
}

/** Chooses the line that begins so. */
async function choose(page, words) {
  const lines = await openMenu(page);
  const place = lines.findIndex((line) => line.startsWith(words));
  assert.ok(place >= 0, `${words} is in ${lines.join(" | ")}`);
  await page.click(`>>> #layers > :nth-child(${place + 1})`);
}

async function publishAll(world, server, chromium) {
  const address = `${server.url}/publish/stage?source=test&start=1#token=${PUBLISH_TOKEN}`;
  const publisher = await world.open(chromium, address);
  await until("the publish page is live", () => badge(publisher, "Live"));
  await until("it says that three layers flow", async () => {
    return /^720p .* · 360p .* · 180p /.test(await textOf(publisher, "#sent-layers"));
  });
  return publisher;
}

scenarioInParts("viewers choose among layers", async (world, part) => {
  const server = await world.server(PATIENT);
  const chromium = await world.chromium();
  const publisher = await publishAll(world, server, chromium);
  await screenshot(publisher, "publish three layers");
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await plays(viewer);

  await part("the menu lists all layers, and each one that is chosen is shown", async () => {
    const lines = await openMenu(viewer);
    const names = lines.map((line) => line.split(/[ ,]/)[0]);
    assert.deepEqual(names, ["Automatic", ...Object.keys(WIDTHS)]);
    await screenshot(viewer, "watch menu of layers");
    await viewer.keyboard.press("Escape");
    const before = (await counters(viewer)).freezes;
    const sizes = ["180p", "720p", "360p", "180p"];
    for (const size of sizes) {
      await choose(viewer, size);
      await shows(viewer, WIDTHS[size]);
      await until("the page says so", async () => {
        return (await textOf(viewer, "#layer-cell")) === size;
      });
    }
    const freezes = (await counters(viewer)).freezes - before;
    assert.ok(freezes <= sizes.length, `${freezes} freezes`);
  });

  await part("the automatic choice takes the largest that the link carries", async () => {
    await choose(viewer, "Automatic");
    await shows(viewer, 1280);
    await until("the page says so", async () => {
      return (await textOf(viewer, "#layer-cell")) === "720p auto";
    });
  });

  await part("a small player takes a small layer", async () => {
    const resize = (style) =>
      viewer.evaluate((style) => {
        document.querySelector("millrace-player").style.cssText = style;
      }, style);
    await resize("flex: none; width: 320px; height: 180px");
    await shows(viewer, 320);
    await resize("");
    await shows(viewer, 1280);
  });

  await part("a hidden tab takes no picture, only the sound", async () => {
    await hide(viewer, true);
    let last = await counters(viewer);
    await until("two seconds of sound have come since the last picture", async () => {
      const now = await counters(viewer);
      if (now.framesDecoded !== last.framesDecoded) last = now;
      return now.audioSamples - last.audioSamples > 2 * 48_000;
    });
    assert.equal(await ask(viewer, "state"), "playing");
    await hide(viewer, false);
    await plays(viewer);
    await shows(viewer, 1280);
  });

  await part("by LL-HLS it is the same menu", async () => {
    const other = await world.open(chromium, server.watchPage("stage"), withoutWebRtc);
    await until("it plays", async () => (await ask(other, "state")) === "playing");
    assert.equal(await ask(other, "protocol"), "hls");
    for (const size of ["180p", "720p"]) {
      await choose(other, size);
      await shows(other, WIDTHS[size]);
    }
    await choose(other, "Automatic");
    await until("it is automatic", async () => (await ask(other, "layerChoice")) === "auto");
  });
  assert.deepEqual([...publisher.faults, ...viewer.faults], []);
});
