// Makes the npm package of the player: `node package.mjs [FOLDER]`. What it writes, by default into
// `package`, is what `npm pack` and `npm publish` take from there.

import { build } from "esbuild";
import { execFileSync } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { PLAYER } from "./bundle.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const folder = process.argv[2] ?? here("package");
const dist = join(folder, "dist");

await rm(dist, { recursive: true, force: true });
await mkdir(dist, { recursive: true });
const { outputFiles } = await build({ ...PLAYER, outdir: dist });
for (const { path, contents } of outputFiles) await writeFile(join(dist, basename(path)), contents);

const types = await mkdtemp(join(tmpdir(), "millrace-types-"));
try {
  const tsc = here("node_modules/typescript/bin/tsc");
  const options = ["-p", here("tsconfig.package.json"), "--outDir", types];
  execFileSync(process.execPath, [tsc, ...options], { stdio: "inherit" });
  await copyDeclarations(join(types, "player/index.d.ts"));
} finally {
  await rm(types, { recursive: true });
}

const others = [
  ["package/package.json", "package.json"],
  ["../docs/player.md", "README.md"],
  ["../LICENSE", "LICENSE"],
  // It is within the package, under the same license as this one.
  ["node_modules/hls.js/LICENSE", "dist/hls.js.LICENSE"],
];
for (const [from, to] of others) {
  const target = join(folder, to);
  if (here(from) !== target) await cp(here(from), target);
}

/** Copies a declaration and what it refers to: nobody has to see how the rest is built. */
async function copyDeclarations(path, seen = new Set()) {
  if (seen.has(path)) return;
  seen.add(path);
  const text = await readFile(path, "utf8");
  const target = join(dist, "types", relative(types, path));
  await mkdir(dirname(target), { recursive: true });
  await writeFile(target, text);
  for (const [, name] of text.matchAll(/from "(\.[^"]+)\.js"/g)) {
    await copyDeclarations(join(dirname(path), `${name}.d.ts`), seen);
  }
}
