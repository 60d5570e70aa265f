// A newer ffmpeg by Enhanced RTMP: codecs that FLV did not know for twenty years.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { TAKES_ALL, ffmpeg, rtmp } from "../browser/encoders.mjs";
import { PATIENT, counters, plays, scenario, sounds, textOf, until } from "../browser/harness.mjs";
import { shownByHls } from "../browser/wall.mjs";

const OPUS = ["-c:a", "libopus", "-b:a", "64k", "-ar", "48000", "-ac", "2"];

/** Debian's ffmpeg is older than Enhanced RTMP; this one comes with a package of PyPI. */
const newer = (() => {
  const python = fileURLToPath(new URL(".venv/bin/python", import.meta.url));
  const question = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())";
  const { status, stdout, stderr } = spawnSync(python, ["-c", question], { encoding: "utf8" });
  if (status !== 0) throw new Error(`there is no newer ffmpeg: ${stderr}`);
  return stdout.trim();
})();

scenario("AV1 and Opus by Enhanced RTMP are seen and heard, by LL-HLS too", async (world) => {
  const server = await world.server(TAKES_ALL);
  const chromium = await world.chromium();
  const fast = ["-usage", "realtime", "-cpu-used", "8", "-lag-in-frames", "0"];
  const choices = { video: ["-c:v", "libaom-av1", ...fast], audio: OPUS };
  world.encode([newer, ffmpeg(rtmp(await server.ports(), "stage"), choices)]);
  await until("the stream is live", () => server.report("stage"));
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await plays(viewer);
  await sounds(viewer);
  assert.deepEqual([...(await counters(viewer)).codecs].sort(), ["audio/opus", "video/AV1"]);
  assert.deepEqual(server.soundWorkers(), [], "Opus needs no transcoding");
  const levels = await shownByHls(world, chromium, server);
  const isAv1 = ({ videoCodec }) => videoCodec.startsWith("av01");
  assert.ok(levels.every(isAv1), JSON.stringify(levels));
});

/** The newer ffmpeg with HEVC. */
async function encodesHevc(world, server) {
  const fast = ["-c:v", "libx265", "-preset", "ultrafast", "-tune", "zerolatency"];
  const quiet = ["-x265-params", "log-level=none:bframes=0"];
  const choices = { video: [...fast, ...quiet], audio: OPUS };
  world.encode([newer, ffmpeg(rtmp(await server.ports(), "stage"), choices)]);
}

scenario("HEVC by Enhanced RTMP is seen as H.264 where a browser lacks it", async (world) => {
  const server = await world.server({ ...TAKES_ALL, ...PATIENT, TRANSCODE__LADDER: "on" });
  const chromium = await world.chromium();
  await encodesHevc(world, server);
  await until("H.264 can be had", async () => {
    const video = (await server.report("stage"))?.tracks.find(({ kind }) => kind === "video");
    return video?.layers?.some(({ made, active }) => made && active);
  });
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await plays(viewer);
  await sounds(viewer);
  assert.deepEqual([...(await counters(viewer)).codecs].sort(), ["audio/opus", "video/H264"]);
  const levels = await shownByHls(world, chromium, server);
  assert.ok(levels.some(({ videoCodec }) => videoCodec.startsWith("avc1")), JSON.stringify(levels));
});

scenario("HEVC by Enhanced RTMP comes in; a browser without it is told so", async (world) => {
  const server = await world.server(TAKES_ALL);
  const chromium = await world.chromium();
  await encodesHevc(world, server);
  await until("the API shows H265 and Opus, both flowing", async () => {
    const tracks = (await server.report("stage"))?.tracks ?? [];
    const flowing = tracks.filter(({ bitrate_bps: bps }) => bps > 0);
    const codecs = flowing.map(({ codec }) => codec.toUpperCase());
    return ["H265", "OPUS"].every((codec) => codecs.includes(codec));
  });
  const viewer = await world.open(chromium, server.watchPage("stage"));
  await until("the page names the codec", async () => {
    return /H265/.test(await textOf(viewer, "#words"));
  });
  assert.equal(await textOf(viewer, "#title"), "This stream cannot be played");
  assert.equal(await textOf(viewer, "#badge"), "Waiting");
});
