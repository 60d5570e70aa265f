// The watch page: plays one stream and comes back to it by itself.

import { Fault } from "./fault.js";
import { BADGES, keepUp, type Phase } from "./keep.js";
import { everySecond, part, pathFor, streamInPath, Token, write } from "./page.js";
import type { Session } from "./session.js";
import * as stats from "./stats.js";
import { view } from "./whep.js";

/**
 * Nothing at all for so long means that the session is worth no more; a new one asks anew. The
 * server keeps viewers of a publisher that has left for half a minute, unless told otherwise.
 */
const SILENCE_SECONDS_MAX = 45;
/** After so long the page says that nothing comes. */
const SILENCE_SECONDS_SHOWN = 3;
/** Sound without a picture for so long means that there is no picture. */
const SOUND_ONLY_AFTER_SECONDS = 2;
const VOLUME_KEY = "millrace.volume";

const stream = streamInPath("watch");
if (stream === "") location.replace("/");
const token = new Token("view");

const stage = part("stage", HTMLElement);
const video = part("video", HTMLVideoElement);
const badge = part("badge", HTMLElement);
const veil = part("veil", HTMLElement);
const title = part("title", HTMLElement);
const words = part("words", HTMLElement);
const countdown = part("countdown", HTMLElement);
const spinner = part("spinner", HTMLElement);
const retry = part("retry", HTMLButtonElement);
const tokenForm = part("token-form", HTMLFormElement);
const tokenField = part("token", HTMLInputElement);
const soundOnly = part("sound-only", HTMLElement);
const level = part("level", HTMLElement);
const unmute = part("unmute", HTMLButtonElement);
const mute = part("mute", HTMLButtonElement);
const volume = part("volume", HTMLInputElement);
const fullscreen = part("fullscreen", HTMLButtonElement);

write(part("name", HTMLElement), stream);
document.title = `${stream} · millrace`;

let phase: Phase = { at: "idle" };
let live: Session | undefined;
let stop = new AbortController();

function start(): void {
  stop.abort();
  stop = new AbortController();
  const { signal } = stop;
  const onPhase = (next: Phase, session: Session | undefined) => {
    if (signal.aborted) return;
    phase = next;
    live = session;
    show();
  };
  void keepUp({ open, lasts, onPhase }, signal);
}

function open(): Promise<Session> {
  const media = new MediaStream();
  const url = pathFor("whep", stream);
  return view({ role: "watch", url, token: token.value }, (track) => {
    media.addTrack(track);
    if (video.srcObject !== media) video.srcObject = media;
    void play();
  });
}

/**
 * Shows the numbers until the session is over or nothing has come in for too long. What the server
 * tells of the publisher is shown at once; where it tells nothing, silence says the same later.
 */
async function lasts(session: Session, signal: AbortSignal): Promise<Fault> {
  const meter = new stats.Meter();
  let packets = 0;
  let silentSeconds = 0;
  let pictureless = 0;
  let isAway = false;
  let giveUp: (fault: Fault) => void;
  const givenUp = new Promise<Fault>((resolve) => (giveUp = resolve));
  session.listen((event) => {
    if (event === "reconnect") {
      giveUp(new Fault("lost", "The stream goes on in another format.", 200));
      return;
    }
    isAway = event === "inactive";
    if (isAway) showSilence(true, true);
  });
  const halt = everySecond(async () => {
    const numbers = await meter.read(session.peer);
    const isSilent = numbers.packets === packets;
    silentSeconds = isSilent ? silentSeconds + 1 : 0;
    packets = numbers.packets;
    pictureless = numbers.pictures === 0 && packets > 0 ? pictureless + 1 : 0;
    soundOnly.hidden = pictureless < SOUND_ONLY_AFTER_SECONDS;
    showNumbers(numbers);
    const isShown = isSilent && (isAway || silentSeconds >= SILENCE_SECONDS_SHOWN);
    showSilence(isShown, packets > 0);
    if (silentSeconds >= SILENCE_SECONDS_MAX) {
      giveUp(new Fault("lost", "Nothing has come in for a while."));
    }
  });
  const over = session.over(signal).then((how) =>
    how === "ended"
      ? new Fault("lost", "The stream has ended.", 300)
      : new Fault("lost", "The network was lost."),
  );
  const fault = await Promise.race([over, givenUp]);
  halt();
  soundOnly.hidden = true;
  showNumbers(stats.NOTHING);
  return fault;
}

/** Plays with sound where the browser allows it, else without, and offers the sound. */
async function play(): Promise<void> {
  try {
    await video.play();
  } catch (error) {
    // Any other error means that a newer play() took over.
    if (!(error instanceof DOMException) || error.name !== "NotAllowedError") return;
    if (video.muted) return offerSound("Tap to play");
    video.muted = true;
    offerSound("Tap for sound");
    void play();
  }
}

function offerSound(text: string): void {
  write(part("unmute-text", HTMLElement), text);
  unmute.hidden = false;
}

function withSound(): void {
  video.muted = false;
  if (video.volume === 0) video.volume = 1;
  unmute.hidden = true;
  void video.play().catch(() => offerSound("Tap to play"));
}

function show(): void {
  const isLive = phase.at === "live";
  stage.dataset["phase"] = phase.at;
  showBadge(phase.at);
  veil.hidden = isLive;
  spinner.hidden = phase.at === "stopped";
  retry.hidden = phase.at !== "stopped" || phase.fault.kind === "token";
  const wasHidden = tokenForm.hidden;
  tokenForm.hidden = phase.at !== "stopped" || phase.fault.kind !== "token";
  if (wasHidden && !tokenForm.hidden) tokenField.focus();
  // A stream that has ended would else leave its last picture behind the words.
  if (phase.at === "waiting" || phase.at === "stopped") video.srcObject = null;
  showWords();
}

