// The menu of layers: a button among the controls, and a list above it. It follows the pattern of
// a menu button (ARIA Authoring Practices Guide): arrow keys, Home, End, Escape, Tab.

import { write } from "../page.js";
import type { Item, Menu } from "./layer_words.js";
import { icon, make } from "./make.js";

/** Shows what there is to choose, and says what was chosen. */
export class LayerMenu {
  readonly button = make("button", {
    id: "layer",
    class: "layer",
    part: "button",
    type: "button",
    "aria-haspopup": "menu",
    "aria-expanded": "false",
    "aria-controls": "layers",
    hidden: true,
  });
  readonly list = make("div", {
    id: "layers",
    class: "layers",
    part: "menu",
    role: "menu",
    "aria-label": "Picture size",
    hidden: true,
  });
  private leave: AbortController | undefined;

  constructor(private readonly onChoose: (id: string) => void) {
    this.button.addEventListener("click", () => (this.isOpen ? this.close() : this.open()));
    this.button.addEventListener("keydown", (event) => this.onButtonKey(event));
    this.list.addEventListener("keydown", (event) => this.onListKey(event));
    // Browsers differ in whether a click moves the focus; the list closes where the focus leaves.
    for (const part of [this.button, this.list]) {
      part.addEventListener("mousedown", (event) => event.preventDefault());
    }
    this.list.addEventListener("focusout", ({ relatedTarget }) => {
      const isWithin = relatedTarget instanceof Node && this.list.contains(relatedTarget);
      // The button closes it itself.
      if (!isWithin && relatedTarget !== this.button) this.close();
    });
  }

  get isOpen(): boolean {
    return !this.list.hidden;
  }

  /** Shows that, or that there is nothing to choose. */
  show(menu: Menu | undefined): void {
    this.button.hidden = menu === undefined;
    if (menu === undefined) return this.close();
    write(this.button, menu.short);
    if (this.button.title !== menu.label) {
      this.button.title = menu.label;
      this.button.setAttribute("aria-label", menu.label);
    }
    // Lines that stay are left in place, so that the keyboard's focus survives.
    const there = new Map(this.items().map((item) => [item.dataset["layer"], item]));
    const items = menu.items.map((item) => this.fill(there.get(item.id) ?? this.line(item), item));
    const before = this.items();
    const isSame = items.length === before.length && items.every((it, at) => it === before[at]);
    if (isSame) return;
    const focused = before.find((item) => item.matches(":focus"));
    this.list.replaceChildren(...items);
    if (focused !== undefined) (focused.isConnected ? focused : this.chosen())?.focus();
  }

  /** Closes the list; whoever was in it is back at the button. */
  close(): void {
    if (!this.isOpen) return;
    const hadFocus = this.list.matches(":focus-within");
    this.list.hidden = true;
    this.button.setAttribute("aria-expanded", "false");
    this.leave?.abort();
    if (hadFocus) this.button.focus();
  }

  private open(at: "chosen" | "first" | "last" = "chosen"): void {
    this.list.hidden = false;
    this.button.setAttribute("aria-expanded", "true");
    const items = this.items();
    const item = at === "chosen" ? this.chosen() : items.at(at === "first" ? 0 : -1);
    item?.focus();
    this.leave = new AbortController();
    const elsewhere = (event: Event) => {
      const path = event.composedPath();
      if (!path.includes(this.list) && !path.includes(this.button)) this.close();
    };
    document.addEventListener("pointerdown", elsewhere, { signal: this.leave.signal });
  }

  private items(): HTMLElement[] {
    return [...this.list.children] as HTMLElement[];
  }

  private chosen(): HTMLElement | undefined {
    const items = this.items();
    return items.find((item) => item.getAttribute("aria-checked") === "true") ?? items[0];
  }

  private line({ id }: Item): HTMLElement {
    const attributes = { type: "button", role: "menuitemradio", tabindex: "-1", "data-layer": id };
    const line = make("button", attributes, icon("check"), make("span"));
    line.addEventListener("click", () => {
      if (line.getAttribute("aria-disabled") === "true") return;
      this.onChoose(id);
      this.close();
    });
    return line;
  }

  private fill(line: HTMLElement, { words, isChosen, isOff }: Item): HTMLElement {
    const text = line.querySelector("span");
    if (text !== null) write(text, words);
    const states = { "aria-checked": isChosen, "aria-disabled": isOff && !isChosen };
    for (const [name, is] of Object.entries(states)) {
      if (line.getAttribute(name) !== String(is)) line.setAttribute(name, String(is));
    }
    return line;
  }

  private onButtonKey(event: KeyboardEvent): void {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    if (!this.isOpen) this.open(event.key === "ArrowDown" ? "first" : "last");
  }

  private onListKey(event: KeyboardEvent): void {
    const items = this.items();
    const at = items.findIndex((item) => item.matches(":focus"));
    const places: Record<string, number> = {
      ArrowDown: (at + 1) % items.length,
      ArrowUp: (at - 1 + items.length) % items.length,
      Home: 0,
      End: items.length - 1,
    };
    const place = places[event.key];
    if (place !== undefined) items[place]?.focus();
    else if (event.key === "Escape") this.close();
    // The focus moves on from the button, where it would have gone without the list.
    else if (event.key === "Tab") return this.close();
    else return;
    event.preventDefault();
  }
}
