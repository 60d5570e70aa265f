// What the pages say, in plain words, when something is missing or wrong; and how they look.

import assert from "node:assert/strict";
import * as browser from "./harness.mjs";
import { choose, goLive, isShown, plays, scenario, textOf, until } from "./harness.mjs";

/** The sizes of a phone and of a desk. */
const SIZES = { phone: [390, 844], desk: [1280, 800] };

/** Nothing of the page sticks out at the side, on a phone or on a desk. */
async function fits(page, name) {
  for (const [place, [width, height]] of Object.entries(SIZES)) {
    await page.setViewport({ width, height });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= width, `${name} on a ${place} is ${wide} wide`);
    await browser.screenshot(page, `${name} ${place}`);
  }
}

scenario("a wrong publish token is named, and the right one helps", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, `${server.url}/publish/stage#token=wrong`);
  await until("the page has a preview", () => isShown(publisher, "#controls"));
  await publisher.click("#go");
  await until("the page tells of the token", async () => {
    return /token/i.test(await textOf(publisher, "#notice"));
  });
  await fits(publisher, "publish wrong token");
  await choose(publisher, { token: browser.PUBLISH_TOKEN });
  await goLive(publisher);
  assert.equal(await isShown(publisher, "#notice"), false);
});

scenario("a page asks for the view token and plays with it", async (world) => {
  const server = await world.server({ AUTH__VIEW_TOKENS: "stage=the-view-token" });
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("stage"));
  await goLive(publisher);
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await until("the page asks for a token", () => isShown(viewer, "#token-form"));
  await viewer.type(">>> #token", "the-view-token");
  await viewer.keyboard.press("Enter");
  await plays(viewer);
  const link = await world.open(chromium, `${server.watchPage("stage")}#token=the-view-token`);
  await plays(link);
  assert.equal(new URL(link.url()).hash, "", "the token does not stay in the address");
});

scenario("media that does not get through: the page names address and port", async (world) => {
  // Nothing listens at the address that is announced.
  const server = await world.server({ NETWORK__PUBLIC_ADDRESSES: "127.0.0.9" });
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("stage"));
  await until("the page has a preview", () => isShown(publisher, "#controls"));
  await publisher.click("#go");
  await until("the page names the port", async () => {
    const notice = await textOf(publisher, "#notice");
    return /UDP 127\.0\.0\.9:\d+ and TCP 127\.0\.0\.9:\d+ cannot be reached/.test(notice);
  });
  await fits(publisher, "publish no path");
});

scenario("on plain http the publish page says why and links to https", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, `${server.insecureUrl}/publish/stage`);
  await until("the page says so", () => isShown(publisher, "#https-way"));
  const link = await publisher.evaluate(() => document.querySelector("#https-link").href);
  assert.match(link, /^https:\/\/studio\.test:\d+\/publish\/stage/);
  assert.notEqual(new URL(link).port, new URL(server.url).port);
  await fits(publisher, "publish plain http");
});

scenario("where the browser demands it, sound begins with a tap", async (world) => {
  const server = await world.server();
  const [chromium, strict] = await Promise.all([
    world.chromium(),
    world.chromium({ demandsClick: true }),
  ]);
  const publisher = await world.open(chromium, server.publishPage("stage"));
  await goLive(publisher);
  const viewer = await world.open(strict, server.watchPage("stage"));
  // Puppeteer's own evaluations count as a user's gesture, and would allow the sound.
  const session = await viewer.createCDPSession();
  const state = async () => {
    const expression =
      "({ muted: testVideo().muted, time: testVideo().currentTime, " +
      "offer: testFind('#unmute').checkVisibility() })";
    const answer = await session.send("Runtime.evaluate", { expression, returnByValue: true });
    return answer.result.value;
  };
  await until("it plays without sound and offers it", async () => {
    const { muted, time, offer } = await state();
    return muted && offer && time > 0;
  });
  await viewer.click(">>> #unmute");
  await until("the sound is on", async () => {
    const { muted, offer } = await state();
    return !muted && !offer;
  });
  await browser.sounds(viewer);
});

