// libdatachannel, the stack of OBS, as a WHIP publisher and as a WHEP viewer.
//
//   node datachannel_client.mjs publish URL --file STREAM.h264 [--token TOKEN] [--passive]
//   node datachannel_client.mjs view URL --file STREAM.h264 [--passive]
//
// A publisher sends the file again and again, as OBS does: packetized by the library, sender reports
// and resends by it, no candidate in its offer. A viewer writes what it receives to the file. Both
// write a JSON object per line, twice a second; when their input ends they delete their session and
// end.

import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import nodeDataChannel from "node-datachannel";

const REPORT_EVERY_MS = 500;
const FRAME_MS = 1000 / 30;
const [AUDIO_SSRC, VIDEO_SSRC] = [3_880_281_973, 3_880_281_974];
const [AUDIO_TYPE, VIDEO_TYPE] = [111, 96];
const H264 = "profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1";
const START_CODE = Buffer.from([0, 0, 0, 1]);
const [SLICE_MAX, IDR, SPS, DELIMITER, STAP_A, FU_A] = [5, 5, 7, 9, 24, 28];
/** 20 ms of Opus that is silent (RFC 6716 §3.1). */
const SILENCE = Buffer.from([0xf8, 0xff, 0xfe]);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    token: { type: "string" },
    file: { type: "string" },
    passive: { type: "boolean", default: false },
  },
});
const [role, url] = positionals;
const counts = { packets: 0, gaps: 0, frames: 0, keyframes: 0, samples: 0 };

const peer = new nodeDataChannel.PeerConnection("client", {
  iceServers: [],
  disableAutoNegotiation: true,
});
const direction = role === "publish" ? "SendOnly" : "RecvOnly";
const audio = new nodeDataChannel.Audio("0", direction);
audio.addOpusCodec(AUDIO_TYPE);
const video = new nodeDataChannel.Video("1", direction);
video.addH264Codec(VIDEO_TYPE, H264);
if (role === "publish") {
  audio.addSSRC(AUDIO_SSRC, "cname", "stream", "stream-audio");
  video.addSSRC(VIDEO_SSRC, "cname", "stream", "stream-video");
}
const tracks = [peer.addTrack(audio), peer.addTrack(video)];
const end = role === "publish" ? publish(...tracks) : view(...tracks);

const offer = await describe();
const headers = values.token ? { Authorization: `Bearer ${values.token}` } : {};
const response = await fetch(url, {
  method: "POST",
  headers: { ...headers, "Content-Type": "application/sdp" },
  body: offer,
});
const answer = await response.text();
if (response.status !== 201) throw new Error(`${response.status}: ${answer}`);
peer.setRemoteDescription(answer, "answer");

const reporting = setInterval(() => {
  console.log(JSON.stringify({ state: peer.state(), ...counts }));
}, REPORT_EVERY_MS);
process.stdin.resume();
process.stdin.once("end", async () => {
  clearInterval(reporting);
  end();
  const session = new URL(response.headers.get("Location"), url);
  await fetch(session, { method: "DELETE", headers });
  peer.close();
  nodeDataChannel.cleanup();
});

/** The offer, once it is complete; a publisher's goes out before there is a candidate. */
function describe() {
  const finish = (sdp) =>
    values.passive ? sdp.replaceAll("a=setup:actpass", "a=setup:passive") : sdp;
  return new Promise((resolve) => {
    peer.onLocalDescription((sdp) => role === "publish" && resolve(finish(sdp)));
    peer.onGatheringStateChange((state) => {
      if (state === "complete") resolve(finish(peer.localDescription().sdp));
    });
    peer.setLocalDescription("offer");
  });
}

/** Sends file and silence until the returned function is called. */
function publish(audioTrack, videoTrack) {
  const pictures = accessUnits(readFileSync(values.file));
  const config = (ssrc, type, rate) =>
    new nodeDataChannel.RtpPacketizationConfig(ssrc, "cname", type, rate);
  const audioConfig = config(AUDIO_SSRC, AUDIO_TYPE, 48_000);
  const videoConfig = config(VIDEO_SSRC, VIDEO_TYPE, 90_000);
  const handle = (track, packetizer, config) => {
    packetizer.addToChain(new nodeDataChannel.RtcpSrReporter(config));
    packetizer.addToChain(new nodeDataChannel.RtcpNackResponder());
    track.setMediaHandler(packetizer);
  };
  const cut = new nodeDataChannel.H264RtpPacketizer("StartSequence", videoConfig);
  handle(videoTrack, cut, videoConfig);
  handle(audioTrack, new nodeDataChannel.RtpPacketizer(audioConfig), audioConfig);
  const began = performance.now();
  let [sent, spoken] = [0, 0];
  const sending = setInterval(() => {
    if (!videoTrack.isOpen() || !audioTrack.isOpen()) return;
    const elapsed = performance.now() - began;
    videoConfig.timestamp = Math.round(elapsed * 90) % 2 ** 32;
    videoTrack.sendMessageBinary(pictures[sent % pictures.length]);
    sent += 1;
    counts.frames = sent;
    if (spoken === 0) spoken = Math.floor(elapsed / 20);
    for (; spoken * 20 < elapsed; spoken += 1) {
      audioConfig.timestamp = (spoken * 960) % 2 ** 32;
      audioTrack.sendMessageBinary(SILENCE);
    }
  }, FRAME_MS);
  return () => clearInterval(sending);
}

