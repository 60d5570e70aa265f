// Which layers of a picture are sent now, read from `RTCPeerConnection.getStats`.

import { bitrateText } from "./stats.js";

/** One of several. */
export interface SentLayer {
  width: number;
  height: number;
  bitrateBps: number | undefined;
}

type Entry = Record<string, unknown>;

/** Reads one peer again and again. */
export class SentLayers {
  private before = new Map<string, { at: number; bytes: number }>();

  /** Those that flow, the largest first. */
  take(report: RTCStatsReport): SentLayer[] {
    const before = this.before;
    this.before = new Map();
    const layers: SentLayer[] = [];
    report.forEach((entry: Entry) => {
      if (entry["type"] !== "outbound-rtp" || entry["kind"] !== "video") return;
      const [at, bytes] = [number(entry["timestamp"]), number(entry["bytesSent"])];
      const [width, height] = [number(entry["frameWidth"]), number(entry["frameHeight"])];
      const id = String(entry["id"]);
      this.before.set(id, { at, bytes });
      const old = before.get(id);
      const seconds = old === undefined ? 0 : (at - old.at) / 1000;
      const bitrateBps = seconds > 0 ? ((bytes - (old?.bytes ?? 0)) * 8) / seconds : undefined;
      // Of one that has stopped the browser still tells the size.
      if (width > 0 && bitrateBps !== 0) layers.push({ width, height, bitrateBps });
    });
    return layers.sort((a, b) => b.width - a.width);
  }
}

/** "720p 2.5 Mb/s · 360p 900 kb/s"; nothing where there are no several. */
export function layersText(layers: readonly SentLayer[]): string {
  if (layers.length < 2) return "";
  const words = layers.map(({ width, height, bitrateBps }) => {
    const size = `${Math.min(width, height)}p`;
    return bitrateBps === undefined ? size : `${size} ${bitrateText(bitrateBps)}`;
  });
  return words.join(" · ");
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}
