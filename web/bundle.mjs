// How everything is bundled.

export const OPTIONS = {
  absWorkingDir: new URL(".", import.meta.url).pathname,
  write: false,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome100", "firefox102", "safari15.4"],
  charset: "utf8",
  logLevel: "warning",
};

/** `player.js`, and hls.js beside it, which only viewers without WebRTC load. */
export const PLAYER = {
  ...OPTIONS,
  entryPoints: { player: "src/player/index.ts" },
  splitting: true,
  chunkNames: "[name]-[hash]",
  legalComments: "inline",
};
