// What the menu of layers says. Pure.

import type { Layer } from "../layers.js";
import { AUTO, found, type Chosen } from "./layer_choice.js";

/** A line of the menu. */
export interface Item {
  id: string;
  words: string;
  isChosen: boolean;
  /** It is not sent now. */
  isOff: boolean;
}

/** What there is to choose from. */
export interface Menu {
  /** On the button: what flows. */
  short: string;
  /** What the button is called. */
  label: string;
  items: Item[];
}

/** A frame rate is told where it is lower than others by so much. */
const SLOWER = 0.8;

/** The menu, or nothing where there is nothing to choose. */
export function menuOf(
  layers: readonly Layer[],
  current: string | undefined,
  chosen: Chosen | undefined,
): Menu | undefined {
  const taken = chosen && (found(chosen, layers)?.id ?? chosen.id);
  const shown = layers.filter(({ active, height, id }) => {
    return active || height !== undefined || id === taken;
  });
  if (shown.length < 2) return undefined;
  const flows = layers.find(({ id }) => id === current);
  const size = flows === undefined ? "" : sizeName(flows);
  const fastest = Math.max(...shown.map(({ frameRate = 0 }) => frameRate));
  const automatic = chosen === undefined && size !== "" ? `Automatic (${size})` : "Automatic";
  const items = [
    { id: AUTO, words: automatic, isChosen: chosen === undefined, isOff: false },
    ...shown.map((layer) => ({
      id: layer.id,
      words: layerWords(layer, fastest),
      isChosen: layer.id === taken,
      isOff: !layer.active,
    })),
  ];
  // A layer that was chosen and is not among them is waited for, automatically meanwhile.
  const how = items.some(({ isChosen, id }) => isChosen && id !== AUTO) ? "chosen" : "automatic";
  const label = ["Picture size: " + how, size].filter((word) => word !== "").join(", ");
  return { short: size === "" ? "Auto" : size, label, items };
}

/** "720p, 2.5 Mb/s"; with its frame rate where that is lower than others'. */
export function layerWords(layer: Layer, fastest: number): string {
  const words = [sizeName(layer)];
  if (!layer.active) return [...words, "not sent now"].join(", ");
  if (layer.bitrate !== undefined && layer.bitrate > 0) words.push(rateWords(layer.bitrate));
  const { frameRate = 0 } = layer;
  if (frameRate > 0 && frameRate < fastest * SLOWER) words.push(`${Math.round(frameRate)} fps`);
  return words.join(", ");
}

/** "720p": its lines, or its columns where it stands upright; its name where no size is known. */
export function sizeName({ id, width, height }: Pick<Layer, "id" | "width" | "height">): string {
  if (width === undefined || height === undefined || width * height === 0) return `Layer ${id}`;
  return `${Math.min(width, height)}p`;
}

/** "2.5 Mb/s", "450 kb/s": no finer than it stays the same for a while. */
function rateWords(bps: number): string {
  if (bps >= 950_000) return `${(bps / 1_000_000).toFixed(1)} Mb/s`;
  return `${Math.max(Math.round(bps / 50_000) * 50, 50)} kb/s`;
}
