// How a published stream fares, as the server tells it to whoever may publish it.

import { asFault, Fault, refusal } from "./fault.js";
import type { Entry } from "./encoder.js";
import { nameFault, part, pathFor, write } from "./page.js";
import { layersText, type SentLayer } from "./sent_layers.js";
import * as stats from "./stats.js";

/** See `StreamReport` in `signaling/src/media_server.rs`; of it, what is shown here. */
interface StreamReport {
  since_unix_seconds: number;
  publisher: PublisherReport | null;
  tracks: { kind: string; codec: string; bitrate_bps: number; layers?: LayerReport[] }[];
}

interface LayerReport {
  active: boolean;
  bitrate_bps: number;
  width: number | null;
  height: number | null;
}

interface PublisherReport {
  session: string;
  protocol: string;
  round_trip_ms: number | null;
  notices: string[];
  unused_tracks: string[];
  frames?: { taken: number; late: number; b_frames: number; overrun: number };
  link?: LinkReport;
}

interface LinkReport {
  round_trip_ms: number;
  latency_ms: number;
  packets: number;
  lost_packets: number;
  dropped_packets: number;
  undecrypted_packets: number;
  damaged_units: number;
}

/** How often the server is asked while somebody looks. */
const ASK_EVERY_SECONDS = 3;

/** Why frames may be left out on purpose. */
const LEFT_OUT = [
  ["late", "too late"],
  ["b_frames", "B-frames"],
  ["overrun", "no room for them"],
] as const;

/** The part of the page that tells it. */
export class Fares {
  private readonly badge = part("fares-badge", HTMLElement);
  private readonly words = part("fares-words", HTMLElement);
  private readonly notices = part("fares-notices", HTMLUListElement);
  private readonly numbers = part("fares-numbers", HTMLElement);
  private readonly more = part("fares-more", HTMLElement);
  /** Of the same publisher, when it was asked before. */
  private before: { session: string; link: LinkReport } | undefined;
  private seconds = 0;

  constructor(private readonly onLive: (isLive: boolean) => void) {}

  /** Looks again the next time, without waiting for it. */
  hurry(): void {
    this.seconds = 0;
  }

  /** To be called every second while this part is shown. */
  async tick(entry: Entry): Promise<void> {
    if (document.visibilityState !== "visible") return;
    this.seconds -= 1;
    if (this.seconds > 0) return;
    this.seconds = ASK_EVERY_SECONDS;
    if (nameFault(entry.stream) !== undefined || entry.token === "") {
      return this.say("Enter the stream's name and the publish token to see how it fares.");
    }
    try {
      this.show(await report(entry));
    } catch (thrown) {
      this.say(inWords(asFault(thrown), entry.stream));
    }
  }

  private say(words: string): void {
    this.before = undefined;
    this.onLive(false);
    this.setBadge("Off", "idle");
    this.fill(words, [], [], []);
  }

  private show({ since_unix_seconds: since, publisher, tracks }: StreamReport): void {
    this.onLive(publisher !== null);
    if (publisher === null) {
      this.before = undefined;
      this.setBadge("Waiting", "waiting");
      this.fill("The publisher has gone. Its viewers wait for it a while.", [], [], []);
      return;
    }
    this.setBadge("Live", "live");
    const link = publisher.link;
    const cells: [string, string][] = [["Comes by", publisher.protocol.toUpperCase()]];
    for (const { kind, codec, bitrate_bps: bps, layers = [] } of tracks) {
      const name = kind === "video" ? "Picture" : "Sound";
      cells.push([name, `${stats.codecName(codec)} · ${stats.bitrateText(bps)}`]);
      if (layers.length < 2) continue;
      cells.push(["Layers", layersText(flowing(layers)) || "One of several"]);
    }
    cells.push(["Live for", stats.ageText(Date.now() / 1000 - since)]);
    const roundTrip = link?.round_trip_ms ?? publisher.round_trip_ms;
    if (roundTrip !== null) cells.push(["Round trip", stats.millisecondsText(roundTrip)]);
    if (link !== undefined) {
      cells.push(["Loss", stats.lossText(this.lossSince(publisher.session, link))]);
      cells.push(["Latency", stats.millisecondsText(link.latency_ms)]);
    }
    const words = tracks.length === 0 ? "It is connected; no picture or sound has come yet." : "";
    this.fill(words, publisher.notices, cells, extras(publisher));
    this.before = link && { session: publisher.session, link };
  }

