// Programs that run beside the server: found, started, ended.

import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, readFileSync, readdirSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** An encoder that runs outside of any browser. */
export class Encoder {
  log = "";
  #programs = [];

  constructor(commands) {
    for (const [index, [program, parameters]] of commands.entries()) {
      const before = this.#programs[index - 1];
      const stdio = [before ? "pipe" : "ignore", commands[index + 1] ? "pipe" : "ignore", "pipe"];
      const started = spawn(program, parameters, { stdio });
      started.once("error", ({ message }) => (this.log += `${message}\n`));
      started.once("exit", (code) => (this.log += `${program} exited with ${code}\n`));
      started.stderr.on("data", (chunk) => (this.log += chunk));
      // The next one may be gone before this one.
      started.stdin?.on("error", () => {});
      before?.stdout.pipe(started.stdin);
      this.#programs.push(started);
    }
  }

  /** Ends it without a word to anybody, as a power cut does. */
  async kill() {
    for (const program of this.#programs) {
      const { pid, exitCode, signalCode } = program;
      if (pid === undefined || exitCode !== null || signalCode !== null) continue;
      const exit = new Promise((resolve) => program.once("exit", resolve));
      program.kill("SIGKILL");
      await exit;
    }
  }
}

/** Writes some seconds of a moving picture, of which the first is the one keyframe. */
export function writeH264(file, { keyframeEvery, size, kbps }) {
  const source = `testsrc2=size=${size}:rate=30:duration=${keyframeEvery}`;
  const codec = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency"];
  const pictures = ["-profile:v", "baseline", "-pix_fmt", "yuv420p", "-b:v", `${kbps}k`];
  const group = ["-g", `${30 * keyframeEvery}`, "-sc_threshold", "0", "-bf", "0"];
  const input = ["-v", "error", "-f", "lavfi", "-i", source];
  const options = [...input, ...codec, ...pictures, ...group, "-f", "h264", file];
  const { status, stderr } = spawnSync("ffmpeg", options, { encoding: "utf8" });
  if (status !== 0) throw new Error(`ffmpeg: ${stderr}`);
}

/** Ends a program as Ctrl-C does. */
export async function interrupt(program) {
  const exit = new Promise((resolve) => program.once("exit", resolve));
  const isOver = program.exitCode !== null || program.signalCode !== null;
  if (!isOver && program.kill("SIGINT")) await exit;
}

/** The path of a browser: from the environment, else the first of these names that is there. */
export function program(variable, names) {
  if (process.env[variable]) return process.env[variable];
  // Where the set-up puts a browser on systems whose own is confined.
  const folders = [here("browsers"), ...(process.env.PATH ?? "").split(delimiter)];
  const paths = names.flatMap((name) => folders.map((folder) => join(folder, name)));
  const found = paths.find(isProgram);
  if (found) return found;
  throw new Error(`there is no ${names[0]}: install it, or name one in ${variable}`);
}

function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Options for a server that Firefox reaches: it offers no loopback candidates and pairs none with a
 * loopback address. What a machine sends to its own address never leaves it either.
 */
export function reachableByFirefox() {
  const all = Object.values(networkInterfaces()).flat();
  const own = all.find(({ family, internal }) => family === "IPv4" && !internal)?.address;
  if (own === undefined) return {};
  return { NETWORK__MEDIA_LISTEN: `${own}:0`, NETWORK__PUBLIC_ADDRESSES: own };
}

/** The ids of a process's children with that name. */
export function childrenOf(parent, name) {
  const ids = readdirSync("/proc").filter((entry) => /^\d+$/.test(entry));
  return ids.map(Number).filter((id) => {
    try {
      // The name, cut to 15 characters, stands in brackets; state and parent follow (proc(5)).
      const stat = readFileSync(`/proc/${id}/stat`, "utf8");
      const [, own, state, from] = /\((.*)\) (\w) (\d+) /.exec(stat);
      return Number(from) === parent && own === name.slice(0, 15) && state !== "Z";
    } catch {
      // It has ended in between.
      return false;
    }
  });
}
