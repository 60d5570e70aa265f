// The watch page: the player, and what it says of itself.

import { part, streamInPath, Token, write } from "./page.js";
import type { MillracePlayer, PlayerState, PlayerStats } from "./player/index.js";
import { sizeName } from "./player/layer_words.js";
import * as stats from "./stats.js";

const VOLUME_KEY = "millrace.volume";
const BADGES: Record<PlayerState, string> = {
  idle: "Off",
  connecting: "Connecting",
  playing: "Live",
  paused: "Paused",
  waiting: "Waiting",
  stopped: "Off",
};
/** What the sheet knows as phases of a badge. */
const PHASES: Partial<Record<PlayerState, string>> = { playing: "live", paused: "stopped" };
const PROTOCOLS = { whep: "WebRTC", hls: "LL-HLS" };

const stream = streamInPath("watch");
if (stream === "") location.replace("/");
const token = new Token("view");
const badge = part("badge", HTMLElement);

write(part("name", HTMLElement), stream);
document.title = `${stream} · millrace`;
await customElements.whenDefined("millrace-player");
const player = part("player", HTMLElement) as MillracePlayer;

player.addEventListener("statechange", ({ detail: { state } }) => {
  write(badge, BADGES[state]);
  badge.dataset["phase"] = PHASES[state] ?? state;
  if (state !== "playing") showNumbers({ protocol: undefined });
});
player.addEventListener("stats", ({ detail }) => showNumbers(detail));
player.addEventListener("tokenchange", ({ detail }) => (token.value = detail.token));
player.addEventListener("volumechange", ({ detail: { volume } }) => {
  localStorage.setItem(VOLUME_KEY, String(volume));
});

for (const name of ["layerschange", "layerchange"] as const) {
  player.addEventListener(name, showLayer);
}

/** Which of several layers flows. */
function showLayer(): void {
  const { layers, currentLayer, layerChoice } = player;
  part("layer-row", HTMLElement).hidden = layers.length < 2;
  const flows = layers.find(({ id }) => id === currentLayer);
  const how = layerChoice === "auto" ? " auto" : "";
  write(part("layer-cell", HTMLElement), flows === undefined ? "–" : `${sizeName(flows)}${how}`);
}

function showNumbers(numbers: PlayerStats): void {
  const { protocol, latency } = numbers;
  const texts: Record<string, string> = {
    latency: latency === undefined ? "–" : stats.latencyText(latency),
    protocol: protocol === undefined ? "–" : PROTOCOLS[protocol],
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

const kept = Number(localStorage.getItem(VOLUME_KEY) ?? "1");
player.volume = kept > 0 && kept <= 1 ? kept : 1;
if (token.value !== "") player.token = token.value;
player.stream = stream;
