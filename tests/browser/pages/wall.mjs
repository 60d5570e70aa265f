// Screens side by side, each of which plays a stream with one of several players and keeps what is
// seen on it: each frame, the clock in it, and what the player says of it.

import { Reader } from "./burnt_clock.mjs";

const reader = new Reader();
const READINGS_MAX = 4_000;
/** How often the page looks whether it is held up, and what is no delay. */
const TICK_MS = 20;
const LATE_MS = 100;

/** How each kind of player begins to play. */
const PLAYERS = {
  "hls.js": (screen, server, stream) => playHlsJs(screen, server, stream, true),
  "hls.js without parts": (screen, server, stream) => playHlsJs(screen, server, stream, false),
  shaka: playShaka,
  player: (screen, server, stream, choice) => playOwn(screen, server, stream, choice),
};

/** One player, and what it has come to. */
class Screen {
  /** Of each frame shown: when, and its clock; for our player also what it says of it. */
  readings = [];
  /** Frames without a clock that could be read. */
  unread = 0;
  /** Times without a picture to show: since when, and until when. */
  waits = [];
  faults = [];
  /** What the element has told, each with when. */
  told = [];
  /** Tells which moment the frame on the screen shows. */
  momentOf = undefined;
  began = Date.now();

  constructor(label) {
    this.figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = label;
    this.figure.append(caption);
    document.querySelector("main").append(this.figure);
  }

  note(what, more) {
    this.told.push({ at: Date.now(), what, ...more });
  }

  /** Follows a video; `isSeen`: whether it is the one that a person sees. */
  follow(video, isSeen = () => true) {
    let hasPlayed = false;
    video.addEventListener("playing", () => {
      hasPlayed = true;
      if (isSeen()) this.goesOn();
    });
    video.addEventListener("waiting", () => {
      if (hasPlayed && isSeen()) this.waits.push({ at: Date.now() });
    });
    video.addEventListener("error", () => this.fault(video.error.message));
    const onFrame = (now, { expectedDisplayTime, mediaTime, width }) => {
      video.requestVideoFrameCallback(onFrame);
      if (!isSeen()) return;
      const clock = reader.read(video);
      if (clock === undefined) {
        this.unread += 1;
        return;
      }
      const reading = { at: Date.now(), clock, mediaTime, width, asked: this.momentOf?.() };
      this.readings.push(reading);
      if (this.readings.length > READINGS_MAX) this.readings.shift();
      if (this.momentOf === undefined) return;
      // A frame may be told of a little before it is on the screen.
      const ask = () => {
        if (this.readings.at(-1) === reading) reading.moment = this.momentOf();
      };
      setTimeout(ask, Math.max(0, Math.ceil(expectedDisplayTime - performance.now())));
    };
    video.requestVideoFrameCallback(onFrame);
  }

  fault(text) {
    this.faults.push({ at: Date.now(), text });
  }

  goesOn() {
    const last = this.waits.at(-1);
    if (last !== undefined) last.until ??= Date.now();
  }

  /** A plain video. */
  video() {
    const video = document.createElement("video");
    video.playsInline = true;
    this.figure.append(video);
    this.follow(video);
    this.shown = () => video;
    return video;
  }

  /** What it has come to since it was asked last, and what is never forgotten. */
  take() {
    const video = this.shown();
    const { buffered, currentTime } = video;
    const ahead = buffered.length > 0 ? buffered.end(buffered.length - 1) - currentTime : 0;
    const { faults, told, unread, began } = this;
    const waits = this.waits.map(({ at, until }) => ({ at, until: until ?? Date.now() }));
    const heard = video.webkitAudioDecodedByteCount;
    const size = `${video.videoWidth}x${video.videoHeight}`;
    const readings = this.readings.splice(0);
    return { readings, waits, faults, told, unread, began, heard, ahead, currentTime, size };
  }
}

function playlist(server, stream) {
  return `${server}/hls/${stream}/index.m3u8`;
}

async function playHlsJs(screen, server, stream, lowLatencyMode) {
  const { default: Hls } = await import("/modules/hls.js");
  const hls = new Hls({ lowLatencyMode, maxLiveSyncPlaybackRate: 1.1 });
  const video = screen.video();
  hls.on(Hls.Events.ERROR, (_, { details, fatal, error }) => {
    screen.fault(`${details}${fatal ? ", fatal" : ""}: ${error?.message}`);
  });
  screen.facts = () => ({
    latency: hls.latency,
    target: hls.targetLatency,
    codecs: hls.levels[hls.currentLevel]?.attrs.CODECS,
  });
  screen.hls = hls;
  hls.loadSource(playlist(server, stream));
  hls.attachMedia(video);
  await video.play();
}

/** For what is no module; gives what it has put its name into. */
function loadScript(address) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.onload = () => resolve(window);
    script.onerror = () => reject(new Error(`${address} does not load`));
    script.src = address;
    document.head.append(script);
  });
}

async function playShaka(screen, server, stream) {
  const { shaka } = await loadScript("/modules/shaka.js");
  shaka.polyfill.installAll();
  const player = new shaka.Player();
  const video = screen.video();
  await player.attach(video);
  player.configure({ streaming: { lowLatencyMode: true } });
  player.addEventListener("error", ({ detail }) => {
    screen.fault(`shaka ${detail.code}: ${detail.data}`);
  });
  screen.facts = () => ({ latency: player.getStats().liveLatency, isLive: player.isLive() });
  // It may load anew what it has begun with, which a promise to play does not outlive.
  video.autoplay = true;
  await player.load(playlist(server, stream));
}

async function playOwn(screen, server, stream, choice) {
  await import(`${server}/player.js`);
  const player = document.createElement("millrace-player");
  player.server = server;
  player.stream = stream;
  player.protocolChoice = choice;
  player.autoplay = true;
  screen.momentOf = () => player.currentMediaTime ?? undefined;
  screen.shown = () => player.video;
  screen.facts = () => ({ latency: player.latency, protocol: player.protocol });
  screen.player = player;
  player.addEventListener("statechange", ({ detail }) => {
    screen.note("state", { state: detail.state, fault: detail.fault?.message });
  });
  player.addEventListener("protocolchange", ({ detail }) => screen.note("protocol", detail));
  player.addEventListener("error", ({ detail }) => screen.note("error", detail));
  for (const video of player.shadowRoot.querySelectorAll("video")) {
    screen.follow(video, () => video === player.video);
  }
  screen.began = Date.now();
  screen.figure.append(player);
}

window.screens = {};

/** Puts one more screen on the wall. */
window.hang = async (name, kind, server, stream, choice) => {
  const screen = new Screen(name);
  window.screens[name] = screen;
  await PLAYERS[kind](screen, server, stream, choice);
};

/** What all screens have come to since they were asked last. */
window.taken = () =>
  Object.fromEntries(
    Object.entries(window.screens).map(([name, screen]) => [
      name,
      { ...screen.take(), ...screen.facts(), holdUps: window.holdUps },
    ]),
  );

/** When scripts of this page, and so its players, were held up: since when, and until when. */
window.holdUps = [];
let ticked = Date.now();
setInterval(() => {
  const now = Date.now();
  if (now - ticked > LATE_MS) window.holdUps.push({ at: ticked, until: now });
  ticked = now;
}, TICK_MS);

window.isReady = true;
