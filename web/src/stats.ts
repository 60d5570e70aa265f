// The numbers on the pages: differences between two reports of `RTCPeerConnection.getStats`.

import type { Flow } from "./flow.js";

/** What flows now, and what is read beside it. */
export interface Numbers extends Flow {
  /** Why the sender sends a smaller picture than it could: `cpu` or `bandwidth`. */
  limitedBy?: string;
  /** Packets and pictures of the whole session: a stream without pictures is sound only. */
  packets: number;
  pictures: number;
}

type Entry = Record<string, unknown> & { id: string; type: string; timestamp: number };

/** Counters that only mean something as differences. */
interface Counters {
  at: number;
  bytes: number;
  /** Packets sent to or meant for us, lost ones included. */
  expected: number;
  lost: number;
  frames: number;
  bufferedSeconds: number;
  emitted: number;
}

/** Nothing flows. */
export const NOTHING: Numbers = { packets: 0, pictures: 0 };

/** Reads one peer again and again. */
export class Meter {
  private before: Counters | undefined;

  /** Reads what flows since the last call. */
  async read(peer: RTCPeerConnection): Promise<Numbers> {
    return this.take(await peer.getStats());
  }

  /** Compares a report with the one before. */
  take(report: RTCStatsReport): Numbers {
    const entries: Entry[] = [];
    report.forEach((entry: Entry) => entries.push(entry));
    const streams = entries.filter(
      ({ type, kind }) =>
        /^(in|out)bound-rtp$/.test(type) && (kind === "audio" || kind === "video"),
    );
    const find = (id: unknown) => entries.find((entry) => entry.id === id);
    const now = count(streams, find);
    const numbers: Numbers = { packets: now.expected, pictures: now.frames };
    for (const stream of streams) describe(numbers, stream, find);
    roundTrip(numbers, entries);
    if (this.before !== undefined) compare(numbers, this.before, now);
    this.before = now;
    return numbers;
  }
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

function count(streams: Entry[], find: (id: unknown) => Entry | undefined): Counters {
  const sum = { at: 0, bytes: 0, expected: 0, lost: 0, frames: 0, bufferedSeconds: 0, emitted: 0 };
  for (const stream of streams) {
    sum.at = Math.max(sum.at, stream.timestamp);
    sum.bytes += number(stream.bytesSent ?? stream.bytesReceived);
    // What a sender lost is told by the other side's receiver reports.
    const isSent = stream.type === "outbound-rtp";
    const lost = number((isSent ? find(stream.remoteId) : stream)?.packetsLost);
    sum.lost += lost;
    sum.expected += isSent ? number(stream.packetsSent) : number(stream.packetsReceived) + lost;
    if (stream.kind !== "video") continue;
    // Of several layers each picture is sent in each.
    if (isSent) sum.frames = Math.max(sum.frames, number(stream.framesSent));
    else sum.frames += number(stream.framesDecoded);
    sum.bufferedSeconds += number(stream.jitterBufferDelay);
    sum.emitted += number(stream.jitterBufferEmittedCount);
  }
  return sum;
}

function describe(numbers: Numbers, stream: Entry, find: (id: unknown) => Entry | undefined): void {
  const packets = number(stream.packetsSent ?? stream.packetsReceived);
  const codec = find(stream.codecId)?.mimeType;
  const name = typeof codec === "string" ? codec.replace(/^.*\//, "") : undefined;
  if (stream.kind === "audio") {
    if (name !== undefined && packets > 0) numbers.audioCodec = name;
    return;
  }
  if (name !== undefined && packets > 0) numbers.videoCodec = name;
  // Of several layers the largest one.
  if (number(stream.frameWidth) > (numbers.width ?? 0)) {
    numbers.width = number(stream.frameWidth);
    numbers.height = number(stream.frameHeight);
  }
  const limit = stream.qualityLimitationReason;
  if (limit === "cpu" || limit === "bandwidth") numbers.limitedBy = limit;
}

function roundTrip(numbers: Numbers, entries: Entry[]): void {
  const reported = entries.find((e) => e.type === "remote-inbound-rtp" && number(e.roundTripTime));
  const pair = entries.find(
    (e) => e.type === "candidate-pair" && e.nominated === true && number(e.currentRoundTripTime),
  );
  const seconds = number(reported?.roundTripTime) || number(pair?.currentRoundTripTime);
  if (seconds > 0) numbers.roundTripMs = seconds * 1000;
}

function compare(numbers: Numbers, before: Counters, now: Counters): void {
  const seconds = (now.at - before.at) / 1000;
  if (seconds <= 0) return;
  const rise = (key: keyof Counters) => Math.max(now[key] - before[key], 0);
  numbers.bitrateBps = (rise("bytes") * 8) / seconds;
  if (now.frames > 0) numbers.framesPerSecond = rise("frames") / seconds;
  const expected = rise("expected");
  if (expected > 0) numbers.loss = Math.min(rise("lost") / expected, 1);
  if (rise("emitted") > 0) numbers.bufferMs = (rise("bufferedSeconds") / rise("emitted")) * 1000;
}

/** Writes a bitrate: "2.4 Mb/s", "64 kb/s". */
export function bitrateText(bps: number | undefined): string {
  if (bps === undefined) return "–";
  if (bps >= 999_500) return `${(bps / 1_000_000).toFixed(1)} Mb/s`;
  return `${Math.round(bps / 1000)} kb/s`;
}

/** Writes a share: "0 %", "0.3 %", "12 %". */
export function lossText(loss: number | undefined): string {
  if (loss === undefined) return "–";
  const percent = loss * 100;
  return `${percent === 0 || percent >= 10 ? percent.toFixed(0) : percent.toFixed(1)} %`;
}

/** Writes a span: "23 ms". */
export function millisecondsText(ms: number | undefined): string {
  if (ms === undefined) return "–";
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

/** Writes a latency: "0.18 s", "1.2 s". */
export function latencyText(seconds: number): string {
  return seconds < 0.995 ? `${Math.max(seconds, 0).toFixed(2)} s` : `${seconds.toFixed(1)} s`;
}

/** Writes how long something has been so: "just started", "12 min", "3 h 5 min". */
export function ageText(seconds: number): string {
  const minutes = Math.floor(Math.max(seconds, 0) / 60);
  if (minutes < 1) return "just started";
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Writes a picture's size: "1280×720". */
export function sizeText({ width, height }: Pick<Flow, "width" | "height">): string {
  return width === undefined || height === undefined ? "–" : `${width}×${height}`;
}

/** Writes a frame rate: "30". */
export function rateText(framesPerSecond: number | undefined): string {
  return framesPerSecond === undefined ? "–" : `${Math.round(framesPerSecond)} fps`;
}

/** A codec's name as people write it. */
export function codecName(codec: string): string {
  const names: Record<string, string> = { OPUS: "Opus", H264: "H.264", H265: "H.265" };
  return names[codec.toUpperCase()] ?? codec.toUpperCase();
}

/** Writes the codecs in use: "H.264 · Opus". */
export function codecsText({
  videoCodec,
  audioCodec,
}: Pick<Flow, "videoCodec" | "audioCodec">): string {
  const known = [videoCodec, audioCodec].filter((codec) => codec !== undefined);
  return known.length === 0 ? "–" : known.map(codecName).join(" · ");
}
