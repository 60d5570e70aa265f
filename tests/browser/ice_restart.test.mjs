// A browser that changes networks restarts ICE, and what it sends or watches goes on.

import assert from "node:assert/strict";
import { goLive, plays, PUBLISH_TOKEN, scenario, until } from "./harness.mjs";

/** Restarts ICE as RFC 9725 §4.3.3 has it; gives the page's new user name fragment. */
function restartIce(page, token) {
  return page.evaluate(async (token) => {
    const peer = window.testPeers.at(-1);
    const valueOf = (sdp, name) => new RegExp(`^a=${name}:(.*?)\r?$`, "m").exec(sdp)[1];
    peer.restartIce();
    await peer.setLocalDescription(await peer.createOffer());
    const offer = peer.localDescription.sdp;
    const names = ["ice-ufrag", "ice-pwd"];
    const lines = names.map((name) => `a=${name}:${valueOf(offer, name)}\r\n`);
    const response = await fetch(window.testSessions.at(-1), {
      method: "PATCH",
      headers: {
        "Content-Type": "application/trickle-ice-sdpfrag",
        "If-Match": "*",
        Authorization: `Bearer ${token}`,
      },
      body: lines.join(""),
    });
    if (response.status !== 200) throw new Error(`the PATCH got ${response.status}`);
    const fragment = await response.text();
    const renewed = (sdp, name) => {
      const line = `a=${name}:${valueOf(fragment, name)}`;
      return sdp.replace(new RegExp(`^a=${name}:[^\r\n]*`, "gm"), line);
    };
    const answer = names.reduce(renewed, peer.remoteDescription.sdp);
    await peer.setRemoteDescription({ type: "answer", sdp: answer });
    return valueOf(offer, "ice-ufrag");
  }, token);
}

/**
 * The page's user name fragment of the pair that is in use. The server's is no sign: a new
 * candidate of the page may have been paired with the old one of the server before its answer came.
 */
function ufragInUse(page) {
  return page.evaluate(async () => {
    const report = await window.testPeers.at(-1).getStats();
    const transport = [...report.values()].find(({ type }) => type === "transport");
    const pair = report.get(transport?.selectedCandidatePairId);
    return report.get(pair?.localCandidateId)?.usernameFragment;
  });
}

scenario("a publisher and a viewer restart ICE in mid-stream", async (world) => {
  const server = await world.server();
  const chromium = await world.chromium();
  const publisher = await world.open(chromium, server.publishPage("stage"));
  await goLive(publisher);
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await plays(viewer);
  const before = await server.report("stage");
  for (const page of [publisher, viewer]) {
    const ufrag = await restartIce(page, PUBLISH_TOKEN);
    await until("the new pair is in use", async () => (await ufragInUse(page)) === ufrag);
    await plays(viewer);
  }
  const after = await server.report("stage");
  assert.equal(after.publisher.session, before.publisher.session, "the same publisher");
  assert.equal(after.viewers[0].session, before.viewers[0].session, "the same viewer");
});
