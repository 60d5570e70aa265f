// Time and chance, which what is pure gets as an argument.

/** By hand in tests. */
export interface Timers {
  /** As `Date.now()` counts. */
  now: () => number;
  /** Calls once, later; gives what prevents that. */
  after: (ms: number, call: () => void) => () => void;
  /** 0 to 1. */
  chance: () => number;
}

/** Those of the browser. */
export const TIMERS: Timers = {
  now: () => Date.now(),
  after: (ms, call) => {
    const timer = setTimeout(call, ms);
    return () => clearTimeout(timer);
  },
  chance: () => Math.random(),
};
