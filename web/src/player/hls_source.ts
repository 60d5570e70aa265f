// Plays by LL-HLS: with hls.js where there is Media Source Extensions, else by the browser itself.

import type Hls from "hls.js";
import type { ErrorData, Fragment, LevelDetails } from "hls.js";
import { asFault, Fault, refusal } from "../fault.js";
import { sorted, type Layers, type LayerWish } from "../layers.js";
import { everySecond, pathFor } from "../page.js";
import { NOTHING, type Numbers } from "../stats.js";
import { programTimeMs, Shown, type Piece } from "./clock.js";
import type { Reports } from "./director.js";
import type { Habits } from "./layer_choice.js";
import { layersOf, spareLevels } from "./levels.js";
import { eachFrame, whenReady, type Source, type Surroundings } from "./source.js";

/** How long the server may take to answer, and the first picture to come. */
const ANSWER_WITHIN_MS = 8_000;
const READY_WITHIN_MS = 15_000;
/** How long until what cannot be played is looked at again. */
const LOOK_AGAIN_MS = 6_000;
/** Nothing has moved for so long: begin anew. */
const STALLED_SECONDS_MAX = 12;
/** Whoever is so much further behind than meant skips to live. */
const BEHIND_SECONDS_MAX = 4;
/** Who begins is put closer to live if that gains so much, and leaves so much to play. */
const SKIP_SECONDS_MIN = 0.3;
const AHEAD_SECONDS_MIN = 0.5;
/** After each stall so much more is kept, for the network that made it. */
const STALL_SECONDS = 0.25;
/** Catching up is not to be heard. */
const CATCH_UP_RATE_MAX = 1.06;

type Constructor = typeof Hls;

/** The module is its own file, fetched only by who needs it. */
async function hlsJs(): Promise<Constructor> {
  return (await import("hls.js")).default;
}

function hasMediaSource(): boolean {
  return "ManagedMediaSource" in globalThis || "MediaSource" in globalThis;
}

function playsNatively(): boolean {
  return document.createElement("video").canPlayType("application/vnd.apple.mpegurl") !== "";
}

/** Playing by LL-HLS is possible at all. */
export function hasHls(): boolean {
  return hasMediaSource() || playsNatively();
}

/** One playback. */
export class HlsSource implements Source {
  readonly protocol = "hls";
  readonly video: HTMLVideoElement;
  readonly isAway = false;
  readonly viewers = undefined;
  numbers: Numbers = NOTHING;
  layers: Layers | undefined;
  private readonly stopped = new AbortController();
  private readonly halts: (() => void)[] = [];
  private readonly shown = new Shown<number>();
  private hls: Hls | undefined;
  private details: LevelDetails | undefined;
  private audioDetails: LevelDetails | undefined;
  private bytes = 0;
  private hasRecovered = false;

  constructor(private readonly around: Surroundings, private readonly reports: Reports) {
    this.video = around.video;
    void this.run().catch((thrown: unknown) => this.fail(asFault(thrown)));
  }

  stop(): void {
    if (this.stopped.signal.aborted) return;
    this.stopped.abort();
    for (const halt of this.halts) halt();
    if (this.hls !== undefined) this.hls.destroy();
    if (this.video.hasAttribute("src")) {
      this.video.removeAttribute("src");
      this.video.load();
    }
  }

  resume(): void {
    this.toLive();
    this.around.play();
  }

  /** hls.js takes a layer from the next segment on: what is loaded is played. */
  ask({ layer }: LayerWish, { isFullSize }: Habits): void {
    const { hls, layers } = this;
    if (hls === undefined || layers === undefined) return;
    if (hls.capLevelToPlayerSize === isFullSize) hls.capLevelToPlayerSize = !isFullSize;
    const ids = layersOf(hls.levels).map(({ id }) => id);
    const level = layer?.id === undefined ? -1 : ids.indexOf(layer.id);
    if (level !== hls.manualLevel) hls.nextLevel = level;
  }

  loudness(): undefined {
    return undefined;
  }

  mediaTimeMs(): number | undefined {
    const { video } = this;
    const shown = document.hidden ? undefined : this.shown.at(performance.now());
    const mediaTime = shown ?? video.currentTime;
    if (this.hls === undefined) {
      const start = (video as { getStartDate?: () => Date }).getStartDate?.().getTime();
      return start === undefined || Number.isNaN(start) ? undefined : start + mediaTime * 1000;
    }
    const details = this.details ?? this.audioDetails;
    return details === undefined ? undefined : programTimeMs(piecesOf(details), mediaTime);
  }

