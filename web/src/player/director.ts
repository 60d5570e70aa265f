// Decides by which protocol a stream plays: WHEP (over UDP or, by ICE itself, TCP) where that gets
// through, else LL-HLS, and back to WHEP as soon as that works. Pure: time, chance and the two ways
// to play come in from outside.

import { Fault } from "../fault.js";
import type { Phase } from "../keep.js";
import type { Timers } from "./timers.js";
import type { Protocol, ProtocolChoice } from "./types.js";

/** What one attempt to play tells, never before its opener has returned. */
export interface Reports {
  /** The first media is here. */
  flowing: () => void;
  /** There is something to see, or to hear where there is nothing to see. */
  ready: () => void;
  /** Nothing comes though the publisher is there, as far as is known; or it comes again. */
  stalled: (isStalled: boolean) => void;
  /** It is over, for this reason; told once. */
  failed: (fault: Fault) => void;
}

/** One attempt to play, which goes on until it has failed or is stopped. */
export interface Playing {
  readonly protocol: Protocol;
  stop: () => void;
}

export type Opener = (reports: Reports) => Playing;

/** LL-HLS is got ready so long after WHEP began without media.. */
const PREPARE_MS = 2_000;
/** ..and shown from then on. */
const FALL_BACK_MS = 4_000;
/** So long after an established session fell silent, LL-HLS takes over. */
const STALLED_MS = 2_000;
/** So many failures of WHEP.. */
const FAILURES_MAX = 2;
/** ..within so long mean that it keeps failing. */
const FAILURES_WITHIN_MS = 20_000;
/** WHEP that has lasted so long works again. */
const SETTLED_MS = 60_000;
/** How long WHEP is left alone while LL-HLS plays: doubled each time, up to a bound. */
const FIRST_PROBE_MS = 5_000;
const LONGEST_PROBE_MS = 60_000;
/** A probe that has shown nothing by then will not. */
const PROBE_LIMIT_MS = 20_000;
/** Where LL-HLS cannot play the stream it is left alone for so long. */
const USELESS_MS = 30_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

interface Attempt {
  playing: Playing | undefined;
  isFlowing: boolean;
  isReady: boolean;
  begunAt: number;
  shownAt: number | undefined;
}

/** Plays one stream until it is stopped. */
export class Director {
  private attempts: { whep?: Attempt | undefined; hls?: Attempt | undefined } = {};
  private front: Attempt | undefined;
  private phase: Phase = { at: "idle" };
  private last: Fault | undefined;
  private waitMs = FIRST_WAIT_MS;
  /** LL-HLS took over because WHEP did not get through: it is the first choice until WHEP does. */
  private prefersHls = false;
  /** What is ready by LL-HLS may be shown. */
  private mayShowHls = false;
  private hlsUselessUntil = 0;
  private failures: number[] = [];
  private probes = 0;
  /** Timers of this round, by what they are for. */
  private readonly pending = new Map<string, () => void>();

  constructor(
    private readonly openers: { whep?: Opener | undefined; hls?: Opener | undefined },
    private readonly choice: ProtocolChoice,
    private readonly timers: Timers,
    /** Told of each change of the phase and of what is to be seen. */
    private readonly onChange: (phase: Phase, front: Playing | undefined) => void,
  ) {}

  /** Begins, or begins anew. */
  start(): void {
    this.endAll();
    this.last = undefined;
    this.waitMs = FIRST_WAIT_MS;
    this.round();
  }

  /** Ends whatever runs. */
  stop(): void {
    this.endAll();
    this.enter({ at: "idle" });
  }

  /** The network or the viewer is back: what waits need wait no longer. */
  hasten(): void {
    if (this.phase.at === "waiting") this.round();
    else if (this.pending.has("probe")) this.probe();
  }

  private round(): void {
    this.endAll();
    this.mayShowHls = false;
    if (!this.canWhep() && !this.canHls()) return this.giveUp();
    this.enter({ at: "connecting", after: this.last });
    if (!this.canWhep() || (this.prefersHls && this.canHls())) {
      return this.takeHls();
    }
    this.open("whep");
    this.planHls(PREPARE_MS, FALL_BACK_MS);
  }

