// Makes the elements of the player.

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
    ["M12.5 12.5H19V17h-6.5z", "full"],
  ],
  full: [["M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5", ""]],
  check: [["M5 12.5l4.5 4.5L19 7.5", ""]],
} satisfies Record<string, [string, string][]>;

type Attributes = Record<string, string | boolean>;

/** Makes an element; `true` is an attribute without a value, `false` none. */
export function make<K extends keyof HTMLElementTagNameMap>(
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

export function icon(name: keyof typeof ICONS): SVGElement {
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

export function iconButton(
  id: string,
  label: string,
  name: keyof typeof ICONS,
): HTMLButtonElement {
  const attributes = { id, class: `icon ${id}`, part: "button", type: "button" };
  return make("button", { ...attributes, "aria-label": label, title: label }, icon(name));
}
