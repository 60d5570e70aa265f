// In which sizes the publish page sends a picture, and which of them it says that flow.

import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const { several, single } = await load("simulcast.ts");
const { layersText, SentLayers } = await load("sent_layers.ts");
const { Meter } = await load("stats.ts");

const brief = (encodings) => encodings.map((it) => [it.rid, it.maxBitrate / 1000]);

test("a large picture is sent in three sizes, the full one first", () => {
  assert.deepEqual(brief(several(720, "H264")), [["f", 2_500], ["h", 900], ["q", 250]]);
  assert.deepEqual(brief(several(1080, "H264")), [["f", 5_000], ["h", 1_600], ["q", 500]]);
  assert.deepEqual(
    several(720, "VP8").map(({ scaleResolutionDownBy }) => scaleResolutionDownBy),
    [1, 2, 4],
  );
});

test("a small picture is sent in fewer", () => {
  assert.deepEqual(brief(several(360, "H264")), [["f", 900], ["h", 250]]);
  assert.deepEqual(several(240, "VP9"), single(240));
  assert.equal(single(720)[0].rid, undefined, "one size needs no name");
});

test("every second picture can be left out where RTP tells which", () => {
  for (const [codec, mode] of [["VP8", "L1T2"], ["vp9", "L1T2"], ["AV1", "L1T2"]]) {
    assert.ok(several(720, codec).every(({ scalabilityMode }) => scalabilityMode === mode));
  }
  for (const codec of ["H264", "auto"]) {
    assert.ok(several(720, codec).every(({ scalabilityMode }) => scalabilityMode === "L1T1"));
  }
});

function sent(rid, timestamp, bytesSent, frameWidth, framesSent = 0) {
  const frameHeight = (frameWidth * 9) / 16;
  const one = { id: rid, type: "outbound-rtp", kind: "video", timestamp };
  return [rid, { ...one, rid, bytesSent, frameWidth, frameHeight, framesSent }];
}

test("what flows is told by size; what has stopped is not", () => {
  const layers = new SentLayers();
  layers.take(new Map([sent("q", 0, 0, 320), sent("f", 0, 0, 1280), sent("h", 0, 9, 640)]));
  const report = [
    sent("q", 1_000, 31_250, 320),
    sent("f", 1_000, 312_500, 1280),
    sent("h", 1_000, 9, 640),
  ];
  assert.equal(layersText(layers.take(new Map(report))), "720p 2.5 Mb/s · 180p 250 kb/s");
  assert.equal(layersText(layers.take(new Map([sent("f", 2_000, 400_000, 1280)]))), "");
});

test("the numbers are those of the largest layer, and of all of their bytes", () => {
  const meter = new Meter();
  meter.take(new Map([sent("f", 0, 0, 1280, 100), sent("q", 0, 0, 320, 100)]));
  const report = [sent("f", 1_000, 100_000, 1280, 130), sent("q", 1_000, 25_000, 320, 130)];
  const numbers = meter.take(new Map(report));
  assert.deepEqual([numbers.width, numbers.height], [1280, 720]);
  assert.equal(numbers.framesPerSecond, 30);
  assert.equal(numbers.bitrateBps, 1_000_000);
});
