// libdatachannel, the stack of OBS, as a WHIP publisher and as a WHEP viewer.
//
//   node datachannel_client.mjs publish URL --file STREAM.h264 [--token TOKEN] [--passive]
//   node datachannel_client.mjs view URL --file STREAM.h264 [--passive]
//
// A publisher sends the file again and again, as OBS does: packetized by the library, which also
// reports and resends, no candidate in its offer, deaf to PLI. With several files it sends them as
// the layers of simulcast, the best first; a line "send 1 2" on its input leaves it the second and
// third. A viewer writes what it receives to the file. Both write a JSON object per line, twice a
// second; when their input ends they delete their session and end.

import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import nodeDataChannel from "node-datachannel";
import * as h264 from "./h264.mjs";

const REPORT_EVERY_MS = 500;
const FRAME_MS = 1000 / 30;
const [AUDIO_SSRC, VIDEO_SSRC] = [3_880_281_973, 3_880_281_974];
const [AUDIO_TYPE, VIDEO_TYPE] = [111, 96];
// Further behind nothing comes that was lost.
const LATE_PACKETS_MAX = 500;
const H264 = "profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1";
/** Ids of header extensions, as OBS offers them with simulcast. */
const [MID_ID, RID_ID] = [1, 2];
const VIDEO_MID = "1";
/** 20 ms of Opus that is silent (RFC 6716 §3.1). */
const SILENCE = Buffer.from([0xf8, 0xff, 0xfe]);
const AUDIO_MS = 20;
const AUDIO_SAMPLES = 960;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    token: { type: "string" },
    file: { type: "string", multiple: true, default: [] },
    passive: { type: "boolean", default: false },
  },
});
const [role, url] = positionals;
const isPublisher = role === "publish";
const isSimulcast = isPublisher && values.file.length > 1;
const counts = { packets: 0, gaps: 0, frames: 0, keyframes: 0, formats: 0, samples: 0 };
/** Which layers are sent, by their place in the list of files. */
let active = values.file.map((_, index) => index);

/** Which RTP sequence numbers came: one that was repaired comes late, and is missing no more. */
class Numbers {
  #seen = new Set();
  #first;
  #newest;

