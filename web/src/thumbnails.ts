// Pictures of what is live, each in a box that is there before it.

import { pathFor, write } from "./page.js";

/** How often one is asked for: the server makes no more. */
const APART_MS = 5_000;
/** The same where there was none, for a reason that does not pass soon. */
const NONE_APART_MS = 60_000;
/** So many are asked for at once: as many as the server makes. */
const AT_ONCE_MAX = 2;

/** The box of one stream. */
interface Box {
  image: HTMLImageElement;
  note: Element;
  due: number;
  isAsked: boolean;
}

/** Shows a picture in each row that can be seen. */
export class Thumbnails {
  private readonly boxes = new Map<string, Box>();
  private asked = 0;

  constructor(private readonly token: () => string) {}

  /** Shows what a stream of that name shows, in its row; one without a picture says so. */
  update(row: Element, name: string, hasPicture: boolean): void {
    const box = this.boxes.get(name) ?? makeBox(row, name);
    this.boxes.set(name, box);
    if (!hasPicture) {
      hide(box, "Sound only");
    } else if (!box.isAsked && Date.now() >= box.due && this.asked < AT_ONCE_MAX && isNear(row)) {
      void this.ask(box, name);
    }
  }

  /** Forgets all streams but these. */
  keepOnly(names: Set<string>): void {
    for (const [name, box] of this.boxes) {
      if (names.has(name)) continue;
      hide(box, "");
      this.boxes.delete(name);
    }
  }

  private async ask(box: Box, name: string): Promise<void> {
    box.isAsked = true;
    this.asked += 1;
    try {
      const response = await fetch(`${pathFor("api/v1/streams", name)}/thumbnail.jpg`, {
        headers: { Authorization: `Bearer ${this.token()}` },
      });
      box.due = Date.now() + (response.status === 503 ? APART_MS : NONE_APART_MS);
      if (response.ok) {
        box.due = Date.now() + APART_MS;
        await this.show(box, name, await response.blob());
      } else if (response.status !== 503) {
        hide(box, "No picture");
      }
    } catch {
      // The list says that the server does not answer.
      box.due = Date.now() + APART_MS;
    } finally {
      box.isAsked = false;
      this.asked -= 1;
    }
  }

  private async show(box: Box, name: string, blob: Blob): Promise<void> {
    const url = URL.createObjectURL(blob);
    // It takes the place of the one before when it can be painted: nothing flickers.
    const next = new Image();
    next.src = url;
    try {
      await next.decode();
    } catch {
      URL.revokeObjectURL(url);
      return;
    }
    // The stream may have ended meanwhile.
    if (this.boxes.get(name) !== box) {
      URL.revokeObjectURL(url);
      return;
    }
    const before = box.image.src;
    box.image.src = url;
    box.image.hidden = false;
    write(box.note, "");
    if (before !== "") URL.revokeObjectURL(before);
  }
}

function makeBox(row: Element, name: string): Box {
  const image = row.querySelector("img");
  const note = row.querySelector(".no-picture");
  if (image === null || note === null) throw new Error("a row has no place for a picture");
  image.alt = `What ${name} shows now`;
  return { image, note, due: 0, isAsked: false };
}

function hide({ image, note }: Box, text: string): void {
  write(note, text);
  if (image.hidden) return;
  URL.revokeObjectURL(image.src);
  image.removeAttribute("src");
  image.hidden = true;
}

/** Whether it can be seen, or will be by the time its picture has come. */
function isNear(row: Element): boolean {
  const { top, bottom } = row.getBoundingClientRect();
  return bottom > -innerHeight / 2 && top < innerHeight * 1.5;
}
