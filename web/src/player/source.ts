// What the two ways to play have in common, for the element.

import type { Layers, LayerWish } from "../layers.js";
import type { Numbers } from "../stats.js";
import type { Playing } from "./director.js";
import type { Habits } from "./layer_choice.js";

/** Something that plays in a video element of its own. */
export interface Source extends Playing {
  readonly video: HTMLVideoElement;
  /** Nothing is published for now, though the session stands. */
  readonly isAway: boolean;
  readonly viewers: number | undefined;
  /** The moment that the frame on the screen shows, by the server's clock. */
  mediaTimeMs: () => number | undefined;
  /** What flows, as of the last second. */
  readonly numbers: Numbers;
  /** How loud it is, 0 to 1, where that is known. */
  loudness: () => number | undefined;
  /** The layers of the picture, where that is known. */
  readonly layers: Layers | undefined;
  /** Asks for a layer, or for none in particular. */
  ask: (wish: LayerWish, habits: Habits) => void;
  /** Goes on after a pause, where live is now. */
  resume: () => void;
}

/** What a source needs of the element. */
export interface Surroundings {
  /** Where the server is, without a slash at the end. */
  server: string;
  stream: string;
  token: string;
  video: HTMLVideoElement;
  /** Begins to play, as far as the browser lets it. */
  play: () => void;
  /** Milliseconds since the Unix epoch by the server's clock. */
  serverNowMs: () => number | undefined;
  /** Something of what the source says of itself has changed. */
  onChange: () => void;
  /** The layers have changed, or what flows of them. */
  onLayers: () => void;
}

/** Facts of one frame that was shown; see the HTML specification of the callback. */
export interface FrameFacts {
  expectedDisplayTime: number;
  mediaTime: number;
  rtpTimestamp?: number;
}

type Callback = (now: number, facts: FrameFacts) => void;
type Telling = HTMLVideoElement & {
  requestVideoFrameCallback?: (call: Callback) => number;
};

/** Tells of each frame that is shown, where the browser does; gives what ends that. */
export function eachFrame(video: HTMLVideoElement, told: (facts: FrameFacts) => void): () => void {
  const telling = video as Telling;
  let isOver = false;
  const next = () => telling.requestVideoFrameCallback?.(onFrame);
  const onFrame: Callback = (_, facts) => {
    if (isOver) return;
    told(facts);
    next();
  };
  next();
  return () => {
    isOver = true;
  };
}

/** Sound that has come alone for so long comes without a picture. */
const SOUND_ALONE_MS = 1_000;

/** Calls once there is a picture, or sound and no picture. */
export function whenReady(video: HTMLVideoElement, signal: AbortSignal, call: () => void): void {
  const once = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const done = () => {
    clearTimeout(timer);
    once.abort();
    if (!signal.aborted) call();
  };
  const look = () => {
    if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
    if (video.videoWidth > 0) done();
    else timer ??= setTimeout(done, SOUND_ALONE_MS);
  };
  for (const name of ["loadeddata", "resize", "playing"]) {
    video.addEventListener(name, look, { signal: once.signal });
  }
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    once.abort();
  });
}
