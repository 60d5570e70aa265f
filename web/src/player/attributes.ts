// The attributes of the element, as properties, and the types of its events.

import type { PlayerEventDetails, ProtocolChoice } from "./types.js";

/** A server renders pages without any elements; importing this there must not fail. */
const Base = (globalThis.HTMLElement ?? class {}) as typeof HTMLElement;

/** What page authors write into the page. */
export class PlayerAttributes extends Base {
  /** The stream's name. */
  get stream(): string {
    return this.getAttribute("stream") ?? "";
  }
  set stream(name: string) {
    this.setAttribute("stream", name);
  }

  /** The server's address; by default where this script came from. */
  get server(): string {
    const given = this.getAttribute("server") ?? "";
    return (given === "" ? ownOrigin() : new URL(given, location.href).href).replace(/\/+$/, "");
  }
  set server(url: string) {
    this.setAttribute("server", url);
  }

  /** By which way it may play. */
  get protocolChoice(): ProtocolChoice {
    const choice = this.getAttribute("protocol");
    return choice === "whep" || choice === "hls" ? choice : "auto";
  }
  set protocolChoice(choice: ProtocolChoice) {
    this.setAttribute("protocol", choice);
  }

  get autoplay(): boolean {
    return this.hasAttribute("autoplay");
  }
  set autoplay(is: boolean) {
    this.toggleAttribute("autoplay", is);
  }

  /** Whether the player shows controls of its own: `controls="off"` says no. */
  get controls(): boolean {
    return !/^(off|false|none)$/.test(this.getAttribute("controls") ?? "");
  }
  set controls(are: boolean) {
    if (are) this.removeAttribute("controls");
    else this.setAttribute("controls", "off");
  }

  /** The largest layer is taken though the element is smaller. */
  get fullSize(): boolean {
    return this.hasAttribute("full-size");
  }
  set fullSize(is: boolean) {
    this.toggleAttribute("full-size", is);
  }

  /** The picture goes on though the page is behind another one. */
  get playsHidden(): boolean {
    return this.hasAttribute("plays-hidden");
  }
  set playsHidden(is: boolean) {
    this.toggleAttribute("plays-hidden", is);
  }

  get poster(): string {
    return this.getAttribute("poster") ?? "";
  }
  set poster(url: string) {
    this.setAttribute("poster", url);
  }

  override addEventListener<K extends keyof PlayerEventDetails>(
    type: K,
    listener: (this: this, event: CustomEvent<PlayerEventDetails[K]>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  override addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
  override addEventListener(
    type: string,
    listener: unknown,
    options?: boolean | AddEventListenerOptions,
  ): void {
    super.addEventListener(type, listener as EventListener, options);
  }
}

/** Where this script came from: the server, unless a page author serves it. */
function ownOrigin(): string {
  const { origin, protocol } = new URL(import.meta.url);
  return protocol === "http:" || protocol === "https:" ? origin : location.origin;
}
