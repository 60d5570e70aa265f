// What every page needs: its elements, the stream's name, tokens, the server's addresses.

/** The element with that id; a page without it is broken and says so at once. */
export function part<T extends Element>(id: string, kind: new () => T): T {
  const element = document.getElementById(id);
  if (element instanceof kind) return element;
  throw new Error(`this page has no ${kind.name} called ${id}`);
}

/** Writes `text` only where it differs, so that screen readers do not hear it twice. */
export function write(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** What a stream may be called: see `StreamName` in the server. */
const NAME = /^(?!.*(^|\/)\.{1,2}(\/|$))[\w.~-]+(\/[\w.~-]+)*$/;
const NAME_LENGTH_MAX = 128;

/** Says what is wrong with a stream's name, or nothing. */
export function nameFault(name: string): string | undefined {
  if (name === "") return "Give the stream a name.";
  if (name.length > NAME_LENGTH_MAX) return "A stream's name has at most 128 characters.";
  if (NAME.test(name)) return undefined;
  return "A stream's name is made of letters, digits and . _ ~ - with single / between parts.";
}

/** The stream's name in `/watch/{stream}` or `/publish/{stream}`; empty where there is none. */
export function streamInPath(page: "publish" | "watch"): string {
  const prefix = `/${page}/`;
  if (!location.pathname.startsWith(prefix)) return "";
  try {
    return decodeURIComponent(location.pathname.slice(prefix.length)).replace(/\/+$/, "");
  } catch {
    return "";
  }
}

/** The path of a page or endpoint for a stream. */
export function pathFor(
  what: "publish" | "watch" | "whip" | "whep" | "hls" | "api/v1/streams",
  stream: string,
): string {
  return `/${what}/${stream.split("/").map(encodeURIComponent).join("/")}`;
}

/** A token that lives as long as the browser tab. */
export class Token {
  private readonly key: string;

  constructor(use: "publish" | "view" | "admin") {
    this.key = `millrace.${use}-token`;
    this.takeFromAddress();
  }

  get value(): string {
    return sessionStorage.getItem(this.key) ?? "";
  }

  set value(token: string) {
    if (token === "") sessionStorage.removeItem(this.key);
    else sessionStorage.setItem(this.key, token);
  }

  /** Takes `#token=..` out of the address, so that nobody copies it along with the link. */
  private takeFromAddress(): void {
    const token = new URLSearchParams(location.hash.slice(1)).get("token");
    if (token === null) return;
    this.value = token.trim();
    history.replaceState(null, "", location.pathname + location.search);
  }
}

/** What the server tells every page; see `client-config.json`. A port that is off is absent. */
export interface ServerAddresses {
  httpsPort?: number;
  rtmpPort?: number;
  rtmpsPort?: number;
  srtPort?: number;
  /** This page came through a proxy, which may be another machine than the server. */
  isBehindProxy: boolean;
}

/** Reads `/client-config.json`. A server that does not tell is no fault. */
export async function serverAddresses(): Promise<ServerAddresses> {
  const addresses: ServerAddresses = { isBehindProxy: false };
  try {
    const response = await fetch("/client-config.json");
    const body = (await response.json()) as Record<string, unknown>;
    addresses.isBehindProxy = body["behind_proxy"] === true;
    for (const name of ["https", "rtmp", "rtmps", "srt"] as const) {
      const port = body[`${name}_port`];
      if (typeof port === "number" && port > 0) addresses[`${name}Port`] = port;
    }
  } catch {
    // Then the page knows of none.
  }
  return addresses;
}

/** Calls `work` every second and never twice at once. */
export function everySecond(work: () => Promise<void> | void): () => void {
  let busy = false;
  const tick = async () => {
    if (busy) return;
    busy = true;
    try {
      await work();
    } finally {
      busy = false;
    }
  };
  const timer = setInterval(() => void tick(), 1000);
  void tick();
  return () => clearInterval(timer);
}

/** Keeps a phone's screen on until the returned function is called. */
export function stayAwake(): () => void {
  let lock: WakeLockSentinel | undefined;
  let isOver = false;
  const ask = async () => {
    if (isOver || document.visibilityState !== "visible" || !("wakeLock" in navigator)) return;
    try {
      lock = await navigator.wakeLock.request("screen");
      if (isOver) await lock.release();
    } catch {
      // Low battery: the screen may go dark.
    }
  };
  const seen = () => void ask();
  document.addEventListener("visibilitychange", seen);
  void ask();
  return () => {
    isOver = true;
    document.removeEventListener("visibilitychange", seen);
    void lock?.release();
  };
}

/** Puts `text` on the clipboard; also on plain http, where there is no clipboard interface. */
async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "aside";
    document.body.append(field);
    field.select();
    const isDone = document.execCommand("copy");
    field.remove();
    return isDone;
  }
}

/** Copies at a button's click, and says on the button how that went. */
export async function copyBy(button: HTMLElement, text: string): Promise<void> {
  write(button, (await copy(text)) ? "Copied" : "Copy failed");
  setTimeout(() => write(button, "Copy"), 1500);
}
