// One WHIP or WHEP session: what both have in common. WHIP is RFC 9725; WHEP is
// draft-ietf-wish-whep, which says the same of everything that is done here.

import { Fault, refusal } from "./fault.js";
import { layersIn, type Layers } from "./layers.js";

/** Where and as whom to open a session. */
export interface Endpoint {
  role: "publish" | "watch";
  url: string;
  /** Sent as a bearer token (RFC 6750 §2.1); empty for none. */
  token: string;
}

/** How long the server may take to answer, and the media to get through. */
const ANSWER_WITHIN_MS = 10_000;
const PATH_WITHIN_MS = 8_000;
/** ICE calls a short hole in the network "disconnected"; most mend by themselves. */
const MENDS_WITHIN_MS = 4_000;

/** What a viewer is told besides the media. */
export type StreamEvent =
  | { name: "active" | "inactive" | "reconnect" }
  | { name: "viewercount"; viewers: number }
  /** Which moment, by the server's clock in ms since 1970, an RTP timestamp stands for. */
  | { name: "clock"; ssrc: number; rtpTimestamp: number; wallTimeMs: number }
  /** The layers of each picture, by its `mid`. */
  | { name: "layers"; pictures: Map<string, Layers> };
const STREAM_EVENTS = [
  "active",
  "inactive",
  "reconnect",
  "viewercount",
  "clock",
  "layers",
] as const;

/** A session that the server made. Whoever opens it ends it. */
export class Session {
  private events: EventSource | undefined;

  private constructor(
    readonly peer: RTCPeerConnection,
    private readonly url: string,
    private readonly token: string,
    /** The addresses at which the server wants media, as in "UDP 203.0.113.5:8189". */
    readonly announced: string[],
    /** Where the server tells what happens to the stream; empty where it does not. */
    private readonly eventsUrl: string,
    /** Where it takes the choice of a layer; empty where it takes none. */
    private readonly layerUrl: string,
  ) {}

  /**
   * Offers what `peer` holds and sets the answer.
   *
   * The server is ICE-lite and learns our addresses from our checks, so the offer goes out without
   * waiting for a single candidate. The local description is set only once the answer is here, as
   * RFC 9725 §4.6 asks, so that ICE servers named by the answer are in place before gathering.
   */
  static async open(peer: RTCPeerConnection, endpoint: Endpoint): Promise<Session> {
    const offer = await peer.createOffer();
    const sdp = withRoundTrip(withStereo(offer.sdp ?? ""));
    const response = await post(endpoint, sdp);
    if (response.status !== 201) throw await refusal(response, endpoint.role);
    const answer = await response.text();
    const location = response.headers.get("Location");
    const url = location === null ? "" : new URL(location, response.url).href;
    const links = response.headers.get("Link");
    const linked = (relation: string) => {
      const link = extensionIn(links, relation);
      return link === undefined ? "" : new URL(link, response.url).href;
    };
    const [eventsUrl, layerUrl] = [linked("server-sent-events"), linked("layer")];
    const announced = announcedIn(answer);
    const session = new Session(peer, url, endpoint.token, announced, eventsUrl, layerUrl);
    try {
      const iceServers = iceServersIn(links);
      if (iceServers.length > 0) peer.setConfiguration({ iceServers });
      await peer.setLocalDescription({ type: "offer", sdp });
      await peer.setRemoteDescription({ type: "answer", sdp: withStereo(answer) });
    } catch (error) {
      session.end();
      throw error;
    }
    return session;
  }

  /** Resolves once media can flow. Rejects with "no-path" where it cannot. */
  async connected(signal: AbortSignal): Promise<void> {
    const { peer } = this;
    const arrived = await settled(peer, signal, PATH_WITHIN_MS, () =>
      ["connected", "failed", "closed"].includes(peer.connectionState),
    );
    if (signal.aborted || (arrived && peer.connectionState === "connected")) return;
    if (["connected", "completed"].includes(peer.iceConnectionState)) {
      throw new Fault("no-path", "The server is reached, but no encryption could be agreed on.");
    }
    throw new Fault("no-path", noPath(this.announced));
  }

