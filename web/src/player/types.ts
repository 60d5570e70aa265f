// What page authors see of the player, besides the element itself.

import type { FaultKind } from "../fault.js";

export type { FaultKind };

/** How a stream comes: WebRTC by WHEP, over UDP or TCP; or Low-Latency HLS. */
export type Protocol = "whep" | "hls";

/** `auto` is WHEP where it gets through, else LL-HLS. */
export type ProtocolChoice = "auto" | Protocol;

/** What the player is doing. */
export type PlayerState =
  /** Nothing: there is no stream to play, or nobody has started it. */
  | "idle"
  | "connecting"
  | "playing"
  /** The viewer has paused it. */
  | "paused"
  /** Nothing comes; it goes on by itself, as soon as it can. */
  | "waiting"
  /** It needs somebody: a token, or another address. */
  | "stopped";

/** Why nothing plays, in words for the viewer. */
export interface PlayerFault {
  readonly kind: FaultKind;
  readonly message: string;
}

/** What flows, as of the last second. What is not known is absent. */
export interface PlayerStats {
  protocol: Protocol | undefined;
  /** Seconds between the capture of the frame on the screen and now. */
  latency?: number;
  /** How many watch the stream; on WHEP only. */
  viewers?: number;
  width?: number;
  height?: number;
  framesPerSecond?: number;
  /** Of audio and video together. */
  bitrateBps?: number;
  /** Share of packets lost in the last second, 0 to 1; on WHEP only. */
  loss?: number;
  /** On WHEP only. */
  roundTripMs?: number;
  /** How long media waits in the player. */
  bufferMs?: number;
  videoCodec?: string;
  audioCodec?: string;
}

/** The events of the element, by name: all are `CustomEvent`s with this `detail`. */
export interface PlayerEventDetails {
  statechange: { state: PlayerState; fault: PlayerFault | undefined };
  protocolchange: { protocol: Protocol | undefined };
  /** Once a second while it plays. */
  stats: PlayerStats;
  /** The player has given up, or tries again: `state` tells which. */
  error: PlayerFault;
  play: undefined;
  pause: undefined;
  volumechange: { volume: number; muted: boolean };
  /** The stream that played is over. The player waits for it to come back. */
  ended: undefined;
  /** The viewer has typed a token. */
  tokenchange: { token: string };
}
