// The clock in the picture (`pages/burnt_clock.mjs`) in pages of the server's own: what runs in a
// page before its scripts cannot import, so that it is given what the module has.

import { readFileSync } from "node:fs";

const MODULE = readFileSync(new URL("pages/burnt_clock.mjs", import.meta.url), "utf8");
const NAMES = [...MODULE.matchAll(/^export (?:const|function|class) (\w+)/gm)].map(([, it]) => it);

/** A function for a page, that is called with what the module exports. */
function withClock(call) {
  const text = MODULE.replaceAll(/^export /gm, "");
  return new Function(`${text}\n(${call})({ ${NAMES.join(", ")} });`);
}

/** Runs in a page before its own scripts: its camera shows the time, in ms since the Unix epoch. */
export const filmClock = withClock(({ FRAMES_PER_SECOND, HEIGHT, WIDTH, draw }) => {
  navigator.mediaDevices.getUserMedia = async (wishes) => {
    const canvas = document.createElement("canvas");
    // Twice as large as it is drawn: 640 by 360.
    [canvas.width, canvas.height] = [2 * WIDTH, 2 * HEIGHT];
    const pen = canvas.getContext("2d", { alpha: false });
    pen.scale(2, 2);
    const paint = () => draw(pen, performance.timeOrigin + performance.now());
    setInterval(paint, 10);
    paint();
    const media = canvas.captureStream(FRAMES_PER_SECOND);
    if (wishes.audio) {
      const audio = new AudioContext();
      const sink = audio.createMediaStreamDestination();
      const tone = audio.createOscillator();
      tone.connect(sink);
      tone.start();
      media.addTrack(sink.stream.getAudioTracks()[0]);
    }
    return media;
  };
});

/** Runs in each page before its own scripts: `testReadClock(video)` gives the time in a picture. */
export const readClock = withClock(({ Reader }) => {
  const reader = new Reader();
  window.testReadClock = (video) => reader.read(video);
});
