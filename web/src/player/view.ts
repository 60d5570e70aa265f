// What there is in the player's shadow root, and what it says. It decides nothing.

import type { Fault } from "../fault.js";
import type { Phase } from "../keep.js";
import { write } from "../page.js";
import { latencyText } from "../stats.js";
import { STYLE } from "./style.js";
import type { Protocol } from "./types.js";

const SVG = "http://www.w3.org/2000/svg";

/** Paths on 24 by 24, each with the class it has. */
const ICONS = {
  play: [["M7 4.5v15l12-7.5z", "full"]],
  toggle: [
    ["M8 5v14M16 5v14", "when-on"],
    ["M7 4.5v15l12-7.5z", "when-off full"],
  ],
  sound: [
    ["M4 9v6h4l5 4V5L8 9z", ""],
    ["M16.5 9l5 6m0-6l-5 6", "when-on"],
    ["M16.5 8.5q3 3.5 0 7M19 6q5.5 6 0 12", "when-off"],
  ],
  silent: [["M4 9v6h4l5 4V5L8 9zM16.5 8.5l5 7m0-7l-5 7", ""]],
  pip: [
    ["M3 5h18v14H3z", ""],
    ["M12.5 12.5H19V17h-6.500z", "full"],
  ],
  full: [["M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5", ""]],
} satisfies Record<string, [string, string][]>;

type Attributes = Record<string, string | boolean>;

/** Makes an element; `true` is an attribute without a value, `false` none. */
function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

function icon(name: keyof typeof ICONS): SVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  for (const [d, kind] of ICONS[name] as [string, string][]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    if (kind !== "") path.setAttribute("class", kind);
    svg.append(path);
  }
  return svg;
}

function iconButton(id: string, label: string, name: keyof typeof ICONS): HTMLButtonElement {
  const attributes = { id, class: `icon ${id}`, part: "button", type: "button" };
  return make("button", { ...attributes, "aria-label": label, title: label }, icon(name));
}

function videoElement(): HTMLVideoElement {
  const video = make("video", { part: "video", playsinline: true, muted: true });
  video.muted = true;
  return video;
}

/** What the button in the middle of the picture is for. */
export type Middle = "play" | "sound" | undefined;

/** The elements, and how they look in each state. */
export class View {
  readonly videos = [videoElement(), videoElement()] as const;
  readonly poster = make("img", { part: "poster", class: "poster", alt: "", hidden: true });
  readonly title = make("h2", { id: "title" });
  readonly words = make("p", { id: "words" });
  readonly countdown = make("p", { id: "countdown", class: "countdown" });
  readonly spinner = make("span", { id: "spinner", class: "spinner", "aria-hidden": "true" });
  readonly tokenField = make("input", {
    id: "token",
    type: "password",
    autocomplete: "off",
    required: true,
  });
  readonly tokenForm = make(
    "form",
    { id: "token-form", hidden: true },
    make("label", {}, make("span", {}, "View token"), this.tokenField),
    make("button", { class: "primary", part: "primary" }, "Watch"),
  );
  readonly retry = make(
    "button",
    { id: "retry", class: "primary", part: "primary", type: "button", hidden: true },
    "Try again",
  );
  readonly veil = make(
    "div",
    { id: "veil", class: "veil", part: "veil" },
    this.spinner,
    make("div", { role: "status", part: "words" }, this.title, this.words),
    this.countdown,
    this.tokenForm,
    this.retry,
  );
  readonly level = make(
    "div",
    { id: "level", class: "level", "aria-hidden": "true" },
    ...Array.from({ length: 7 }, () => make("i")),
  );
  readonly soundOnly = make(
    "div",
    { id: "sound-only", class: "sound-only", hidden: true },
    this.level,
    make("p", {}, "Sound only"),
  );
  private readonly middleText = make("span", { id: "unmute-text" });
  private readonly middleSound = icon("silent");
  private readonly middlePlay = icon("play");
  readonly middle = make(
    "button",
    { id: "unmute", class: "middle", part: "middle", type: "button", hidden: true },
    this.middleText,
  );
  readonly toggle = iconButton("play", "Pause", "toggle");
  readonly mute = iconButton("mute", "Mute", "sound");
  readonly volume = make("input", {
    id: "volume",
    part: "volume",
    type: "range",
    min: "0",
    max: "100",
    value: "100",
    "aria-label": "Volume",
  });
  readonly latency = make("span", { id: "latency", class: "latency" });
  readonly protocol = make("span", { id: "protocol", class: "protocol" });
  readonly standing = make(
    "div",
    { id: "standing", class: "standing", part: "standing" },
    this.latency,
    this.protocol,
  );
  readonly pip = iconButton("pip", "Picture in picture", "pip");
  readonly fullscreen = iconButton("fullscreen", "Full screen", "full");
  readonly controls = make(
    "div",
    { class: "controls", part: "controls", role: "group", "aria-label": "Controls" },
    this.toggle,
    this.mute,
    this.volume,
    make("span", { class: "spring" }),
    this.standing,
    this.pip,
    this.fullscreen,
  );
  readonly stage = make(
    "div",
    { id: "stage", class: "stage", part: "stage", role: "region", tabindex: "0" },
    ...this.videos,
    this.poster,
    this.soundOnly,
    this.veil,
    this.middle,
    this.controls,
  );
  private quietTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(root: ShadowRoot) {
    dress(root);
    root.append(this.stage);
    for (const name of ["pointermove", "pointerdown", "focusin", "keydown"]) {
      this.stage.addEventListener(name, () => this.stir());
    }
    this.stage.addEventListener("pointerleave", () => this.stage.classList.add("quiet"));
    this.stir();
  }