  /** The share that was lost on the way since the server was asked before. */
  private lossSince(session: string, link: LinkReport): number {
    const before = this.before?.session === session ? this.before.link : undefined;
    const lost = link.lost_packets - (before?.lost_packets ?? 0);
    const came = link.packets - (before?.packets ?? 0);
    return came + lost > 0 ? Math.min(Math.max(lost / (came + lost), 0), 1) : 0;
  }

  private setBadge(text: string, phase: string): void {
    write(this.badge, text);
    this.badge.dataset["phase"] = phase;
  }

  private fill(words: string, notices: string[], cells: [string, string][], more: string[]): void {
    write(this.words, words);
    replaceTexts(this.notices, "li", notices);
    replaceTexts(this.more, "p", more);
    this.numbers.hidden = cells.length === 0;
    const shown = [...this.numbers.children].map((cell) => cell.children[0]?.textContent);
    if (shown.join() !== cells.map(([name]) => name).join()) {
      this.numbers.replaceChildren(...cells.map(([name]) => makeCell(name)));
    }
    cells.forEach(([, text], index) => {
      const value = this.numbers.children[index]?.children[1];
      if (value !== undefined) write(value, text);
    });
  }
}

/** Those layers of a picture that come now and whose size is known. */
function flowing(layers: LayerReport[]): SentLayer[] {
  return layers.flatMap(({ active, width, height, bitrate_bps: bitrateBps }) =>
    active && width !== null && height !== null ? [{ width, height, bitrateBps }] : [],
  );
}

/** What is worth a line only where there is some of it. */
function extras({ frames, link, unused_tracks: unused }: PublisherReport): string[] {
  const lines: string[] = [];
  if (frames !== undefined) {
    const counts = LEFT_OUT.filter(([key]) => frames[key] > 0).map(
      ([key, why]) => `${frames[key]} (${why})`,
    );
    if (counts.length > 0) {
      lines.push(`Frames left out of ${frames.taken}: ${counts.join(", ")}.`);
    }
  }
  if (link !== undefined && link.dropped_packets > 0) {
    lines.push(`Packets that never came in time: ${link.dropped_packets}.`);
  }
  if (link !== undefined && link.damaged_units > 0) {
    lines.push(`Pictures and pieces of sound left out as damaged: ${link.damaged_units}.`);
  }
  if (link !== undefined && link.undecrypted_packets > 0) {
    lines.push(`Packets that could not be decrypted: ${link.undecrypted_packets}.`);
  }
  if (unused.length > 0) lines.push(`Comes in and is not used: ${unused.join("; ")}.`);
  return lines;
}

async function report({ stream, token }: Entry): Promise<StreamReport> {
  let response: Response;
  try {
    const headers = { Authorization: `Bearer ${token}` };
    response = await fetch(pathFor("api/v1/streams", stream), { headers, cache: "no-store" });
  } catch {
    throw new Fault("unreachable", "The server does not answer.");
  }
  if (!response.ok) throw await refusal(response, "watch");
  return (await response.json()) as StreamReport;
}

function inWords(fault: Fault, stream: string): string {
  if (fault.kind !== "not-live") return fault.message;
  return `Nobody publishes “${stream}” yet. This shows it as soon as it comes.`;
}

function makeCell(name: string): HTMLElement {
  const cell = document.createElement("div");
  const [term, value] = [document.createElement("dt"), document.createElement("dd")];
  term.textContent = name;
  cell.append(term, value);
  return cell;
}

/** Texts that stay are left in place, so that screen readers do not hear them twice. */
function replaceTexts(list: HTMLElement, kind: "li" | "p", texts: string[]): void {
  const before = [...list.children].map(({ textContent }) => textContent);
  list.hidden = texts.length === 0;
  if (before.join("\n") === texts.join("\n")) return;
  list.replaceChildren(
    ...texts.map((text) => {
      const element = document.createElement(kind);
      element.textContent = text;
      return element;
    }),
  );
}
