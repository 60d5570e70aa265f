// A camera that sees a clock, and a microphone that hears a tone; published by WHIP, in H.264 if
// nothing else is asked for.

import { FRAMES_PER_SECOND, HEIGHT, WIDTH, draw } from "./burnt_clock.mjs";

/** What is sent of the picture: one layer, as it is. */
const ENCODINGS = [{ maxBitrate: 1_200_000 }];
const ONE = { scale: 1, framesPerSecond: FRAMES_PER_SECOND, encodings: ENCODINGS };

/** Each frame has the time at which it was drawn, as a camera's have that at which it saw. */
function picture({ scale, framesPerSecond }) {
  const canvas = document.querySelector("canvas");
  [canvas.width, canvas.height] = [WIDTH * scale, HEIGHT * scale];
  const pen = canvas.getContext("2d", { alpha: false });
  pen.scale(scale, scale);
  const track = new MediaStreamTrackGenerator({ kind: "video" });
  const writer = track.writable.getWriter();
  let waiting = 0;
  setInterval(async () => {
    if (waiting > 1) return;
    waiting += 1;
    const [unixMs, timestamp] = [Date.now(), Math.round(performance.now() * 1_000)];
    draw(pen, unixMs);
    await writer.write(new VideoFrame(canvas, { timestamp }));
    waiting -= 1;
  }, 1_000 / framesPerSecond);
  return track;
}

function sound() {
  const audio = new AudioContext();
  const tone = audio.createOscillator();
  const volume = audio.createGain();
  volume.gain.value = 0.1;
  const out = audio.createMediaStreamDestination();
  tone.connect(volume).connect(out);
  tone.start();
  return out.stream.getAudioTracks()[0];
}

/** Publishes at a WHIP endpoint (RFC 9725); `what` may have several encodings. */
window.publish = async (url, token, what = ONE) => {
  const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  const sendEncodings = what.encodings;
  const media = new MediaStream([picture(what), sound()]);
  const [shown, heard] = [media.getVideoTracks()[0], media.getAudioTracks()[0]];
  const how = { direction: "sendonly", streams: [media] };
  peer.addTransceiver(heard, how);
  const transceiver = peer.addTransceiver(shown, { ...how, sendEncodings });
  const { codecs } = RTCRtpSender.getCapabilities("video");
  const names = [what.codec ?? "H264", "rtx"].map((name) => `video/${name}`.toLowerCase());
  const wanted = codecs.filter(({ mimeType }) => names.includes(mimeType.toLowerCase()));
  transceiver.setCodecPreferences(wanted);
  await peer.setLocalDescription();
  const headers = { "Content-Type": "application/sdp", Authorization: `Bearer ${token}` };
  const body = peer.localDescription.sdp;
  const response = await fetch(url, { method: "POST", headers, body });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  await peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
  const parameters = transceiver.sender.getParameters();
  parameters.degradationPreference = "maintain-resolution";
  await transceiver.sender.setParameters(parameters);
  window.isPublishing = true;
};