/** The pictures of an Annex B file, each with what stands before it. */
function accessUnits(bytes) {
  const pictures = [[]];
  let complete = false;
  for (const nal of nalUnits(bytes)) {
    const kind = nal[0] & 0x1f;
    const isSlice = kind >= 1 && kind <= SLICE_MAX;
    // The top bit set means the first macroblock: a new picture.
    if (complete && (!isSlice || nal[1] & 0x80)) {
      pictures.push([]);
      complete = false;
    }
    complete ||= isSlice;
    if (kind !== DELIMITER) pictures.at(-1).push(START_CODE, nal);
  }
  return pictures.map((nals) => Buffer.concat(nals));
}

function nalUnits(bytes) {
  const marks = [];
  for (let at = bytes.indexOf("\0\0\x01"); at >= 0; at = bytes.indexOf("\0\0\x01", at + 3)) {
    marks.push(at);
  }
  return marks.map((mark, index) => {
    let to = marks[index + 1] ?? bytes.length;
    while (bytes[to - 1] === 0) to -= 1;
    return bytes.subarray(mark + 3, to);
  });
}

/** Counts what comes and writes the pictures to the file. */
function view(audioTrack, videoTrack) {
  const file = openSync(values.file, "w");
  for (const track of [audioTrack, videoTrack]) {
    track.setMediaHandler(new nodeDataChannel.RtcpReceivingSession());
  }
  audioTrack.onMessage((packet) => {
    if (payloadOf(packet, AUDIO_TYPE)) counts.samples += 960;
  });
  videoTrack.onOpen(() => videoTrack.requestKeyframe());
  const put = (nal) => writeSync(file, Buffer.concat([START_CODE, nal]));
  let [fragments, begun, before] = [[], false, undefined];
  videoTrack.onMessage((packet) => {
    const payload = payloadOf(packet, VIDEO_TYPE);
    if (!payload) return;
    const sequence = packet.readUInt16BE(2);
    if (before !== undefined && sequence !== (before + 1) % 65_536) counts.gaps += 1;
    before = sequence;
    counts.packets += 1;
    for (const nal of depacketize(payload, fragments)) {
      begun ||= (nal[0] & 0x1f) === SPS;
      if (begun) put(nal);
      if ((nal[0] & 0x1f) === IDR) counts.keyframes += 1;
    }
    if (packet[1] & 0x80) counts.frames += 1;
  });
  return () => closeSync(file);
}

/** The payload of an RTP packet of this type (RFC 3550 §5.1), if it has any. */
function payloadOf(packet, type) {
  if (packet.length < 12 || (packet[1] & 0x7f) !== type) return undefined;
  let start = 12 + 4 * (packet[0] & 0x0f);
  if (packet[0] & 0x10) start += 4 + 4 * packet.readUInt16BE(start + 2);
  const padding = packet[0] & 0x20 ? packet.at(-1) : 0;
  const payload = packet.subarray(start, packet.length - padding);
  return payload.length > 0 ? payload : undefined;
}

/** The NAL units that a payload completes (RFC 6184 §5.6 to §5.8). */
function depacketize(payload, fragments) {
  const kind = payload[0] & 0x1f;
  if (kind === STAP_A) {
    const nals = [];
    for (let at = 1; at + 2 < payload.length; ) {
      const length = payload.readUInt16BE(at);
      nals.push(payload.subarray(at + 2, at + 2 + length));
      at += 2 + length;
    }
    return nals;
  }
  if (kind !== FU_A) return [payload];
  if (payload[1] & 0x80) {
    fragments.length = 0;
    fragments.push(Buffer.from([(payload[0] & 0xe0) | (payload[1] & 0x1f)]));
  }
  fragments.push(Buffer.from(payload.subarray(2)));
  return payload[1] & 0x40 ? [Buffer.concat(fragments.splice(0))] : [];
}
