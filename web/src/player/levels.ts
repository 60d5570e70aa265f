// The levels of hls.js as layers of a picture. Pure.

import type { Layer } from "../layers.js";

/** Of a level, what is looked at here. */
export interface Level {
  readonly width: number;
  readonly height: number;
  readonly bitrate: number;
  readonly frameRate: number;
  readonly audioCodec: string | undefined;
  readonly url: readonly string[];
}

/** The layers, each at the place of its level. */
export function layersOf(levels: readonly Level[]): Layer[] {
  const taken = new Set<string>();
  return levels.map(({ width, height, bitrate, frameRate }) => {
    const size = width > 0 && height > 0 ? { width, height } : {};
    let id = width > 0 && height > 0 ? `${width}x${height}` : `${Math.round(bitrate / 1000)}k`;
    while (taken.has(id)) id += "+";
    taken.add(id);
    return { id, ...size, bitrate, frameRate: frameRate > 0 ? frameRate : undefined, active: true };
  });
}

/**
 * The levels to leave away, the last first, so that each picture has one codec of sound: between
 * two that are as good, hls.js would go to and fro with the bitrate. AAC is what all of them play.
 */
export function spareLevels(levels: readonly Level[]): number[] {
  const codecs = levels.map(({ audioCodec }) => audioCodec);
  const kept = codecs.find((codec) => codec?.startsWith("mp4a")) ?? codecs[0];
  // Sound of another codec is better than a picture that nobody can choose.
  const hasKept = (url: string | undefined) =>
    levels.some((level) => level.url[0] === url && level.audioCodec === kept);
  return levels
    .map((level, index) => ({ level, index }))
    .filter(({ level }) => level.audioCodec !== kept && hasKept(level.url[0]))
    .map(({ index }) => index)
    .reverse();
}