  /** There is nothing to play by. */
  private giveUp(): void {
    const words =
      this.choice === "whep"
        ? "This browser has no WebRTC."
        : "This browser plays neither WebRTC nor HLS.";
    this.enter({ at: "stopped", fault: new Fault("refused", words) });
  }

  private canWhep(): boolean {
    return this.openers.whep !== undefined && this.choice !== "hls";
  }

  private canHls(): boolean {
    if (this.openers.hls === undefined || this.choice === "whep") return false;
    return !this.canWhep() || this.timers.now() >= this.hlsUselessUntil;
  }

  /** Gets LL-HLS ready, and shows it, after so long; unless media comes by WHEP before. */
  private planHls(prepareMs: number, showMs: number): void {
    this.after("prepare", prepareMs, () => this.prepareHls());
    this.after("fall back", showMs, () => this.takeHls());
  }

  private dropHlsPlan(): void {
    this.cancel("prepare");
    this.cancel("fall back");
    if (this.attempts.hls !== this.front) this.end("hls");
  }

  private prepareHls(): void {
    if (this.canHls() && this.attempts.hls === undefined) this.open("hls");
  }

  /** From now on LL-HLS is shown as soon as it is ready. */
  private takeHls(): void {
    this.cancel("fall back");
    this.prepareHls();
    this.mayShowHls = true;
    if (this.attempts.hls?.isReady === true) this.bring("hls");
  }

  private open(protocol: Protocol): void {
    const opener = this.openers[protocol];
    if (opener === undefined) return;
    const attempt: Attempt = {
      playing: undefined,
      isFlowing: false,
      isReady: false,
      begunAt: this.timers.now(),
      shownAt: undefined,
    };
    this.attempts[protocol] = attempt;
    const ifRuns = (act: () => void) => {
      if (this.attempts[protocol] === attempt) act();
    };
    attempt.playing = opener({
      flowing: () => ifRuns(() => this.flows(protocol, attempt)),
      ready: () => ifRuns(() => this.readies(protocol, attempt)),
      stalled: (isStalled) => ifRuns(() => this.stalls(protocol, attempt, isStalled)),
      failed: (fault) => ifRuns(() => this.fails(protocol, attempt, fault)),
    });
  }

  private flows(protocol: Protocol, attempt: Attempt): void {
    attempt.isFlowing = true;
    if (protocol !== "whep" || this.front !== undefined) return;
    // Media gets through; a picture is not far. Where a browser plays only after a tap there is
    // none before that, and the viewer must see where to tap.
    this.dropHlsPlan();
    this.bring("whep");
  }

  private readies(protocol: Protocol, attempt: Attempt): void {
    attempt.isReady = attempt.isFlowing = true;
    if (protocol === "whep" || this.mayShowHls) this.bring(protocol);
  }

  private stalls(protocol: Protocol, attempt: Attempt, isStalled: boolean): void {
    if (protocol !== "whep" || attempt !== this.front) return;
    if (!isStalled) this.dropHlsPlan();
    else if (this.canHls()) this.planHls(0, STALLED_MS);
  }

  /** Puts what one attempt plays before the viewer, and ends what was there. */
  private bring(protocol: Protocol): void {
    const attempt = this.attempts[protocol];
    if (attempt === undefined || attempt === this.front) return;
    this.front = attempt;
    attempt.shownAt = this.timers.now();
    this.last = undefined;
    this.waitMs = FIRST_WAIT_MS;
    if (protocol === "whep") {
      this.cancelAll();
      this.prefersHls = false;
      this.after("settled", SETTLED_MS, () => (this.probes = 0));
    } else {
      this.cancel("prepare");
      this.cancel("fall back");
      this.prefersHls = this.canWhep();
      this.planProbe();
    }
    this.enter({ at: "live" });
    // What was shown until now goes only after the other is there. A session that carried media and
    // fell silent goes too; one that still tries to get through is a probe.
    if (protocol === "whep") this.end("hls");
    else if (this.attempts.whep?.isFlowing === true) this.end("whep");
  }

  private planProbe(): void {
    if (!this.canWhep()) return;
    const pause = Math.min(FIRST_PROBE_MS * 2 ** this.probes, LONGEST_PROBE_MS);
    this.after("probe", pause * (1 + 0.2 * this.timers.chance()), () => this.probe());
  }

