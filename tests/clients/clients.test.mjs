// Stacks that are neither ours nor a browser's, in both directions and in both DTLS roles: aiortc,
// libdatachannel, which OBS is made with, and ffmpeg, which only publishes. Each decodes what it
// gets, or has ffmpeg decode it.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { PUBLISH_TOKEN, scenario, until } from "../browser/harness.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const python = here(".venv/bin/python");

/** Several of the publisher's groups of pictures, or two seconds. */
const FRAMES = 60;
/** One second of audio. */
const SAMPLES = 48_000;
const plays = ({ frames, samples }) => frames > FRAMES && samples > SAMPLES;

// --- aiortc -----------------------------------------------------------------------------------

for (const [codec, dtlsRole, options] of [
  ["H264", "client", []],
  // GStreamer offers every section but the first so, with port zero, which is no refusal.
  ["VP8", "server", ["--passive", "--bundle-only"]],
]) {
  const how = ["as DTLS", dtlsRole, ...options].join(" ");
  clients(`aiortc publishes ${codec} and watches it, ${how}`, async ({ server, start }) => {
    const publisher = start.aiortc("publish", server, ["--codec", codec, ...options]);
    await isLive(server);
    const viewer = start.aiortc("view", server, options);
    const seen = await viewer.reaches(plays);
    assert.deepEqual(seen.size, [320, 180]);
    assert.ok(seen.shades > 10, "the picture changes");
    assert.deepEqual([seen.dtlsRole, publisher.last.dtlsRole], [dtlsRole, dtlsRole]);
    await viewer.end();
    await publisher.end();
    await until("the stream is over", async () => (await server.report("stage")) === undefined);
  });
}

// --- libdatachannel ---------------------------------------------------------------------------

for (const [dtlsRole, options] of [
  ["client", []],
  ["server", ["--passive"]],
]) {
  const name = `libdatachannel publishes as OBS does and watches, as DTLS ${dtlsRole}`;
  clients(name, async ({ server, start, directory }) => {
    const file = encode(join(directory, "sent.h264"));
    const publisher = start.datachannel("publish", server, ["--file", file, ...options]);
    await isLive(server);
    const received = join(directory, "received.h264");
    const viewer = start.datachannel("view", server, ["--file", received, ...options]);
    const seen = await viewer.reaches((seen) => plays(seen) && seen.keyframes > 1);
    await viewer.reaches((seen) => seen.gaps === 0);
    assert.equal(publisher.last.offeredCandidates, 0, "as OBS");
    assert.deepEqual([seen.dtlsRole, publisher.last.dtlsRole], [dtlsRole, dtlsRole]);
    await viewer.end();
    await publisher.end();
    assert.ok(decode(received).length >= FRAMES);
    await until("the stream is over", async () => (await server.report("stage")) === undefined);
  });
}

// --- ffmpeg -----------------------------------------------------------------------------------

for (const [dtlsRole, options] of [
  ["server", []],
  ["client", ["--active"]],
]) {
  clients(`ffmpeg's WHIP muxer publishes, as DTLS ${dtlsRole}`, async ({ server, start }) => {
    const publisher = start.ffmpeg("publish", server, options);
    await isLive(server);
    const viewer = start.aiortc("view", server, []);
    const seen = await viewer.reaches(plays);
    assert.deepEqual(seen.size, [320, 180]);
    assert.ok(seen.shades > 10, "the picture changes");
    await viewer.end();
    await publisher.end();
    await until("the stream is over", async () => (await server.report("stage")) === undefined);
  });
}

// --- all together -----------------------------------------------------------------------------

clients("each stack watches what the other one publishes", async ({ server, start, directory }) => {
  const file = encode(join(directory, "sent.h264"));
  const first = start.datachannel("publish", server, ["--file", file]);
  await isLive(server);
  const aiortc = start.aiortc("view", server, []);
  assert.deepEqual((await aiortc.reaches(plays)).size, [640, 360]);
  await aiortc.end();
  await first.end();
  await until("the stream is over", async () => (await server.report("stage")) === undefined);

  const second = start.aiortc("publish", server, ["--codec", "H264"]);
  await isLive(server);
  const received = join(directory, "received.h264");
  const datachannel = start.datachannel("view", server, ["--file", received]);
  await datachannel.reaches(plays);
  await datachannel.end();
  await second.end();
  assert.ok(decode(received).length >= FRAMES);
});

