// A clock in the picture that a machine reads: a row of blocks along the upper edge, white for one
// and black for nought. What any codec makes of it stays black and white.

/** A millisecond counter of 32 bits, and 8 that tell whether it was read right. */
const TIME_BITS = 32;
const CHECK_BITS = 8;
export const BLOCKS = TIME_BITS + CHECK_BITS;
/** As wide and high as what codecs transform at a time, so that no two share one. */
export const BLOCK = 8;
export const WIDTH = BLOCKS * BLOCK;
export const HEIGHT = 180;
export const FRAMES_PER_SECOND = 30;

/** How wide and high what moves is. */
export const BAR = 32;

const WRAP = 2 ** TIME_BITS;
const WHITE_FROM = 128;
/** A block in between is none: the picture is torn, or none of ours. */
const GREY = 40;

function checkOf(counter) {
  const bytes = [24, 16, 8, 0].map((shift) => (counter >>> shift) & 0xff);
  // Not a plain sum: black all over must not be a time.
  return bytes.reduce((sum, byte) => (sum * 31 + byte + 7) & 0xff, 0x5a);
}

/** Whether each block is white, from the left, for a time in ms since the Unix epoch. */
export function blocksOf(unixMs) {
  const counter = Math.round(unixMs) % WRAP;
  const bit = (value, bits) => (_, index) => ((value >>> (bits - 1 - index)) & 1) === 1;
  const time = Array.from({ length: TIME_BITS }, bit(counter >>> 0, TIME_BITS));
  return [...time, ...Array.from({ length: CHECK_BITS }, bit(checkOf(counter), CHECK_BITS))];
}

/** The time that blocks of such shades (0 to 255) tell, near to `now`; nothing if none. */
export function timeOf(shades, now) {
  if (shades.some((shade) => Math.abs(shade - WHITE_FROM) < GREY)) return undefined;
  const numberOf = (part) => part.reduce((sum, shade) => sum * 2 + Number(shade > WHITE_FROM), 0);
  const counter = numberOf(shades.slice(0, TIME_BITS));
  if (numberOf(shades.slice(TIME_BITS)) !== checkOf(counter)) return undefined;
  const since = now - (now % WRAP) + counter;
  return since > now + WRAP / 2 ? since - WRAP : since;
}

/** Draws a time, and below it a bar that moves. */
export function draw(pen, unixMs) {
  pen.fillStyle = "#204060";
  pen.fillRect(0, 0, WIDTH, HEIGHT);
  for (const [index, isWhite] of blocksOf(unixMs).entries()) {
    pen.fillStyle = isWhite ? "#fff" : "#000";
    pen.fillRect(index * BLOCK, 0, BLOCK, BLOCK);
  }
  pen.fillStyle = "#d09040";
  pen.fillRect(barAt(unixMs), HEIGHT / 2, BAR, BAR);
}

/** Where the bar is: across in two seconds. */
export function barAt(unixMs) {
  return Math.floor(((unixMs % 2_000) / 2_000) * (WIDTH - BAR));
}

/** Reads the clock of what a video shows; one canvas is enough for all. */
export class Reader {
  #pen;

  constructor() {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [BLOCKS, 1];
    this.#pen = canvas.getContext("2d", { willReadFrequently: true });
  }

  /** The time in the picture, or nothing where there is none. */
  read(video) {
    const scale = video.videoWidth / WIDTH;
    if (scale === 0) return undefined;
    // The middle of each block: its borders are blurred.
    const [top, height] = [BLOCK * scale * 0.25, BLOCK * scale * 0.5];
    this.#pen.imageSmoothingEnabled = true;
    this.#pen.drawImage(video, 0, top, WIDTH * scale, height, 0, 0, BLOCKS, 1);
    const { data } = this.#pen.getImageData(0, 0, BLOCKS, 1);
    const shades = Array.from({ length: BLOCKS }, (_, index) => data[index * 4 + 1]);
    return timeOf(shades, Date.now());
  }
}