  /** Tries WHEP beside what plays. */
  private probe(): void {
    this.cancel("probe");
    this.probes += 1;
    if (this.attempts.whep === undefined) this.open("whep");
    this.after("probe limit", PROBE_LIMIT_MS, () => {
      if (this.attempts.whep === this.front) return;
      this.end("whep");
      this.planProbe();
    });
  }

  private fails(protocol: Protocol, attempt: Attempt, fault: Fault): void {
    const wasFront = attempt === this.front;
    const wasBrief =
      attempt.shownAt !== undefined && this.timers.now() - attempt.shownAt < FAILURES_WITHIN_MS;
    this.attempts[protocol] = undefined;
    if (wasFront) this.front = undefined;
    attempt.playing?.stop();
    if (protocol === "hls") this.hlsFailed(fault, wasFront);
    else this.whepFailed(fault, wasFront && wasBrief && this.probes > 0);
  }

  private whepFailed(fault: Fault, wasReturn: boolean): void {
    this.cancel("probe limit");
    // A probe that fails takes nothing from the viewer.
    if (this.front !== undefined) return this.planProbe();
    const { hls } = this.attempts;
    if (fault.kind === "token" || fault.kind === "not-live") return this.rest(fault);
    const isHopeless = fault.kind === "refused" || fault.kind === "unplayable";
    const isFailure = fault.kind !== "ended" && !isHopeless;
    if (isFailure) this.countFailure();
    const keepsFailing = isFailure && (wasReturn || this.failures.length >= FAILURES_MAX);
    const isWanted = isHopeless || keepsFailing;
    if (hls === undefined && (!isWanted || !this.canHls())) return this.rest(fault);
    this.last = fault;
    if (this.phase.at !== "connecting") this.enter({ at: "connecting", after: fault });
    this.takeHls();
  }

  private hlsFailed(fault: Fault, wasFront: boolean): void {
    const isHopeless = fault.kind === "refused" || fault.kind === "unplayable";
    if (isHopeless) {
      this.hlsUselessUntil = this.timers.now() + USELESS_MS;
      this.prefersHls = false;
    }
    this.mayShowHls = this.mayShowHls && !wasFront;
    // WHEP goes on, or is what is waited for.
    if (this.attempts.whep !== undefined && (this.front !== undefined || !wasFront)) return;
    if (!isHopeless || !this.canWhep()) return this.rest(fault);
    // What WHEP said is nearer to what can be done than that LL-HLS cannot help.
    if (this.last === undefined) this.round();
    else this.rest(this.last);
  }

  /** Nothing plays: waits, or stops where waiting is no use. */
  private rest(fault: Fault): void {
    this.endAll();
    this.last = fault;
    if (!fault.isPassing) return this.enter({ at: "stopped", fault });
    // A little chance, so that a thousand viewers of one lost server do not return in step.
    const pause = (fault.retryAfterMs ?? this.waitMs) * (1 + 0.4 * this.timers.chance());
    this.waitMs = Math.min(this.waitMs * 2, LONGEST_WAIT_MS);
    this.after("round", pause, () => this.round());
    this.enter({ at: "waiting", fault, until: this.timers.now() + pause });
  }

  private endAll(): void {
    this.cancelAll();
    this.end("whep");
    this.end("hls");
  }

  private countFailure(): void {
    const now = this.timers.now();
    this.failures = this.failures.filter((at) => now - at < FAILURES_WITHIN_MS);
    this.failures.push(now);
  }

  private end(protocol: Protocol): void {
    const attempt = this.attempts[protocol];
    if (attempt === undefined) return;
    this.attempts[protocol] = undefined;
    if (attempt === this.front) this.front = undefined;
    attempt.playing?.stop();
  }

  private enter(phase: Phase): void {
    this.phase = phase;
    this.onChange(phase, this.front?.playing);
  }

  private after(what: string, ms: number, call: () => void): void {
    this.cancel(what);
    const cancel = this.timers.after(ms, () => {
      this.pending.delete(what);
      call();
    });
    this.pending.set(what, cancel);
  }

  private cancel(what: string): void {
    this.pending.get(what)?.();
    this.pending.delete(what);
  }

  private cancelAll(): void {
    for (const what of [...this.pending.keys()]) this.cancel(what);
  }
}
