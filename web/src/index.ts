// The first page: what is live, and the way to watch or publish by name.

import { asFault, Fault, refusal } from "./fault.js";
import { everySecond, nameFault, part, pathFor, Token, write } from "./page.js";
import { ageText, bitrateText, codecName } from "./stats.js";
import { Thumbnails } from "./thumbnails.js";

/** One live stream; see `StreamReport` in `signaling/src/media_server.rs`. */
interface StreamReport {
  name: string;
  since_unix_seconds: number;
  tracks: { kind: string; codec: string; bitrate_bps: number }[];
  viewers: unknown[];
}

const token = new Token("admin");
const thumbnails = new Thumbnails(() => token.value);
const list = part("streams", HTMLUListElement);
const note = part("note", HTMLParagraphElement);
const tokenForm = part("token-form", HTMLFormElement);
const tokenField = part("token", HTMLInputElement);
const tokenNote = part("token-note", HTMLParagraphElement);
const nameForm = part("name-form", HTMLFormElement);
const nameField = part("name", HTMLInputElement);
const nameNote = part("name-note", HTMLParagraphElement);

async function refresh(): Promise<void> {
  if (document.visibilityState !== "visible" || !tokenForm.hidden) return;
  try {
    show(await liveStreams());
  } catch (thrown) {
    const fault = asFault(thrown);
    if (fault.kind === "token") askForToken();
    else say(`${fault.message} Trying again.`);
  }
}

async function liveStreams(): Promise<StreamReport[]> {
  const headers = token.value === "" ? {} : { Authorization: `Bearer ${token.value}` };
  let response: Response;
  try {
    response = await fetch("/api/v1/streams", { headers, cache: "no-store" });
  } catch {
    throw new Fault("unreachable", "The server does not answer.");
  }
  if (!response.ok) throw await refusal(response, "watch");
  return ((await response.json()) as { streams: StreamReport[] }).streams;
}

function askForToken(): void {
  write(tokenNote, token.value === "" ? "" : "The server does not know that token.");
  token.value = "";
  tokenForm.hidden = false;
  list.replaceChildren();
  thumbnails.keepOnly(new Set());
  say("");
}

function say(text: string): void {
  write(note, text);
  note.hidden = text === "";
}

function show(streams: StreamReport[]): void {
  say(streams.length === 0 ? "Nothing is live now. Streams appear here as they start." : "");
  const sorted = [...streams].sort((a, b) => a.name.localeCompare(b.name));
  const shown = new Map([...list.children].map((row) => [row.getAttribute("data-name"), row]));
  const rows = sorted.map((stream) => fill(shown.get(stream.name) ?? makeRow(stream.name), stream));
  // Rows that stay are left in place, so that the keyboard's focus and a half-made click survive.
  const before = [...list.children];
  const isSame = rows.length === before.length && rows.every((row, i) => row === before[i]);
  if (!isSame) list.replaceChildren(...rows);
  thumbnails.keepOnly(new Set(sorted.map(({ name }) => name)));
  for (const [index, { name, tracks }] of sorted.entries()) {
    const hasPicture = tracks.some(({ kind }) => kind === "video");
    const row = rows[index];
    if (row !== undefined) thumbnails.update(row, name, hasPicture);
  }
}

function makeRow(name: string): Element {
  const row = part("row", HTMLTemplateElement).content.firstElementChild?.cloneNode(true);
  if (!(row instanceof HTMLElement)) throw new Error("the template of a row is empty");
  row.setAttribute("data-name", name);
  row.querySelector("a")?.setAttribute("href", pathFor("watch", name));
  return row;
}

function fill(row: Element, stream: StreamReport): Element {
  const bitrate = stream.tracks.reduce((sum, track) => sum + track.bitrate_bps, 0);
  const viewers = stream.viewers.length;
  const texts: Record<string, string> = {
    name: stream.name,
    codecs: stream.tracks.map(({ codec }) => codecName(codec)).join(" · "),
    bitrate: bitrateText(bitrate),
    viewers: `${viewers} ${viewers === 1 ? "viewer" : "viewers"}`,
    since: ageText(Date.now() / 1000 - stream.since_unix_seconds),
  };
  for (const [field, text] of Object.entries(texts)) {
    const element = row.querySelector(`[data-field=${field}]`);
    if (element !== null) write(element, text);
  }
  return row;
}

function go(page: "watch" | "publish"): void {
  const name = nameField.value.trim().replace(/^\/+|\/+$/g, "");
  const fault = nameFault(name);
  write(nameNote, fault ?? "");
  if (fault === undefined) location.assign(pathFor(page, name));
  else nameField.focus();
}

nameForm.addEventListener("submit", (event) => {
  event.preventDefault();
  const { submitter } = event;
  go(submitter?.getAttribute("value") === "publish" ? "publish" : "watch");
});

tokenForm.addEventListener("submit", (event) => {
  event.preventDefault();
  token.value = tokenField.value.trim();
  tokenField.value = "";
  tokenForm.hidden = true;
  void refresh();
});

everySecond(refresh);
