// What flows of a stream, either way: the numbers that pages and players show.

/** As of the last second. What is not known is absent. */
export interface Flow {
  width?: number;
  height?: number;
  framesPerSecond?: number;
  /** Of audio and video together. */
  bitrateBps?: number;
  /** Share of packets lost since the last reading, 0 to 1; by WebRTC only. */
  loss?: number;
  /** By WebRTC only. */
  roundTripMs?: number;
  /** How long media waits in the player. */
  bufferMs?: number;
  videoCodec?: string;
  audioCodec?: string;
}
