// The publish page: camera, screen or a test picture, sent by WHIP until told to stop; or what to
// type into an encoder, and how its stream fares.

import { capture, devices, NONE, SCREEN_SOUND, type Capture, type Source } from "./capture.js";
import { Addresses, type Entry } from "./encoder.js";
import { Fares } from "./fares.js";
import { Fault } from "./fault.js";
import { BADGES, keepUp, type Phase } from "./keep.js";
import * as page from "./page.js";
import { part, write } from "./page.js";
import { layersText, SentLayers } from "./sent_layers.js";
import type { Session } from "./session.js";
import { several, single } from "./simulcast.js";
import * as stats from "./stats.js";
import { publish, sendableCodecs } from "./whip.js";

const MUSIC_BPS = 160_000;
const SPEECH_BPS = 48_000;
/** Those that a viewer can be expected to know. */
const CODECS: Record<string, string> = { H264: "H.264", VP8: "VP8", VP9: "VP9", AV1: "AV1" };

/** Every sender begins small and grows; only what stays small is worth a word. */
const LIMITED_SECONDS_SHOWN = 10;

const token = new page.Token("publish");

const stage = part("stage", HTMLElement);
const video = part("video", HTMLVideoElement);
const badge = part("badge", HTMLElement);
const empty = part("empty", HTMLElement);
const notice = part("notice", HTMLElement);
const insecure = part("insecure", HTMLElement);
const form = part("form", HTMLFormElement);
const choices = part("choices", HTMLFieldSetElement);
const nameField = part("name", HTMLInputElement);
const tokenField = part("token", HTMLInputElement);
const picture = part("picture", HTMLSelectElement);
const sound = part("sound", HTMLSelectElement);
const soundUse = part("sound-use", HTMLSelectElement);
const height = part("height", HTMLSelectElement);
const codec = part("codec", HTMLSelectElement);
const sizes = part("sizes", HTMLSelectElement);
const go = part("go", HTMLButtonElement);
const share = part("share", HTMLElement);
const watchLink = part("watch-link", HTMLAnchorElement);
const encoder = part("encoder", HTMLElement);
const fares = part("fares", HTMLElement);
const copyButton = part("copy", HTMLButtonElement);

const controls = part("controls", HTMLElement);
const SWITCHES = [
  [part("sound-off", HTMLButtonElement), "audio", "Sound"],
  [part("picture-off", HTMLButtonElement), "video", "Picture"],
] as const;

let phase: Phase = { at: "idle" };
let captured: Capture | undefined;
/** Counts what was chosen: only the newest is shown and sent. */
let choice = 0;
let stop: AbortController | undefined;
let limitedSeconds = 0;
/** What is served, once the server has told. */
let addresses: Addresses | undefined;
/** An encoder publishes the stream that is named. */
let isFedByEncoder = false;

/** What is chosen: the radio buttons tell, as a form leaves out those that are disabled. */
function chosen(): string {
  return form.querySelector<HTMLInputElement>("input[name=source]:checked")?.value ?? "camera";
}

function isEncoder(): boolean {
  return chosen() === "encoder";
}

function source(): Source {
  const value = chosen();
  return value === "screen" || value === "test" ? value : "camera";
}

function entry(): Entry {
  return { stream: nameField.value.trim(), token: tokenField.value.trim() };
}

function isMusic(): boolean {
  return soundUse.value === "music" || source() === "test" || sound.value === SCREEN_SOUND;
}

// --- what is chosen and previewed -----------------------------------------------------------

/** Captures what is chosen and shows it; says why where that fails. */
async function preview(): Promise<Capture | undefined> {
  const own = release();
  tell("");
  if (picture.value === NONE && sound.value === NONE && source() !== "screen") {
    tell("Choose a picture or a sound: with neither there is nothing to publish.");
    return undefined;
  }
  const wish = {
    source: source(),
    picture: picture.value,
    sound: sound.value,
    isMusic: isMusic(),
    height: Number(height.value),
    title: nameField.value,
  };
  let found: Capture;
  try {
    found = await capture(wish);
  } catch (error) {
    if (own === choice) tell(error instanceof Error ? error.message : String(error));
    return undefined;
  }
  // Devices take their time to open: meanwhile something else may have been chosen.
  if (own !== choice) {
    found.stop();
    return undefined;
  }
  captured = found;
  const { media } = found;
  for (const track of media.getTracks()) track.addEventListener("ended", () => onEnded(track));
  video.srcObject = media;
  video.classList.toggle("mirrored", isFacingUser(media));
  void video.play().catch(() => undefined);
  empty.hidden = media.getVideoTracks().length > 0;
  write(empty, "Sound only");
  controls.hidden = false;
  showSwitches();
  await fillDevices();
  return own === choice ? found : undefined;
}

