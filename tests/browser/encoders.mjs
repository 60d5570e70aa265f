// The arguments of real encoders: ffmpeg, GStreamer and libsrt's own tool. Each sends a moving
// picture and a tone of 440 Hz, in real time, and ends by itself should nobody end it.

import { fileURLToPath } from "node:url";
import { INPUT as BURNT_INPUT } from "./burnt_picture.mjs";
import { PUBLISH_TOKEN } from "./harness.mjs";
import { FRAMES_PER_SECOND as BURNT_RATE } from "./pages/burnt_clock.mjs";

const BURNT_PICTURE = fileURLToPath(new URL("burnt_picture.mjs", import.meta.url));

/** Longer than any test lasts. */
const SECONDS = 300;
const FRAMES_PER_SECOND = 30;
const SIZE = "320x180";
const SAMPLES_PER_SECOND = 48_000;

/** What SRT streams are encrypted with whose names begin with `secret-`. */
export const PASSPHRASE = "known-to-both-sides";

/** Pictures in the order in which they are shown. */
const LOW_DELAY = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"];
const AAC = ["-c:a", "aac", "-b:a", "96k", "-ar", `${SAMPLES_PER_SECOND}`, "-ac", "2"];

/** With B-frames, of which others are made where there is a pyramid. */
export function withBFrames(pyramid) {
  const choices = `b-adapt=0:b-pyramid=${pyramid}:scenecut=0`;
  return ["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-x264-params", choices];
}

/** The options of a server that takes all of these in, at ports of the kernel's choice. */
export const TAKES_ALL = {
  RTMP__LISTEN: "127.0.0.1:0",
  RTMP__TLS_LISTEN: "127.0.0.1:0",
  SRT__LISTEN: "127.0.0.1:0",
  SRT__PASSPHRASES: `secret-*=${PASSPHRASE}`,
};

/** The arguments of ffmpeg; `to` are those of its output. */
export function ffmpeg(to, options = {}) {
  const { video = LOW_DELAY, audio = AAC, keyframeEvery = 2, size = SIZE, kbps = 400 } = options;
  const picture = `testsrc2=size=${size}:rate=${FRAMES_PER_SECOND}`;
  const tone = `sine=frequency=440:sample_rate=${SAMPLES_PER_SECOND}`;
  const inputs = [picture, tone].flatMap((source) => ["-re", "-f", "lavfi", "-i", source]);
  const group = ["-g", `${keyframeEvery * FRAMES_PER_SECOND}`, "-sc_threshold", "0"];
  const pictures = ["-pix_fmt", "yuv420p", "-b:v", `${kbps}k`, ...group];
  const end = ["-t", `${SECONDS}`];
  return ["-v", "error", "-nostdin", ...inputs, ...video, ...pictures, ...audio, ...end, ...to];
}

/** Output by RTMP, or RTMPS; some encoders have a token in a key, some in a URL. */
export function rtmp({ rtmp_port: port }, stream) {
  return ["-f", "flv", `rtmp://127.0.0.1:${port}/live/${stream}?token=${PUBLISH_TOKEN}`];
}

export function rtmps({ rtmps_port: port }, stream) {
  return ["-f", "flv", `rtmps://127.0.0.1:${port}/live/${stream}?token=${PUBLISH_TOKEN}`];
}

/** Output by SRT, with the address that the publish page shows. */
export function srt(ports, stream, more = "") {
  return ["-f", "mpegts", `${srtAddress(ports)}?streamid=${plainId(stream)}${more}`];
}

export function srtAddress({ srt_port: port }) {
  return `srt://127.0.0.1:${port}`;
}

function plainId(stream) {
  return `publish:${stream}:${PUBLISH_TOKEN}`;
}

/** The form of libsrt's guidelines (access-control.md). */
export function keyedId(stream) {
  return `#!::r=${stream},m=publish,token=${PUBLISH_TOKEN}`;
}

/** The arguments of `gst-launch-1.0`; `to` are its muxer, called `mux`, and what follows it. */
export function gstreamer(...to) {
  const [width, height] = SIZE.split("x");
  const raw = `video/x-raw,width=${width},height=${height},framerate=${FRAMES_PER_SECOND}/1`;
  const h264 = `openh264enc bitrate=400000 complexity=low gop-size=${2 * FRAMES_PER_SECOND}`;
  // A sink ends with its last buffer.
  const picture = `videotestsrc is-live=true num-buffers=${SECONDS * FRAMES_PER_SECOND}`;
  const chains = [
    `${picture} pattern=ball ! ${raw} ! ${h264} ! h264parse config-interval=-1 ! queue ! mux.`,
    `audiotestsrc is-live=true num-buffers=${SECONDS * 50} samplesperbuffer=960 freq=440`,
    `! audio/x-raw,rate=${SAMPLES_PER_SECOND},channels=2 ! voaacenc ! aacparse ! queue ! mux.`,
  ];
  return ["-q", ...to.flatMap(words), ...chains.flatMap(words)];
}

function words(text) {
  return text.split(" ");
}

/**
 * A picture with the clock in it and a tone: the two programs that make it, the first writing to
 * the second; `to` are the arguments of ffmpeg's output.
 */
export function burnt(to, { video = LOW_DELAY, audio = AAC, program = "ffmpeg" } = {}) {
  // Sound that is asked for when a picture has come is never late, and delays none.
  const tone = `sine=frequency=440:sample_rate=${SAMPLES_PER_SECOND}`;
  const inputs = [...BURNT_INPUT, "-f", "lavfi", "-i", tone];
  const group = ["-g", `${2 * BURNT_RATE}`, "-sc_threshold", "0", "-b:v", "800k"];
  const written = [...video, ...group, ...audio, "-flush_packets", "1", "-t", `${SECONDS}`, ...to];
  return [
    [process.execPath, [BURNT_PICTURE]],
    [program, ["-v", "error", ...inputs, ...written]],
  ];
}