clients("simulcast is its best layer, or the next while that one is gone", async (world) => {
  const { server, start, directory } = world;
  const sizes = ["640x360", "320x180", "160x90"];
  const layers = sizes.map((size, index) => {
    const rate = `${1_000 / 4 ** index}k`;
    return encode(join(directory, `${size}.h264`), size, rate);
  });
  const files = layers.flatMap((file) => ["--file", file]);
  const publisher = start.datachannel("publish", server, files);
  await isLive(server);
  const received = join(directory, "received.h264");
  const viewer = start.datachannel("view", server, ["--file", received]);
  const enough = async (formats) => {
    const { frames } = await viewer.reaches((seen) => seen.formats === formats);
    await viewer.reaches((seen) => seen.frames > frames + FRAMES);
  };
  // It begins with what any link carries; its reports tell of no loss.
  await enough(2);
  publisher.say("send 1 2");
  await enough(3);
  publisher.say("send 0 1 2");
  await enough(4);
  await viewer.reaches((seen) => seen.gaps === 0);
  await viewer.end();
  await publisher.end();
  const seen = decode(received);
  const changes = seen.filter((size, index) => size !== seen[index - 1]);
  assert.deepEqual(changes, [sizes[1], sizes[0], sizes[1], sizes[0]]);
});

// --- what the tests are made of ---------------------------------------------------------------

/** A test with a server, a folder and clients, which all end with it. */
function clients(name, play) {
  scenario(name, async (world) => {
    // Whether a busy machine is full is not the question here.
    const patient = { LIMITS__LOAD_MAX_PERCENT: "100", LIMITS__LATENESS_MAX_MS: "10000" };
    const server = await world.server(patient);
    const directory = mkdtempSync(join(tmpdir(), "millrace-clients-"));
    const started = [];
    const add = (program, script) => (role, server, options) => {
      const path = role === "publish" ? "whip" : "whep";
      const token = role === "publish" ? ["--token", PUBLISH_TOKEN] : [];
      const url = `${server.url}/${path}/stage`;
      const client = new Client(program, [here(script), role, url, ...token, ...options]);
      started.push(client);
      return client;
    };
    const start = {
      aiortc: add(python, "aiortc_client.py"),
      ffmpeg: add(python, "ffmpeg_client.py"),
      datachannel: add(process.execPath, "datachannel_client.mjs"),
    };
    try {
      await play({ server, start, directory });
    } catch (error) {
      for (const client of started) console.error(client.story());
      throw error;
    } finally {
      for (const client of started) await client.kill();
      rmSync(directory, { recursive: true, force: true });
    }
  });
}

/** A client as a process of its own. */
class Client {
  /** What it said last. */
  last = {};
  #process;
  #exit;
  #errors = "";
  #code;

  constructor(program, parameters) {
    this.#process = spawn(program, parameters, { stdio: ["pipe", "pipe", "pipe"] });
    this.#exit = new Promise((resolve) => {
      this.#process.once("error", resolve);
      this.#process.once("exit", (code, signal) => resolve(code ?? signal));
    });
    this.#exit.then((code) => (this.#code = code));
    createInterface({ input: this.#process.stdout }).on("line", (line) => {
      this.last = JSON.parse(line);
    });
    this.#process.stderr.on("data", (chunk) => (this.#errors += chunk));
  }

  /** Waits until what it says is so. */
  async reaches(isSo) {
    await until(`a client says what is ${isSo}`, () => this.#code !== undefined || isSo(this.last));
    assert.equal(this.#code, undefined, "it ended before");
    return this.last;
  }

  /** What is to be told of it when a test fails. */
  story() {
    const said = JSON.stringify(this.last);
    const command = this.#process.spawnargs.join(" ");
    return `--- ${command}\nended: ${this.#code}\n${said}\n${this.#errors}`;
  }

  /** Tells it something. */
  say(line) {
    this.#process.stdin.write(`${line}\n`);
  }

  /** Ends it as a person does; it must not complain. */
  async end() {
    this.#process.stdin.end();
    assert.equal(await this.#exit, 0);
  }

  async kill() {
    if (this.#code === undefined) this.#process.kill("SIGKILL");
    await this.#exit;
  }
}

function isLive(server) {
  return until("the stream is live, sound and picture", async () => {
    const tracks = (await server.report("stage"))?.tracks ?? [];
    return tracks.length === 2 && tracks.every(({ bitrate_bps }) => bitrate_bps > 0);
  });
}

/** A few seconds of H.264 as OBS encodes for WHIP: no B-frames, a keyframe each second. */
function encode(file, size = "640x360", rate = "1000k") {
  const input = ["-v", "error", "-f", "lavfi", "-i", `testsrc2=size=${size}:rate=30:duration=3`];
  const codec = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency"];
  const pictures = ["-profile:v", "baseline", "-pix_fmt", "yuv420p", "-b:v", rate, "-g", "30"];
  run("ffmpeg", [...input, ...codec, ...pictures, "-f", "h264", file]);
  return file;
}

/** The sizes of the pictures that ffmpeg's decoder makes of a file without any complaint. */
function decode(file) {
  const strict = ["-v", "error", "-err_detect", "explode"];
  const wanted = ["-show_entries", "frame=width,height", "-of", "json"];
  const { frames } = JSON.parse(run("ffprobe", [...strict, ...wanted, file]));
  return frames.map(({ width, height }) => `${width}x${height}`);
}

function run(program, parameters) {
  const { status, stdout, stderr } = spawnSync(program, parameters, { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  assert.equal(stderr, "");
  return stdout;
}