/** People know themselves from the mirror; what is sent is never mirrored. */
function isFacingUser(media: MediaStream): boolean {
  return source() === "camera" && media.getVideoTracks()[0]?.getSettings().facingMode === "user";
}

/** Stops what is captured, and what is still on its way; gives the number of the next choice. */
function release(): number {
  choice += 1;
  captured?.stop();
  captured = undefined;
  video.srcObject = null;
  controls.hidden = true;
  empty.hidden = false;
  write(empty, "No picture yet");
  return choice;
}

/** The switches on the picture: what is off is still sent, as darkness or silence. */
function showSwitches(): void {
  for (const [button, kind, word] of SWITCHES) {
    const tracks = captured?.media.getTracks().filter((track) => track.kind === kind) ?? [];
    button.hidden = tracks.length === 0;
    const isOff = tracks.some((track) => !track.enabled);
    button.setAttribute("aria-pressed", String(isOff));
    button.setAttribute("aria-label", `${word} ${isOff ? "on" : "off"}`);
  }
}

/** A track ends by itself where a device is unplugged or sharing is stopped in the browser. */
function onEnded(track: MediaStreamTrack): void {
  if (captured === undefined || !captured.media.getTracks().includes(track)) return;
  stop?.abort();
  release();
  if (source() === "screen") tell("Sharing the screen was stopped.");
  else tell(`The ${track.kind === "video" ? "camera" : "microphone"} is gone.`);
}

async function fillDevices(): Promise<void> {
  const kind = source();
  const [cameras, microphones] = await Promise.all([devices("videoinput"), devices("audioinput")]);
  const named = (list: MediaDeviceInfo[], word: string) =>
    list.map(({ deviceId, label }, index) => [deviceId, label || `${word} ${index + 1}`]);
  const none = (word: string) => [NONE, word];
  const heard = microphones.length > 0 ? named(microphones, "Microphone") : [["", "Microphone"]];
  if (kind === "test") {
    fill(picture, [["", "Mill wheel and clock"], none("No picture")]);
    fill(sound, [["", "Tone"], none("No sound")]);
  } else if (kind === "screen") {
    fill(picture, [["", "Chosen when you go live"]]);
    fill(sound, [[SCREEN_SOUND, "What the screen plays"], ...heard, none("No sound")]);
  } else {
    const seen = cameras.length > 0 ? named(cameras, "Camera") : [["", "Camera"]];
    fill(picture, [...seen, none("No picture")]);
    fill(sound, [...heard, none("No sound")]);
  }
  const hasMicrophone = kind !== "test" && ![NONE, SCREEN_SOUND].includes(sound.value);
  soundUse.disabled = !hasMicrophone;
  height.disabled = kind !== "camera";
  picture.disabled = kind === "screen";
}

/** Fills a list and keeps the choice where it still exists. */
function fill(list: HTMLSelectElement, options: string[][]): void {
  const before = list.value;
  list.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  if (options.some(([value]) => value === before)) list.value = before;
}

function fillCodecs(): void {
  const known = sendableCodecs().filter((name) => name in CODECS);
  const options = known.map((name) => new Option(CODECS[name], name));
  codec.replaceChildren(new Option("Automatic", "auto"), ...options);
}

async function onChoice(): Promise<void> {
  release();
  tell("");
  showEncoder();
  show();
  if (isEncoder()) return;
  await fillDevices();
  // Screens ask each time, and a tone needs a click: both start with the button.
  if (source() === "test") await preview();
  if (source() === "camera" && window.isSecureContext) await preview();
}

// --- an encoder in place of the browser -------------------------------------------------------

/** Shows what to type into an encoder, for what has been entered. */
function showEncoder(): void {
  const isShown = isEncoder();
  document.body.classList.toggle("with-encoder", isShown);
  encoder.hidden = !isShown;
  fares.hidden = !isShown;
  badge.hidden = isShown;
  if (isShown) addresses?.show(entry());
}

