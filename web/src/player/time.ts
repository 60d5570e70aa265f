// What time it is at the server (`GET /api/v1/time`).

import { clockOffsetMs, type Ping } from "./clock.js";

const PINGS = 3;
const REPEAT_MS = 180_000;
/** Where the server did not answer, it is asked again sooner. */
const RETRY_MS = 20_000;

/** Asks now and again until it is stopped. */
export class ServerTime {
  private offsetMs: number | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private isOver = false;

  constructor(private readonly url: string) {
    void this.ask();
  }

  /** Milliseconds since the Unix epoch by the server's clock, or nothing while it is not known. */
  now(): number | undefined {
    return this.offsetMs === undefined ? undefined : performance.now() + this.offsetMs;
  }

  stop(): void {
    this.isOver = true;
    clearTimeout(this.timer);
  }

  private async ask(): Promise<void> {
    const pings: Ping[] = [];
    for (let count = 0; count < PINGS && !this.isOver; count += 1) {
      const ping = await pinged(this.url);
      if (ping !== undefined) pings.push(ping);
    }
    this.offsetMs = clockOffsetMs(pings) ?? this.offsetMs;
    if (this.isOver) return;
    this.timer = setTimeout(() => void this.ask(), pings.length > 0 ? REPEAT_MS : RETRY_MS);
  }
}

async function pinged(url: string): Promise<Ping | undefined> {
  try {
    const sentAt = performance.now();
    const response = await fetch(url, { cache: "no-store", credentials: "omit" });
    const receivedAt = performance.now();
    const body = Object(await response.json()) as { unix_ms?: unknown };
    if (!response.ok || typeof body.unix_ms !== "number") return undefined;
    return { sentAt, receivedAt, serverUnixMs: body.unix_ms };
  } catch {
    return undefined;
  }
}
