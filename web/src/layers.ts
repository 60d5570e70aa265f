// WHEP's layer extension (draft-ietf-wish-whep, Video Layer Selection Extension): what the server
// tells of the layers of a picture, and what it can be asked for.

/** A size in pixels. */
export interface Size {
  width: number;
  height: number;
}

/** One thing that can be chosen: a layer of simulcast, or a spatial layer within one (SVC). */
export interface Layer {
  /** Its name within the page: the two below in one. */
  readonly id: string;
  /** What names it to the server. A stream that has one layer has no names. */
  readonly encodingId?: string | undefined;
  readonly spatialLayerId?: number | undefined;
  readonly width?: number | undefined;
  readonly height?: number | undefined;
  readonly bitrate?: number | undefined;
  readonly frameRate?: number | undefined;
  /** Whether it is sent now. */
  readonly active: boolean;
}

/** A layer, be it one that has not been seen yet. */
export type Named = Pick<Layer, "id" | "encodingId" | "spatialLayerId">;

/** What is known of the layers of one picture, the largest first. */
export interface Layers {
  readonly all: readonly Layer[];
  /** Which one flows. */
  readonly current: string | undefined;
}

/** What the server is asked for. Each wish takes the place of the one before. */
export interface LayerWish {
  /** The layer that is chosen; by default the server decides. */
  layer?: Named | undefined;
  /** No larger picture than that is of use. */
  ceiling?: Size | undefined;
  /** No picture at all: only the sound goes on. */
  isPaused: boolean;
}

/** What a layer is called where the stream has only one. */
const ONLY = "only";
/** More layers than any publisher has are not looked at. */
const LAYERS_MAX = 64;

type Body = Record<string, unknown>;

/** Reads a `layers` event: what is told of each picture, by its `mid`. */
export function layersIn(data: string): Map<string, Layers> | undefined {
  let body: unknown;
  try {
    body = JSON.parse(data);
  } catch {
    return undefined;
  }
  return new Map(Object.entries(object(body)).map(([mid, told]) => [mid, read(object(told))]));
}

function read(told: Body): Layers {
  const flat = list(told["layers"]);
  const active = list(told["active"]).flatMap((encoding) => activeLayers(encoding, flat));
  const inactive = list(told["inactive"]).map((encoding): Layer => {
    const encodingId = name(encoding["encodingId"]);
    return { id: encodingId ?? ONLY, encodingId, active: false };
  });
  const known = new Set(active.map(({ encodingId }) => encodingId));
  const all = [...active, ...inactive.filter(({ encodingId }) => !known.has(encodingId))];
  const current = object(told["current"]);
  const isTold = typeof told["current"] === "object" && told["current"] !== null;
  return { all: sorted(all), current: isTold ? flowing(all, current)?.id : undefined };
}

/** What can be chosen of one encoding: itself, or its spatial layers where it has several. */
function activeLayers(encoding: Body, flat: Body[]): Layer[] {
  const encodingId = name(encoding["encodingId"]);
  const tops = new Map<number, Body>();
  for (const entry of flat) {
    if (name(entry["encodingId"]) !== encodingId) continue;
    const spatial = number(entry["spatialLayerId"]) ?? 0;
    // Of the temporal layers the highest carries all of them.
    if ((number(entry["bitrate"]) ?? 0) >= (number(tops.get(spatial)?.["bitrate"]) ?? 0)) {
      tops.set(spatial, entry);
    }
  }
  const whole = facts(encoding);
  if (tops.size < 2) return [{ id: encodingId ?? ONLY, encodingId, ...whole }];
  const highest = Math.max(...tops.keys());
  return [...tops].map(([spatialLayerId, entry]) => {
    const id = encodingId === undefined ? `s${spatialLayerId}` : `${encodingId}.s${spatialLayerId}`;
    const own = facts(entry);
    // A server may know no other size than that of the whole, of which each layer below is half.
    const isWhole = own.width === whole.width && own.height === whole.height;
    const size = isWhole ? divided(whole, 2 ** (highest - spatialLayerId)) : {};
    return { id, encodingId, spatialLayerId, ...own, ...size, frameRate: whole.frameRate };
  });
}

function divided({ width, height }: Pick<Layer, "width" | "height">, by: number): Partial<Size> {
  if (width === undefined || height === undefined) return {};
  return { width: Math.round(width / by), height: Math.round(height / by) };
}

function facts(entry: Body): Pick<Layer, "width" | "height" | "bitrate" | "frameRate" | "active"> {
  return {
    width: number(entry["width"]),
    height: number(entry["height"]),
    bitrate: number(entry["bitrate"]),
    frameRate: number(entry["framerate"]),
    active: true,
  };
}

function flowing(all: Layer[], current: Body): Layer | undefined {
  const encodingId = name(current["encodingId"]);
  const spatial = number(current["spatialLayerId"]) ?? 0;
  const own = all.filter((layer) => layer.encodingId === encodingId);
  return own.find(({ spatialLayerId }) => spatialLayerId === spatial) ?? own[0];
}

/** The largest picture first; of two as large, the one that carries more. */
export function sorted(layers: readonly Layer[]): Layer[] {
  const pixels = ({ width = 0, height = 0 }: Layer) => width * height;
  const rate = ({ bitrate = 0 }: Layer) => bitrate;
  return [...layers].sort((a, b) => pixels(b) - pixels(a) || rate(b) - rate(a));
}

/** The same with what was known before of layers that are not sent now. */
export function remembering(before: Layers | undefined, now: Layers): Layers {
  const all = now.all.map((layer) => {
    const known = before?.all.find(({ id }) => id === layer.id);
    return layer.active || known === undefined ? layer : { ...known, active: false };
  });
  return { all: sorted(all), current: now.current };
}

/** What is posted. Nothing at all means that the server decides everything. */
export function bodyOf({ layer, ceiling, isPaused }: LayerWish): Body {
  const body: Body = {};
  if (layer?.encodingId !== undefined) body["encodingId"] = layer.encodingId;
  if (layer?.spatialLayerId !== undefined) body["spatialLayerId"] = layer.spatialLayerId;
  if (ceiling !== undefined) {
    body["maxWidth"] = ceiling.width;
    body["maxHeight"] = ceiling.height;
  }
  if (isPaused) body["paused"] = true;
  return body;
}

/** What a layer that has not been seen yet is to the server, by its `id`. */
export function layerNamed(id: string): Named {
  const spatial = /^(?:(.+)\.)?s(\d)$/.exec(id);
  if (spatial === null) return id === ONLY ? { id } : { id, encodingId: id };
  return { id, encodingId: spatial[1], spatialLayerId: Number(spatial[2]) };
}

function object(value: unknown): Body {
  return typeof value === "object" && value !== null ? (value as Body) : {};
}

function list(value: unknown): Body[] {
  return Array.isArray(value) ? value.slice(0, LAYERS_MAX).map(object) : [];
}

function name(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function number(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : undefined;
}