  /**
   * Resolves once the session is over: "lost" where the network failed, "ended" where the server
   * said goodbye (a DTLS close_notify shows as a closed transport, never in `connectionState`).
   */
  async over(signal: AbortSignal): Promise<"lost" | "ended"> {
    const { peer } = this;
    const ended = () => transports(peer).some((transport) => transport.state === "closed");
    const gone = () => ended() || ["failed", "closed"].includes(peer.connectionState);
    while (!signal.aborted) {
      await settled(peer, signal, undefined, () => gone() || isShaky(peer));
      if (gone() || signal.aborted) break;
      const mended = () => gone() || !isShaky(peer);
      if (!(await settled(peer, signal, MENDS_WITHIN_MS, mended))) break;
    }
    return ended() ? "ended" : "lost";
  }

  /**
   * Hears what the server tells of the stream (draft-ietf-wish-whep, Server Sent Events) until the
   * session ends. It may tell nothing: it has only so many places for listeners.
   */
  listen(heard: (event: StreamEvent) => void): void {
    if (this.eventsUrl === "" || this.peer.connectionState === "closed") return;
    this.events = new EventSource(this.eventsUrl);
    for (const name of STREAM_EVENTS) {
      this.events.addEventListener(name, ({ data }: MessageEvent<string>) => {
        const event = streamEvent(name, data);
        if (event !== undefined) heard(event);
      });
    }
  }

  /** Whether the server is telling what happens to the stream, so that silence is no news of it. */
  get isListening(): boolean {
    return this.events?.readyState === EventSource.OPEN;
  }

  /** Whether the server lets viewers choose a layer. */
  get hasLayers(): boolean {
    return this.layerUrl !== "";
  }

  /** Posts a choice of a layer; gives the status, or nothing where there was no answer. */
  async choose(body: string): Promise<number | undefined> {
    try {
      const response = await fetch(this.layerUrl, {
        method: "POST",
        headers: { "Content-Type": "application/json", ...authorization(this.token) },
        body,
        cache: "no-store",
        signal: timeout(ANSWER_WITHIN_MS),
      });
      return response.status;
    } catch {
      return undefined;
    }
  }

  /** Tells the server that we leave, also while the page is being closed. */
  end(): void {
    this.events?.close();
    this.peer.close();
    if (this.url === "") return;
    const request = { method: "DELETE", headers: authorization(this.token), keepalive: true };
    fetch(this.url, request).catch(() => {
      // The server then notices by silence.
    });
  }
}

/** Reads one event; what makes no sense is nothing. */
export function streamEvent(
  name: (typeof STREAM_EVENTS)[number],
  data: string,
): StreamEvent | undefined {
  if (name === "layers") {
    const pictures = layersIn(data);
    return pictures && { name, pictures };
  }
  if (name !== "viewercount" && name !== "clock") return { name };
  let body: Record<string, unknown>;
  try {
    body = Object(JSON.parse(data)) as Record<string, unknown>;
  } catch {
    return undefined;
  }
  const number = (key: string) => {
    const value = body[key];
    return typeof value === "number" && Number.isFinite(value) ? value : undefined;
  };
  if (name === "viewercount") {
    const viewers = number("viewercount");
    return viewers === undefined ? undefined : { name, viewers };
  }
  const [ssrc, rtpTimestamp] = [number("ssrc"), number("rtp_timestamp")];
  const wallTimeMs = number("wall_time_ms");
  const isWhole = ssrc !== undefined && rtpTimestamp !== undefined && wallTimeMs !== undefined;
  return isWhole ? { name, ssrc, rtpTimestamp, wallTimeMs } : undefined;
}

function isShaky(peer: RTCPeerConnection): boolean {
  return peer.connectionState === "disconnected";
}

/** Waits until `done` holds. False where it does not within `limitMs`; an abort counts as done. */
function settled(
  peer: RTCPeerConnection,
  signal: AbortSignal,
  limitMs: number | undefined,
  done: () => boolean,
): Promise<boolean> {
  return new Promise((resolve) => {
    const watched: EventTarget[] = [peer, ...transports(peer)];
    const names = ["connectionstatechange", "iceconnectionstatechange", "statechange"];
    const finish = (held: boolean) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", check);
      for (const target of watched) names.forEach((n) => target.removeEventListener(n, check));
      resolve(held);
    };
    const check = () => {
      if (signal.aborted || done()) finish(true);
    };
    const late = () => finish(false);
    const timer = limitMs === undefined ? undefined : setTimeout(late, limitMs);
    signal.addEventListener("abort", check);
    for (const target of watched) names.forEach((n) => target.addEventListener(n, check));
    check();
  });
}

