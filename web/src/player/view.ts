// What there is in the player's shadow root, and what it says. It decides nothing.

import type { Fault } from "../fault.js";
import type { Phase } from "../keep.js";
import { write } from "../page.js";
import { latencyText } from "../stats.js";
import { LayerMenu } from "./layer_menu.js";
import { icon, iconButton, make } from "./make.js";
import { STYLE } from "./style.js";
import type { Protocol } from "./types.js";

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
  readonly menu = new LayerMenu((id) => this.onLayer(id));
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
    this.menu.button,
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
    this.menu.list,
  );
  private quietTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(root: ShadowRoot, private readonly onLayer: (id: string) => void) {
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
    if (phase.at !== "live" && phase.at !== "connecting") this.menu.close();
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
