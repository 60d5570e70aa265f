// The npm package: packed, installed into a folder of its own, and used there as a page author
// would, with types and with a bundler.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "millrace-package-"));
const [made, used] = [join(folder, "made"), join(folder, "used")];
after(() => rmSync(folder, { recursive: true }));

function run(command, parameters, cwd) {
  return execFileSync(command, parameters, { cwd, encoding: "utf8" });
}

/** A page author's program: everything it says has to be right by the types. */
const PROGRAM = `
import { MillracePlayer } from "millrace-player";
import type { PlayerLayer, PlayerState, PlayerStats } from "millrace-player";

const player = document.querySelector("millrace-player");
if (player === null) throw new Error("no player");
player.stream = "lot-42";
player.token = "secret";
player.muted = true;
player.volume = 0.5;
player.protocolChoice = "whep";
player.addEventListener("statechange", ({ detail }) => {
  const state: PlayerState = detail.state;
  console.log(state, detail.fault?.kind, detail.fault?.message);
});
player.addEventListener("stats", ({ detail }) => {
  const stats: PlayerStats = detail;
  console.log(stats.latency?.toFixed(2), stats.protocol === "hls");
});
player.addEventListener("layerschange", ({ detail }) => {
  const layers: readonly PlayerLayer[] = detail.layers;
  console.log(layers[0]?.id, layers[0]?.height, layers[0]?.active);
});
player.addEventListener("layerchange", ({ detail: { layer, choice } }) => {
  if (layer !== null && choice === "auto") player.layerChoice = layer;
});
player.layerChoice = "auto";
player.fullSize = player.playsHidden = true;
const current: string | null = player.currentLayer;
console.log(player.layers.map(({ bitrate, frameRate }) => [bitrate, frameRate]), current);
player.addEventListener("click", (event) => event.preventDefault());
const time: number | null = player.currentMediaTime;
const latency: number | null = player.latency;
const video: HTMLVideoElement = player.video;
player.play();
player.pause();
player.retry();
void player.requestFullscreen();
void player.requestPictureInPicture();
const another = document.createElement("millrace-player");
console.log(time, latency, video, another instanceof MillracePlayer);
// @ts-expect-error: there is no such way.
player.protocolChoice = "rtmp";
// @ts-expect-error: it says what plays, and is not to be set.
player.protocol = "hls";
// @ts-expect-error: an event has its own details.
player.addEventListener("volumechange", ({ detail }) => detail.state);
`;

const TYPES = {
  compilerOptions: {
    target: "es2022",
    module: "nodenext",
    moduleResolution: "nodenext",
    lib: ["es2022", "dom"],
    types: [],
    strict: true,
    exactOptionalPropertyTypes: true,
    noEmit: true,
  },
};

test("the package installs without a network, and its types and its module serve", async () => {
  run("mkdir", [made, used]);
  run(process.execPath, [here("../package.mjs"), made]);
  const [packed] = JSON.parse(run("npm", ["pack", "--json"], made));
  const files = packed.files.map(({ path }) => path).sort();
  for (const name of ["LICENSE", "README.md", "package.json", "dist/player.js"]) {
    assert.ok(files.includes(name), `${name} is in ${files}`);
  }
  assert.equal(files.filter((name) => /^dist\/hls-\w+\.js$/.test(name)).length, 1, `${files}`);
  assert.ok(files.every((name) => !name.endsWith(".ts") || name.endsWith(".d.ts")), `${files}`);

  writeFileSync(join(used, "package.json"), JSON.stringify({ type: "module", private: true }));
  const quietly = ["--offline", "--no-audit", "--no-fund", "--loglevel=error"];
  run("npm", ["install", ...quietly, join(made, packed.filename)], used);
  assert.deepEqual(readdirSync(join(used, "node_modules")).filter((it) => !it.startsWith(".")), [
    "millrace-player",
  ]);

  writeFileSync(join(used, "page.ts"), PROGRAM);
  writeFileSync(join(used, "tsconfig.json"), JSON.stringify(TYPES));
  run(process.execPath, [here("../node_modules/typescript/bin/tsc")], used);

  // A server that renders pages loads it too, where there are no elements.
  run(process.execPath, ["--input-type=module", "--eval", 'import "millrace-player"'], used);

  const { outputFiles } = await build({
    entryPoints: [join(used, "page.ts")],
    outdir: join(used, "out"),
    bundle: true,
    splitting: true,
    format: "esm",
    write: false,
    logLevel: "error",
  });
  const main = outputFiles.find(({ path }) => path.endsWith("page.js"));
  assert.ok(outputFiles.length > 1, "hls.js stays a file of its own");
  assert.ok(main.text.length < 150_000, `what all viewers load has ${main.text.length} bytes`);
});

test("the package has the server's version and is of the same license", () => {
  const own = JSON.parse(readFileSync(here("../package/package.json"), "utf8"));
  const cargo = readFileSync(here("../../Cargo.toml"), "utf8");
  assert.equal(own.version, /^version = "([^"]+)"/m.exec(cargo)[1]);
  assert.equal(own.license, /^license = "([^"]+)"/m.exec(cargo)[1]);
});
