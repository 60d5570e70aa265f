// Brings what the viewer wants to the server: one request at a time, and of several wishes the
// newest. Pure: time and the way to the server come in from outside.

import type { Timers } from "./timers.js";

/** What came of a request. */
export type Answer =
  | "taken"
  /** The server will not do this, however often it is asked. */
  | "refused"
  /** No answer, or not now. */
  | "again";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

/** The wishes of one session, which begins with none. */
export class Wishes {
  private wanted = "{}";
  private told = "{}";
  private isAsking = false;
  private isOver = false;
  private waitMs = FIRST_WAIT_MS;
  private cancelWait = () => {};

  constructor(
    /** Never rejects. */
    private readonly post: (body: string) => Promise<Answer>,
    private readonly timers: Timers,
  ) {}

  /** From now on that is what is wanted. */
  want(wish: Record<string, unknown>): void {
    const body = JSON.stringify(wish);
    if (body === this.wanted) return;
    this.wanted = body;
    this.waitMs = FIRST_WAIT_MS;
    this.cancelWait();
    void this.ask();
  }

  /** Nothing is asked for any more. */
  stop(): void {
    this.isOver = true;
    this.cancelWait();
  }

  private async ask(): Promise<void> {
    if (this.isAsking || this.isOver || this.wanted === this.told) return;
    const body = this.wanted;
    this.isAsking = true;
    const answer = await this.post(body);
    this.isAsking = false;
    // What was not answered may have been done all the same.
    this.told = answer === "again" ? "" : body;
    if (answer !== "again" || body !== this.wanted) return this.ask();
    const pause = this.waitMs * (1 + 0.4 * this.timers.chance());
    this.waitMs = Math.min(this.waitMs * 2, LONGEST_WAIT_MS);
    if (!this.isOver) this.cancelWait = this.timers.after(pause, () => void this.ask());
  }
}
