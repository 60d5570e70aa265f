// The first page shows what is live: pictures that change, in boxes that stay as they are.

import assert from "node:assert/strict";
import * as browser from "./harness.mjs";
import { goLive, scenario, until } from "./harness.mjs";

/** What the row of a stream shows: the size of its picture, and of its box, and what is said. */
function row(page, name) {
  return page.evaluate((name) => {
    const row = document.querySelector(`[data-name="${name}"]`);
    if (row === null) return undefined;
    const image = row.querySelector("img");
    const box = row.querySelector(".thumbnail").getBoundingClientRect();
    return {
      size: image.hidden ? "" : `${image.naturalWidth}x${image.naturalHeight}`,
      alt: image.alt,
      box: `${Math.round(box.width)}x${Math.round(box.height)}`,
      card: row.getBoundingClientRect().height,
      note: row.querySelector(".no-picture").textContent,
    };
  }, name);
}

/** The pixels of a stream's picture, in few words. */
function pixels(page, name) {
  return page.evaluate((name) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [16, 9];
    const context = canvas.getContext("2d");
    context.drawImage(document.querySelector(`[data-name="${name}"] img`), 0, 0, 16, 9);
    return context.getImageData(0, 0, 16, 9).data.join();
  }, name);
}

/** Runs before a page's own scripts: it is behind another tab, as far as it knows. */
function hides() {
  Object.defineProperty(document, "visibilityState", { get: () => "hidden" });
}

/** How many pictures a page has asked for. */
function asked(page) {
  return page.evaluate(() => {
    const all = performance.getEntriesByType("resource").map(({ name }) => name);
    return all.filter((name) => name.endsWith("/thumbnail.jpg")).length;
  });
}

scenario("the first page shows pictures of what is live", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  await goLive(await world.open(chromium, server.publishPage("hall/stage")));
  const radio = await world.open(chromium, server.publishPage("radio"));
  await goLive(radio, { picture: "none" });

  const address = `${server.url}/#token=${browser.ADMIN_TOKEN}`;
  const hidden = await world.open(chromium, address, hides);
  const page = await world.open(chromium, address);
  const first = await until("the stream is listed", () => row(page, "hall/stage"));
  const shown = await until("its picture is there", async () => {
    const now = await row(page, "hall/stage");
    return now.size !== "" && now;
  });
  const [width, height] = shown.size.split("x").map(Number);
  assert.ok(height === 270 && width > 300, shown.size);
  assert.equal(shown.alt, "What hall/stage shows now");
  assert.equal(shown.note, "");
  assert.deepEqual([shown.box, shown.card], [first.box, first.card], "nothing has jumped");
  const before = await pixels(page, "hall/stage");
  assert.ok(new Set(before.split(",")).size > 3, "it shows something");
  await until("it changes", async () => (await pixels(page, "hall/stage")) !== before);
  assert.ok((await asked(page)) >= 2);
  assert.equal(await asked(hidden), 0, "nobody sees it there");

  await until("the other one says that it has none", async () => {
    return (await row(page, "radio")).note === "Sound only";
  });
  assert.equal((await row(page, "radio")).box, shown.box);
  await browser.screenshot(page, "thumbnails");
  await page.setViewport({ width: 390, height: 844, deviceScaleFactor: 2, isMobile: true });
  const isWithin = () => page.evaluate(() => document.body.scrollWidth <= innerWidth);
  await until("it fits a phone", isWithin);
  await browser.screenshot(page, "thumbnails on a phone");
  assert.deepEqual(page.faults, []);
});