function transports(peer: RTCPeerConnection): RTCDtlsTransport[] {
  const all = peer.getTransceivers().flatMap((t) => [t.sender.transport, t.receiver.transport]);
  return [...new Set(all)].filter((transport) => transport !== null && transport !== undefined);
}

async function post(endpoint: Endpoint, sdp: string): Promise<Response> {
  try {
    return await fetch(endpoint.url, {
      method: "POST",
      headers: { "Content-Type": "application/sdp", ...authorization(endpoint.token) },
      body: sdp,
      cache: "no-store",
      signal: timeout(ANSWER_WITHIN_MS),
    });
  } catch {
    throw new Fault("unreachable", "The server does not answer.");
  }
}

function authorization(token: string): Record<string, string> {
  return token === "" ? {} : { Authorization: `Bearer ${token}` };
}

/** `AbortSignal.timeout`, which Safari has only since 16. */
function timeout(limitMs: number): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), limitMs);
  return controller.signal;
}

/** Names the port that has to be opened: what a person can act on. */
function noPath(announced: string[]): string {
  if (announced.length === 0) return "The server named no address for media.";
  const what = announced.join(" and ");
  return (
    `${what} cannot be reached from here. Open that port in the server's firewall, ` +
    "and check that the address it announces is its public one."
  );
}

/** Reads the candidates of an answer (RFC 8839 §5.1). */
export function announcedIn(answer: string): string[] {
  const found = answer.matchAll(/^a=candidate:\S+ \d+ (\w+) \d+ (\S+) (\d+) typ /gim);
  const named = [...found].map(([, protocol, host, port]) => {
    const address = host?.includes(":") ? `[${host}]` : host;
    return `${protocol?.toUpperCase()} ${address}:${port}`;
  });
  return [...new Set(named)];
}

/** One link of a `Link` header (RFC 8288 §3). */
interface Link {
  url: string;
  values: Map<string, string | undefined>;
}

function linksIn(header: string | null): Link[] {
  const link = /<([^>]+)>((?:\s*;\s*[\w-]+\s*=\s*(?:"[^"]*"|[^,;"]+))*)/g;
  return [...(header ?? "").matchAll(link)].map(([, url = "", rest = ""]) => {
    const found = rest.matchAll(/;\s*([\w-]+)\s*=\s*(?:"([^"]*)"|([^,;"\s]+))/g);
    const values = [...found].map(([, name = "", a, b]) => [name.toLowerCase(), a ?? b] as const);
    return { url, values: new Map(values) };
  });
}

/** Reads `Link: <stun:..>; rel="ice-server"; username=".."; credential=".."` (RFC 9725 §4.6). */
export function iceServersIn(header: string | null): RTCIceServer[] {
  return linksIn(header).flatMap(({ url, values }) => {
    if (values.get("rel") !== "ice-server" || !/^(stun|turn)s?:/i.test(url)) return [];
    const server: RTCIceServer = { urls: url };
    const [username, credential] = [values.get("username"), values.get("credential")];
    if (username !== undefined) server.username = username;
    if (credential !== undefined) server.credential = credential;
    return [server];
  });
}

/** Where the server has an extension of WHEP's core set, by its name. */
export function extensionIn(header: string | null, name: string): string | undefined {
  const relation = `urn:ietf:params:whep:ext:core:${name}`;
  return linksIn(header).find(({ values }) => values.get("rel") === relation)?.url;
}

/**
 * Asks for stereo Opus (RFC 7587 §6.1). Chromium and Safari send and decode one channel only
 * unless the descriptions say otherwise, and have no other way to be asked; Firefox says it itself.
 */
export function withStereo(sdp: string): string {
  const opus = /^a=rtpmap:(\d+) opus\/48000\/2/im.exec(sdp)?.[1];
  if (opus === undefined) return sdp;
  return sdp.replace(new RegExp(`^a=fmtp:${opus} (.*)$`, "m"), (line: string, values: string) =>
    /(^|;)\s*stereo=/.test(values) ? line : `${line};stereo=1;sprop-stereo=1`,
  );
}

/**
 * Asks for what tells a receiver the round trip (RFC 3611 §4.4). Chromium can, but does not offer
 * it by itself; without it, it asks again for what is lost only after 100 ms, near or far.
 */
export function withRoundTrip(sdp: string): string {
  return sdp.replace(/^(a=rtcp-fb:\d+) nack pli(\r?\n)/gm, "$&$1 rrtr$2");
}
