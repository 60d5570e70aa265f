// Writes a picture with the clock in it to its output, as raw video (I420) in real time, until that
// is closed: what a camera is to an encoder.
//
//   node tests/browser/burnt_picture.mjs | ffmpeg -f rawvideo ..

import { pathToFileURL } from "node:url";
import * as clock from "./pages/burnt_clock.mjs";

const { BAR, BLOCK, FRAMES_PER_SECOND, HEIGHT, WIDTH, barAt, blocksOf } = clock;

const FRAME_MS = 1_000 / FRAMES_PER_SECOND;

const LUMA = WIDTH * HEIGHT;
/** Of the video range (ITU-R BT.601), which ends before the bytes do. */
const [BLACK, DARK, BRIGHT, WHITE] = [16, 70, 150, 235];
const NO_COLOUR = 128;

/** One frame. */
function picture(unixMs) {
  const frame = Buffer.alloc((LUMA * 3) / 2, NO_COLOUR);
  frame.fill(DARK, 0, LUMA);
  const fill = (shade, x, y, width, height) => {
    for (let row = y; row < y + height; row += 1) {
      frame.fill(shade, row * WIDTH + x, row * WIDTH + x + width);
    }
  };
  for (const [index, isWhite] of blocksOf(unixMs).entries()) {
    fill(isWhite ? WHITE : BLACK, index * BLOCK, 0, BLOCK, BLOCK);
  }
  fill(BRIGHT, barAt(unixMs), HEIGHT / 2, BAR, BAR);
  return frame;
}

/** The arguments with which ffmpeg reads it without waiting for more. */
export const INPUT = [
  ...["-probesize", "32", "-analyzeduration", "0", "-fflags", "nobuffer"],
  ...["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", `${WIDTH}x${HEIGHT}`],
  ...["-r", `${FRAMES_PER_SECOND}`, "-i", "-"],
];

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.stdout.on("error", () => process.exit());
  const began = Date.now();
  let count = 0;
  const next = () => {
    // A camera's frames have the time at which they were seen, however late they are written.
    const at = began + count * FRAME_MS;
    const rest = at - Date.now();
    if (rest > 0) return void setTimeout(next, rest);
    count += 1;
    if (process.stdout.write(picture(at))) setImmediate(next);
    else process.stdout.once("drain", next);
  };
  next();
}
