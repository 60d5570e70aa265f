// What the viewer does: the buttons among the controls, keys, gestures.

import type { MillracePlayer } from "./element.js";
import { keyAction } from "./keys.js";
import type { View } from "./view.js";

const VOLUME_STEP = 0.1;

/** Turns it into what a page author could do as well. */
export class Controls {
  constructor(
    private readonly player: MillracePlayer,
    private readonly view: View,
    /** The viewer has typed a token. */
    private readonly onToken: (token: string) => void,
  ) {
    view.middle.addEventListener("click", () => {
      if (player.paused) return player.play();
      this.setSound(true);
    });
    view.toggle.addEventListener("click", () => this.togglePlay());
    view.mute.addEventListener("click", () => this.toggleSound());
    view.volume.addEventListener("input", () => {
      player.volume = Number(view.volume.value) / 100;
      player.muted = player.volume === 0;
    });
    view.fullscreen.addEventListener("click", () => void this.toggleFullscreen());
    view.pip.addEventListener("click", () => void this.togglePip());
    view.pip.hidden = !document.pictureInPictureEnabled;
    view.retry.addEventListener("click", () => player.retry());
    view.tokenForm.addEventListener("submit", (event) => {
      event.preventDefault();
      const token = view.tokenField.value.trim();
      view.tokenField.value = "";
      this.onToken(token);
    });
    for (const video of view.videos) {
      video.addEventListener("dblclick", () => void this.toggleFullscreen());
    }
  }

  /** A key that was pressed anywhere on the page. */
  onKey(event: KeyboardEvent): void {
    const { player } = this;
    const isOurs = event.composedPath().includes(player);
    const action = keyAction(event, player.getAttribute("hotkeys") ?? "", isOurs);
    if (action === undefined) return;
    event.preventDefault();
    this.view.stir();
    if (action === "play") this.togglePlay();
    else if (action === "mute") this.toggleSound();
    else if (action === "fullscreen") void this.toggleFullscreen();
    else if (action === "pip") void this.togglePip();
    else {
      player.volume += action === "louder" ? VOLUME_STEP : -VOLUME_STEP;
      if (action === "louder") player.muted = false;
    }
  }

  private togglePlay(): void {
    if (this.player.paused) this.player.play();
    else this.player.pause();
  }

  private toggleSound(): void {
    this.setSound(this.player.muted || this.player.volume === 0);
  }

  private setSound(isOn: boolean): void {
    if (isOn && this.player.volume === 0) this.player.volume = 1;
    this.player.muted = !isOn;
  }

  private async toggleFullscreen(): Promise<void> {
    try {
      if (document.fullscreenElement !== null) await document.exitFullscreen();
      else await this.player.requestFullscreen();
    } catch {
      // The viewer or the browser said no.
    }
  }

  private async togglePip(): Promise<void> {
    try {
      if (isInPip(this.player.video)) await document.exitPictureInPicture();
      else await this.player.requestPictureInPicture();
    } catch {
      // The viewer or the browser said no, or there is no picture.
    }
  }
}

/** The document itself knows only the element around it. */
export function isInPip(video: HTMLVideoElement): boolean {
  const root = video.getRootNode();
  return root instanceof ShadowRoot && root.pictureInPictureElement === video;
}
