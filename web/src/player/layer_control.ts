// The layers of what plays: what the page and the viewer see of them, and choose.

import { AUTO, found, wishFor, type Chosen, type Habits } from "./layer_choice.js";
import { menuOf } from "./layer_words.js";
import type { LayerMenu } from "./layer_menu.js";
import type { Sight } from "./sight.js";
import type { Source } from "./source.js";
import type { PlayerEventDetails, PlayerLayer } from "./types.js";

/** What it is a part of. */
export interface Around {
  menu: LayerMenu;
  sight: Sight;
  habits: () => Habits;
  tell: <K extends "layerschange" | "layerchange">(type: K, detail: PlayerEventDetails[K]) => void;
}

/** Brings choice, size and sight to whichever source is in front. */
export class LayerControl {
  /** The largest first. */
  layers: readonly PlayerLayer[] = [];
  /** The one that flows, by its id. */
  current: string | null = null;
  private chosen: Chosen | undefined;
  private front: Source | undefined;

  constructor(private readonly around: Around) {}

  /** The id of the layer that is chosen, or `auto`. */
  get choice(): string {
    if (this.chosen === undefined) return AUTO;
    return found(this.chosen, this.front?.layers?.all ?? [])?.id ?? this.chosen.id;
  }

  choose(id: string): void {
    if (id === this.choice) return;
    const layer = this.front?.layers?.all.find((one) => one.id === id);
    const isAuto = id === AUTO || id === "";
    this.chosen = isAuto ? undefined : { id, width: layer?.width, height: layer?.height };
    this.update();
    this.tellCurrent();
  }

  /** Another source is in front, or none. */
  bring(front: Source | undefined): void {
    if (front === this.front) return;
    this.front = front;
    this.update();
  }

  /** Another stream is to play: what was chosen was chosen of the other. */
  forget(): void {
    if (this.chosen === undefined) return;
    this.chosen = undefined;
    this.update();
    this.tellCurrent();
  }

  /** Something of it has changed: layers, choice, size, sight. */
  update(): void {
    const { menu, sight, habits } = this.around;
    const known = this.front?.layers;
    const all = known?.all ?? [];
    this.front?.ask(wishFor(this.chosen, all, sight, habits()), habits());
    menu.show(menuOf(all, known?.current, this.chosen));
    const layers = all.map(({ id, width, height, bitrate, frameRate, active }): PlayerLayer => {
      return { id, width, height, bitrate, frameRate, active };
    });
    if (JSON.stringify(layers) !== JSON.stringify(this.layers)) {
      this.layers = layers;
      this.around.tell("layerschange", { layers });
    }
    const current = known?.current ?? null;
    if (current === this.current) return;
    this.current = current;
    this.tellCurrent();
  }

  private tellCurrent(): void {
    this.around.tell("layerchange", { layer: this.current, choice: this.choice });
  }
}
