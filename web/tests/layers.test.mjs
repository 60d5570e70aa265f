// What the player makes of the layers that a server tells of, and what it asks for.

import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const { bodyOf, layerNamed, layersIn, remembering } = await load("layers.ts");
const { ceilingFor, found, wishFor } = await load("player/layer_choice.ts");
const { menuOf } = await load("player/layer_words.ts");
const { layersOf, spareLevels } = await load("player/levels.ts");
const { extensionIn, streamEvent } = await load("session.ts");

const SEEN = { box: undefined, isHidden: false };
const HABITS = { isFullSize: false, playsHidden: false };

/** An entry of `active`, as the server sends it. */
function encoding(encodingId, simulcastIdx, bitrate, width, height, framerate = 30) {
  return { encodingId, simulcastIdx, bitrate, width, height, framerate };
}

const ENCODINGS = [
  encoding("f", 0, 2_500_000, 1280, 720),
  encoding("h", 1, 900_000, 640, 360),
  encoding("q", 2, 250_000, 320, 180),
];

/** Every selectable entry, as the server sends it. */
function flat(encodings) {
  return encodings.map(({ encodingId, simulcastIdx, bitrate, width, height }) => {
    const ids = { encodingId, simulcastIdx, spatialLayerId: 0, temporalLayerId: 0 };
    return { ...ids, bitrate, width, height };
  });
}

function told({ active = ENCODINGS, inactive = [], current = null, layers } = {}) {
  const body = { active, inactive, layers: layers ?? flat(active), current, target: current };
  return layersIn(JSON.stringify({ 1: body })).get("1");
}

const ids = (layers) => layers.map(({ id }) => id);

test("the layers of simulcast are listed by size, with which of them flows", () => {
  const current = { encodingId: "h", spatialLayerId: 0, temporalLayerId: 0 };
  const { all, current: flows } = told({ active: [...ENCODINGS].reverse(), current });
  assert.deepEqual(ids(all), ["f", "h", "q"]);
  assert.equal(flows, "h");
  assert.equal(all[0].width, 1280);
  assert.equal(all[0].bitrate, 2_500_000);
  assert.equal(all[0].frameRate, 30);
  assert.ok(all.every(({ active }) => active));
});

test("a layer that stops keeps what is known of it", () => {
  const before = told();
  const inactive = [{ encodingId: "f", simulcastIdx: 0 }, { encodingId: "x", simulcastIdx: 3 }];
  const now = remembering(before, told({ active: ENCODINGS.slice(1), inactive }));
  assert.deepEqual(ids(now.all), ["f", "h", "q", "x"]);
  assert.deepEqual([now.all[0].active, now.all[0].height], [false, 720]);
  assert.deepEqual([now.all[3].active, now.all[3].height], [false, undefined]);
  const again = remembering(now, told());
  assert.ok(again.all.every(({ active }) => active));
});

test("the spatial layers of one encoding can be chosen each; temporal ones cannot", () => {
  const [top] = ENCODINGS;
  const { encodingId: _, ...unnamed } = top;
  const layers = [0, 1, 2].flatMap((spatialLayerId) =>
    [0, 1].map((temporalLayerId) => ({
      spatialLayerId,
      temporalLayerId,
      bitrate: 100_000 * (1 + spatialLayerId) * (1 + temporalLayerId),
      width: 320 << spatialLayerId,
      height: 180 << spatialLayerId,
    })),
  );
  const current = { spatialLayerId: 1, temporalLayerId: 0 };
  const { all, current: flows } = told({ active: [unnamed], layers, current });
  assert.deepEqual(ids(all), ["s2", "s1", "s0"]);
  assert.equal(flows, "s1");
  assert.deepEqual([all[1].width, all[1].bitrate], [640, 400_000]);
  const wish = wishFor({ id: "s1" }, all, SEEN, HABITS);
  assert.deepEqual(bodyOf(wish), { spatialLayerId: 1 });
});

test("spatial layers of which only the whole's size is known are each half of the next", () => {
  const { encodingId: _, ...unnamed } = ENCODINGS[0];
  const layers = [2, 1, 0].map((spatialLayerId) => {
    return { spatialLayerId, temporalLayerId: 0, width: 1280, height: 720 };
  });
  const { all } = told({ active: [unnamed], layers });
  assert.deepEqual(
    all.map(({ id, width }) => [id, width]),
    [["s2", 1280], ["s1", 640], ["s0", 320]],
  );
});

