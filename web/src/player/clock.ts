// Which moment the frame on the screen shows, and what time it is at the server. Pure: the time of
// the page, in ms as `performance.now()` counts, comes in as an argument.

/** Tracks a session can have, and some more: what a server names beyond that is not kept. */
const TRACKS_MAX = 8;

/** Joins RTP timestamps to the server's clock, by what its `clock` events say. */
export class RtpClock {
  private readonly points = new Map<number, { rtpTimestamp: number; wallTimeMs: number }>();

  /** The server says which moment a timestamp of a track stands for. */
  told(ssrc: number, rtpTimestamp: number, wallTimeMs: number): void {
    if (!this.points.has(ssrc) && this.points.size >= TRACKS_MAX) return;
    this.points.set(ssrc, { rtpTimestamp, wallTimeMs });
  }

  /** The moment that a timestamp stands for; nothing where the server has not told of the track. */
  wallTimeMs(ssrc: number, rtpTimestamp: number, ticksPerSecond: number): number | undefined {
    const point = this.points.get(ssrc);
    if (point === undefined) return undefined;
    // Timestamps wrap at 2^32: the shorter way round is the right one.
    const ticks = (rtpTimestamp - point.rtpTimestamp) | 0;
    return point.wallTimeMs + (ticks * 1000) / ticksPerSecond;
  }
}

/** The last frames that were given to the screen, each with when it shows there. */
export class Shown<Frame> {
  private newest: { at: number; frame: Frame } | undefined;
  private before: { at: number; frame: Frame } | undefined;

  /** `frame` is on the screen from `at` on. */
  push(at: number, frame: Frame): void {
    this.before = this.newest;
    this.newest = { at, frame };
  }

  /** What is on the screen at that moment: a frame may have been told of before it shows. */
  at(now: number): Frame | undefined {
    const isThere = this.newest !== undefined && this.newest.at <= now;
    return (isThere ? this.newest : this.before ?? this.newest)?.frame;
  }

  clear(): void {
    this.newest = this.before = undefined;
  }
}

/** NTP counts from 1900 (RFC 5905 §6), Unix from 1970. */
const NTP_TO_UNIX_MS = 2_208_988_800_000;
/** A clock that is further off than that is none of ours. */
const PLAUSIBLE_MS = 60_000;

/**
 * The moment that `estimatedPlayoutTimestamp` of a receiver's statistics names: what is left where
 * the server tells nothing. It is of the sender's clock, which may be any; one that is far from the
 * server's is not taken for it.
 */
export function playoutMs(estimated: unknown, serverNowMs: number | undefined): number | undefined {
  if (typeof estimated !== "number" || serverNowMs === undefined) return undefined;
  const unixMs = estimated > NTP_TO_UNIX_MS ? estimated - NTP_TO_UNIX_MS : estimated;
  return Math.abs(serverNowMs - unixMs) <= PLAUSIBLE_MS ? unixMs : undefined;
}

/** One question for the time: when it was asked and answered, and what the answer was. */
export interface Ping {
  sentAt: number;
  receivedAt: number;
  serverUnixMs: number;
}

/** What to add to the page's time for the server's: by the quickest of several questions. */
export function clockOffsetMs(pings: Ping[]): number | undefined {
  const roundTrip = ({ sentAt, receivedAt }: Ping) => receivedAt - sentAt;
  const [best] = [...pings].sort((a, b) => roundTrip(a) - roundTrip(b));
  if (best === undefined) return undefined;
  return best.serverUnixMs - (best.sentAt + best.receivedAt) / 2;
}

/** A piece of an HLS time line: media times in seconds, and the moment that it begins at. */
export interface Piece {
  start: number;
  duration: number;
  /** By `EXT-X-PROGRAM-DATE-TIME`, in ms since the Unix epoch. */
  programDateTimeMs: number | null;
}

/**
 * The moment of a media time: by the newest piece that holds it. Each piece has a date of its own,
 * so that a clock which runs faster or slower than the media's never drifts away from it.
 */
export function programTimeMs(pieces: readonly Piece[], mediaTime: number): number | undefined {
  for (let index = pieces.length - 1; index >= 0; index -= 1) {
    const piece = pieces[index];
    if (piece === undefined || piece.programDateTimeMs === null) continue;
    if (piece.start > mediaTime) continue;
    const offset = mediaTime - piece.start;
    // Whatever lies further behind the last piece is not on this time line any more.
    if (offset > piece.duration + 1) return undefined;
    return piece.programDateTimeMs + offset * 1000;
  }
  return undefined;
}
