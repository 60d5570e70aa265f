// In which order the player asks the server for layers, with answers that the test gives.

import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";
import { Time } from "./time.mjs";

const { Wishes } = await load("player/wishes.ts");

/** A session's wishes, and a server that answers when it is told to. */
class Session {
  time = new Time();
  asked = [];
  #answer;
  wishes = new Wishes((body) => {
    assert.equal(this.#answer, undefined, "one request at a time");
    this.asked.push(body);
    return new Promise((resolve) => (this.#answer = resolve));
  }, this.time);

  async answer(what) {
    const answer = this.#answer;
    this.#answer = undefined;
    answer(what);
    // What waits for it goes on.
    for (let turn = 0; turn < 4; turn += 1) await undefined;
  }

  want(id) {
    this.wishes.want(id === undefined ? {} : { id });
  }

  get ids() {
    return this.asked.map((body) => JSON.parse(body).id);
  }
}

test("a session that is as it began is asked for nothing", () => {
  const session = new Session();
  session.want(undefined);
  assert.deepEqual(session.asked, []);
});

test("the same wish is told once", async () => {
  const session = new Session();
  session.want("a");
  session.want("a");
  await session.answer("taken");
  session.want("a");
  assert.deepEqual(session.ids, ["a"]);
});

test("of wishes that come meanwhile the newest is told", async () => {
  const session = new Session();
  for (const id of ["a", "b", "c"]) session.want(id);
  assert.deepEqual(session.ids, ["a"]);
  await session.answer("taken");
  assert.deepEqual(session.ids, ["a", "c"]);
  session.want("d");
  session.want("c");
  await session.answer("taken");
  assert.deepEqual(session.ids, ["a", "c"], "back at what was told");
});

test("what got no answer is told again, more and more seldom", async () => {
  const session = new Session();
  session.want("a");
  for (const pause of [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]) {
    await session.answer("again");
    const before = session.asked.length;
    session.time.run(pause - 1);
    assert.equal(session.asked.length, before);
    session.time.run(1);
    assert.equal(session.asked.length, before + 1);
  }
  await session.answer("taken");
  session.time.run(60_000);
  assert.equal(session.asked.length, 8);
});

test("a new wish does not wait, and begins anew", async () => {
  const session = new Session();
  session.want("a");
  await session.answer("again");
  session.want(undefined);
  assert.deepEqual(session.ids, ["a", undefined], "it may have been done unanswered");
  await session.answer("taken");
  session.time.run(60_000);
  assert.equal(session.asked.length, 2);
});

test("what the server will not do is not asked for again", async () => {
  const session = new Session();
  session.want("a");
  await session.answer("refused");
  session.time.run(60_000);
  assert.deepEqual(session.ids, ["a"]);
  session.want("b");
  assert.deepEqual(session.ids, ["a", "b"]);
});

test("a session that is over is asked for nothing more", async () => {
  const session = new Session();
  session.want("a");
  session.want("b");
  session.wishes.stop();
  await session.answer("again");
  session.time.run(60_000);
  session.want("c");
  assert.deepEqual(session.ids, ["a"]);
});
