// The clocks of the player: which moment the frame on the screen shows.

import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const { RtpClock, Shown, clockOffsetMs, playoutMs, programTimeMs } = await load("player/clock.ts");
const { streamEvent } = await load("session.ts");

const NOON = 1_764_158_400_000;

test("a timestamp is counted from the last one that the server told of", () => {
  const clock = new RtpClock();
  assert.equal(clock.wallTimeMs(7, 90_000, 90_000), undefined);
  clock.told(7, 90_000, NOON);
  assert.equal(clock.wallTimeMs(7, 135_000, 90_000), NOON + 500);
  assert.equal(clock.wallTimeMs(7, 45_000, 90_000), NOON - 500, "older frames are earlier");
  assert.equal(clock.wallTimeMs(8, 135_000, 90_000), undefined, "of another track it says nothing");
  clock.told(7, 180_000, NOON + 1_001);
  assert.equal(clock.wallTimeMs(7, 180_000, 90_000), NOON + 1_001, "the newest counts");
});

test("timestamps wrap at 2^32, either way", () => {
  const clock = new RtpClock();
  clock.told(7, 2 ** 32 - 45_000, NOON);
  assert.equal(clock.wallTimeMs(7, 45_000, 90_000), NOON + 1_000);
  clock.told(7, 45_000, NOON);
  assert.equal(clock.wallTimeMs(7, 2 ** 32 - 45_000, 90_000), NOON - 1_000);
});

test("a server that tells of ever more tracks fills nothing", () => {
  const clock = new RtpClock();
  for (let ssrc = 0; ssrc < 1_000; ssrc += 1) clock.told(ssrc, 0, NOON);
  assert.equal(clock.wallTimeMs(999, 0, 90_000), undefined);
  assert.equal(clock.wallTimeMs(0, 0, 90_000), NOON);
});

test("a frame that is told of before it shows is not on the screen yet", () => {
  const shown = new Shown();
  assert.equal(shown.at(0), undefined);
  shown.push(100, "a");
  assert.equal(shown.at(90), "a", "there is no other");
  shown.push(133, "b");
  assert.equal(shown.at(120), "a");
  assert.equal(shown.at(133), "b");
  assert.equal(shown.at(9_000), "b", "it stands until the next one");
  shown.clear();
  assert.equal(shown.at(9_000), undefined);
});

test("the quickest answer tells the server's time", () => {
  const pings = [
    { sentAt: 0, receivedAt: 900, serverUnixMs: NOON },
    { sentAt: 1_000, receivedAt: 1_020, serverUnixMs: NOON + 10 },
    { sentAt: 2_000, receivedAt: 2_300, serverUnixMs: NOON + 1_200 },
  ];
  assert.equal(clockOffsetMs(pings), NOON + 10 - 1_010);
  assert.equal(clockOffsetMs([]), undefined);
});

test("an estimate by NTP or Unix time counts, one of another clock does not", () => {
  assert.equal(playoutMs(NOON + 2_208_988_800_000 - 150, NOON), NOON - 150);
  assert.equal(playoutMs(NOON - 150, NOON), NOON - 150);
  assert.equal(playoutMs(NOON - 3_600_000, NOON), undefined);
  assert.equal(playoutMs(1_000_000, NOON), undefined);
  assert.equal(playoutMs(undefined, NOON), undefined);
  assert.equal(playoutMs(NOON, undefined), undefined);
});

test("a media time is dated by the newest segment that holds it", () => {
  const piece = (start, programDateTimeMs) => ({ start, duration: 2, programDateTimeMs });
  const pieces = [piece(0, NOON), piece(2, NOON + 2_004), piece(4, null)];
  assert.equal(programTimeMs(pieces, 1), NOON + 1_000);
  assert.equal(programTimeMs(pieces, 2.5), NOON + 2_504, "not by what the first would make of it");
  assert.equal(programTimeMs(pieces, 4.5), NOON + 4_504, "one without a date goes on");
  assert.equal(programTimeMs(pieces, 60), undefined, "far behind all of them nothing is known");
  assert.equal(programTimeMs(pieces, -1), undefined);
  assert.equal(programTimeMs([], 1), undefined);
});

test("events of a session are read, and what makes no sense is dropped", () => {
  assert.deepEqual(streamEvent("inactive", "{}"), { name: "inactive" });
  assert.deepEqual(streamEvent("viewercount", '{"viewercount": 3}'), {
    name: "viewercount",
    viewers: 3,
  });
  const clock = '{"ssrc": 7, "rtp_timestamp": 90000, "wall_time_ms": 1764158400000.5}';
  assert.deepEqual(streamEvent("clock", clock), {
    name: "clock",
    ssrc: 7,
    rtpTimestamp: 90_000,
    wallTimeMs: NOON + 0.5,
  });
  for (const data of ["", "null", "[]", "{}", '{"ssrc": "7"}', '{"viewercount": null}']) {
    assert.equal(streamEvent("clock", data), undefined);
    assert.equal(streamEvent("viewercount", data), undefined);
  }
});
