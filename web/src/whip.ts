// A WHIP client (RFC 9725): sends one audio and one video track to the server.

import { Session, type Endpoint } from "./session.js";
import type { Encoding } from "./simulcast.js";

/** What is published and how. */
export interface Publication {
  media: MediaStream;
  /** A codec's name as in `video/H264`, or "auto" for the order of the browser and the server. */
  codec: string;
  /** The sizes of the picture, the full one first. */
  video: { encodings: Encoding[]; degradation: RTCDegradationPreference };
  audio: { maxBitrateBps: number };
}

/** `degradationPreference` left the standard and came back; the type definitions lag behind. */
type SendParameters = RTCRtpSendParameters & { degradationPreference?: RTCDegradationPreference };

/** Offers the tracks of `publication` and gives the session that sends them. */
export async function publish(endpoint: Endpoint, publication: Publication): Promise<Session> {
  const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  try {
    for (const track of publication.media.getTracks()) {
      if (track.kind === "video") addPicture(peer, track, publication);
      else peer.addTransceiver(track, { direction: "sendonly", streams: [publication.media] });
    }
    const session = await Session.open(peer, endpoint);
    await Promise.all(peer.getSenders().map((sender) => tune(sender, publication)));
    return session;
  } catch (error) {
    peer.close();
    throw error;
  }
}

/** Offers the picture in all its sizes where the browser can, else in one. */
function addPicture(
  peer: RTCPeerConnection,
  track: MediaStreamTrack,
  { media, codec, video }: Publication,
): void {
  const { encodings } = video;
  const unmoded = encodings.map(({ scalabilityMode: _, ...encoding }) => encoding);
  const streams = [media];
  for (const sendEncodings of [encodings, unmoded, undefined]) {
    const init: RTCRtpTransceiverInit = { direction: "sendonly", streams };
    if (sendEncodings !== undefined) init.sendEncodings = sendEncodings;
    try {
      return prefer(peer.addTransceiver(track, init), codec);
    } catch (error) {
      if (sendEncodings === undefined) throw error;
      // It knows no such mode, or no several sizes.
    }
  }
}

/** The video codecs that this browser can send, by name. */
export function sendableCodecs(): string[] {
  const codecs = RTCRtpSender.getCapabilities("video")?.codecs ?? [];
  const names = codecs.map(({ mimeType }) => mimeType.slice("video/".length).toUpperCase());
  return [...new Set(names)].filter((name) => !/^(RTX|RED|ULPFEC|FLEXFEC.*)$/.test(name));
}

/** Offers the wanted codec alone: a server may prefer its own order, and ours prefers H.264. */
function prefer(transceiver: RTCRtpTransceiver, codec: string): void {
  if (codec === "auto") return;
  const all = RTCRtpSender.getCapabilities("video")?.codecs ?? [];
  const isWanted = ({ mimeType }: { mimeType: string }) =>
    mimeType.toLowerCase() === `video/${codec.toLowerCase()}`;
  const isResend = ({ mimeType }: { mimeType: string }) => /\/rtx$/i.test(mimeType);
  const wanted = all.filter(isWanted);
  if (wanted.length === 0) return;
  transceiver.setCodecPreferences([...wanted, ...all.filter(isResend)]);
}

/** Sets limits. What a browser does not know of is left as it is: the media flows all the same. */
async function tune(sender: RTCRtpSender, publication: Publication): Promise<void> {
  if (sender.track === null) return;
  const parameters: SendParameters = sender.getParameters();
  const [encoding] = parameters.encodings ?? [];
  if (encoding === undefined) return;
  if (sender.track.kind === "video") {
    // Of what is left of them: the other side may take no more than one.
    parameters.encodings.forEach((it, index) => {
      const maxBitrate = publication.video.encodings[index]?.maxBitrate;
      if (maxBitrate !== undefined) it.maxBitrate = maxBitrate;
    });
    parameters.degradationPreference = publication.video.degradation;
  } else {
    encoding.maxBitrate = publication.audio.maxBitrateBps;
    encoding.networkPriority = "high";
  }
  try {
    await sender.setParameters(parameters);
  } catch {
    // Safari and Firefox refuse some of these fields.
  }
}
