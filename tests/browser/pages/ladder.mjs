// A camera whose picture is published in three sizes, and a bare viewer that keeps which size was
// shown when: no player in between that chooses for itself.

const WIDTH = 960;
const HEIGHT = 544;
const FRAMES_PER_SECOND = 20;
/** So far the noise moves: no encoder finds it again. */
const MARGIN = 256;

/** The encodings, the largest last, as Chromium's own examples have them. */
const LAYERS = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 110_000 },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 480_000 },
  { rid: "f", scaleResolutionDownBy: 1, maxBitrate: 2_300_000 },
];
const SOUND_BITRATE = 32_000;

/** A picture of which an encoder makes all that it may: noise that moves, and shapes over it. */
function noise() {
  const canvas = new OffscreenCanvas(WIDTH + MARGIN, HEIGHT + MARGIN);
  const pen = canvas.getContext("2d", { alpha: false });
  for (let x = 0; x < canvas.width; x += 8) {
    for (let y = 0; y < canvas.height; y += 8) {
      const grey = 96 + Math.floor(Math.random() * 64);
      pen.fillStyle = `rgb(${grey} ${grey} ${grey})`;
      pen.fillRect(x, y, 8, 8);
    }
  }
  return canvas;
}

function picture() {
  const canvas = document.querySelector("canvas");
  [canvas.width, canvas.height] = [WIDTH, HEIGHT];
  const pen = canvas.getContext("2d", { alpha: false });
  const background = noise();
  const track = new MediaStreamTrackGenerator({ kind: "video" });
  const writer = track.writable.getWriter();
  let waiting = 0;
  let number = 0;
  setInterval(async () => {
    if (waiting > 1) return;
    waiting += 1;
    number += 1;
    const at = (step) => -((number * step) % MARGIN);
    pen.drawImage(background, at(5), at(3));
    pen.fillStyle = `hsl(${(number * 3) % 360} 80% 50%)`;
    pen.fillRect((number * 9) % WIDTH, (number * 4) % HEIGHT, 200, 120);
    const frame = new VideoFrame(canvas, { timestamp: Math.round(performance.now() * 1_000) });
    await writer.write(frame);
    waiting -= 1;
  }, 1_000 / FRAMES_PER_SECOND);
  return track;
}

function sound() {
  const audio = new AudioContext();
  const tone = audio.createOscillator();
  const out = audio.createMediaStreamDestination();
  tone.connect(out);
  tone.start();
  return out.stream.getAudioTracks()[0];
}

async function exchange(peer, url, headers) {
  await peer.setLocalDescription();
  const body = peer.localDescription.sdp;
  const sdp = { "Content-Type": "application/sdp" };
  const response = await fetch(url, { method: "POST", headers: { ...sdp, ...headers }, body });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  await peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
  return response;
}

/** Publishes three layers at a WHIP endpoint (RFC 9725). */
window.publish = async (url, token, codec) => {
  const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  const streams = [new MediaStream()];
  const how = { direction: "sendonly", streams };
  peer.addTransceiver(sound(), { ...how, sendEncodings: [{ maxBitrate: SOUND_BITRATE }] });
  const video = peer.addTransceiver(picture(), { ...how, sendEncodings: LAYERS });
  const { codecs } = RTCRtpSender.getCapabilities("video");
  const isWanted = ({ mimeType }) => [`video/${codec}`, "video/rtx"].includes(mimeType);
  video.setCodecPreferences(codecs.filter(isWanted));
  await exchange(peer, url, { Authorization: `Bearer ${token}` });
  const parameters = video.sender.getParameters();
  parameters.degradationPreference = "maintain-resolution";
  await video.sender.setParameters(parameters);
};

/** Watches at a WHEP endpoint, and keeps what is told and shown. */
window.watch = async (url) => {
  const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  for (const kind of ["audio", "video"]) peer.addTransceiver(kind, { direction: "recvonly" });
  const element = document.querySelector("video");
  const media = new MediaStream();
  peer.addEventListener("track", ({ track }) => media.addTrack(track));
  element.srcObject = media;
  window.shown = [];
  window.told = [];
  window.faults = [];
  element.addEventListener("error", () => window.faults.push(element.error.message));
  const onFrame = (_, { width, height, receiveTime, presentedFrames: number }) => {
    const came = performance.timeOrigin + receiveTime;
    window.shown.push({ at: Date.now(), width, height, came, number });
    element.requestVideoFrameCallback(onFrame);
  };
  element.requestVideoFrameCallback(onFrame);
  const response = await exchange(peer, url, {});
  const session = new URL(response.headers.get("Location"), response.url).href;
  const links = response.headers.get("Link") ?? "";
  const link = /<([^>]*)>; *rel="urn:ietf:params:whep:ext:core:layer"/.exec(links);
  window.layerUrl = link && new URL(link[1], session).href;
  const events = new EventSource(`${session}/events`);
  events.addEventListener("layers", ({ data }) => {
    window.told.push({ at: Date.now(), layers: Object.values(JSON.parse(data))[0] });
  });
};

/** Keeps when the picture was frozen, as the browser says: it tells of it when that is over. */
window.keepFreezes = () => {
  window.frozen = [];
  let [known, stood] = [0, 0];
  setInterval(async () => {
    const [{ timestamp, freezeCount, totalFreezesDuration }] = (await window.videoStats()).streams;
    const ms = (totalFreezesDuration - stood) * 1_000;
    for (let count = known; count < freezeCount; count += 1) {
      window.frozen.push({ at: timestamp - ms, until: timestamp });
    }
    [known, stood] = [freezeCount, totalFreezesDuration];
  }, 100);
};

/** Chooses by the layer extension. */
window.choose = async (choice) => {
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify(choice);
  const response = await fetch(window.layerUrl, { method: "POST", headers, body });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
};

/** The statistics of what is sent or received of the picture, one for each layer that is sent. */
window.videoStats = async () => {
  const report = await window.testPeers.at(-1).getStats();
  const isVideo = ({ type, kind }) => /^(out|in)bound-rtp$/.test(type) && kind === "video";
  return { at: Date.now(), streams: [...report.values()].filter(isVideo) };
};

window.isReady = true;
