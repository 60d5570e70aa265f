// A test picture that shows at a glance whether a stream lives: a turning mill wheel, a clock that
// tells the delay, the frame's number, colour bars; and a tone, another one on each side.

const WIDTH = 1280;
const HEIGHT = 720;
const FRAMES_PER_SECOND = 30;
const BARS = ["#e8e8e8", "#e5d43a", "#3fd0d4", "#3fc55b", "#c94fd0", "#d8413c", "#3b57d6"];

/** Chromium's way to make a track of frames, which goes on while the page is in the background. */
interface Generator extends MediaStreamTrack {
  writable: WritableStream<VideoFrame>;
}
declare const MediaStreamTrackGenerator:
  | (new (init: { kind: "video" }) => Generator)
  | undefined;

/** A source that runs until it is stopped. */
export interface Running {
  track: MediaStreamTrack;
  stop: () => void;
}

/** Starts the picture; `title` is written into it. */
export function testPicture(title: string): Running {
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const pen = canvas.getContext("2d", { alpha: false });
  if (pen === null) throw new Error("this browser has no canvas");
  let frame = 0;
  const paint = () => draw(pen, title, frame++);
  paint();
  const sink = trackOf(canvas);
  const ticker = new Worker("/ticker.js");
  ticker.onmessage = () => {
    paint();
    sink.push();
  };
  ticker.postMessage(1000 / FRAMES_PER_SECOND);
  const stop = () => {
    ticker.terminate();
    sink.track.stop();
  };
  return { track: sink.track, stop };
}

function trackOf(canvas: HTMLCanvasElement): { track: MediaStreamTrack; push: () => void } {
  if (typeof MediaStreamTrackGenerator === "undefined" || typeof VideoFrame === "undefined") {
    const [track] = canvas.captureStream(FRAMES_PER_SECOND).getVideoTracks();
    if (track === undefined) throw new Error("this browser cannot record a canvas");
    return { track, push: () => undefined };
  }
  const track = new MediaStreamTrackGenerator({ kind: "video" });
  const writer = track.writable.getWriter();
  let isBusy = false;
  const push = () => {
    if (isBusy || track.readyState === "ended") return;
    isBusy = true;
    const picture = new VideoFrame(canvas, { timestamp: Math.round(performance.now() * 1000) });
    const done = () => {
      isBusy = false;
    };
    writer.write(picture).then(done, done);
  };
  return { track, push };
}

function draw(pen: CanvasRenderingContext2D, title: string, frame: number): void {
  pen.fillStyle = "#0c1420";
  pen.fillRect(0, 0, WIDTH, HEIGHT);
  BARS.forEach((colour, index) => {
    const width = WIDTH / BARS.length;
    pen.fillStyle = colour;
    pen.fillRect(Math.floor(index * width), HEIGHT - 96, Math.ceil(width), 96);
  });
  water(pen, frame);
  wheel(pen, frame);
  words(pen, title, frame);
}

function water(pen: CanvasRenderingContext2D, frame: number): void {
  pen.fillStyle = "#1b4d6b";
  pen.beginPath();
  pen.moveTo(0, HEIGHT - 96);
  for (let x = 0; x <= WIDTH; x += 16) {
    pen.lineTo(x, 540 + 10 * Math.sin(x / 70 + frame / 9));
  }
  pen.lineTo(WIDTH, HEIGHT - 96);
  pen.fill();
}

function wheel(pen: CanvasRenderingContext2D, frame: number): void {
  pen.save();
  pen.translate(250, 330);
  pen.rotate(frame / 40);
  pen.strokeStyle = "#d9a566";
  pen.lineWidth = 14;
  pen.beginPath();
  pen.arc(0, 0, 180, 0, Math.PI * 2);
  pen.stroke();
  for (let spoke = 0; spoke < 8; spoke++) {
    pen.rotate(Math.PI / 4);
    pen.fillStyle = "#d9a566";
    pen.fillRect(0, -5, 180, 10);
    pen.fillStyle = spoke === 0 ? "#4cc9f0" : "#b07d43";
    pen.fillRect(160, -34, 62, 68);
  }
  pen.restore();
}

function words(pen: CanvasRenderingContext2D, title: string, frame: number): void {
  const now = new Date();
  const two = (value: number) => String(value).padStart(2, "0");
  const clock = `${two(now.getHours())}:${two(now.getMinutes())}:${two(now.getSeconds())}`;
  pen.textBaseline = "alphabetic";
  pen.fillStyle = "#8fa3b8";
  pen.font = "600 40px system-ui, sans-serif";
  pen.fillText(title, 520, 170, 720);
  pen.fillStyle = "#ffffff";
  pen.font = "700 128px ui-monospace, 'DejaVu Sans Mono', monospace";
  pen.fillText(clock, 514, 330, 720);
  pen.fillStyle = "#4cc9f0";
  pen.font = "700 80px ui-monospace, 'DejaVu Sans Mono', monospace";
  pen.fillText(`.${String(now.getMilliseconds()).padStart(3, "0")}`, 508, 430);
  pen.fillStyle = "#8fa3b8";
  pen.font = "500 36px ui-monospace, 'DejaVu Sans Mono', monospace";
  pen.fillText(`frame ${frame}`, 760, 424);
}

/** Starts the tone: A left, E right, beating once a second. */
export function testTone(): Running {
  const audio = new AudioContext();
  const out = audio.createMediaStreamDestination();
  const sides = audio.createChannelMerger(2);
  const beat = audio.createGain();
  beat.gain.value = 0.08;
  const swell = audio.createOscillator();
  const depth = audio.createGain();
  swell.frequency.value = 1;
  depth.gain.value = 0.05;
  swell.connect(depth).connect(beat.gain);
  const tones = [440, 659.25].map((frequency, side) => {
    const tone = audio.createOscillator();
    tone.frequency.value = frequency;
    tone.connect(sides, 0, side);
    return tone;
  });
  sides.connect(beat).connect(out);
  for (const tone of [swell, ...tones]) tone.start();
  // Browsers keep sound silent until the first click or key.
  const resume = () => void audio.resume();
  const gestures = ["click", "keydown"];
  gestures.forEach((name) => window.addEventListener(name, resume));
  resume();
  const [track] = out.stream.getAudioTracks();
  if (track === undefined) throw new Error("this browser cannot record a tone");
  const stop = () => {
    gestures.forEach((name) => window.removeEventListener(name, resume));
    track.stop();
    void audio.close();
  };
  return { track, stop };
}