  /** Shows the controls, and hides them once the pointer has rested. */
  stir(): void {
    this.stage.classList.remove("quiet");
    clearTimeout(this.quietTimer);
    this.quietTimer = setTimeout(() => this.stage.classList.add("quiet"), 3000);
  }

  name(stream: string): void {
    const label = stream === "" ? "Live stream" : `Live stream ${stream}`;
    this.stage.setAttribute("aria-label", label);
    for (const video of this.videos) video.setAttribute("aria-label", "Live picture");
  }

  /** Puts one of the two pictures in front of the other. */
  bring(front: HTMLVideoElement): void {
    for (const video of this.videos) {
      video.classList.toggle("front", video === front);
      video.setAttribute("aria-hidden", String(video !== front));
    }
  }

  phase(phase: Phase, stream: string): void {
    this.stage.dataset["phase"] = phase.at;
    this.veil.hidden = phase.at === "live" || phase.at === "idle";
    this.spinner.hidden = phase.at === "stopped";
    const wantsToken = phase.at === "stopped" && phase.fault.kind === "token";
    this.retry.hidden = phase.at !== "stopped" || wantsToken;
    const wasHidden = this.tokenForm.hidden;
    this.tokenForm.hidden = !wantsToken;
    if (wasHidden && wantsToken) this.tokenField.focus();
    this.tell(phase, stream);
  }

  /** The words and the countdown alone, which change while nothing else does. */
  tell(phase: Phase, stream: string): void {
    let left = "";
    if (phase.at === "waiting") {
      const seconds = Math.max(Math.ceil((phase.until - Date.now()) / 1000), 0);
      if (seconds > 0) left = `Trying again in ${seconds} s`;
    }
    write(this.countdown, left);
    if (phase.at === "waiting" || phase.at === "stopped") {
      const [heading, text] = wordsOf(phase.fault, stream);
      return this.say(heading, text);
    }
    // What was wrong stays readable while the next attempt runs.
    if (phase.at !== "connecting") this.say("", "");
    else if (phase.after === undefined) this.say("Connecting", "");
  }

  say(heading: string, text: string): void {
    write(this.title, heading);
    write(this.words, text);
  }

  /** The session stands, and nothing comes. */
  away(hadMedia: boolean): void {
    this.veil.hidden = false;
    this.spinner.hidden = false;
    if (hadMedia) this.say("The stream has paused", "Waiting for the publisher to go on.");
    else this.say("Waiting for the first picture", "The connection stands; nothing is sent yet.");
  }

  offer(what: Middle, text: string): void {
    this.middle.hidden = what === undefined;
    if (what === undefined) return;
    this.middle.replaceChildren(
      what === "play" ? this.middlePlay : this.middleSound,
      this.middleText,
    );
    write(this.middleText, text);
  }

  sound(muted: boolean, volume: number): void {
    const isOff = muted || volume === 0;
    this.mute.setAttribute("aria-pressed", String(isOff));
    this.mute.title = isOff ? "Sound on (m)" : "Sound off (m)";
    this.volume.value = String(isOff ? 0 : Math.round(volume * 100));
  }

  paused(isPaused: boolean): void {
    const label = isPaused ? "Play" : "Pause";
    this.toggle.setAttribute("aria-label", label);
    this.toggle.title = `${label} (k)`;
    this.toggle.dataset["paused"] = String(isPaused);
  }

  /** "0.18 s · WebRTC": how far behind live, and by which way. */
  tells(protocol: Protocol | undefined, latency: number | undefined): void {
    const name = protocol === undefined ? "" : PROTOCOLS[protocol];
    this.standing.toggleAttribute("data-live", protocol !== undefined);
    this.standing.hidden = protocol === undefined;
    write(this.latency, latency === undefined ? "Live" : latencyText(latency));
    write(this.protocol, name);
    const behind = latency === undefined ? "Live" : `${latencyText(latency)} behind live`;
    const title = `${behind}, by ${name}`;
    if (this.standing.title !== title) this.standing.title = title;
  }
}

export const PROTOCOLS: Record<Protocol, string> = { whep: "WebRTC", hls: "LL-HLS" };

/** The sheet; as an object where there are such, which no content security policy keeps out. */
function dress(root: ShadowRoot): void {
  if ("adoptedStyleSheets" in root && "replaceSync" in CSSStyleSheet.prototype) {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
  } else {
    root.append(make("style", {}, STYLE));
  }
}

/** A fault, as heading and text. */
export function wordsOf(fault: Fault, stream: string): [string, string] {
  switch (fault.kind) {
    case "not-live":
      return ["Not live yet", `Waiting for “${stream}” to start. It will play by itself.`];
    case "token":
      return ["This stream needs a token", fault.message];
    case "no-path":
      return ["No picture gets through", fault.message];
    case "busy":
      return ["The server is busy", fault.message];
    case "unreachable":
      return ["The server cannot be reached", fault.message];
    case "lost":
    case "ended":
      return ["Reconnecting", fault.message];
    case "refused":
    case "unplayable":
      return ["This stream cannot be played", fault.message];
  }
}
