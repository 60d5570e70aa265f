// Pages of the tests' own, as those of other people: they come from another origin than the server.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { liveList } from "./packaged.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const FOLDER = here("pages");
/** The player as it is built, under `/dist/`. */
const DIST = here("../../web/dist");
/** What comes from npm, by the names that pages use. */
const MODULES = {
  "/modules/hls.js": here("node_modules/hls.js/dist/hls.mjs"),
  "/modules/shaka.js": here("node_modules/shaka-player/dist/shaka-player.compiled.js"),
};
const TYPES = { ".html": "text/html", ".mjs": "text/javascript", ".js": "text/javascript" };

/**
 * Serves them until it is closed; gives where. `hls` is a folder that is there as a stream, which
 * begins when it is asked for.
 */
export async function servePages({ hls } = {}) {
  let begun;
  const server = createServer(async ({ url }, response) => {
    const { pathname } = new URL(url, "http://pages.test");
    const folders = [["/dist/", DIST], ["/hls/stage/", hls], ["/", FOLDER]];
    const [prefix, folder] = folders.find(([prefix]) => pathname.startsWith(prefix));
    const path = MODULES[pathname] ?? join(folder ?? FOLDER, pathname.slice(prefix.length));
    try {
      let content = await readFile(path);
      if (prefix === "/hls/stage/" && extname(path) === ".m3u8") {
        begun ??= Date.now();
        content = liveList(`${content}`, (Date.now() - begun) / 1_000);
      }
      response.setHeader("Content-Type", TYPES[extname(path)] ?? "application/octet-stream");
      response.end(content);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const end = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${server.address().port}`, end };
}
