// The element: properties, methods and events around one stream that plays.

import { asFault } from "../fault.js";
import type { Phase } from "../keep.js";
import { everySecond } from "../page.js";
import { PlayerAttributes } from "./attributes.js";
import { Controls, isInPip } from "./controls.js";
import { Director, type Opener, type Playing } from "./director.js";
import { Gauge } from "./gauge.js";
import { HlsSource, hasHls } from "./hls_source.js";
import { LayerControl } from "./layer_control.js";
import { Sight } from "./sight.js";
import type { Source, Surroundings } from "./source.js";
import { ServerTime } from "./time.js";
import { TIMERS } from "./timers.js";
import type {
  PlayerEventDetails,
  PlayerFault,
  PlayerLayer,
  PlayerState,
  PlayerStats,
  Protocol,
} from "./types.js";
import { View } from "./view.js";
import { hasWebRtc, WhepSource } from "./whep_source.js";

/** Whoever has paused for so long comes back to a new session. */
const PAUSE_MS_MAX = 60_000;

/** Plays one live stream: `<millrace-player stream="lot-42">`. */
export class MillracePlayer extends PlayerAttributes {
  static readonly observedAttributes = [
    "stream",
    "server",
    "token",
    "protocol",
    "muted",
    "controls",
    "poster",
    "full-size",
    "plays-hidden",
  ];

