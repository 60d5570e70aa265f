// What the player measures of what is shown: once a second, and the sound's level all the time.

import type { Source } from "./source.js";
import type { PlayerStats } from "./types.js";
import type { View } from "./view.js";

/** Sound without a picture for so long means that there is no picture. */
const SOUND_ONLY_AFTER_SECONDS = 2;
/** How much a new reading moves the latency that is shown. */
const LATENCY_WEIGHT = 0.3;

/** Reads whichever source is in front. */
export class Gauge {
  stats: PlayerStats = { protocol: undefined };
  /** In seconds, without the jumps from one reading to the next. */
  shownLatency: number | undefined;
  private soundAlone = 0;
  private front: Source | undefined;

  constructor(private readonly view: View) {}

  /** Another source is in front, or none. */
  restart(): void {
    this.shownLatency = undefined;
    this.soundAlone = 0;
    this.front = undefined;
    this.stats = { protocol: undefined };
    this.view.soundOnly.hidden = true;
  }

  read(front: Source, latency: number | null): void {
    const { numbers } = front;
    this.front = front;
    this.soundAlone = numbers.pictures === 0 && numbers.packets > 0 ? this.soundAlone + 1 : 0;
    const { soundOnly } = this.view;
    const wasHidden = soundOnly.hidden;
    soundOnly.hidden = this.soundAlone < SOUND_ONLY_AFTER_SECONDS;
    if (wasHidden && !soundOnly.hidden) this.showLevel();
    const { packets: _, pictures: __, limitedBy: ___, ...flowing } = numbers;
    this.stats = { protocol: front.protocol, ...flowing };
    if (front.viewers !== undefined) this.stats.viewers = front.viewers;
    if (latency === null) return;
    this.stats.latency = latency;
    const before = this.shownLatency ?? latency;
    this.shownLatency = before + (latency - before) * LATENCY_WEIGHT;
  }

  /** Lets the bars of a stream without a picture dance to its sound. */
  private showLevel(): void {
    const { level, soundOnly, stage } = this.view;
    if (soundOnly.hidden || !stage.isConnected) return;
    requestAnimationFrame(() => this.showLevel());
    const loudness = this.front?.loudness();
    level.dataset["loudness"] = loudness === undefined ? "unknown" : "known";
    const height = Math.min(Math.sqrt(loudness ?? 0.1) * 1.4, 1);
    level.style.setProperty("--level", height.toFixed(3));
  }
}