/** What an encoder sends of the stream that is named. */
const stream = new Fares((isLive) => {
  isFedByEncoder = isLive;
  show();
});

/** What was entered is kept for this tab, and asked for. */
function onEntered(): void {
  if (!isEncoder()) return;
  token.value = entry().token;
  if (page.nameFault(entry().stream) === undefined) {
    history.replaceState(null, "", page.pathFor("publish", entry().stream));
  }
  showEncoder();
  showEncoder();
  stream.hurry();
}

// --- going live -----------------------------------------------------------------------------

async function start(): Promise<void> {
  const name = nameField.value.trim();
  const fault = page.nameFault(name);
  if (fault !== undefined) {
    tell(fault);
    nameField.focus();
    return;
  }
  token.value = tokenField.value.trim();
  history.replaceState(null, "", page.pathFor("publish", name));
  choices.disabled = true;
  const ready = captured ?? (await preview());
  if (ready === undefined) {
    choices.disabled = false;
    return;
  }
  tell("");
  const own = new AbortController();
  stop = own;
  const sleep = page.stayAwake();
  const { signal } = own;
  await keepUp({ open: () => open(name, ready), lasts, onPhase }, signal);
  sleep();
  if (stop === own) stop = undefined;
  choices.disabled = false;
  show();
}

function open(name: string, { media }: Capture): Promise<Session> {
  const url = page.pathFor("whip", name);
  const lines = linesOf(media);
  return publish({ role: "publish", url, token: token.value }, {
    media,
    codec: codec.value,
    video: {
      encodings: sizes.value === "one" ? single(lines) : several(lines, codec.value),
      degradation: source() === "screen" ? "maintain-resolution" : "balanced",
    },
    audio: { maxBitrateBps: isMusic() ? MUSIC_BPS : SPEECH_BPS },
  });
}

/** Of a picture that stands upright it is the columns that count. */
function linesOf(media: MediaStream): number {
  const { width = 1280, height = 720 } = media.getVideoTracks()[0]?.getSettings() ?? {};
  return Math.min(width, height);
}

async function lasts(session: Session, signal: AbortSignal): Promise<Fault> {
  const [meter, sent] = [new stats.Meter(), new SentLayers()];
  const halt = page.everySecond(async () => {
    const report = await session.peer.getStats();
    showNumbers(meter.take(report));
    showLayers(layersText(sent.take(report)));
  });
  const how = await session.over(signal);
  halt();
  showNumbers(stats.NOTHING);
  showLayers("");
  // To come back at once would take the stream away again from whoever has taken it over.
  if (how === "ended" && !signal.aborted && (await serverStays())) {
    const words =
      "The server ended this session: another publisher with the same token took the stream " +
      "over, or an operator ended it.";
    return new Fault("refused", words);
  }
  return new Fault("lost", "The network was lost.");
}

/** Tells a session that was ended on purpose from a server that is going down; a busy one stays. */
async function serverStays(): Promise<boolean> {
  try {
    const answer = await fetch("/readyz", { cache: "no-store" });
    return answer.ok || (await answer.text()).includes("urn:millrace:problem:not-ready");
  } catch {
    return false;
  }
}

// --- what is shown --------------------------------------------------------------------------

function onPhase(next: Phase): void {
  phase = next;
  show();
}

function show(): void {
  const { at } = phase;
  write(badge, BADGES[at]);
  badge.dataset["phase"] = at;
  stage.dataset["phase"] = at;
  const isOn = at === "connecting" || at === "live" || at === "waiting";
  write(go, isOn ? "Stop" : "Go live");
  go.classList.toggle("stop", isOn);
  share.hidden = isEncoder() ? !isFedByEncoder : at !== "live";
  const path = page.pathFor("watch", nameField.value.trim());
  watchLink.href = path;
  write(watchLink, `${location.host}${path}`);
  if (at === "live") tell("");
  if (at === "stopped") tell(inWords(phase.fault));
  if (at === "stopped" && phase.fault.kind === "token") tokenField.focus();
  if (at === "waiting") {
    const seconds = Math.max(Math.ceil((phase.until - Date.now()) / 1000), 0);
    tell(`${inWords(phase.fault)} Trying again${seconds > 0 ? ` in ${seconds} s` : ""}.`);
  }
}

