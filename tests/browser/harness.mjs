// Starts the real server and real browsers, and asks pages what a person would see and hear.
//
// Nothing here sleeps until something "should" have happened: `until` asks again and again, with a
// deadline that only a broken build reaches. Ports are the kernel's choice, traffic stays on
// loopback, browsers are those of the system and are never downloaded.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import * as browsers from "./browsers.mjs";
import { findWithin, keepFrames, keepPeers, keepSessions } from "./hooks.mjs";
import { Encoder, childrenOf, interrupt, writeH264 } from "./programs.mjs";

export * from "./page.mjs";
export { reachableByFirefox } from "./programs.mjs";

export const PUBLISH_TOKEN = "the-publish-token";
export const ADMIN_TOKEN = "the-admin-token";
/** A server that takes whoever comes, where a machine is busy with what the test asks of it. */
export const PATIENT = { LIMITS__LOAD_MAX_PERCENT: "100", LIMITS__LATENESS_MAX_MS: "10000" };

/** Far more than a slow machine needs: only a broken build reaches it. */
const DEADLINE_MS = 30_000;
const ASK_EVERY_MS = 100;

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const out = here("out");
const binary = process.env.MILLRACE_BIN ?? here("../../target/debug/millrace");

const loadtest = process.env.MILLRACE_LOADTEST_BIN ?? join(dirname(binary), "millrace-loadtest");

/** What no waiting helps against. */
class Hopeless extends Error {}

/** Asks until the answer is truthy, and gives it. */
export async function until(what, probe, deadlineMs = DEADLINE_MS) {
  const end = Date.now() + deadlineMs;
  let last;
  for (;;) {
    try {
      const answer = await probe();
      if (answer) return answer;
      last = undefined;
    } catch (error) {
      if (error instanceof Hopeless) throw error;
      last = error;
    }
    if (Date.now() > end) throw new Error(`not within ${deadlineMs} ms: ${what}`, { cause: last });
    await pause(ASK_EVERY_MS);
  }
}

/** For what is measured over a time. */
export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** A test with a `World` of its own, of which everything is ended with it. */
export function scenario(name, play) {
  test(name, { timeout: 150_000 }, () => inWorld(play, name));
}

/**
 * The same in parts, each a test by itself, that share what is costly to start: `play` gets the
 * world and what plays a part.
 */
export function scenarioInParts(name, play) {
  test(name, { timeout: 300_000 }, (context) =>
    inWorld((world) => {
      const part = (name, play) =>
        context.test(name, async () => {
          try {
            await play();
          } catch (error) {
            await world.showWhatIsThere(name);
            throw error;
          }
        });
      return play(world, part);
    }, name),
  );
}

/** Plays in a `World` of its own, of which everything is ended; gives what came of it. */
export async function inWorld(play, name = "measurement") {
  const world = new World();
  try {
    return await play(world);
  } catch (error) {
    await world.showWhatIsThere(name);
    throw error;
  } finally {
    await world.end();
  }
}

/** What one scenario has started. */
class World {
  #servers = [];
  #leaves = [];
  #contexts = [];
  #publishers = [];
  #networks = [];
  #encoders = [];
  #pages = [];

  async server(options = {}) {
    const server = new Server(options);
    this.#servers.push(server);
    await server.start();
    return server;
  }

  /**
   * A publisher of real H.264 with a keyframe every so many seconds, which nobody's request for
   * one changes: as a PLI is lost on an RTMP encoder, and on many a hardware one.
   */
  publishFile(server, stream, { keyframeEvery, size = "640x360", kbps = 1500 }) {
    return this.#publishFiles(server, stream, keyframeEvery, [{ size, kbps }], ["--no-audio"]);
  }

  /** The same in several layers, the largest first, offered as OBS 32 does. */
  publishLikeObs(server, stream, { keyframeEvery, layers }) {
    const list = layers.map(({ size, kbps }) => `${size}@${kbps}`).join();
    const options = ["--like", "obs", "--layers", list];
    return this.#publishFiles(server, stream, keyframeEvery, layers, options);
  }

