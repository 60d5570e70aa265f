// Plays by WHEP: one session, from the offer to its end.

import { asFault, Fault } from "../fault.js";
import { bodyOf, remembering, type Layers, type LayerWish } from "../layers.js";
import { everySecond, pathFor } from "../page.js";
import type { Session, StreamEvent } from "../session.js";
import { Meter, NOTHING, type Numbers } from "../stats.js";
import { view } from "../whep.js";
import { playoutMs, RtpClock, Shown } from "./clock.js";
import type { Reports } from "./director.js";
import { eachFrame, whenReady, type Source, type Surroundings } from "./source.js";
import { TIMERS } from "./timers.js";
import { Wishes, type Answer } from "./wishes.js";

/**
 * Nothing at all for so long means that the session is worth no more; a new one asks anew. The
 * server keeps viewers of a publisher that has left for half a minute, unless told otherwise.
 */
const SILENCE_SECONDS_MAX = 45;
/** After so long the viewer is told that nothing comes. */
const SILENCE_SECONDS_SHOWN = 3;
/** After so long something else is tried, where the publisher is known to be there. */
const SILENCE_SECONDS_STALLED = 2;
/** An estimate that is older than that is none. */
const ESTIMATE_STALE_MS = 2_000;
/** What RTP timestamps count (RFC 6184 §8.2.1, RFC 7587 §4.2). */
const TICKS_PER_SECOND = { video: 90_000, audio: 48_000 };

/** Playing by WHEP is possible at all. */
export function hasWebRtc(): boolean {
  return typeof RTCPeerConnection === "function";
}

/** One session. */
export class WhepSource implements Source {
  readonly protocol = "whep";
  readonly video: HTMLVideoElement;
  isAway = false;
  viewers: number | undefined;
  numbers: Numbers = NOTHING;
  layers: Layers | undefined;
  private readonly wishes = new Wishes((body) => this.choose(body), TIMERS);
  /** Nobody sees the picture, and the server knows it. */
  private isUnseen = false;
  private readonly stopped = new AbortController();
  private readonly media = new MediaStream();
  private readonly clock = new RtpClock();
  private readonly shown = new Shown<number>();
  private readonly ssrcs: { audio?: number; video?: number } = {};
  private session: Session | undefined;
  private isToldAway = false;
  /** Of the statistics, in ms; what is left where the server tells no times. */
  private estimatedPlayout: unknown;
  private estimatedAt = 0;

  constructor(private readonly around: Surroundings, private readonly reports: Reports) {
    this.video = around.video;
    void this.run();
  }

  stop(): void {
    if (this.stopped.signal.aborted) return;
    this.stopped.abort();
    this.wishes.stop();
    this.session?.end();
    if (this.video.srcObject === this.media) this.video.srcObject = null;
  }

  resume(): void {
    this.around.play();
  }

  ask(wish: LayerWish): void {
    this.isUnseen = wish.isPaused;
    if (this.session?.hasLayers === true) this.wishes.want(bodyOf(wish));
  }

  loudness(): number | undefined {
    return this.receiver("audio")?.getSynchronizationSources()[0]?.audioLevel ?? 0;
  }

  mediaTimeMs(): number | undefined {
    const now = performance.now();
    // What is behind another tab is not drawn, and plays on.
    const frame = document.hidden ? undefined : this.shown.at(now);
    const byFrame = frame === undefined ? undefined : this.wallTimeMs("video", frame);
    return byFrame ?? this.playedOutMs() ?? this.estimatedMs(now);
  }

  private async run(): Promise<void> {
    const { signal } = this.stopped;
    const halts: (() => void)[] = [];
    let fault: Fault;
    try {
      const session = await this.open();
      this.session = session;
      if (signal.aborted) return session.end();
      this.around.onLayers();
      const leave = () => session.end();
      window.addEventListener("pagehide", leave);
      halts.push(() => window.removeEventListener("pagehide", leave));
      await session.connected(signal);
      if (signal.aborted) return;
      halts.push(this.watchFrames());
      fault = await this.lasts(session, signal, halts);
    } catch (thrown) {
      fault = asFault(thrown);
    } finally {
      for (const halt of halts) halt();
    }
    this.numbers = NOTHING;
    if (!signal.aborted) this.reports.failed(fault);
  }

  private open(): Promise<Session> {
    const { server, stream, token } = this.around;
    const url = server + pathFor("whep", stream);
    const { video, media } = this;
    whenReady(video, this.stopped.signal, () => this.reports.ready());
    return view({ role: "watch", url, token }, (track) => {
      if (this.stopped.signal.aborted) return;
      media.addTrack(track);
      if (video.srcObject !== media) video.srcObject = media;
      this.reports.flowing();
      this.around.play();
    });
  }

  private async choose(body: string): Promise<Answer> {
    const status = await this.session?.choose(body);
    if (status !== undefined && status >= 200 && status < 300) return "taken";
    // Of what is wrong with it nothing changes; too many, or a server that is not well, pass.
    const isFinal = status !== undefined && status >= 400 && status < 500;
    return isFinal && status !== 408 && status !== 429 ? "refused" : "again";
  }

