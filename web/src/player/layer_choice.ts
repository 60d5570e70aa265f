// Which layer of the picture is wanted: by the viewer's choice, the size of what is seen, and
// whether anybody sees it. Pure.

import { layerNamed, type Layer, type LayerWish, type Size } from "../layers.js";

/** The server's or hls.js's own decision. */
export const AUTO = "auto";

/** A layer that the viewer or the page has chosen. */
export interface Chosen {
  readonly id: string;
  /** What it was when it was chosen: by that it is found again where layers have other names. */
  readonly width?: number | undefined;
  readonly height?: number | undefined;
}

/** What is known of the place where the picture is seen. */
export interface Seen {
  /** Its size in pixels of the screen; not known at the beginning. */
  box: Size | undefined;
  isHidden: boolean;
}

/** What a page author may turn off. */
export interface Habits {
  /** A picture larger than the element is wanted all the same. */
  isFullSize: boolean;
  /** The picture is wanted though nobody sees it. */
  playsHidden: boolean;
}

/** Nobody sees that a picture is stretched by so little. */
const STRETCH_MAX = 1.1;

/** What to ask for. */
export function wishFor(
  chosen: Chosen | undefined,
  layers: readonly Layer[],
  seen: Seen,
  habits: Habits,
): LayerWish {
  const isPaused = seen.isHidden && !habits.playsHidden;
  if (chosen !== undefined) {
    return { layer: found(chosen, layers) ?? layerNamed(chosen.id), isPaused };
  }
  const isFree = habits.isFullSize || seen.box === undefined;
  return { ceiling: isFree ? undefined : ceilingFor(seen.box, layers), isPaused };
}

/** The chosen layer among those there are: the same, or one of its size by another way. */
export function found(chosen: Chosen, layers: readonly Layer[]): Layer | undefined {
  const same = layers.find(({ id }) => id === chosen.id);
  if (same !== undefined || chosen.height === undefined) return same;
  const { width, height } = chosen;
  return layers.find((layer) => layer.width === width && layer.height === height);
}

/**
 * The size of the smallest layer that fills the box, or nothing where that is the largest one. A
 * layer that is a little smaller does as well; one that is half as large does not, so that the
 * ceiling is the layer's size, not the box's.
 */
export function ceilingFor(box: Size | undefined, layers: readonly Layer[]): Size | undefined {
  if (box === undefined) return undefined;
  const sizes = layers.flatMap(({ active, width, height }) =>
    active && width !== undefined && height !== undefined && width * height > 0
      ? [{ width, height }]
      : [],
  );
  sizes.sort((a, b) => a.width * a.height - b.width * b.height);
  const fits = sizes.findIndex((size) => stretch(size, box) <= STRETCH_MAX);
  return fits < 0 || fits === sizes.length - 1 ? undefined : sizes[fits];
}

/** By how much a picture is stretched that is shown whole within the box. */
function stretch({ width, height }: Size, box: Size): number {
  return Math.min(box.width / width, box.height / height);
}
