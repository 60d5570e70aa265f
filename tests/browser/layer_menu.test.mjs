// The layers of a picture in `<millrace-player>`: the menu, and what the player asks the server for
// by itself. The server is one within the page, so that everything can happen to it.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isShown, scenario, screenshot, textOf, until } from "./harness.mjs";
import { writeHls } from "./packaged.mjs";
import { servePages } from "./pages.mjs";

/** A page with a player on it that plays, and what the test asks of it. */
class Stage {
  constructor(page) {
    this.page = page;
  }

  static async open(world, pages, { inFirefox = false, hook = () => {} } = {}) {
    const browser = await (inFirefox ? world.firefox() : world.chromium());
    const stage = new Stage(await world.open(browser, `${pages.url}/layers.html`, hook));
    await until("it plays", async () => (await stage.player("state")) === "playing");
    return stage;
  }

  player(property) {
    return this.page.evaluate((it) => document.querySelector("millrace-player")[it], property);
  }

  set(properties) {
    const set = (it) => Object.assign(document.querySelector("millrace-player"), it);
    return this.page.evaluate(set, properties).then(() => undefined);
  }

  posts() {
    return this.page.evaluate(() => window.fake.posts);
  }

  /** What was posted last is that. */
  posted(body) {
    const isSame = (post) => JSON.stringify(post) === JSON.stringify(body);
    return until(`${JSON.stringify(body)} is posted`, async () => {
      return isSame((await this.posts()).at(-1));
    });
  }

  resize(width) {
    const set = (it) => (document.querySelector("millrace-player").style.width = it);
    return this.page.evaluate(set, `${width}px`);
  }

  hide(isHidden) {
    return this.page.evaluate((it) => window.fake.hide(it), isHidden);
  }

  /** The lines of the menu, what is chosen with a star. */
  lines() {
    return this.page.evaluate(() =>
      [...window.testFind("#layers").children].map((line) => {
        const isChosen = line.getAttribute("aria-checked") === "true";
        return (isChosen ? "*" : "") + line.textContent;
      }),
    );
  }

  /** The text of what has the focus, within the player or outside. */
  focused() {
    return this.page.evaluate(() => {
      const { activeElement } = document;
      return (activeElement.shadowRoot?.activeElement ?? activeElement).textContent.trim();
    });
  }

  flows(width) {
    return until(`a picture ${width} wide is shown`, () =>
      this.page.evaluate((it) => window.testVideo().videoWidth === it, width),
    );
  }
}

function onStage(name, play, options) {
  scenario(name, async (world) => {
    const pages = await servePages();
    try {
      const stage = await Stage.open(world, pages, options);
      await play(stage, world);
      assert.deepEqual(stage.page.faults, []);
    } finally {
      await pages.end();
    }
  });
}

const LINES = ["*Automatic (720p)", "720p, 2.5 Mb/s", "360p, 900 kb/s", "180p, 250 kb/s, 15 fps"];

onStage("the menu of layers works by keyboard, and tells what it does", async (stage) => {
  const { page } = stage;
  await until("the button says what flows", async () => (await textOf(page, "#layer")) === "720p");
  assert.equal(await isShown(page, "#layers"), false);
  await page.focus(">>> #layer");
  await page.keyboard.press("Enter");
  assert.ok(await isShown(page, "#layers"));
  assert.deepEqual(await stage.lines(), LINES);
  assert.equal(await stage.focused(), "Automatic (720p)", "the focus is on what is chosen");
  const tree = await page.accessibility.snapshot();
  const [all] = [tree].map(function within(it) {
    return [it, ...(it.children ?? []).flatMap(within)];
  });
  const roles = (role) => all.filter((it) => it.role === role).map(({ name }) => name);
  assert.deepEqual(roles("menu"), ["Picture size"]);
  assert.deepEqual(roles("menuitemradio"), LINES.map((line) => line.replace("*", "")));
  assert.ok(roles("button").includes("Picture size: automatic, 720p"));

  const volume = await stage.player("volume");
  await page.keyboard.press("ArrowUp");
  assert.equal(await stage.focused(), LINES[3], "it goes round");
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  assert.equal(await stage.focused(), LINES[2]);
  assert.equal(await stage.player("volume"), volume, "the keys are the menu's now");
  await page.keyboard.press("Escape");
  assert.equal(await isShown(page, "#layers"), false);
  assert.equal(await stage.focused(), "720p", "the focus is back");
  assert.deepEqual(await stage.posts(), [], "nothing was chosen");

  await page.keyboard.press("ArrowUp");
  assert.equal(await stage.focused(), LINES[3]);
  await page.keyboard.press("Enter");
  assert.equal(await isShown(page, "#layers"), false);
  await stage.posted({ encodingId: "c" });
  await stage.flows(320);
  await until("the button says so", async () => (await textOf(page, "#layer")) === "180p");
  assert.equal(await stage.focused(), "180p");
  assert.equal(await stage.player("layerChoice"), "c");
  await page.keyboard.press("ArrowDown");
  assert.equal((await stage.lines()).at(-1), `*${LINES[3]}`);
  await page.keyboard.press("Enter");
  await stage.posted({});
  await stage.flows(1280);

  await page.click(">>> #layer");
  assert.ok(await isShown(page, "#layers"));
  await page.keyboard.press("Tab");
  assert.equal(await isShown(page, "#layers"), false, "whoever moves on closes it");
  await page.click(">>> #layer");
  await page.click("#before");
  assert.equal(await isShown(page, "#layers"), false, "so does a click elsewhere");
});

