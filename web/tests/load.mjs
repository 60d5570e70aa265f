// Gives a module of the pages to a test: TypeScript has to be translated first.

import { build } from "esbuild";
import { fileURLToPath } from "node:url";

/** The exports of `src/{path}`, which may use no part of a browser while it is loaded. */
export async function load(path) {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(`../src/${path}`, import.meta.url))],
    bundle: true,
    format: "esm",
    platform: "neutral",
    external: ["hls.js"],
    write: false,
    logLevel: "error",
  });
  const text = Buffer.from(outputFiles[0].contents).toString("base64");
  return import(`data:text/javascript;base64,${text}`);
}