test("a stream with one layer has one, without a name", () => {
  const { encodingId: _, ...unnamed } = ENCODINGS[0];
  const current = { spatialLayerId: 0, temporalLayerId: 0 };
  const { all, current: flows } = told({ active: [unnamed], current });
  assert.deepEqual(ids(all), ["only"]);
  assert.equal(flows, "only");
  assert.deepEqual(bodyOf(wishFor({ id: "only" }, all, SEEN, HABITS)), {});
  assert.equal(menuOf(all, flows, undefined), undefined, "there is nothing to choose");
});

test("what makes no sense is nothing", () => {
  assert.equal(layersIn("{"), undefined);
  assert.equal(layersIn("null").size, 0);
  for (const body of [1, null, "x", [], { active: 3 }, { active: [null, 1, "x"], layers: {} }]) {
    assert.doesNotThrow(() => layersIn(JSON.stringify({ 0: body })));
  }
  const odd = { active: [{ encodingId: 3, width: -1, height: "x", bitrate: null }] };
  const [layer] = layersIn(JSON.stringify({ 0: odd })).get("0").all;
  assert.deepEqual([layer.width, layer.height, layer.bitrate], [undefined, undefined, undefined]);
});

test("what is chosen is asked for by name, seen or not yet", () => {
  const { all } = told();
  assert.deepEqual(bodyOf(wishFor({ id: "q" }, all, SEEN, HABITS)), { encodingId: "q" });
  assert.deepEqual(bodyOf(wishFor({ id: "q" }, [], SEEN, HABITS)), { encodingId: "q" });
  const { id: _, ...named } = layerNamed("f.s2");
  assert.deepEqual(named, { encodingId: "f", spatialLayerId: 2 });
});

test("by another way the chosen layer is found by its size", () => {
  const levels = layersOf([
    { width: 320, height: 180, bitrate: 300_000, frameRate: 30, url: ["a"] },
    { width: 640, height: 360, bitrate: 1_000_000, frameRate: 30, url: ["b"] },
  ]);
  assert.equal(found({ id: "h", width: 640, height: 360 }, levels).id, "640x360");
  assert.equal(found({ id: "f", width: 1280, height: 720 }, levels), undefined);
});

test("the ceiling is the smallest layer that fills the element", () => {
  const { all } = told();
  const at = (width, height) => ceilingFor({ width, height }, all);
  assert.equal(at(1280, 720), undefined, "the largest needs no ceiling");
  assert.equal(at(4000, 2000), undefined);
  assert.equal(at(900, 506), undefined, "the next smaller one would be stretched");
  assert.deepEqual(at(690, 388), { width: 640, height: 360 }, "by so little it is not seen");
  assert.deepEqual(at(320, 180), { width: 320, height: 180 });
  assert.deepEqual(at(0, 0), { width: 320, height: 180 });
  assert.deepEqual(at(400, 1000), { width: 640, height: 360 }, "shown whole, it is 400 wide");
});

test("a layer that is not sent is no ceiling, nor one of unknown size", () => {
  const inactive = [{ encodingId: "q", simulcastIdx: 2 }];
  const now = remembering(told(), told({ active: ENCODINGS.slice(0, 2), inactive }));
  assert.deepEqual(ceilingFor({ width: 300, height: 160 }, now.all), { width: 640, height: 360 });
  const unknown = told({ active: ENCODINGS.map(({ encodingId }) => ({ encodingId })), layers: [] });
  assert.equal(ceilingFor({ width: 300, height: 160 }, unknown.all), undefined);
});

test("the element's size counts while nothing is chosen, and a hidden picture is not sent", () => {
  const { all } = told();
  const small = { box: { width: 300, height: 170 }, isHidden: false };
  const hidden = { ...small, isHidden: true };
  const body = (chosen, seen, habits) =>
    bodyOf(wishFor(chosen, all, seen, { ...HABITS, ...habits }));
  const ceiling = { maxWidth: 320, maxHeight: 180 };
  assert.deepEqual(body(undefined, small), ceiling);
  assert.deepEqual(body({ id: "f" }, small), { encodingId: "f" });
  assert.deepEqual(body(undefined, small, { isFullSize: true }), {});
  assert.deepEqual(body(undefined, hidden), { ...ceiling, paused: true });
  assert.deepEqual(body({ id: "f" }, hidden), { encodingId: "f", paused: true });
  assert.deepEqual(body(undefined, hidden, { playsHidden: true }), ceiling);
  assert.deepEqual(body(undefined, SEEN), {}, "nobody knows the size yet");
});

