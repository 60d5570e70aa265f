// Bundles the pages into `dist`, from where the server embeds them.
import { build } from "esbuild";
import { copyFile, mkdir, rm } from "node:fs/promises";

const dist = new URL("dist/", import.meta.url);
const here = (path) => new URL(path, import.meta.url);

await rm(dist, { recursive: true, force: true });
await mkdir(dist, { recursive: true });

await build({
  absWorkingDir: here(".").pathname,
  entryPoints: ["src/index.ts", "src/publish.ts", "src/watch.ts", "src/ticker.ts", "src/site.css"],
  outdir: dist.pathname,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome100", "firefox102", "safari15.4"],
  charset: "utf8",
  logLevel: "warning",
});

for (const file of ["index.html", "publish.html", "watch.html", "favicon.svg"]) {
  await copyFile(here(file), new URL(file, dist));
}
