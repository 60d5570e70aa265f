// In which sizes a picture is sent at once (simulcast, RFC 8853), so that each viewer gets the one
// that its link carries. Pure.

/** One size, as `RTCPeerConnection.addTransceiver` takes it. */
export interface Encoding {
  rid?: string;
  maxBitrate: number;
  scaleResolutionDownBy?: number;
  /** How it may be thinned out; see Scalable Video Coding for WebRTC. */
  scalabilityMode?: string;
}

/** Full, half and quarter: names only, the server goes by what they carry. */
const RIDS = ["f", "h", "q"] as const;
/** A picture of fewer lines is of use to nobody. */
const LINES_MIN = 135;
/** What a picture of so many lines may cost at 30 frames a second, in bits per second. */
const BITRATES: readonly (readonly [lines: number, bps: number])[] = [
  [1080, 5_000_000],
  [720, 2_500_000],
  [540, 1_600_000],
  [360, 900_000],
  [270, 500_000],
  [180, 250_000],
  [0, 150_000],
];

/** What a picture of so many lines may cost. */
export function bitrateFor(lines: number): number {
  return BITRATES.find(([least]) => lines >= least)?.[1] ?? 0;
}

/** One size: as large as it comes. */
export function single(lines: number): Encoding[] {
  return [{ maxBitrate: bitrateFor(lines) }];
}

/**
 * The full picture and, where they are large enough, its half and its quarter. The full one comes
 * first: it is what is left where the other side takes no more than one.
 *
 * The mode has to be there, or Chromium makes one stream of spatial layers of VP9 and sends AV1 in
 * one size. Every second picture can be left out of what tells, in RTP, which these are.
 */
export function several(lines: number, codec: string): Encoding[] {
  const scalabilityMode = /^(VP8|VP9|AV1)$/i.test(codec) ? "L1T2" : "L1T1";
  const steps = RIDS.map((rid, index) => ({ rid, scale: 2 ** index }));
  const usable = steps.filter(({ scale }) => scale === 1 || lines / scale >= LINES_MIN);
  if (usable.length < 2) return single(lines);
  return usable.map(({ rid, scale }) => {
    const maxBitrate = bitrateFor(lines / scale);
    return { rid, maxBitrate, scaleResolutionDownBy: scale, scalabilityMode };
  });
}
