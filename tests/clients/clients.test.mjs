// Stacks that are neither ours nor a browser's, in both directions and in both DTLS roles: aiortc,
// and libdatachannel, which OBS is made with. Each decodes what it gets, or has ffmpeg decode it.

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

// --- aiortc -----------------------------------------------------------------------------------

for (const [codec, roles] of Object.entries({ H264: [], VP8: ["--passive"] })) {
  const role = roles.length ? "as DTLS server" : "as DTLS client";
  clients(`aiortc publishes ${codec} and watches it, ${role}`, async ({ server, start }) => {
    const publisher = start.aiortc("publish", server, ["--codec", codec, ...roles]);
    await isLive(server);
    const viewer = start.aiortc("view", server, roles);
    const seen = await viewer.reaches(({ frames, samples }) => frames > FRAMES && samples > SAMPLES);
    assert.deepEqual(seen.size, [320, 180]);
    assert.ok(seen.shades > 10, "the picture changes");
    const expected = roles.length ? "server" : "client";
    assert.equal(seen.dtlsRole, expected);
    assert.equal(publisher.last.dtlsRole, expected);
    await viewer.end();
    await publisher.end();
    await until("the stream is over", async () => (await server.report("stage")) === undefined);
  });
}

// --- libdatachannel ---------------------------------------------------------------------------

for (const roles of [[], ["--passive"]]) {
  const role = roles.length ? "as DTLS server" : "as DTLS client";
  clients(`libdatachannel publishes as OBS does and watches, ${role}`, async (world) => {
    const { server, start, directory } = world;
    const file = encode(join(directory, "sent.h264"));
    const publisher = start.datachannel("publish", server, ["--file", file, ...roles]);
    await isLive(server);
    const received = join(directory, "received.h264");
    const viewer = start.datachannel("view", server, ["--file", received, ...roles]);
    const enough = ({ frames, keyframes, samples }) =>
      frames > FRAMES && keyframes > 1 && samples > SAMPLES;
    const seen = await viewer.reaches(enough);
    assert.equal(seen.gaps, 0, "one unbroken numbering");
    await viewer.end();
    await publisher.end();
    assert.ok(decode(received) >= FRAMES);
    await until("the stream is over", async () => (await server.report("stage")) === undefined);
  });
}

clients("each stack watches what the other one publishes", async ({ server, start, directory }) => {
  const file = encode(join(directory, "sent.h264"));
  const first = start.datachannel("publish", server, ["--file", file]);
  await isLive(server);
  const aiortc = start.aiortc("view", server, []);
  const enough = ({ frames, samples }) => frames > FRAMES && samples > SAMPLES;
  assert.deepEqual((await aiortc.reaches(enough)).size, [640, 360]);
  await aiortc.end();
  await first.end();
  await until("the stream is over", async () => (await server.report("stage")) === undefined);

  const second = start.aiortc("publish", server, ["--codec", "H264"]);
  await isLive(server);
  const received = join(directory, "received.h264");
  const datachannel = start.datachannel("view", server, ["--file", received]);
  await datachannel.reaches(enough);
  await datachannel.end();
  await second.end();
  assert.ok(decode(received) >= FRAMES);
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
      datachannel: add(process.execPath, "datachannel_client.mjs"),
    };
    try {
      await play({ server, start, directory });
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
    await until(`${isSo} of a client`, () => {
      if (this.#code !== undefined) return true;
      return isSo(this.last);
    }).catch((error) => {
      throw new Error(`it said ${JSON.stringify(this.last)}\n${this.#errors}`, { cause: error });
    });
    assert.equal(this.#code, undefined, `it ended\n${this.#errors}`);
    return this.last;
  }

  /** Ends it as a person does; it must not complain. */
  async end() {
    this.#process.stdin.end();
    assert.equal(await this.#exit, 0, this.#errors);
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
function encode(file) {
  const input = ["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30:duration=3"];
  const codec = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency"];
  const pictures = ["-profile:v", "baseline", "-pix_fmt", "yuv420p", "-b:v", "1M", "-g", "30"];
  ffmpeg([...input, ...codec, ...pictures, "-f", "h264", file]);
  return file;
}

/** How many pictures ffmpeg decodes without any complaint. */
function decode(file) {
  const strict = ["-v", "error", "-err_detect", "explode", "-xerror"];
  const count = ffmpeg([...strict, "-i", file, "-f", "null", "-progress", "-", "-"]);
  return Number(/.*^frame=(\d+)/ms.exec(count)[1]);
}

function ffmpeg(parameters) {
  const { status, stdout, stderr } = spawnSync("ffmpeg", parameters, { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  assert.equal(stderr, "");
  return stdout;
}