test("the menu says sizes and rates, and which is chosen", () => {
  const menu = menuOf(told().all, "h", undefined);
  assert.equal(menu.short, "360p");
  assert.equal(menu.label, "Picture size: automatic, 360p");
  assert.deepEqual(
    menu.items.map(({ words, isChosen }) => [words, isChosen]),
    [
      ["Automatic (360p)", true],
      ["720p, 2.5 Mb/s", false],
      ["360p, 900 kb/s", false],
      ["180p, 250 kb/s", false],
    ],
  );
  const chosen = menuOf(told().all, "h", { id: "f" });
  assert.equal(chosen.label, "Picture size: chosen, 360p");
  assert.deepEqual(
    chosen.items.filter(({ isChosen }) => isChosen).map(({ words }) => words),
    ["720p, 2.5 Mb/s"],
  );
  assert.equal(chosen.items[0].words, "Automatic");
});

test("the menu names a frame rate that is lower, and pictures that stand upright by width", () => {
  const active = [encoding("a", 0, 3_000_000, 720, 1280, 29.97), encoding("b", 1, 0, 360, 640, 15)];
  const { items } = menuOf(told({ active }).all, undefined, undefined);
  assert.deepEqual(
    items.map(({ words }) => words),
    ["Automatic", "720p, 3.0 Mb/s", "360p, 15 fps"],
  );
});

test("a layer that is not sent now stays in the menu; one that was never seen does not", () => {
  const inactive = [{ encodingId: "f", simulcastIdx: 0 }, { encodingId: "x", simulcastIdx: 3 }];
  const now = remembering(told(), told({ active: ENCODINGS.slice(1), inactive }));
  const { items } = menuOf(now.all, "h", undefined);
  assert.deepEqual(
    items.map(({ words, isOff }) => [words, isOff]),
    [
      ["Automatic (360p)", false],
      ["720p, not sent now", true],
      ["360p, 900 kb/s", false],
      ["180p, 250 kb/s", false],
    ],
  );
  const waited = menuOf(now.all, "h", { id: "x" });
  assert.equal(waited.items.at(-1).words, "Layer x, not sent now");
});

test("each picture of LL-HLS keeps one codec of sound, AAC where there is any", () => {
  const level = (url, audioCodec) => ({ url: [url], audioCodec });
  const both = ["h", "f"].flatMap((url) => [level(url, "opus"), level(url, "mp4a.40.2")]);
  assert.deepEqual(spareLevels(both), [2, 0]);
  assert.deepEqual(spareLevels([level("h", "opus"), level("f", "opus")]), []);
  const lonely = [level("h", "opus"), level("f", "opus"), level("f", "mp4a.40.2")];
  assert.deepEqual(spareLevels(lonely), [1], "a picture is never lost for its sound");
});

test("levels of one size have names of their own", () => {
  const level = (bitrate) => ({ width: 640, height: 360, bitrate, frameRate: 0, url: [""] });
  assert.deepEqual(ids(layersOf([level(1), level(2)])), ["640x360", "640x360+"]);
});

test("the session finds the extension by its relation", () => {
  const rel = (name) => `rel="urn:ietf:params:whep:ext:core:${name}"`;
  const header =
    `</whep/a/layer>; ${rel("layer")}, ` +
    `</whep/a/events>; ${rel("server-sent-events")}; events="active,layers"`;
  assert.equal(extensionIn(header, "layer"), "/whep/a/layer");
  assert.equal(extensionIn(header, "server-sent-events"), "/whep/a/events");
  assert.equal(extensionIn(null, "layer"), undefined);
  const event = streamEvent("layers", JSON.stringify({ 0: { active: ENCODINGS } }));
  assert.deepEqual(ids(event.pictures.get("0").all), ["f", "h", "q"]);
  assert.equal(streamEvent("layers", "?"), undefined);
});