/** Browsers differ in what a click does to the focus. */
onStage("the menu works by clicks in Firefox", async (stage) => {
  const { page } = stage;
  await stage.flows(1280);
  for (const [id, width] of [["c", 320], ["a", 640], ["auto", 1280]]) {
    await page.click(">>> #layer");
    await page.click(`>>> #layers [data-layer=${id}]`);
    await stage.flows(width);
    assert.equal(await isShown(page, "#layers"), false);
  }
  await page.click(">>> #layer");
  await page.click(">>> #layer");
  assert.equal(await isShown(page, "#layers"), false, "the button closes what it opened");
}, { inFirefox: true });

onStage("the menu is there as long as there is a choice", async (stage) => {
  const { page } = stage;
  await until("there are three layers", async () => (await stage.lines()).length === 4);
  await page.evaluate(() => {
    window.testTold = [];
    const player = document.querySelector("millrace-player");
    for (const name of ["layerschange", "layerchange"]) {
      player.addEventListener(name, ({ detail }) => window.testTold.push([name, detail]));
    }
    const { fake } = window;
    delete fake.layers.b;
    fake.apply();
  });
  await until("the next one flows", async () => (await stage.player("currentLayer")) === "a");
  assert.deepEqual((await stage.lines())[1], "720p, not sent now");
  const layers = await stage.player("layers");
  assert.deepEqual(
    layers.map(({ id, height, active }) => [id, height, active]),
    [["b", 720, false], ["a", 360, true], ["c", 180, true]],
  );
  const told = await page.evaluate(() => window.testTold);
  assert.deepEqual(told.map(([name]) => name), ["layerschange", "layerchange"]);
  assert.deepEqual(told[1][1], { layer: "a", choice: "auto" });

  await page.click(">>> #layer");
  await page.click(">>> #layers [data-layer=b]");
  assert.ok(await isShown(page, "#layers"), "what is not sent cannot be chosen");
  await stage.set({ layerChoice: "a" });
  await stage.posted({ encodingId: "a" });
  await stage.set({ stream: "another" });
  assert.equal(await stage.player("layerChoice"), "auto", "another stream has other layers");
  await until("there is no menu", async () => !(await isShown(page, "#layer")));
  assert.deepEqual(await stage.player("layers"), []);
});

onStage("a server without the extension has no menu", async (stage) => {
  await stage.flows(1280);
  await stage.set({ layerChoice: "c" });
  assert.equal(await isShown(stage.page, "#layer"), false);
  assert.deepEqual(await stage.player("layers"), []);
  assert.deepEqual(await stage.posts(), []);
}, { hook: () => (window.testHasNoLayers = true) });

onStage("the player asks for no more than its element shows", async (stage) => {
  await stage.flows(1280);
  assert.deepEqual(await stage.posts(), [], "the largest needs no question");
  await stage.resize(340);
  await stage.posted({ maxWidth: 320, maxHeight: 180 });
  await stage.flows(320);
  await stage.resize(600);
  await stage.posted({ maxWidth: 640, maxHeight: 360 });
  await stage.flows(640);
  const before = (await stage.posts()).length;
  for (const width of [400, 350, 300, 250]) await stage.resize(width);
  await stage.posted({ maxWidth: 320, maxHeight: 180 });
  assert.equal((await stage.posts()).length, before + 1, "an edge that is dragged is one question");

  await stage.page.focus(">>> #stage");
  await stage.page.keyboard.press("f");
  await stage.posted({});
  await stage.flows(1280);
  await stage.page.keyboard.press("f");
  await stage.posted({ maxWidth: 320, maxHeight: 180 });

  await stage.set({ layerChoice: "b" });
  await stage.posted({ encodingId: "b" });
  await stage.resize(200);
  await stage.flows(1280);
  await stage.set({ layerChoice: "auto" });
  await stage.posted({ maxWidth: 320, maxHeight: 180 });
  await stage.set({ fullSize: true });
  await stage.posted({});
  assert.equal(await stage.page.evaluate(() => window.testPeers.length), 2, "it is one session");
});

onStage("a hidden tab takes no picture, and has it back at once", async (stage) => {
  await stage.flows(1280);
  await stage.hide(true);
  await stage.hide(false);
  await stage.hide(true);
  await stage.posted({ paused: true });
  assert.equal((await stage.posts()).length, 1, "a short look elsewhere is nothing");
  await until("nothing flows", async () => (await stage.player("currentLayer")) === null);
  assert.equal(await stage.player("state"), "playing");
  await stage.hide(false);
  await stage.posted({});
  await stage.flows(1280);
  await stage.set({ playsHidden: true, layerChoice: "c" });
  await stage.posted({ encodingId: "c" });
  await stage.hide(true);
  await stage.set({ playsHidden: false });
  await stage.posted({ encodingId: "c", paused: true });
  await stage.set({ playsHidden: true });
  await stage.posted({ encodingId: "c" });
});

