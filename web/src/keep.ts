// Keeps one session up: connects, notices when it is over, waits and connects again.

import { asFault, Fault } from "./fault.js";
import type { Session } from "./session.js";

/** Where a page stands, for showing. */
export type Phase =
  | { at: "idle" }
  | { at: "connecting"; after: Fault | undefined }
  | { at: "live" }
  /** Tries again by itself at `until` (as `Date.now()` counts). */
  | { at: "waiting"; fault: Fault; until: number }
  /** Needs the user. */
  | { at: "stopped"; fault: Fault };

/** A phase in a word. */
export const BADGES: Record<Phase["at"], string> = {
  idle: "Off",
  connecting: "Connecting",
  live: "Live",
  waiting: "Waiting",
  stopped: "Off",
};

/** What differs between publishing and watching. */
export interface Keeping {
  open: () => Promise<Session>;
  /** Resolves with the fault that ends a connected session. */
  lasts: (session: Session, signal: AbortSignal) => Promise<Fault>;
  onPhase: (phase: Phase, session: Session | undefined) => void;
}

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

/** Runs until `signal` is aborted or a fault needs the user. */
export async function keepUp(keeping: Keeping, signal: AbortSignal): Promise<void> {
  let waitMs = FIRST_WAIT_MS;
  let last: Fault | undefined;
  while (!signal.aborted) {
    keeping.onPhase({ at: "connecting", after: last }, undefined);
    const { fault, wasLive } = await attempt(keeping, signal);
    if (signal.aborted || fault === undefined) break;
    last = fault;
    if (!fault.isPassing) return keeping.onPhase({ at: "stopped", fault }, undefined);
    if (wasLive) waitMs = FIRST_WAIT_MS;
    // A little chance, so that a thousand viewers of one lost server do not return in step.
    const pause = (fault.retryAfterMs ?? waitMs) * (1 + 0.4 * Math.random());
    keeping.onPhase({ at: "waiting", fault, until: Date.now() + pause }, undefined);
    await pauseFor(pause, signal);
    waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
  }
  keeping.onPhase({ at: "idle" }, undefined);
}

async function attempt(
  keeping: Keeping,
  signal: AbortSignal,
): Promise<{ fault: Fault | undefined; wasLive: boolean }> {
  let session: Session | undefined;
  let wasLive = false;
  const leave = () => session?.end();
  window.addEventListener("pagehide", leave);
  try {
    session = await keeping.open();
    await session.connected(signal);
    if (signal.aborted) return { fault: undefined, wasLive };
    wasLive = true;
    keeping.onPhase({ at: "live" }, session);
    return { fault: await keeping.lasts(session, signal), wasLive };
  } catch (thrown) {
    return { fault: asFault(thrown), wasLive };
  } finally {
    window.removeEventListener("pagehide", leave);
    session?.end();
  }
}

/** Waits, but no longer than until the network or the user comes back. */
function pauseFor(limitMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = () => {
      clearTimeout(timer);
      window.removeEventListener("online", finish);
      document.removeEventListener("visibilitychange", seen);
      signal.removeEventListener("abort", finish);
      resolve();
    };
    const seen = () => {
      if (document.visibilityState === "visible") finish();
    };
    const timer = setTimeout(finish, limitMs);
    window.addEventListener("online", finish);
    document.addEventListener("visibilitychange", seen);
    signal.addEventListener("abort", finish);
  });
}
