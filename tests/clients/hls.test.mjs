// LL-HLS as programs read it that know nothing of us: ffmpeg and ffprobe, the playlist parser of
// npm; and codecs that browsers' publishers do not send.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import Hls from "hls-parser";
import { TAKES_ALL, burnt, rtmp } from "../browser/encoders.mjs";
import { PATIENT, PUBLISH_TOKEN, scenario, scenarioInParts, until } from "../browser/harness.mjs";
import { servePages } from "../browser/pages.mjs";

const READ_SECONDS = 10;

/**
 * ffmpeg reads a playlist's EXT-X-MAP again whenever it has loaded the playlist anew, gives it to
 * its demuxer, and says this of its own doing; so with every live stream that has one.
 */
const OF_ITS_OWN = /Found duplicated MOOV Atom\. Skipped it/;

/** The lines that a program has to say about what it reads. */
function complaints(text) {
  return text.split("\n").filter((line) => line !== "" && !OF_ITS_OWN.test(line));
}

function run(program, parameters) {
  return new Promise((resolve, reject) => {
    const started = spawn(program, parameters, { stdio: ["ignore", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    started.stdout.on("data", (chunk) => (stdout += chunk));
    started.stderr.on("data", (chunk) => (stderr += chunk));
    started.once("error", reject);
    started.once("close", (code) => resolve({ code, stdout, stderr }));
  });
}

const pythonOf = fileURLToPath(new URL(".venv/bin/python", import.meta.url));

/** Debian's ffmpeg is older than Enhanced RTMP; this one comes with a package of PyPI. */
async function newerFfmpeg() {
  const question = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())";
  const { code, stdout, stderr } = await run(pythonOf, ["-c", question]);
  if (code !== 0) throw new Error(`there is no newer ffmpeg: ${stderr}`);
  return stdout.trim();
}

function address(server, stream, name = "index.m3u8") {
  return `${server.url}/hls/${stream}/${name}`;
}

async function text(server, stream, name) {
  const response = await fetch(address(server, stream, name));
  const body = await response.text();
  if (!response.ok) throw new Error(`${name}: ${response.status} ${body}`);
  return body;
}

/** So many whole segments of the picture are listed. */
function isPackaged(server, stream, segments = 2) {
  return until(`${segments} segments of ${stream} are listed`, async () => {
    await text(server, stream, "index.m3u8");
    const media = await text(server, stream, "video.m3u8");
    return media.match(/#EXTINF/g)?.length >= segments;
  });
}

/** What ffprobe says of the streams, without a complaint. */
async function probe(url) {
  const { code, stdout, stderr } = await run("ffprobe", [
    ...["-v", "warning", "-show_streams", "-of", "json", url],
  ]);
  assert.deepEqual([code, complaints(stderr)], [0, []]);
  return JSON.parse(stdout).streams;
}

/** Decodes some seconds, without a complaint. */
async function decode(url, seconds = READ_SECONDS) {
  const maps = ["-map", "0:v:0", "-map", "0:a:0"];
  // Times stay as they are: a camera's frames are no even number of milliseconds apart.
  const out = ["-enc_time_base", "-1", "-f", "null", "-"];
  const { code, stderr } = await run("ffmpeg", [
    ...["-v", "warning", "-nostdin", "-t", `${seconds}`, "-i", url, ...maps, ...out],
  ]);
  assert.deepEqual([code, complaints(stderr)], [0, []]);
}

scenarioInParts("programs read LL-HLS", async (world, part) => {
  const server = await world.server({ ...TAKES_ALL, ...PATIENT });
  const pages = await servePages();
  try {
    world.encode(...burnt(rtmp(await server.ports(), "rtmp")));
    const chromium = await world.chromium();
    const camera = await world.open(chromium, `${pages.url}/camera.html`);
    await until("the camera is there", () => camera.evaluate(() => window.publish !== undefined));
    const publish = (url, token) => window.publish(url, token);
    await camera.evaluate(publish, `${server.url}/whip/whip`, PUBLISH_TOKEN);
    for (const stream of ["whip", "rtmp"]) await isPackaged(server, stream);
    const streams = ["whip", "rtmp"];
    await part("ffprobe knows what it is", async () => {
      const [whip, rtmp] = await Promise.all(streams.map((it) => probe(address(server, it))));
      const names = (found) => [...new Set(found.map((it) => it.codec_name))].sort();
      assert.deepEqual(names(rtmp), ["aac", "h264"]);
      assert.deepEqual(names(whip), ["aac", "h264", "opus"]);
      const picture = rtmp.find(({ codec_name: name }) => name === "h264");
      const { codec_tag_string: tag, width, height } = picture;
      assert.deepEqual([tag, width, height], ["avc1", 320, 180]);
    });
    await part("ffmpeg decodes it without a complaint", async () => {
      await Promise.all(streams.map((stream) => decode(address(server, stream))));
    });
    await part("hls-parser reads every playlist", async () => {
      await readPlaylists(server, "rtmp", ["video", "aac"]);
      await readPlaylists(server, "whip", ["video", "aac", "opus"]);
    });
  } finally {
    await pages.end();
  }
});

/** All playlists of a stream say what is so. */
async function readPlaylists(server, stream, renditions) {
  const all = Hls.parse(await text(server, stream, "index.m3u8"));
  assert.ok(all.isMasterPlaylist);
  const sounds = renditions.filter((name) => name !== "video");
  assert.equal(all.variants.length, sounds.length);
  for (const variant of all.variants) {
    assert.deepEqual(variant.resolution, { width: 320, height: 180 });
    assert.ok(variant.bandwidth >= variant.averageBandwidth);
    assert.ok(Math.abs(variant.frameRate - 30) < 3, `${variant.frameRate} frames per second`);
    assert.match(variant.codecs, /^avc1\.[\da-f]{6},(mp4a\.40\.2|opus)$/);
    assert.equal(variant.uri, "video.m3u8");
    assert.equal(variant.audio.length, 1);
  }
  const uris = all.variants.map(({ audio }) => audio[0].uri).sort();
  assert.deepEqual(uris, sounds.map((name) => `${name}.m3u8`).sort());
  for (const rendition of renditions) await readMedia(server, stream, rendition);
}

async function readMedia(server, stream, rendition) {
  const whole = Hls.parse(await text(server, stream, `${rendition}.m3u8`));
  assert.ok(!whole.isMasterPlaylist && whole.segments.length > 0);
  const { targetDuration, partTargetDuration, lowLatencyCompatibility: low } = whole;
  assert.ok(low.canBlockReload && low.partHoldBack > 3 * partTargetDuration - 1e-6);
  for (const segment of whole.segments) {
    if (segment.uri !== "") {
      assert.ok(Math.round(segment.duration) <= targetDuration, `${segment.duration} s`);
    }
    const parts = segment.parts.filter(({ hint }) => !hint);
    for (const { duration } of parts) assert.ok(duration <= partTargetDuration + 1e-6);
    if (segment.uri === "" || parts.length === 0) continue;
    const sum = parts.reduce((sum, { duration }) => sum + duration, 0);
    assert.ok(Math.abs(sum - segment.duration) < 0.001, `${sum} s in parts of ${segment.duration}`);
  }
  assert.deepEqual(
    whole.renditionReports.every(({ lastMSN, lastPart }) => lastMSN >= 0 && lastPart >= 0),
    true,
  );
  const skipped = await until("there is something to skip", async () => {
    const update = await text(server, stream, `${rendition}.m3u8?_HLS_skip=YES`);
    return update.includes("#EXT-X-SKIP:") && update;
  });
  const delta = Hls.parse(skipped);
  assert.ok(delta.skip > 0, "a delta update");
  assert.ok(delta.mediaSequenceBase >= whole.mediaSequenceBase);
}

scenario("HEVC by Enhanced RTMP is read as hvc1 and decoded", async (world) => {
  const server = await world.server({ ...TAKES_ALL, ...PATIENT });
  const fast = ["-c:v", "libx265", "-preset", "ultrafast", "-tune", "zerolatency"];
  const video = [...fast, "-x265-params", "log-level=none:bframes=0"];
  const program = await newerFfmpeg();
  world.encode(...burnt(rtmp(await server.ports(), "stage"), { video, program }));
  await until("the stream is live", () => server.report("stage"));
  await isPackaged(server, "stage");
  const picture = (await probe(address(server, "stage"))).find(({ width }) => width > 0);
  assert.deepEqual([picture.codec_name, picture.codec_tag_string], ["hevc", "hvc1"]);
  await decode(address(server, "stage"), 4);
});

scenario("AV1 by Enhanced RTMP is decoded, and hls.js plays it", async (world) => {
  const server = await world.server({ ...TAKES_ALL, ...PATIENT });
  const fast = ["-usage", "realtime", "-cpu-used", "8", "-lag-in-frames", "0"];
  const video = ["-c:v", "libaom-av1", ...fast];
  const program = await newerFfmpeg();
  world.encode(...burnt(rtmp(await server.ports(), "stage"), { video, program }));
  await until("the stream is live", () => server.report("stage"));
  await isPackaged(server, "stage");
  const picture = (await probe(address(server, "stage"))).find(({ width }) => width > 0);
  assert.deepEqual([picture.codec_name, picture.codec_tag_string], ["av1", "av01"]);
  await decode(address(server, "stage"), 4);
  await playsInHlsJs(world, server, "stage");
});

scenario("B-frames keep their order: hls.js plays them, WHEP says no", async (world) => {
  const server = await world.server({ ...TAKES_ALL, ...PATIENT });
  const choices = "b-adapt=0:b-pyramid=normal:scenecut=0";
  const video = ["-c:v", "libx264", "-preset", "veryfast", "-bf", "3", "-x264-params", choices];
  world.encode(...burnt(rtmp(await server.ports(), "stage"), { video }));
  await until("the stream is live", () => server.report("stage"));
  await isPackaged(server, "stage");
  const url = address(server, "stage");
  const shown = ["-select_streams", "v:0", "-show_packets", "-of", "json"];
  const { code, stdout, stderr } = await run("ffprobe", [
    ...["-v", "warning", "-read_intervals", "%+4", ...shown, url],
  ]);
  assert.deepEqual([code, complaints(stderr)], [0, []]);
  const packets = JSON.parse(stdout).packets.map(({ pts, dts }) => ({ pts, dts }));
  const times = packets.map(({ pts }) => pts);
  assert.ok(packets.some(({ pts, dts }) => pts !== dts), "times of presentation are others");
  assert.ok(times.some((pts, index) => pts < times[index - 1]), "and in another order");
  assert.ok(packets.every(({ dts }, index) => index === 0 || dts > packets[index - 1].dts));
  assert.equal(new Set(times).size, times.length, "no two at the same time");
  await decode(url, 4);
  const wall = await playsInHlsJs(world, server, "stage");
  const { readings } = await wall.evaluate(() => window.taken().stage);
  const clocks = readings.map(({ clock }) => clock);
  assert.ok(clocks.every((clock, index) => index === 0 || clock > clocks[index - 1]), "in order");
  const viewer = await world.open(wall.browser(), `${server.url}/watch/stage`);
  const offered = await viewer.evaluate(async () => {
    const peer = new RTCPeerConnection();
    for (const kind of ["audio", "video"]) peer.addTransceiver(kind, { direction: "recvonly" });
    const { sdp } = await peer.createOffer();
    const headers = { "Content-Type": "application/sdp" };
    const response = await fetch("/whep/stage", { method: "POST", headers, body: sdp });
    return response.status;
  });
  assert.equal(offered, 406);
});

/** hls.js shows frames of it, sound too; gives the page. */
async function playsInHlsJs(world, server, stream) {
  const pages = await servePages();
  try {
    const wall = await world.open(await world.chromium(), `${pages.url}/wall.html`);
    await until("the wall is there", () => wall.evaluate(() => window.isReady === true));
    const hang = (...all) => window.hang(...all);
    await wall.evaluate(hang, stream, "hls.js", server.url, stream);
    const plays = (name) => window.screens[name].readings.length > 60;
    await until("hls.js plays it", () => wall.evaluate(plays, stream));
    const heard = (name) => window.screens[name].shown().webkitAudioDecodedByteCount > 0;
    await until("its sound is decoded", () => wall.evaluate(heard, stream));
    return wall;
  } finally {
    await pages.end();
  }
}