  #publishFiles(server, stream, keyframeEvery, layers, options) {
    const directory = mkdtempSync(join(tmpdir(), "millrace-browser-"));
    const files = layers.map(({ size, kbps }, place) => {
      const file = join(directory, `${place}.h264`);
      writeH264(file, { keyframeEvery, size, kbps });
      return ["--annexb", file];
    });
    const url = `${server.url}/whip/${stream}`;
    const sent = [...files.flat(), "--fps", "30", "--token", PUBLISH_TOKEN, ...options];
    const stdio = ["ignore", "ignore", "inherit"];
    const publisher = spawn(loadtest, ["publish", url, ...sent], { stdio });
    this.#publishers.push({ publisher, directory });
    return publisher;
  }

  /** Starts an encoder: a program, or several of which each writes to the next. */
  encode(...commands) {
    const encoder = new Encoder(commands);
    this.#encoders.push(encoder);
    return encoder;
  }

  /**
   * A network that loses so much each way, with so much delay each way; `kbps` is all that the way
   * to clients lets through, and `queueMs` the most that waits there. Later it is as the `steps`
   * say, in the words of `millrace-loadtest impair`; what passes is written to the file `trace`.
   * Gives the address to use in place of the server's; each client gets a path of its own.
   */
  async impair(server, { lossPercent = 0, delayMs = 0, seed = 1, kbps, queueMs, steps, trace }) {
    const way = `loss_percent=${lossPercent},delay_ms=${delayMs}`;
    const limit = kbps === undefined ? "" : `,rate_kbps=${kbps},queue_ms=${queueMs}`;
    const addresses = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
    const servers = ["--server", server.media, "--http-server", new URL(server.url).host];
    const ways = ["--up", way, "--down", way + limit, "--seed", `${seed}`];
    const options = [...addresses, ...servers, ...ways];
    if (trace !== undefined) options.push("--trace", trace);
    let directory;
    if (steps !== undefined) {
      directory = mkdtempSync(join(tmpdir(), "millrace-browser-"));
      const script = join(directory, "script.toml");
      const lines = steps.map(([at, down]) => `[[step]]\nat_s = ${at}\ndown = { ${down} }\n`);
      writeFileSync(script, lines.join("\n"));
      options.push("--script", script);
    }
    const stdio = ["ignore", "ignore", "pipe"];
    const network = spawn(loadtest, ["impair", ...options], { stdio });
    this.#networks.push({ network, directory });
    let log = "";
    network.stderr.on("data", (chunk) => (log += chunk));
    const address = await until("the network says where it is", () => {
      if (network.exitCode !== null) throw new Hopeless(`the network exited\n${log}`);
      return /use (http:\S+)/.exec(log);
    });
    return address[1];
  }

  /**
   * Viewers of the load generator, which tell of packets as browsers do. Gives what they report
   * after so many seconds.
   */
  async lightViewers(url, stream, { viewers = 1, seconds }) {
    const watched = [`${url}/whep/${stream}`, "--viewers", `${viewers}`, "--seconds", `${seconds}`];
    const options = [...watched, "--feedback", "transport-cc", "--nack", "--json"];
    const stdio = ["ignore", "pipe", "pipe"];
    const watching = spawn(loadtest, ["view", ...options], { stdio });
    this.#networks.push({ network: watching });
    let [report, log] = ["", ""];
    watching.stdout.on("data", (chunk) => (report += chunk));
    watching.stderr.on("data", (chunk) => (log += chunk));
    const code = await new Promise((resolve) => watching.once("close", resolve));
    if (code !== 0) throw new Error(`the viewers exited with ${code}\n${log}`);
    return JSON.parse(report);
  }

  /**
   * A Chromium with a fake camera; `demandsClick` leaves its rule that sound needs a click,
   * `withoutUdp` leaves it TCP only.
   */
  async chromium(rules) {
    return this.#keep(await browsers.chromium(rules));
  }

  async firefox() {
    return this.#keep(await browsers.firefox());
  }

  #keep({ browser, leave }) {
    this.#leaves.push(leave);
    return browser;
  }

  /**
   * Opens an address as another person would: in a window and with a store of its own. A tab behind
   * another one would be hidden, and hidden pages draw nothing. `hook` runs before its own scripts,
   * with these arguments.
   */
  async open(browser, address, hook = () => {}, ...parameters) {
    const context = await browser.createBrowserContext();
    this.#contexts.push(context);
    const page = await context.newPage();
    this.#pages.push(page);
    page.faults = [];
    page.on("pageerror", (error) => page.faults.push(String(error)));
    await page.evaluateOnNewDocument(findWithin);
    await page.evaluateOnNewDocument(keepPeers);
    await page.evaluateOnNewDocument(keepFrames);
    await page.evaluateOnNewDocument(keepSessions);
    await page.evaluateOnNewDocument(hook, ...parameters);
    await page.goto(address);
    return page;
  }

  async showWhatIsThere(name) {
    for (const [index, page] of this.#pages.entries()) {
      try {
        const text = await page.evaluate(() => document.body.innerText + window.testInnerText());
        console.error(`--- ${page.url()}\n${text}\n${page.faults.join("\n")}`);
        await screenshot(page, `failed ${name} ${index}`);
      } catch (error) {
        console.error(`--- a page that is gone: ${error}`);
      }
    }
    for (const { log } of this.#encoders) console.error(`--- encoder\n${log.slice(-2000)}`);
    for (const server of this.#servers) console.error(`--- server\n${server.log.slice(-8000)}`);
  }

  async end() {
    try {
      const isOpen = (context) => context.browser().connected && !context.closed;
      for (const context of this.#contexts) if (isOpen(context)) await context.close();
      for (const { publisher, directory } of this.#publishers) {
        await interrupt(publisher);
        rmSync(directory, { recursive: true, force: true });
      }
      for (const encoder of this.#encoders) await encoder.kill();
      for (const { network, directory } of this.#networks) {
        await interrupt(network);
        if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
      }
      for (const server of this.#servers) await server.end();
    } finally {
      for (const leave of this.#leaves) leave();
    }
  }
}

/** The server under test. */
class Server {
  log = "";
  /** Where it takes media, on loopback. */
  media;
  #process;
  #directory = mkdtempSync(join(tmpdir(), "millrace-browser-"));
  #options;
  #port = 0;

  /** `options`: variables without their prefix, as in `{ NETWORK__ICE_SERVERS: ".." }`. */
  constructor(options) {
    this.#options = options;
  }

  async start() {
    const own = {
      SERVER__STATE_DIRECTORY: this.#directory,
      NETWORK__HTTP_LISTEN: `127.0.0.1:${this.#port}`,
      NETWORK__HTTPS_LISTEN: "127.0.0.1:0",
      NETWORK__MEDIA_LISTEN: "127.0.0.1:0",
      SRT__LISTEN: "off",
      NETWORK__PUBLIC_ADDRESSES: "127.0.0.1",
      RTMP__LISTEN: "off",
      RTMP__TLS_LISTEN: "off",
      // Layers are made only where that is tested: the machine has few cores.
      TRANSCODE__LADDER: "off",
      // Whatever the machine has, the pairs of one browser are spread over several shards.
      SERVER__SHARDS: "4",
      PUBLISH_TOKEN,
      ADMIN_TOKEN,
      ...this.#options,
    };
    const variables = Object.entries(own).map(([key, value]) => [`MILLRACE_${key}`, value]);
    const inherited = Object.entries(process.env).filter(([key]) => !key.startsWith("MILLRACE_"));
    const env = Object.fromEntries([...inherited, ...variables]);
    const log = { text: "" };
    const started = spawn(binary, [], { env, stdio: ["ignore", "pipe", "pipe"] });
    this.#process = started;
    const keep = (chunk) => {
      log.text += chunk;
      this.log += chunk;
    };
    started.stdout.on("data", keep);
    started.stderr.on("data", keep);
    let end;
    started.once("error", ({ message }) => (end = message));
    started.once("exit", (code) => (end = `the server exited with ${code}`));
    const address = await until("the server says where it listens", () => {
      if (end !== undefined) throw new Hopeless(`${end}\n${log.text}`);
      return /http:\/\/localhost:(\d+)/.exec(log.text);
    });
    this.#port = Number(address[1]);
    await until("the server is ready", async () => (await fetch(`${this.url}/readyz`)).ok);
    this.media = /media.*?(127\.0\.0\.1:\d+)/.exec(log.text)?.[1];
  }

  get url() {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** The same server under a name that browsers do not take for this machine. */
  get insecureUrl() {
    return `http://studio.test:${this.#port}`;
  }

  publishPage(stream) {
    return `${this.url}/publish/${stream}#token=${PUBLISH_TOKEN}`;
  }

  watchPage(stream) {
    return `${this.url}/watch/${stream}`;
  }

  /** The ports of all that is served, as pages are told of them. */
  async ports() {
    return (await fetch(`${this.url}/client-config.json`)).json();
  }

  /** The processes that transcode sound, by their ids. */
  soundWorkers() {
    return childrenOf(this.#process.pid, "millrace-transcode");
  }

  /** What the API reports of a stream, or nothing. */
  async report(stream) {
    const headers = { Authorization: `Bearer ${ADMIN_TOKEN}` };
    const response = await fetch(`${this.url}/api/v1/streams`, { headers });
    if (!response.ok) throw new Error(`the API answered ${response.status}`);
    return (await response.json()).streams.find(({ name }) => name === stream);
  }

  /** Stops as an operator does; gives the exit code. */
  async stop() {
    const { pid, exitCode, signalCode } = this.#process;
    if (pid === undefined || exitCode !== null || signalCode !== null) return exitCode;
    const exit = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill("SIGTERM");
    return exit;
  }

  async end() {
    await this.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

export async function screenshot(page, name) {
  mkdirSync(out, { recursive: true });
  await page.screenshot({ path: join(out, `${name.replace(/\W+/g, "-")}.png`) });
}
