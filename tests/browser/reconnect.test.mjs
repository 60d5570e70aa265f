// Pages that come back by themselves.

import assert from "node:assert/strict";
import { badge, goLive, plays, scenario, textOf, until } from "./harness.mjs";

scenario("a page that waits for a stream plays as soon as it is live", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await until("the page says that it waits", async () => {
    return (await textOf(viewer, "#title")) === "Not live yet";
  });
  const publisher = await world.open(chromium, server.publishPage("stage"));
  await goLive(publisher);
  await plays(viewer);
  assert.ok(await badge(viewer, "Live"));
});

scenario("a publisher leaves and comes back, and the page plays again", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("stage"));
  await goLive(publisher);
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await plays(viewer);
  await publisher.click("#go");
  await until("the publisher is off", () => badge(publisher, "Off"));
  await until("the page says that nothing comes", async () => {
    return ["Not live yet", "The stream has paused"].includes(await textOf(viewer, "#title"));
  });
  await publisher.click("#go");
  await until("the publisher is live again", () => badge(publisher, "Live"));
  await until("the page says no more that nothing comes", async () => {
    return (await textOf(viewer, "#title")) === "";
  });
  await plays(viewer);
});

scenario("after a restart of the server both sides come back", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("stage"));
  await goLive(publisher);
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await plays(viewer);
  assert.equal(await server.stop(), 0, "the server ends without a fault");
  await until("the publisher notices", async () => !(await badge(publisher, "Live")));
  await until("the viewer notices", async () => !(await badge(viewer, "Live")));
  await server.start();
  await until("the publisher is live again", () => badge(publisher, "Live"));
  await until("the viewer is live again", () => badge(viewer, "Live"));
  await plays(viewer);
});

scenario("whoever is taken over says so and does not fight for the stream", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const first = await world.open(chromium, server.publishPage("stage"));
  await goLive(first);
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await plays(viewer);
  const second = await world.open(chromium, server.publishPage("stage"));
  await goLive(second);
  await until("the first page says so", async () => {
    return /took the stream over/.test(await textOf(first, "#notice"));
  });
  assert.ok(await badge(first, "Off"));
  await plays(viewer);
  assert.ok(await badge(second, "Live"));
});

scenario("a page that is left ends its session at once", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("stage"));
  await goLive(publisher);
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await plays(viewer);
  // Both well before the server would notice by their silence.
  await viewer.goto("about:blank");
  const isAlone = async () => (await server.report("stage")).viewers.length === 0;
  await until("the viewer's session is gone", isAlone, 10_000);
  await publisher.goto("about:blank");
  const isOver = async () => (await server.report("stage")) === undefined;
  await until("the stream is gone", isOver, 10_000);
});
