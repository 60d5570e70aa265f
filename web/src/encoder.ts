// Publishing with an encoder instead of the browser: what to type into it.

import * as page from "./page.js";
import { part, write, type ServerAddresses } from "./page.js";

/** Stand for what has not been entered, and for what is not to be read by who looks on. */
const NAME = "NAME";
const TOKEN = "TOKEN";
const HIDDEN = "••••••••";

/** What is published, and the token for it; either may be empty yet. */
export interface Entry {
  stream: string;
  token: string;
}

/** One text that is copied into an encoder. */
interface Line {
  label: string;
  /** The text with this token: the real one for the clipboard, a hidden one for the screen. */
  text: (token: string) => string;
}

/** One way in. */
interface Way {
  name: string;
  hint: string;
  lines: Line[];
}

/**
 * The ways in that are served, in the order in which most people need them.
 *
 * OBS and ffmpeg take the stream id as it stands in an SRT address and decode nothing of it, while
 * others end the address at a `#`. So the address has the one form that is the same for all,
 * `publish:NAME:TOKEN`; the standard's form is for those that ask for a stream id by itself. The
 * latency stays away: some count it in microseconds, others in milliseconds.
 */
export function waysIn(addresses: ServerAddresses, stream: string): Way[] {
  const { rtmpPort, rtmpsPort, srtPort } = addresses;
  const host = location.hostname;
  const ways: Way[] = [];
  if (rtmpPort !== undefined || rtmpsPort !== undefined) {
    const servers = [
      { label: "Server", scheme: "rtmp", port: rtmpPort },
      { label: "Server, encrypted", scheme: "rtmps", port: rtmpsPort },
    ].filter(({ port }) => port !== undefined);
    ways.push({
      name: "RTMP",
      hint:
        "OBS: service “Custom”." +
        (rtmpsPort === undefined ? "" : " Encrypted, it takes a certificate that OBS trusts."),
      lines: [
        ...servers.map(({ label, scheme, port }) => ({
          label,
          text: () => `${scheme}://${host}:${port}/live`,
        })),
        { label: "Stream key", text: (token) => `${stream}?token=${inQuery(token)}` },
      ],
    });
  }
  if (srtPort !== undefined) {
    // The server leaves out one `live/` before a name, which many encoders put there.
    const name = stream.startsWith("live/") ? `live/${stream}` : stream;
    ways.push({
      name: "SRT",
      hint:
        "For lines that lose packets. OBS: service “Custom”, no stream key. On a bad line " +
        "add &latency=400000 in OBS and ffmpeg, which count microseconds. A passphrase, where " +
        "the operator set one, is added as &passphrase=…",
      lines: [
        {
          label: "Address",
          text: (token) => `srt://${host}:${srtPort}?streamid=publish:${name}:${token}`,
        },
        { label: "Stream id alone", text: (token) => `#!::r=${name},m=publish,token=${token}` },
      ],
    });
  }
  ways.push({
    name: "WHIP",
    hint:
      "The least delay, where an encoder has it. OBS: service “WHIP”, sound as Opus; with more " +
      "than one layer under “Simulcast” each viewer gets the size that its link carries.",
    lines: [
      { label: "Address", text: () => `${location.origin}${page.pathFor("whip", stream)}` },
      { label: "Bearer token", text: (token) => token },
    ],
  });
  return ways;
}

/** A token as it stands in a query (RFC 3986 §3.4). */
function inQuery(token: string): string {
  return token === HIDDEN ? token : encodeURIComponent(token);
}

/** The list of what to type into an encoder. */
export class Addresses {
  private readonly list = part("ways", HTMLElement);
  private readonly reveal = part("reveal", HTMLButtonElement);
  private isRevealed = false;
  private entry: Entry = { stream: "", token: "" };

  constructor(private readonly served: ServerAddresses) {
    this.reveal.addEventListener("click", () => {
      this.isRevealed = !this.isRevealed;
      write(this.reveal, this.isRevealed ? "Hide token" : "Show token");
      this.reveal.setAttribute("aria-pressed", String(this.isRevealed));
      this.show(this.entry);
    });
    part("proxy-note", HTMLElement).hidden = !served.isBehindProxy;
  }

  show(entry: Entry): void {
    this.entry = entry;
    this.reveal.hidden = entry.token === "";
    const shown = entry.token === "" ? TOKEN : this.isRevealed ? entry.token : HIDDEN;
    const ways = waysIn(this.served, entry.stream || NAME);
    this.list.replaceChildren(...ways.map((way) => this.section(way, shown)));
  }

  private section(way: Way, shown: string): HTMLElement {
    const section = copyOf("way");
    write(field(section, "name"), way.name);
    write(field(section, "hint"), way.hint);
    const rows = way.lines.map(({ label, text }) => {
      const row = copyOf("line");
      write(field(row, "label"), label);
      write(field(row, "text"), text(shown));
      const button = field(row, "copy");
      button.setAttribute("aria-label", `Copy ${way.name} ${label.toLowerCase()}`);
      button.addEventListener("click", () => {
        void page.copyBy(button, text(this.entry.token || TOKEN));
      });
      return row;
    });
    field(section, "lines").replaceChildren(...rows);
    return section;
  }
}

/** A copy of what a template holds. */
function copyOf(template: string): HTMLElement {
  const copy = part(template, HTMLTemplateElement).content.firstElementChild?.cloneNode(true);
  if (!(copy instanceof HTMLElement)) throw new Error(`the template ${template} is empty`);
  return copy;
}

function field(within: HTMLElement, name: string): HTMLElement {
  const found = within.querySelector(`[data-field=${name}]`);
  if (!(found instanceof HTMLElement)) throw new Error(`there is no field ${name}`);
  return found;
}
