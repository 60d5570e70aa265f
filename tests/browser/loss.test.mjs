// What a network loses is repaired before it is seen, both ways. Figures of one run are compared
// with each other only: how long a picture stands depends on the machine too. `make loss` measures.

import assert from "node:assert/strict";
import { publishersBehindLoss, viewersBehindLoss } from "./loss.mjs";
import { scenario } from "./harness.mjs";

const SECONDS = 10;

/** Who repairs shows more frames than who does not, whose picture stands most of the time. */
function isBetter(all, name, other) {
  const [repaired, bare] = [all[name], all[other]];
  const text = JSON.stringify(all);
  assert.ok(repaired.frames > bare.frames * 1.2, text);
  assert.ok(repaired.gapSeconds < bare.gapSeconds / 2, text);
}

scenario("a viewer's picture goes on where its network loses 5 % each way", async (world) => {
  const names = ["clean path", "RTX", "RTX, no RTT", "no NACK"];
  const all = await viewersBehindLoss(world, { seconds: SECONDS, seed: 1, names });
  console.log(JSON.stringify(all));
  isBetter(all, "RTX", "no NACK");
  const { RTX: repaired, "RTX, no RTT": unknowing, "no NACK": bare } = all;
  assert.ok(repaired.lost > 0 && repaired.resent > 0 && bare.nacks === 0, JSON.stringify(all));
  // A page that knows the round trip waits for a repair: its picture stands less for being later.
  assert.ok(repaired.wantedMs > unknowing.wantedMs, JSON.stringify(all));
});

scenario("a publisher's picture goes on where its network loses 5 % each way", async (world) => {
  const all = await publishersBehindLoss(world, { seconds: SECONDS, seed: 1 });
  console.log(JSON.stringify(all));
  isBetter(all, "RTX", "no NACK");
});
