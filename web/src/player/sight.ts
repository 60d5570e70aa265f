// Where the picture is seen: how large that is on the screen, and whether anybody looks.

import type { Size } from "../layers.js";
import type { Seen } from "./layer_choice.js";

/** A size that lasts so long counts: who drags an edge makes many. */
const SETTLED_MS = 400;
/** A tab that is behind another for so long is not about to come back. */
const HIDDEN_AFTER_MS = 4_000;

/** Safari's full screen on telephones, which is the video's own. */
type Video = HTMLVideoElement & { webkitDisplayingFullscreen?: boolean };

/** Watches one player, between `start` and `stop`. */
export class Sight implements Seen {
  box: Size | undefined;
  isHidden = false;
  private left: AbortController | undefined;
  private window: PictureInPictureWindow | undefined;
  private own: Size | undefined;
  private settling: ReturnType<typeof setTimeout> | undefined;
  private leaving: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly host: HTMLElement,
    private readonly videos: readonly HTMLVideoElement[],
    private readonly onChange: () => void,
  ) {}

  start(): void {
    this.stop();
    this.left = new AbortController();
    const { signal } = this.left;
    document.addEventListener("visibilitychange", () => this.look(), { signal });
    for (const name of ["fullscreenchange", "webkitfullscreenchange"]) {
      document.addEventListener(name, () => this.measure(), { signal });
    }
    for (const video of this.videos) this.watch(video, signal);
    const observer = new ResizeObserver(([entry]) => {
      if (entry === undefined) return;
      const { width, height } = entry.contentRect;
      this.own = { width, height };
      this.measure();
    });
    observer.observe(this.host);
    signal.addEventListener("abort", () => observer.disconnect());
    this.look();
  }

  stop(): void {
    this.left?.abort();
    clearTimeout(this.settling);
    clearTimeout(this.leaving);
    this.window = this.own = this.box = undefined;
    this.isHidden = false;
  }

  private watch(video: Video, signal: AbortSignal): void {
    video.addEventListener(
      "enterpictureinpicture",
      ({ pictureInPictureWindow }) => {
        this.window = pictureInPictureWindow;
        this.window.addEventListener("resize", () => this.measure(), { signal });
        this.measure();
        this.look();
      },
      { signal },
    );
    video.addEventListener(
      "leavepictureinpicture",
      ({ pictureInPictureWindow }) => {
        // The other picture may have gone there in its place.
        if (pictureInPictureWindow === this.window) this.window = undefined;
        this.measure();
        this.look();
      },
      { signal },
    );
    for (const name of ["webkitbeginfullscreen", "webkitendfullscreen"]) {
      video.addEventListener(name, () => this.measure(), { signal });
    }
  }

  /** Whether anybody looks: at the page, or at a picture in picture. */
  private look(): void {
    clearTimeout(this.leaving);
    const isBehind = document.visibilityState === "hidden" && this.window === undefined;
    if (!isBehind) return this.hide(false);
    this.leaving = setTimeout(() => this.hide(true), HIDDEN_AFTER_MS);
  }

  private hide(isHidden: boolean): void {
    if (this.isHidden === isHidden) return;
    this.isHidden = isHidden;
    this.onChange();
  }

  /** Takes the size it has now: at once where it fills the screen, or has had none before. */
  private measure(): void {
    clearTimeout(this.settling);
    const now = this.size();
    if (now === undefined) return;
    if (this.box === undefined || this.isFullScreen()) return this.take(now);
    this.settling = setTimeout(() => this.take(now), SETTLED_MS);
  }

  private take(box: Size): void {
    if (this.box?.width === box.width && this.box.height === box.height) return;
    this.box = box;
    this.onChange();
  }

  private size(): Size | undefined {
    const isVideos = this.videos.some((video: Video) => video.webkitDisplayingFullscreen === true);
    const size = isVideos ? window.screen : (this.window ?? this.own);
    if (size === undefined) return undefined;
    const scale = window.devicePixelRatio || 1;
    return { width: Math.round(size.width * scale), height: Math.round(size.height * scale) };
  }

  private isFullScreen(): boolean {
    const isVideos = this.videos.some((video: Video) => video.webkitDisplayingFullscreen === true);
    return isVideos || document.fullscreenElement?.contains(this.host) === true;
  }
}