function inWords(fault: Fault): string {
  if (fault.kind !== "token") return fault.message;
  return `${fault.message} Enter the publish token that the server printed at its start.`;
}

function tell(text: string): void {
  const isNew = text !== "" && notice.hidden;
  write(notice, text);
  notice.hidden = text === "";
  if (isNew) notice.scrollIntoView({ block: "nearest" });
}

function showNumbers(numbers: stats.Numbers): void {
  limitedSeconds = numbers.limitedBy === undefined ? 0 : limitedSeconds + 1;
  const isLimited = limitedSeconds >= LIMITED_SECONDS_SHOWN;
  const limits: Record<string, string> = {
    cpu: "Smaller or slower than chosen: this device's processor is busy.",
    bandwidth: "Smaller or slower than chosen: the way to the server is narrow.",
  };
  const texts: Record<string, string> = {
    size: stats.sizeText(numbers),
    rate: stats.rateText(numbers.framesPerSecond),
    bitrate: stats.bitrateText(numbers.bitrateBps),
    loss: stats.lossText(numbers.loss),
    "round-trip": stats.millisecondsText(numbers.roundTripMs),
    codecs: stats.codecsText(numbers),
    limit: (isLimited && limits[numbers.limitedBy ?? ""]) || "",
  };
  for (const [id, text] of Object.entries(texts)) write(part(id, HTMLElement), text);
}

/** Which of several sizes flow. */
function showLayers(text: string): void {
  part("sent-layers-row", HTMLElement).hidden = text === "";
  write(part("sent-layers", HTMLElement), text);
}

async function showAddresses(): Promise<void> {
  const served = await page.serverAddresses();
  addresses = new Addresses(served);
  showEncoder();
  if (window.isSecureContext) return;
  const { httpsPort } = served;
  insecure.hidden = false;
  if (httpsPort === undefined) return;
  part("https-way", HTMLElement).hidden = false;
  const link = part("https-link", HTMLAnchorElement);
  const port = httpsPort === 443 ? "" : `:${httpsPort}`;
  const token = tokenField.value === "" ? "" : `#token=${encodeURIComponent(tokenField.value)}`;
  const address = `https://${location.hostname}${port}${location.pathname}`;
  link.href = address + token;
  write(link, address);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (isEncoder()) stream.hurry();
  else if (stop === undefined) void start();
  else stop.abort();
});
for (const list of [picture, sound, soundUse, height]) {
  list.addEventListener("change", () => {
    if (source() === "screen") release();
    else void preview();
  });
}
nameField.addEventListener("change", () => {
  if (source() === "test" && captured !== undefined) void preview();
});
for (const radio of form.querySelectorAll("input[name=source]")) {
  radio.addEventListener("change", () => void onChoice());
}
for (const [button, kind] of SWITCHES) {
  button.addEventListener("click", () => {
    const tracks = captured?.media.getTracks().filter((track) => track.kind === kind) ?? [];
    for (const track of tracks) track.enabled = !track.enabled;
    showSwitches();
  });
}
copyButton.addEventListener("click", () => void page.copyBy(copyButton, watchLink.href));
for (const input of [nameField, tokenField]) {
  input.addEventListener("input", showEncoder);
  input.addEventListener("change", onEntered);
}
setInterval(() => {
  if (phase.at === "waiting") show();
}, 500);

nameField.value = page.streamInPath("publish");
tokenField.value = token.value;
fillCodecs();
show();
void showAddresses();
page.everySecond(async () => {
  if (isEncoder()) await stream.tick(entry());
});
// `?source=encoder`: what to type into one. `?source=test&start=1`: the test picture at once, as
// `make demo` has it. Nothing else starts without a click: a link must not be able to publish
// somebody's camera.
const wishes = new URLSearchParams(location.search);
const wantsTest = wishes.get("source") === "test";
if (wishes.get("source") === "encoder") part("source-encoder", HTMLInputElement).checked = true;
else if (wantsTest || !window.isSecureContext) part("source-test", HTMLInputElement).checked = true;
void onChoice().then(() => {
  if (wantsTest && wishes.get("start") === "1") form.requestSubmit();
});