  private async run(): Promise<void> {
    const { server, stream, token } = this.around;
    const query = token === "" ? "" : `?token=${encodeURIComponent(token)}`;
    const url = `${server}${pathFor("hls", stream)}/index.m3u8${query}`;
    const { signal } = this.stopped;
    // The server packages only what is asked for, so that the first question should be early; and
    // its refusals have words that players of playlists do not pass on.
    const [, constructor] = await Promise.all([
      this.begin(url),
      hasMediaSource() ? hlsJs() : undefined,
    ]);
    if (signal.aborted) return;
    whenReady(this.video, signal, () => {
      clearTimeout(late);
      this.closeUp(() => this.reports.ready());
    });
    const late = setTimeout(() => {
      this.fail(new Fault("no-path", "The stream does not come in by HLS."));
    }, READY_WITHIN_MS);
    this.halts.push(() => clearTimeout(late));
    this.watch();
    if (constructor !== undefined && constructor.isSupported()) this.playWith(constructor, url);
    else if (playsNatively()) this.playNatively(url);
    else this.fail(new Fault("unplayable", "This browser cannot play HLS."));
  }

  private async begin(url: string): Promise<void> {
    const timer = setTimeout(() => this.fail(unreachable()), ANSWER_WITHIN_MS);
    let response: Response;
    try {
      response = await fetch(url, { signal: this.stopped.signal });
    } catch {
      throw unreachable();
    } finally {
      clearTimeout(timer);
    }
    if (!response.ok) throw await refusal(response, "watch");
    await response.text();
    this.reports.flowing();
  }

  private playWith(constructor: Constructor, url: string): void {
    // What was played stays until the browser needs its room. Where hls.js (1.7.4) removes it while
    // a part is being added, it forgets parts that it has, or that it is done with removing; it may
    // then fetch no sound until the segment is over, and stalls.
    const hls = new constructor({
      lowLatencyMode: true,
      backBufferLength: Infinity,
      maxLiveSyncPlaybackRate: CATCH_UP_RATE_MAX,
      capLevelToPlayerSize: true,
      liveSyncOnStallIncrease: STALL_SECONDS,
    });
    this.hls = hls;
    const { Events } = constructor;
    hls.on(Events.LEVEL_UPDATED, (_, { details }) => {
      this.details = details;
    });
    hls.on(Events.AUDIO_TRACK_UPDATED, (_, { details }) => {
      this.audioDetails = details;
    });
    hls.on(Events.FRAG_BUFFERED, (_, { stats }) => {
      this.bytes += stats.loaded;
    });
    hls.on(Events.ERROR, (_, data) => {
      if (data.fatal) this.recover(constructor, hls, data);
    });
    hls.on(Events.MANIFEST_PARSED, () => {
      for (const index of spareLevels(hls.levels)) hls.removeLevel(index);
      this.readLayers(hls);
    });
    for (const event of [Events.LEVELS_UPDATED, Events.LEVEL_SWITCHED] as const) {
      hls.on(event, () => this.readLayers(hls));
    }
    hls.loadSource(url);
    hls.attachMedia(this.video);
    this.around.play();
  }

  private readLayers(hls: Hls): void {
    const all = layersOf(hls.levels);
    this.layers = { all: sorted(all), current: all[hls.currentLevel]?.id };
    this.around.onLayers();
  }

  /** Media that cannot be decoded is begun anew once; what else is fatal ends the attempt. */
  private recover(constructor: Constructor, hls: Hls, data: ErrorData): void {
    const { MANIFEST_INCOMPATIBLE_CODECS_ERROR, BUFFER_ADD_CODEC_ERROR } = constructor.ErrorDetails;
    const incompatible: string[] = [MANIFEST_INCOMPATIBLE_CODECS_ERROR, BUFFER_ADD_CODEC_ERROR];
    if (incompatible.includes(data.details)) {
      const words = "This browser cannot play what is published.";
      return this.fail(new Fault("unplayable", words, LOOK_AGAIN_MS));
    }
    if (data.type === constructor.ErrorTypes.MEDIA_ERROR && !this.hasRecovered) {
      this.hasRecovered = true;
      hls.recoverMediaError();
      return;
    }
    const status = data.response?.code;
    if (status === 404) return this.fail(over());
    if (data.type === constructor.ErrorTypes.NETWORK_ERROR) return this.fail(unreachable());
    this.fail(new Fault("lost", "The stream could not be played on."));
  }

  private playNatively(url: string): void {
    const { signal } = this.stopped;
    const failed = () => this.fail(new Fault("lost", "The stream could not be played on."));
    this.video.addEventListener("error", failed, { signal });
    this.video.src = url;
    this.around.play();
  }

