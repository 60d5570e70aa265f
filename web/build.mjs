// Bundles the pages, and the player for everybody's pages, into `dist`, from where the server
// embeds them.
//
// A file whose content stays is left alone, time stamp and all: otherwise every `make run` would
// build the server anew.
import { build } from "esbuild";
import { OPTIONS, PLAYER } from "./bundle.mjs";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";

const dist = new URL("dist/", import.meta.url);
const here = (path) => new URL(path, import.meta.url);

const pages = await build({
  ...OPTIONS,
  entryPoints: ["src/index.ts", "src/publish.ts", "src/watch.ts", "src/ticker.ts", "src/site.css"],
  outdir: dist.pathname,
});
const player = await build({ ...PLAYER, outdir: dist.pathname });

const wanted = new Map();
for (const { path, contents } of [...pages.outputFiles, ...player.outputFiles]) {
  wanted.set(basename(path), Buffer.from(contents));
}
for (const file of ["index.html", "publish.html", "watch.html", "favicon.svg"]) {
  wanted.set(file, await readFile(here(file)));
}

await mkdir(dist, { recursive: true });
for (const file of await readdir(dist)) {
  if (!wanted.has(file)) await rm(new URL(file, dist), { recursive: true });
}
for (const [file, contents] of wanted) {
  const path = new URL(file, dist);
  const present = await readFile(path).catch(() => undefined);
  if (present === undefined || !present.equals(contents)) await writeFile(path, contents);
}