  readonly #view: View;
  readonly #gauge: Gauge;
  readonly #controls: Controls;
  readonly #sight: Sight;
  readonly #layers: LayerControl;
  #director: Director | undefined;
  #serverTime: ServerTime | undefined;
  #phase: Phase = { at: "idle" };
  #front: Source | undefined;
  #state: PlayerState = "idle";
  #protocol: Protocol | undefined;
  #token: string | undefined;
  #isWanted = false;
  #isPaused = false;
  #wasLive = false;
  #pauseTimer: ReturnType<typeof setTimeout> | undefined;
  #isRestartPlanned = false;
  /** What the viewer wants, and what the browser does not allow before a tap. */
  #muted = false;
  #isSilenced = false;
  #volume = 1;
  /** The browser has been asked to play and has not answered. */
  #isAsking = false;
  #left: AbortController | undefined;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    this.#view = new View(root, (id) => (this.layerChoice = id));
    this.#gauge = new Gauge(this.#view);
    this.#controls = new Controls(this, this.#view, (token) => {
      this.token = token;
      this.#tell("tokenchange", { token });
    });
    this.#sight = new Sight(this, this.#view.videos, () => this.#layers.update());
    this.#layers = new LayerControl({
      menu: this.#view.menu,
      sight: this.#sight,
      habits: () => ({ isFullSize: this.fullSize, playsHidden: this.playsHidden }),
      tell: (type, detail) => this.#tell(type, detail),
    });
    for (const video of this.#view.videos) this.#watch(video);
  }

  // --- properties -----------------------------------------------------------------------------

  /** The view token. As a property it does not show in the page. */
  get token(): string {
    return this.#token ?? this.getAttribute("token") ?? "";
  }
  set token(token: string) {
    this.#token = token;
    this.#restartSoon();
  }

  /** Whether there is no sound, by the viewer's wish or because the browser wants a tap first. */
  get muted(): boolean {
    return this.#muted || this.#isSilenced;
  }
  set muted(is: boolean) {
    this.#muted = is;
    if (!is) this.#isSilenced = false;
    this.#applySound();
    if (!is && this.#front !== undefined && !this.#isPaused) void this.#playFront();
  }

  /** 0 to 1. */
  get volume(): number {
    return this.#volume;
  }
  set volume(volume: number) {
    this.#volume = Math.min(Math.max(Number.isFinite(volume) ? volume : 1, 0), 1);
    this.#applySound();
  }

  get paused(): boolean {
    return this.#isPaused || this.#phase.at === "idle";
  }

  get state(): PlayerState {
    return this.#state;
  }

  /** By which way it plays now; `null` while it does not. */
  get protocol(): Protocol | null {
    return this.#front?.protocol ?? null;
  }

  /**
   * The moment of the frame on the screen (of what is heard, where there is no picture): ms since
   * the Unix epoch by the server's clock, with fractions. `null` while that is not known.
   */
  get currentMediaTime(): number | null {
    return this.#front?.mediaTimeMs() ?? null;
  }

  /** Seconds since the moment of the frame on the screen, or `null`. */
  get latency(): number | null {
    const [now, then] = [this.#serverTime?.now(), this.currentMediaTime];
    return now === undefined || then === null ? null : (now - then) / 1000;
  }

  /** The sizes in which the picture can come, the largest first; empty while that is not known. */
  get layers(): readonly PlayerLayer[] {
    return this.#layers.layers;
  }

  /** The layer that flows, by its id, or `null`. */
  get currentLayer(): string | null {
    return this.#layers.current;
  }

  /** The id of a layer that is always to flow, or `auto`. */
  get layerChoice(): string {
    return this.#layers.choice;
  }
  set layerChoice(id: string) {
    this.#layers.choose(id);
  }

  /** What flows, as of the last second. */
  get stats(): PlayerStats {
    return this.#gauge.stats;
  }

  /** The picture that is shown. It is another element after a change of protocol. */
  get video(): HTMLVideoElement {
    return this.#front?.video ?? this.#view.videos[0];
  }

  // --- methods --------------------------------------------------------------------------------

  /** Plays, at live. */
  play(): void {
    const wasPaused = this.#isPaused || !this.#isWanted;
    this.#isWanted = true;
    this.#isPaused = false;
    clearTimeout(this.#pauseTimer);
    if (this.#director === undefined || this.#phase.at === "idle") this.#start();
    else this.#front?.resume();
    this.#show();
    if (wasPaused) this.#tell("play", undefined);
  }

  /** Stops the picture where it is. */
  pause(): void {
    if (this.#isPaused || !this.#isWanted) return;
    this.#isPaused = true;
    this.#front?.video.pause();
    if (this.#phase.at !== "live") this.#director?.stop();
    this.#pauseTimer = setTimeout(() => this.#director?.stop(), PAUSE_MS_MAX);
    this.#show();
    this.#tell("pause", undefined);
  }

  /** Begins anew, whatever stands in the way. */
  retry(): void {
    this.#isWanted = true;
    this.#isPaused = false;
    this.#start();
  }

  override async requestFullscreen(options?: FullscreenOptions): Promise<void> {
    const video = this.video as HTMLVideoElement & { webkitEnterFullscreen?: () => void };
    // iPhones know full screen for videos only.
    if (super.requestFullscreen !== undefined) await super.requestFullscreen(options);
    else video.webkitEnterFullscreen?.();
  }

  async requestPictureInPicture(): Promise<void> {
    await this.video.requestPictureInPicture();
  }

  // --- life -----------------------------------------------------------------------------------

  connectedCallback(): void {
    this.#left = new AbortController();
    const { signal } = this.#left;
    const hasten = () => this.#director?.hasten();
    window.addEventListener("online", hasten, { signal });
    const seen = () => document.visibilityState === "visible" && hasten();
    document.addEventListener("visibilitychange", seen, { signal });
    // A page that comes back from the browser's cache has lost its session.
    const shown = ({ persisted }: PageTransitionEvent) => persisted && this.#restartSoon();
    window.addEventListener("pageshow", shown, { signal });
    const pressed = (event: KeyboardEvent) => this.#controls.onKey(event);
    document.addEventListener("keydown", pressed, { signal });
    const halt = everySecond(() => this.#tick());
    signal.addEventListener("abort", halt);
    this.#sight.start();
    if (this.autoplay) this.#isWanted = true;
    this.#start();
  }

  disconnectedCallback(): void {
    this.#left?.abort();
    this.#left = undefined;
    clearTimeout(this.#pauseTimer);
    this.#director?.stop();
    this.#serverTime?.stop();
    this.#director = this.#serverTime = undefined;
    this.#sight.stop();
  }

  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    if (before === after) return;
    if (name === "muted") this.muted = after !== null;
    else if (name === "controls") this.#view.controls.hidden = !this.controls;
    else if (name === "poster") this.#view.poster.src = this.poster;
    else if (name === "full-size" || name === "plays-hidden") this.#layers.update();
    else this.#restartSoon();
    if (name === "stream") this.#layers.forget();
    this.#show();
  }

  /** Once for however many attributes change together. */
  #restartSoon(): void {
    // What a page is written with is told before the element knows that it is in the page.
    if (this.#isRestartPlanned || this.#left === undefined) return;
    this.#isRestartPlanned = true;
    queueMicrotask(() => {
      this.#isRestartPlanned = false;
      if (this.isConnected) this.#start();
    });
  }

  #start(): void {
    this.#director?.stop();
    this.#serverTime?.stop();
    this.#director = this.#serverTime = undefined;
    this.#wasLive = false;
    const { stream } = this;
    this.#view.name(stream);
    if (stream === "" || !this.#isWanted || this.#isPaused) return this.#show();
    let server: string;
    try {
      ({ server } = this);
    } catch (error) {
      return this.#onPhase({ at: "stopped", fault: asFault(error) }, undefined);
    }
    const [first, second] = this.#view.videos;
    const whep: Opener = (reports) => new WhepSource(this.#around(server, first), reports);
    const hls: Opener = (reports) => new HlsSource(this.#around(server, second), reports);
    this.#director = new Director(
      { whep: hasWebRtc() ? whep : undefined, hls: hasHls() ? hls : undefined },
      this.protocolChoice,
      TIMERS,
      (phase, front) => this.#onPhase(phase, front),
    );
    this.#director.start();
  }

  #around(server: string, video: HTMLVideoElement): Surroundings {
    return {
      server,
      video,
      stream: this.stream,
      token: this.token,
      serverNowMs: () => this.#serverTime?.now(),
      onChange: () => this.#show(),
      onLayers: () => this.#layers.update(),
      play: () => {
        if (this.#front?.video === video) return void this.#playFront();
        video.muted = true;
        video.play().catch(() => {
          // What is not seen may wait.
        });
      },
    };
  }

  #onPhase(phase: Phase, front: Playing | undefined): void {
    this.#phase = phase;
    const before = this.#front;
    this.#front = front as Source | undefined;
    if (this.#front !== undefined && this.#front !== before) this.#swap(before, this.#front);
    this.#layers.bring(this.#front);
    const isOver = this.#wasLive && phase.at === "waiting" && phase.fault.kind === "not-live";
    if (phase.at === "live") {
      this.#wasLive = true;
      // Not before: what is asked at the start is what makes it play.
      this.#serverTime ??= new ServerTime(`${this.server}/api/v1/time`);
    }
    if (this.#isPaused && phase.at !== "live" && phase.at !== "idle") this.#director?.stop();
    this.#view.phase(phase, this.stream);
    this.#show();
    if ("fault" in phase && isError(phase.fault)) this.#tell("error", told(phase.fault));
    if (!isOver) return;
    this.#wasLive = false;
    this.#tell("ended", undefined);
  }

  /** Puts another picture before the viewer. */
  #swap(before: Source | undefined, front: Source): void {
    this.#gauge.restart();
    this.#view.bring(front.video);
    if (this.#isPaused) return front.video.pause();
    const wasInPip = before !== undefined && isInPip(before.video);
    void this.#playFront();
    if (before !== undefined) before.video.muted = true;
    if (wasInPip) front.video.requestPictureInPicture().catch(() => undefined);
  }

  /** Plays with sound where the browser allows it, else without, and offers the sound. */
  async #playFront(): Promise<void> {
    const video = this.#front?.video;
    if (video === undefined || this.#isPaused) return;
    this.#applySound();
    this.#isAsking = true;
    try {
      await video.play();
      if (!this.#isSilenced) this.#view.offer(undefined, "");
    } catch (error) {
      // Any other error means that a newer play() took over.
      if (!(error instanceof DOMException) || error.name !== "NotAllowedError") return;
      if (video !== this.#front?.video) return;
      if (video.muted) return this.#view.offer("play", "Tap to play");
      this.#isSilenced = true;
      this.#view.offer("sound", "Tap for sound");
      void this.#playFront();
    } finally {
      this.#isAsking = false;
    }
  }

  #applySound(): void {
    const video = this.#front?.video;
    if (video !== undefined) {
      video.muted = this.muted;
      video.volume = this.#volume;
    }
    this.#view.sound(this.muted, this.#volume);
  }

  /** Whatever else is not shown by a change of the phase. */
  #show(): void {
    const isAway = this.#phase.at === "live" && this.#front?.isAway === true;
    if (this.#phase.at === "live") {
      this.#view.veil.hidden = !isAway;
      if (isAway) this.#view.away((this.#front?.numbers.packets ?? 0) > 0);
      else this.#view.say("", "");
    }
    const state = this.#stateNow(isAway);
    const isIdle = state === "idle" || state === "paused";
    this.#view.paused(isIdle);
    this.#view.poster.hidden = this.poster === "" || this.#front !== undefined;
    if (isIdle) this.#view.offer(this.stream === "" ? undefined : "play", "Play");
    else if (!this.#isSilenced && state !== this.#state) this.#view.offer(undefined, "");
    const protocol = this.#front?.protocol;
    this.#view.tells(isAway ? undefined : protocol, this.#gauge.shownLatency);
    if (this.#front === undefined) this.#gauge.restart();
    const fault = "fault" in this.#phase ? told(this.#phase.fault) : undefined;
    if (state !== this.#state) {
      this.#state = state;
      this.#tell("statechange", { state, fault });
    }
    if (protocol !== this.#protocol) {
      this.#protocol = protocol;
      this.#tell("protocolchange", { protocol });
    }
  }

  #stateNow(isAway: boolean): PlayerState {
    if (this.#isPaused) return "paused";
    if (this.#phase.at === "live") return isAway ? "waiting" : "playing";
    return this.#phase.at;
  }

  #tick(): void {
    const { latency } = this;
    this.#view.tell(this.#phase, this.stream);
    if (this.#phase.at === "live") this.#show();
    if (this.#front === undefined || this.#isPaused) return;
    this.#gauge.read(this.#front, latency);
    this.#tell("stats", this.#gauge.stats);
  }

  #tell<K extends keyof PlayerEventDetails>(type: K, detail: PlayerEventDetails[K]): void {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  // --- what happens to the pictures -------------------------------------------------------------

  #watch(video: HTMLVideoElement): void {
    video.addEventListener("volumechange", () => this.#onVolume(video));
    // By a key of the system, the window of a picture in picture, a phone call.
    video.addEventListener("pause", () => {
      const isOwn = this.#isAsking || video.ended || video !== this.#front?.video;
      if (!isOwn && video.paused) this.pause();
    });
    video.addEventListener("play", () => {
      if (video === this.#front?.video && this.#isPaused) this.play();
    });
  }

  #onVolume(video: HTMLVideoElement): void {
    if (video !== this.#front?.video) return;
    if (!video.muted) {
      this.#muted = this.#isSilenced = false;
      this.#view.offer(undefined, "");
    } else if (!this.#isSilenced) {
      this.#muted = true;
    }
    this.#volume = video.volume;
    this.#view.sound(this.muted, this.#volume);
    this.#tell("volumechange", { volume: this.#volume, muted: this.muted });
  }
}

/** That a stream is not live, or goes on anew, is how things are. */
function isError({ kind }: PlayerFault): boolean {
  return kind !== "not-live" && kind !== "ended";
}

function told({ kind, message }: PlayerFault): PlayerFault {
  return { kind, message };
}

declare global {
  interface HTMLElementTagNameMap {
    "millrace-player": MillracePlayer;
  }
}