  private watchFrames(): () => void {
    return eachFrame(this.video, ({ expectedDisplayTime, rtpTimestamp }) => {
      if (rtpTimestamp !== undefined) this.shown.push(expectedDisplayTime, rtpTimestamp);
    });
  }

  /** Until the session is over, or nothing has come in for too long; gives the reason. */
  private async lasts(
    session: Session,
    signal: AbortSignal,
    halts: (() => void)[],
  ): Promise<Fault> {
    const meter = new Meter();
    let silentSeconds = 0;
    let giveUp: (fault: Fault) => void;
    const givenUp = new Promise<Fault>((resolve) => (giveUp = resolve));
    session.listen((event) => {
      const fault = this.hear(event);
      if (fault !== undefined) giveUp(fault);
    });
    const halt = everySecond(async () => {
      const before = this.numbers.packets;
      const report = await session.peer.getStats();
      this.numbers = meter.take(report);
      this.keepEstimate(report);
      // Whoever asked for no picture, of a stream without sound, gets nothing.
      const isSilent = this.numbers.packets === before && !this.isUnseen;
      silentSeconds = isSilent ? silentSeconds + 1 : 0;
      this.away(isSilent && (this.isToldAway || silentSeconds >= SILENCE_SECONDS_SHOWN));
      // Without events nobody knows whether the publisher is there.
      const isMissed = session.isListening && !this.isToldAway && this.video.srcObject !== null;
      this.reports.stalled(isMissed && silentSeconds >= SILENCE_SECONDS_STALLED);
      if (silentSeconds < SILENCE_SECONDS_MAX) return;
      giveUp(new Fault("lost", "Nothing has come in for a while."));
    });
    halts.push(halt);
    const over = session.over(signal).then((how) =>
      how === "ended"
        ? new Fault("ended", "The stream has ended.", 300)
        : new Fault("lost", "The network was lost."),
    );
    return Promise.race([over, givenUp]);
  }

  private hear(event: StreamEvent): Fault | undefined {
    switch (event.name) {
      case "reconnect":
        return new Fault("ended", "The stream goes on in another format.", 200);
      case "viewercount":
        this.viewers = event.viewers;
        return undefined;
      case "clock":
        this.clock.told(event.ssrc, event.rtpTimestamp, event.wallTimeMs);
        return undefined;
      case "layers":
        this.takeLayers(event.pictures);
        return undefined;
      default:
        this.isToldAway = event.name === "inactive";
        if (this.isToldAway) this.away(true);
        return undefined;
    }
  }

  private takeLayers(pictures: Map<string, Layers>): void {
    const [first] = pictures.values();
    const mine = pictures.get(this.mid("video") ?? "") ?? first;
    if (mine === undefined || this.session?.hasLayers !== true) return;
    this.layers = remembering(this.layers, mine);
    this.around.onLayers();
  }

  private mid(kind: "audio" | "video"): string | null | undefined {
    const all = this.session?.peer.getTransceivers();
    return all?.find(({ receiver }) => receiver.track.kind === kind)?.mid;
  }

  private away(isAway: boolean): void {
    if (this.isAway === isAway) return;
    this.isAway = isAway;
    this.around.onChange();
  }

  private receiver(kind: "audio" | "video"): RTCRtpReceiver | undefined {
    return this.session?.peer.getReceivers().find(({ track }) => track.kind === kind);
  }

  private wallTimeMs(kind: "audio" | "video", rtpTimestamp: number): number | undefined {
    // A picture that stands for long is still the one of then.
    const ssrc = this.receiver(kind)?.getSynchronizationSources()[0]?.source ?? this.ssrcs[kind];
    if (ssrc === undefined) return undefined;
    this.ssrcs[kind] = ssrc;
    return this.clock.wallTimeMs(ssrc, rtpTimestamp, TICKS_PER_SECOND[kind]);
  }

  /** By what was last handed to screen or loudspeaker: where no frame tells its timestamp. */
  private playedOutMs(): number | undefined {
    const kind = this.numbers.pictures > 0 ? "video" : "audio";
    const [newest] = this.receiver(kind)?.getSynchronizationSources() ?? [];
    if (newest?.rtpTimestamp === undefined) return undefined;
    return this.wallTimeMs(kind, newest.rtpTimestamp);
  }

  private keepEstimate(report: RTCStatsReport): void {
    this.estimatedPlayout = undefined;
    report.forEach((entry: Record<string, unknown>) => {
      if (entry["type"] !== "inbound-rtp") return;
      if (entry["kind"] === "video" || this.estimatedPlayout === undefined) {
        this.estimatedPlayout = entry["estimatedPlayoutTimestamp"];
      }
    });
    this.estimatedAt = performance.now();
  }

  private estimatedMs(now: number): number | undefined {
    const since = now - this.estimatedAt;
    if (since > ESTIMATE_STALE_MS) return undefined;
    const serverNowMs = this.around.serverNowMs();
    const then = serverNowMs === undefined ? undefined : serverNowMs - since;
    const playout = playoutMs(this.estimatedPlayout, then);
    return playout === undefined ? undefined : playout + since;
  }
}