onStage("a picture in picture is seen, and of its own size", async (stage) => {
  await stage.flows(1280);
  await stage.page.click(">>> #pip");
  const isInPip = () => stage.page.evaluate(() => document.pictureInPictureElement !== null);
  await until("it is in a window of its own", isInPip);
  await until("its size counts", async () => (await stage.posts()).at(-1)?.maxWidth <= 640);
  await stage.hide(true);
  await stage.set({ layerChoice: "a" });
  await stage.posted({ encodingId: "a" });
  await stage.hide(false);
  await stage.page.click(">>> #pip");
  await until("it is back", async () => !(await isInPip()));
});

onStage("what the server did not take is asked for again, and what it will not do is not", async (
  stage,
) => {
  await stage.flows(1280);
  await stage.page.evaluate(() => window.fake.statuses.push(503, 429));
  await stage.set({ layerChoice: "c" });
  await stage.flows(320);
  assert.equal((await stage.posts()).length, 3);
  await stage.page.evaluate(() => window.fake.statuses.push(400));
  await stage.set({ layerChoice: "nobody's" });
  await stage.posted({ encodingId: "nobody's" });
  await stage.set({ layerChoice: "a" });
  await stage.flows(640);
  assert.deepEqual((await stage.posts()).slice(3), [
    { encodingId: "nobody's" },
    { encodingId: "a" },
  ]);
});

const NARROW = { width: 320, height: 640 };
/** How the page looks: name, viewport, class of its body. */
const LOOKS = [
  ["wide", { width: 1280, height: 720 }, ""],
  ["dark", { width: 1280, height: 720 }, "dark"],
  ["narrow", NARROW, ""],
];

onStage("the menu fits on a telephone", async (stage) => {
  const { page } = stage;
  await until("there are three layers", async () => (await stage.lines()).length === 4);
  for (const [name, viewport, ground] of LOOKS) {
    await page.evaluate((it) => (document.body.className = it), ground);
    await page.setViewport(viewport);
    if (!(await isShown(page, "#layers"))) await page.click(">>> #layer");
    await screenshot(page, `menu of layers ${name}`);
  }
  const places = await page.evaluate(() => {
    const edges = (selector) => window.testFind(selector).getBoundingClientRect().toJSON();
    const isWide = document.documentElement.scrollWidth;
    const { scrollHeight, clientHeight } = window.testFind("#layers");
    const hidden = scrollHeight - clientHeight;
    const [stage, list, button] = ["#stage", "#layers", "#layer"].map(edges);
    return { isWide, hidden, stage, list, button };
  });
  const { stage: around, list, button } = places;
  assert.ok(places.isWide <= NARROW.width, `the page is ${places.isWide} wide`);
  for (const part of [list, button]) {
    const isWithin = part.left >= around.left && part.right <= around.right;
    const isHigh = part.top >= around.top && part.bottom <= around.bottom;
    assert.ok(isWithin && isHigh, JSON.stringify(places));
  }
  assert.equal(places.hidden, 0, "all of it is seen without scrolling");
  await page.click(">>> #layers [data-layer=c]");
  await stage.posted({ encodingId: "c" });
});

scenario("by HLS the menu is of the levels, whatever the sound", async (world) => {
  const folder = mkdtempSync(join(tmpdir(), "millrace-browser-"));
  writeHls(folder);
  const pages = await servePages({ hls: folder });
  try {
    const stage = await Stage.open(world, pages);
    const { page } = stage;
    await stage.set({ protocolChoice: "hls" });
    await until("it plays", async () => (await stage.player("protocol")) === "hls");
    await until("it plays", async () => (await stage.player("state")) === "playing");
    await until("a level flows", async () => (await stage.player("currentLayer")) !== null);
    const layers = await stage.player("layers");
    assert.deepEqual(layers.map(({ height }) => height), [720, 360, 180], "each size once");
    for (const [id, width] of [["320x180", 320], ["1280x720", 1280], ["640x360", 640]]) {
      await page.click(">>> #layer");
      await page.click(`>>> #layers [data-layer="${id}"]`);
      await stage.flows(width);
      await until("it says so", async () => (await stage.player("currentLayer")) === id);
      assert.equal(await stage.player("layerChoice"), id);
    }
    await page.click(">>> #layer");
    assert.match((await stage.lines()).join(), /^Automatic,720p, 2.6 Mb.s,\*360p, 1.0 Mb.s,180p/);
    await page.click(">>> #layers [data-layer=auto]");
    await stage.resize(300);
    await stage.flows(320);
    await until("it says so", async () => (await textOf(page, "#layer")) === "180p");
    await stage.set({ layerChoice: "640x360" });
    await stage.flows(640);
    await stage.set({ protocolChoice: "whep" });
    await stage.posted({ encodingId: "a" });
    await stage.flows(640);
    assert.deepEqual(page.faults, []);
  } finally {
    await pages.end();
    rmSync(folder, { recursive: true });
  }
});
