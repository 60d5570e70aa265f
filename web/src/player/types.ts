// What page authors see of the player, besides the element itself.

import type { FaultKind } from "../fault.js";
import type { Flow } from "../flow.js";

export type { FaultKind, Flow };

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

/** One of several sizes in which a publisher sends its picture. What is not known is absent. */
export interface PlayerLayer {
  readonly id: string;
  readonly width: number | undefined;
  readonly height: number | undefined;
  /** In bits per second. */
  readonly bitrate: number | undefined;
  /** In pictures per second. */
  readonly frameRate: number | undefined;
  /** Whether the publisher sends it now. */
  readonly active: boolean;
}

/** What flows, as of the last second, and how the stream comes. What is not known is absent. */
export interface PlayerStats extends Flow {
  protocol: Protocol | undefined;
  /** Seconds between the capture of the frame on the screen and now. */
  latency?: number;
  /** How many watch the stream; on WHEP only. */
  viewers?: number;
}

/** The events of the element, by name: all are `CustomEvent`s with this `detail`. */
export interface PlayerEventDetails {
  statechange: { state: PlayerState; fault: PlayerFault | undefined };
  protocolchange: { protocol: Protocol | undefined };
  /** Once a second while it plays. */
  stats: PlayerStats;
  /** The player has given up, or tries again: `state` tells which. */
  error: PlayerFault;
  /** There are others, or they carry something else. The largest is the first. */
  layerschange: { layers: readonly PlayerLayer[] };
  /** Another layer flows, or is chosen: by its id. `auto` is no choice; `null` is not known. */
  layerchange: { layer: string | null; choice: string };
  play: undefined;
  pause: undefined;
  volumechange: { volume: number; muted: boolean };
  /** The stream that played is over. The player waits for it to come back. */
  ended: undefined;
  /** The viewer has typed a token. */
  tokenchange: { token: string };
}
