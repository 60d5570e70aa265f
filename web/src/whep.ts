// A WHEP player (draft-ietf-wish-whep): takes one audio and one video track from the server.

import { Session, type Endpoint } from "./session.js";

/** `jitterBufferTarget` has an older name in Chromium and Safari. */
type Receiver = RTCRtpReceiver & { playoutDelayHint?: number };

/**
 * Asks for a stream and gives the session that receives it.
 *
 * `onTrack` is told of each track when its first packet is here, not before: a stream may be audio
 * only or video only, and a media element waits for ever for a track that stays silent.
 */
export async function view(
  endpoint: Endpoint,
  onTrack: (track: MediaStreamTrack) => void,
): Promise<Session> {
  const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  try {
    for (const kind of ["audio", "video"]) {
      const { receiver } = peer.addTransceiver(kind, { direction: "recvonly" });
      playAtOnce(receiver);
      const { track } = receiver;
      track.addEventListener("unmute", () => onTrack(track));
    }
    return await Session.open(peer, endpoint);
  } catch (error) {
    peer.close();
    throw error;
  }
}

/** Holds back no more than the network's jitter demands. */
function playAtOnce(receiver: Receiver): void {
  if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
  else if ("playoutDelayHint" in receiver) (receiver as Receiver).playoutDelayHint = 0;
}