scenario("the first page lists what is live and leads to it", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("hall/stage"));
  await goLive(publisher);
  const first = await world.open(chromium, server.url);
  await until("the page asks for the admin token", () => isShown(first, "#token-form"));
  await first.type("#token", "wrong");
  await first.keyboard.press("Enter");
  await until("a wrong token is named", async () => (await textOf(first, "#token-note")) !== "");
  await fits(first, "index token");
  await first.type("#token", browser.ADMIN_TOKEN);
  await first.keyboard.press("Enter");
  await until("the stream is listed", () => isShown(first, "[data-name='hall/stage']"));
  await fits(first, "index");
  await first.click("[data-name='hall/stage'] a");
  await plays(first);
  await fits(first, "watch");
  await fits(publisher, "publish");
});

scenario("the first page leads to a stream by its name", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const first = await world.open(chromium, server.url);
  await first.type("#name", "no such name");
  await first.click("button[value=watch]");
  await until("the name is refused", async () => (await textOf(first, "#name-note")) !== "");
  await choose(first, { name: "hall/stage" });
  await first.click("button[value=watch]");
  await until("the page waits", async () => (await textOf(first, "#title")) === "Not live yet");
  assert.equal(new URL(first.url()).pathname, "/watch/hall/stage");
  await fits(first, "watch not live");
});

/** What a person would copy from the publish page, by its button's name. */
async function copied(page, name) {
  await page.evaluate((name) => {
    navigator.clipboard.writeText = async (text) => (window.testCopied = text);
    document.querySelector(`button[aria-label="${name}"]`).click();
  }, name);
  return page.evaluate(() => window.testCopied);
}

scenario("the publish page says what to type into an encoder", async (world) => {
  const ports = { RTMP__LISTEN: "127.0.0.1:0", SRT__LISTEN: "127.0.0.1:0" };
  const server = await world.server(ports);
  const { rtmp_port: rtmp, srt_port: srt } = await server.ports();
  const chromium = await world.chromium();
  const fragment = `?source=encoder#token=${browser.PUBLISH_TOKEN}`;
  const page = await world.open(chromium, `${server.url}/publish/hall/stage${fragment}`);
  const all = () => page.evaluate(() => document.querySelector("#ways").innerText);
  await until("it has the addresses", async () => /RTMP.*SRT.*WHIP/s.test(await all()));
  assert.ok(!/rtmps:/.test(await all()), "what is off is not shown");
  assert.ok(!(await all()).includes(browser.PUBLISH_TOKEN), "nobody reads the token by accident");
  assert.equal(await copied(page, "Copy RTMP server"), `rtmp://127.0.0.1:${rtmp}/live`);
  const key = `hall/stage?token=${browser.PUBLISH_TOKEN}`;
  assert.equal(await copied(page, "Copy RTMP stream key"), key);
  const id = `publish:hall/stage:${browser.PUBLISH_TOKEN}`;
  const address = `srt://127.0.0.1:${srt}?streamid=${id}`;
  assert.equal(await copied(page, "Copy SRT address"), address);
  assert.equal(await copied(page, "Copy WHIP address"), `${server.url}/whip/hall/stage`);
  assert.equal(await copied(page, "Copy WHIP bearer token"), browser.PUBLISH_TOKEN);
  await page.click("#reveal");
  assert.ok((await all()).includes(browser.PUBLISH_TOKEN), "the token is shown to who asks");
  await until("it says that nobody publishes", async () => {
    return /Nobody publishes “hall\/stage” yet/.test(await textOf(page, "#fares-words"));
  });
  await fits(page, "publish encoder");
});

scenario("the publish page tells how a stream fares that another one sends", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  world.publishFile(server, "stage", { keyframeEvery: 2 });
  const page = await world.open(chromium, `${server.url}/publish/stage?source=encoder`);
  await until("it asks for the token", async () => {
    return /publish token/.test(await textOf(page, "#fares-words"));
  });
  await choose(page, { token: "wrong" });
  await until("a wrong token is named", async () => {
    const words = await textOf(page, "#fares-words");
    return /token/.test(words) && !/^Enter/.test(words);
  });
  await choose(page, { token: browser.PUBLISH_TOKEN });
  await until("it tells protocol, codec and rate", async () => {
    const numbers = await page.evaluate(() => document.querySelector("#fares-numbers").innerText);
    return /WHIP/.test(numbers) && /H\.264 · [1-9]/.test(numbers);
  });
  assert.ok(await isShown(page, "#share"), "it leads to the watch page");
  assert.equal(await textOf(page, "#fares-badge"), "Live");
  await fits(page, "publish encoder live");
});