  /** Keeps the numbers, skips what was missed, and notices the end. */
  private watch(): void {
    const { signal } = this.stopped;
    const { video } = this;
    video.addEventListener("ended", () => this.fail(over()), { signal });
    this.halts.push(
      eachFrame(video, ({ expectedDisplayTime, mediaTime }) => {
        this.shown.push(expectedDisplayTime, mediaTime);
      }),
    );
    // A jump leaves frames behind that are not on the screen any more.
    video.addEventListener("seeking", () => this.shown.clear(), { signal });
    let stood = 0;
    let before = { at: performance.now(), bytes: 0, frames: 0, time: 0 };
    this.halts.push(
      everySecond(() => {
        const frames = framesOf(video);
        const now = { at: performance.now(), bytes: this.bytes, frames, time: video.currentTime };
        this.numbers = this.read(before, now);
        const isStanding = !video.paused && now.time === before.time;
        stood = isStanding ? stood + 1 : 0;
        before = now;
        if (this.isFarBehind()) this.toLive();
        if (stood >= STALLED_SECONDS_MAX) {
          this.fail(new Fault("lost", "Nothing has come in for a while."));
        }
      }),
    );
  }

  private read(before: Reading, now: Reading): Numbers {
    const { video, hls } = this;
    const seconds = Math.max((now.at - before.at) / 1000, 0.001);
    const numbers: Numbers = { packets: now.bytes, pictures: now.frames };
    if (video.videoWidth > 0) {
      numbers.width = video.videoWidth;
      numbers.height = video.videoHeight;
      numbers.framesPerSecond = Math.max(now.frames - before.frames, 0) / seconds;
    }
    const level = hls?.levels[hls.currentLevel] ?? hls?.levels[0];
    if (hls !== undefined) numbers.bitrateBps = ((now.bytes - before.bytes) * 8) / seconds;
    if (level?.videoCodec !== undefined) numbers.videoCodec = codecOf(level.videoCodec);
    const sound = hls?.audioTracks[hls.audioTrack]?.audioCodec ?? level?.audioCodec;
    if (sound !== undefined) numbers.audioCodec = codecOf(sound);
    const ahead = bufferedAhead(video);
    if (ahead !== undefined) numbers.bufferMs = ahead * 1000;
    return numbers;
  }

  private isFarBehind(): boolean {
    const { hls, video } = this;
    if (hls === undefined || video.paused) return false;
    const { latency, targetLatency } = hls;
    return targetLatency !== null && latency - targetLatency > BEHIND_SECONDS_MAX;
  }

  /**
   * Loading took time, in which live went on: what is here already is skipped as far as it is
   * older than need be, before anybody sees it.
   */
  private closeUp(done: () => void): void {
    const { hls, video } = this;
    const ahead = bufferedAhead(video) ?? 0;
    const surplus = (hls?.latency ?? 0) - (hls?.targetLatency ?? 0);
    const skipped = Math.min(surplus, ahead - AHEAD_SECONDS_MIN);
    if (!(skipped > SKIP_SECONDS_MIN)) return done();
    video.addEventListener("seeked", done, { once: true, signal: this.stopped.signal });
    video.currentTime += skipped;
  }

  private toLive(): void {
    const { hls, video } = this;
    const ranges = video.seekable;
    const edge = ranges.length > 0 ? ranges.end(ranges.length - 1) : undefined;
    const live = hls === undefined ? edge : hls.liveSyncPosition ?? edge;
    if (live !== undefined && live > video.currentTime) video.currentTime = live;
  }

  private fail(fault: Fault): void {
    if (this.stopped.signal.aborted) return;
    this.stop();
    this.reports.failed(fault);
  }
}

interface Reading {
  at: number;
  bytes: number;
  frames: number;
  time: number;
}

function unreachable(): Fault {
  return new Fault("unreachable", "The server does not answer.");
}

function over(): Fault {
  return new Fault("not-live", "The stream has ended.");
}

/** The segments that are complete, and the one that is being made. */
function piecesOf(details: LevelDetails): Piece[] {
  const fragments: (Fragment | undefined)[] = [...details.fragments, details.fragmentHint];
  return fragments.flatMap((fragment) => {
    if (fragment === undefined) return [];
    const { start, duration, programDateTime } = fragment;
    return [{ start, duration, programDateTimeMs: programDateTime }];
  });
}

function framesOf(video: HTMLVideoElement): number {
  return video.getVideoPlaybackQuality?.().totalVideoFrames ?? 0;
}

function bufferedAhead({ buffered, currentTime }: HTMLVideoElement): number | undefined {
  for (let index = 0; index < buffered.length; index += 1) {
    const [start, end] = [buffered.start(index), buffered.end(index)];
    if (start <= currentTime && currentTime <= end) return end - currentTime;
  }
  return undefined;
}

/** Names the codec of RFC 6381 as WebRTC does. */
function codecOf(codecs: string): string {
  const [name = ""] = codecs.split(".");
  const names: Record<string, string> = {
    avc1: "H264",
    avc3: "H264",
    hvc1: "H265",
    hev1: "H265",
    av01: "AV1",
    mp4a: "AAC",
    opus: "OPUS",
  };
  return names[name.toLowerCase()] ?? name;
}
