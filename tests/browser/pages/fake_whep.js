// A server within the page: it answers WHEP with a peer of its own, sends a picture in three sizes
// of which one flows at a time, and does what is posted as the layer extension has it
// (draft-ietf-wish-whep). So the player is tested without any server, and what happens is told by
// hand.

const ORIGIN = location.origin;
const EXTENSION = "urn:ietf:params:whep:ext:core";

/** By their names: not of the sizes that the names suggest, since nothing is to go by names. */
const LAYERS = {
  b: { width: 1280, height: 720, bitrate: 2_500_000, framerate: 30 },
  a: { width: 640, height: 360, bitrate: 900_000, framerate: 30 },
  c: { width: 320, height: 180, bitrate: 250_000, framerate: 15 },
};

const fake = {
  /** What was posted, in order. */
  posts: [],
  /** How the next posts are answered; by default 200. */
  statuses: [],
  hasLayers: window.testHasNoLayers !== true,
  layers: structuredClone(LAYERS),
  choice: {},
  current: undefined,
  listeners: [],
  canvas: document.createElement("canvas"),
};
window.fake = fake;

/** The layer that flows by what was posted. */
function chosenLayer() {
  const { encodingId, maxWidth = Infinity, paused } = fake.choice;
  const active = Object.entries(fake.layers).sort(([, a], [, b]) => b.width - a.width);
  if (paused || active.length === 0) return undefined;
  if (encodingId in fake.layers) return encodingId;
  return (active.find(([, { width }]) => width <= maxWidth) ?? active.at(-1))[0];
}

/** Sends what is to flow, and tells of it. */
fake.apply = () => {
  fake.current = chosenLayer();
  if (fake.current !== undefined) {
    const { width, height } = fake.layers[fake.current];
    Object.assign(fake.canvas, { width, height });
  }
  const text = JSON.stringify({ 1: fake.told() });
  for (const listener of fake.listeners) listener.hear("layers", text);
};

fake.told = () => {
  const sorted = Object.entries(fake.layers).sort(([, a], [, b]) => b.bitrate - a.bitrate);
  const place = (id) => Object.keys(LAYERS).indexOf(id);
  const entry = ([id, layer]) => ({ encodingId: id, simulcastIdx: place(id), ...layer });
  const one = { spatialLayerId: 0, temporalLayerId: 0 };
  const gone = Object.keys(LAYERS).filter((id) => !(id in fake.layers));
  const current = fake.current === undefined ? null : { encodingId: fake.current, ...one };
  return {
    active: sorted.map(entry),
    inactive: gone.map((encodingId) => ({ encodingId, simulcastIdx: place(encodingId) })),
    layers: sorted.map(([id, layer]) => ({ ...entry([id, layer]), ...one })),
    current,
    target: current,
    choice: fake.choice,
    estimate: null,
  };
};

function draw() {
  const { canvas } = fake;
  const pen = canvas.getContext("2d");
  pen.fillStyle = `hsl(${(performance.now() / 20) % 360} 50% 30%)`;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = "#fff";
  pen.font = `${canvas.height / 5}px sans-serif`;
  pen.fillText(`${canvas.width} × ${canvas.height}`, canvas.width / 10, canvas.height / 2);
}

async function answer(sdp) {
  Object.assign(fake.canvas, { width: 640, height: 360 });
  draw();
  setInterval(draw, 40);
  const media = fake.canvas.captureStream(25);
  const peer = new RTCPeerConnection();
  await peer.setRemoteDescription({ type: "offer", sdp });
  const isPicture = ({ receiver }) => receiver.track.kind === "video";
  const picture = peer.getTransceivers().find(isPicture);
  picture.direction = "sendonly";
  await picture.sender.replaceTrack(media.getVideoTracks()[0]);
  await peer.setLocalDescription();
  while (peer.iceGatheringState !== "complete") {
    await new Promise((resolve) => peer.addEventListener("icegatheringstatechange", resolve));
  }
  const parameters = picture.sender.getParameters();
  parameters.degradationPreference = "maintain-resolution";
  await picture.sender.setParameters(parameters);
  return peer.localDescription.sdp;
}

const realFetch = window.fetch;
window.fetch = async (url, init = {}) => {
  const { pathname } = new URL(url, ORIGIN);
  if (pathname === "/whep/stage") {
    const links = [`<${ORIGIN}/session/events>; rel="${EXTENSION}:server-sent-events"`];
    if (fake.hasLayers) links.push(`<${ORIGIN}/session/layer>; rel="${EXTENSION}:layer"`);
    const headers = { Location: `${ORIGIN}/session`, Link: links.join(", ") };
    const response = new Response(await answer(init.body), { status: 201, headers });
    // What a script makes comes from nowhere.
    return Object.defineProperty(response, "url", { value: `${ORIGIN}${pathname}` });
  }
  if (pathname === "/session/layer") {
    fake.posts.push(JSON.parse(init.body));
    const status = fake.statuses.shift() ?? 200;
    if (status === 200) {
      fake.choice = JSON.parse(init.body);
      setTimeout(fake.apply, 20);
    }
    return new Response("", { status });
  }
  if (pathname === "/session") return new Response("");
  if (pathname === "/api/v1/time") return new Response("{}", { status: 404 });
  return realFetch(url, init);
};

window.EventSource = class extends EventTarget {
  static OPEN = 1;
  readyState = 1;

  constructor() {
    super();
    fake.listeners.push(this);
    setTimeout(fake.apply, 20);
  }

  hear(name, data) {
    this.dispatchEvent(new MessageEvent(name, { data }));
  }

  close() {
    this.readyState = 2;
    fake.listeners = fake.listeners.filter((other) => other !== this);
  }
};

/** Puts the page behind another one, or back. */
fake.hide = (isHidden) => {
  const state = isHidden ? "hidden" : "visible";
  Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
  document.dispatchEvent(new Event("visibilitychange"));
};