function showBadge(at: Phase["at"]): void {
  write(badge, BADGES[at]);
  badge.dataset["phase"] = at;
}

function showWords(): void {
  switch (phase.at) {
    case "connecting":
      // What was wrong stays readable while the next attempt runs.
      if (phase.after === undefined) say("Connecting", "");
      write(countdown, "");
      break;
    case "waiting": {
      const seconds = Math.max(Math.ceil((phase.until - Date.now()) / 1000), 0);
      sayFault(phase.fault);
      write(countdown, seconds > 0 ? `Trying again in ${seconds} s` : "");
      break;
    }
    case "stopped":
      sayFault(phase.fault);
      write(countdown, "");
      break;
    default:
      say("", "");
  }
}

function sayFault(fault: Fault): void {
  switch (fault.kind) {
    case "not-live":
      return say("Not live yet", `Waiting for “${stream}” to start. It will play by itself.`);
    case "token":
      return say("This stream needs a token", fault.message);
    case "no-path":
      return say("No picture gets through", fault.message);
    case "busy":
      return say("The server is busy", fault.message);
    case "unreachable":
      return say("The server cannot be reached", fault.message);
    case "lost":
      return say("Reconnecting", fault.message);
    case "refused":
    case "unplayable":
      return say("This stream cannot be played", fault.message);
  }
}

function say(heading: string, text: string): void {
  write(title, heading);
  write(words, text);
}

function showSilence(isSilent: boolean, hadMedia: boolean): void {
  if (phase.at !== "live") return;
  // A session that stands is not a stream that is live.
  showBadge(isSilent ? "waiting" : "live");
  veil.hidden = !isSilent;
  write(countdown, "");
  if (!isSilent) return say("", "");
  if (hadMedia) say("The stream has paused", "Waiting for the publisher to go on.");
  else say("Waiting for the first picture", "The connection stands; nothing has been sent yet.");
}

function showNumbers(numbers: stats.Numbers): void {
  const texts: Record<string, string> = {
    size: stats.sizeText(numbers),
    rate: stats.rateText(numbers.framesPerSecond),
    bitrate: stats.bitrateText(numbers.bitrateBps),
    loss: stats.lossText(numbers.loss),
    "round-trip": stats.millisecondsText(numbers.roundTripMs),
    buffer: stats.millisecondsText(numbers.bufferMs),
    codecs: stats.codecsText(numbers),
  };
  for (const [id, text] of Object.entries(texts)) write(part(id, HTMLElement), text);
}

/** Lets the bars of a stream without a picture dance to its sound. */
function showLevel(): void {
  requestAnimationFrame(showLevel);
  if (soundOnly.hidden || live === undefined) return;
  const audio = live.peer.getReceivers().find(({ track }) => track.kind === "audio");
  const loudness = audio?.getSynchronizationSources()[0]?.audioLevel ?? 0;
  level.style.setProperty("--level", Math.min(Math.sqrt(loudness) * 1.4, 1).toFixed(3));
}

function showSound(): void {
  const isMuted = video.muted || video.volume === 0;
  mute.setAttribute("aria-pressed", String(isMuted));
  mute.setAttribute("aria-label", isMuted ? "Sound on" : "Sound off");
  volume.value = String(isMuted ? 0 : Math.round(video.volume * 100));
  if (!isMuted) unmute.hidden = true;
}

async function toggleFullscreen(): Promise<void> {
  const element = video as HTMLVideoElement & { webkitEnterFullscreen?: () => void };
  try {
    if (document.fullscreenElement !== null) await document.exitFullscreen();
    else if (stage.requestFullscreen !== undefined) await stage.requestFullscreen();
    else element.webkitEnterFullscreen?.(); // iPhones know full screen for videos only.
  } catch {
    // The user or the browser said no.
  }
}

function toggleSound(): void {
  if (video.muted || video.volume === 0) withSound();
  else video.muted = true;
}

let quietTimer: ReturnType<typeof setTimeout> | undefined;
/** Shows the controls, and hides them once the pointer has rested. */
function stir(): void {
  stage.classList.remove("quiet");
  clearTimeout(quietTimer);
  quietTimer = setTimeout(() => stage.classList.add("quiet"), 3000);
}

unmute.addEventListener("click", withSound);
mute.addEventListener("click", toggleSound);
fullscreen.addEventListener("click", () => void toggleFullscreen());
stage.addEventListener("pointermove", stir);
stage.addEventListener("pointerdown", stir);
stage.addEventListener("focusin", stir);
video.addEventListener("dblclick", () => void toggleFullscreen());
video.addEventListener("volumechange", () => {
  showSound();
  localStorage.setItem(VOLUME_KEY, String(video.volume));
});
volume.addEventListener("input", () => {
  video.volume = Number(volume.value) / 100;
  video.muted = video.volume === 0;
});
document.addEventListener("keydown", (event) => {
  const isTyping = event.target instanceof HTMLInputElement && event.target.type !== "range";
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "m") toggleSound();
  if (event.key === "f") void toggleFullscreen();
});
retry.addEventListener("click", start);
tokenForm.addEventListener("submit", (event) => {
  event.preventDefault();
  token.value = tokenField.value.trim();
  tokenField.value = "";
  start();
});
// A page that comes back from the browser's cache has lost its session.
window.addEventListener("pageshow", ({ persisted }) => {
  if (persisted) start();
});

const kept = Number(localStorage.getItem(VOLUME_KEY) ?? "1");
video.volume = kept > 0 && kept <= 1 ? kept : 1;
showSound();
stir();
showLevel();
setInterval(showWordsWhileWaiting, 500);
if (stream !== "") start();

function showWordsWhileWaiting(): void {
  if (phase.at === "waiting") showWords();
}
