// A WHEP player (draft-ietf-wish-whep): takes one audio and one video track from the server.

import { Session, type Endpoint } from "./session.js";

/** `jitterBufferTarget` has an older name in Chromium and Safari. */
type Receiver = RTCRtpReceiver & { playoutDelayHint?: number };

/** What TypeScript does not know of it (W3C "WebRTC Extensions", §5.2). */
type Transceiver = RTCRtpTransceiver & {
  getHeaderExtensionsToNegotiate?: () => HeaderExtension[];
  setHeaderExtensionsToNegotiate?: (extensions: HeaderExtension[]) => void;
};
type HeaderExtension = { uri: string; direction: RTCRtpTransceiverDirection };

/** By which a receiver knows what frames need of each other. */
const DEPENDENCY_DESCRIPTOR =
  "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

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
      const transceiver = peer.addTransceiver(kind, { direction: "recvonly" });
      takeDependencies(transceiver);
      const { receiver } = transceiver;
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

/**
 * Takes the dependency descriptor, which Chromium can but does not offer by itself: AV1 comes in
 * several spatial layers to those only who do.
 */
function takeDependencies(transceiver: Transceiver): void {
  const extensions = transceiver.getHeaderExtensionsToNegotiate?.() ?? [];
  const described = extensions.find(({ uri }) => uri === DEPENDENCY_DESCRIPTOR);
  if (described === undefined) return;
  described.direction = "sendrecv";
  transceiver.setHeaderExtensionsToNegotiate?.(extensions);
}

/** Holds back no more than the network's jitter demands. */
function playAtOnce(receiver: Receiver): void {
  if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
  else if ("playoutDelayHint" in receiver) (receiver as Receiver).playoutDelayHint = 0;
}