  /** Takes in a number; gives it without turns. */
  extend(number) {
    this.#newest ??= number;
    const step = ((number - this.#newest + 0x18000) & 0xffff) - 0x8000;
    const extended = this.#newest + step;
    this.#first = Math.min(this.#first ?? extended, extended);
    this.#newest = Math.max(this.#newest, extended);
    this.#seen.add(extended);
    return extended;
  }

  /** How many are missing between the first and the newest. */
  get missing() {
    return this.#newest - this.#first + 1 - this.#seen.size;
  }
}

/** Hands payloads on in the order of their numbers: what was lost and sent again comes late. */
class InOrder {
  #waiting = new Map();
  #next;

  /** Takes one in; `hand` gets what is next. Nothing is waited for behind so many others. */
  take(number, payload, hand) {
    this.#next ??= number;
    if (number >= this.#next) this.#waiting.set(number, Buffer.from(payload));
    while (this.#waiting.has(this.#next) || this.#waiting.size > LATE_PACKETS_MAX) {
      const next = this.#waiting.get(this.#next);
      this.#waiting.delete(this.#next);
      this.#next += 1;
      if (next) hand(next);
    }
  }
}

const peer = new nodeDataChannel.PeerConnection("client", {
  iceServers: [],
  disableAutoNegotiation: true,
});
const tracks = addTracks();
const end = isPublisher ? publish(...tracks) : view(...tracks);
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

const dtlsRole = answer.includes("a=setup:active") ? "server" : "client";
const reporting = setInterval(() => {
  const offeredCandidates = offer.split("a=candidate").length - 1;
  console.log(JSON.stringify({ state: peer.state(), dtlsRole, offeredCandidates, ...counts }));
}, REPORT_EVERY_MS);
const input = createInterface({ input: process.stdin });
input.on("line", (line) => (active = line.split(" ").slice(1).map(Number)));
input.once("close", async () => {
  clearInterval(reporting);
  end();
  const session = new URL(response.headers.get("Location"), url);
  await fetch(session, { method: "DELETE", headers });
  // A track that nothing names any more is collected, and its messages with it.
  for (const track of tracks) track.close();
  peer.close();
  nodeDataChannel.cleanup();
});

function addTracks() {
  const direction = isPublisher ? "SendOnly" : "RecvOnly";
  const audio = new nodeDataChannel.Audio("0", direction);
  audio.addOpusCodec(AUDIO_TYPE);
  const video = new nodeDataChannel.Video(VIDEO_MID, direction);
  video.addH264Codec(VIDEO_TYPE, H264);
  if (isPublisher) audio.addSSRC(AUDIO_SSRC, "cname", "stream", "stream-audio");
  if (isSimulcast) {
    const rids = values.file.map((_, index) => index);
    video.parseSdpLine(`a=extmap:${MID_ID} urn:ietf:params:rtp-hdrext:sdes:mid`);
    video.parseSdpLine(`a=extmap:${RID_ID} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`);
    for (const rid of rids) video.parseSdpLine(`a=rid:${rid} send`);
    video.parseSdpLine(`a=simulcast:send ${rids.join(";")}`);
  } else if (isPublisher) {
    video.addSSRC(VIDEO_SSRC, "cname", "stream", "stream-video");
  }
  return [peer.addTrack(audio), peer.addTrack(video)];
}

/** The offer, once it is complete; a publisher's goes out before there is a candidate. */
function describe() {
  const finish = (sdp) =>
    values.passive ? sdp.replaceAll("a=setup:actpass", "a=setup:passive") : sdp;
  return new Promise((resolve) => {
    peer.onLocalDescription((sdp) => isPublisher && resolve(finish(sdp)));
    peer.onGatheringStateChange((state) => {
      if (state === "complete") resolve(finish(peer.localDescription().sdp));
    });
    peer.setLocalDescription("offer");
  });
}

/** Sends picture and silence until the returned function is called. */
function publish(audioTrack, videoTrack) {
  const sendPicture = isSimulcast ? simulcast(videoTrack) : single(videoTrack);
  const audioConfig = rtpConfig(AUDIO_SSRC, AUDIO_TYPE, 48_000);
  handle(audioTrack, new nodeDataChannel.RtpPacketizer(audioConfig), audioConfig);
  let began;
  let spoken = 0;
  const sending = setInterval(() => {
    if (!videoTrack.isOpen() || !audioTrack.isOpen()) return;
    began ??= performance.now();
    const elapsed = performance.now() - began;
    sendPicture(counts.frames, Math.round(elapsed * 90) % 2 ** 32);
    counts.frames += 1;
    for (; spoken * AUDIO_MS < elapsed; spoken += 1) {
      audioConfig.timestamp = (spoken * AUDIO_SAMPLES) % 2 ** 32;
      audioTrack.sendMessageBinary(SILENCE);
    }
  }, FRAME_MS);
  return () => clearInterval(sending);
}

function rtpConfig(ssrc, type, rate) {
  return new nodeDataChannel.RtpPacketizationConfig(ssrc, "cname", type, rate);
}

/** The library's own way: it cuts, reports and answers NACKs. */
function handle(track, packetizer, config) {
  packetizer.addToChain(new nodeDataChannel.RtcpSrReporter(config));
  packetizer.addToChain(new nodeDataChannel.RtcpNackResponder());
  track.setMediaHandler(packetizer);
}

/** Sends one file. */
function single(track) {
  const config = rtpConfig(VIDEO_SSRC, VIDEO_TYPE, 90_000);
  handle(track, new nodeDataChannel.H264RtpPacketizer("StartSequence", config), config);
  const pictures = h264.accessUnits(readFileSync(values.file[0])).map((nals) => {
    return Buffer.concat(nals.flatMap((nal) => [h264.START_CODE, nal]));
  });
  return (index, timestamp) => {
    config.timestamp = timestamp;
    track.sendMessageBinary(pictures[index % pictures.length]);
  };
}

/** Sends each file as a layer, told apart by MID and RID alone: the binding has no such thing. */
function simulcast(track) {
  const layers = values.file.map((file, index) => {
    const pictures = h264.accessUnits(readFileSync(file)).map(h264.packetize);
    return { pictures, ssrc: VIDEO_SSRC + index, sequence: index * 20_000 };
  });
  return (picture, timestamp) => {
    for (const index of active) {
      const layer = layers[index];
      const payloads = layer.pictures[picture % layer.pictures.length];
      for (const [place, payload] of payloads.entries()) {
        const marker = place + 1 === payloads.length;
        const extensions = { [MID_ID]: VIDEO_MID, [RID_ID]: `${index}` };
        const { ssrc, sequence } = layer;
        const header = { type: VIDEO_TYPE, marker, sequence, timestamp, ssrc, extensions };
        track.sendMessageBinary(h264.rtpPacket({ ...header, payload }));
        layer.sequence += 1;
      }
    }
  };
}

/** Counts what comes and writes the pictures to the file. */
function view(audioTrack, videoTrack) {
  const file = openSync(values.file[0], "w");
  for (const track of [audioTrack, videoTrack]) {
    track.setMediaHandler(new nodeDataChannel.RtcpReceivingSession());
  }
  audioTrack.onMessage((packet) => {
    if (h264.payloadOf(packet, AUDIO_TYPE)) counts.samples += AUDIO_SAMPLES;
  });
  const fragments = [];
  const [numbers, order] = [new Numbers(), new InOrder()];
  let [format, closed] = [undefined, false];
  videoTrack.onMessage((packet) => {
    const payload = h264.payloadOf(packet, VIDEO_TYPE);
    if (!payload) return;
    const number = numbers.extend(packet.readUInt16BE(2));
    counts.gaps = numbers.missing;
    counts.packets += 1;
    if (packet[1] & 0x80) counts.frames += 1;
    order.take(number, payload, write);
  });
  function write(payload) {
    for (const nal of h264.depacketize(payload, fragments)) {
      const kind = h264.kindOf(nal);
      if (kind === h264.IDR) counts.keyframes += 1;
      if (kind === h264.SPS && !format?.equals(nal)) {
        counts.formats += 1;
        format = Buffer.from(nal);
      }
      if (format && !closed) writeSync(file, Buffer.concat([h264.START_CODE, nal]));
    }
  }
  return () => {
    closed = true; // what the library still has in hand comes too late
    closeSync(file);
  };
}
