// Camera, screen or test picture as one stream of at most one audio and one video track.

import { testPicture, testTone, type Running } from "./picture.js";

export type Source = "camera" | "screen" | "test";

/** Stands for "none" where a device's id is expected. An empty id is the browser's own choice. */
export const NONE = "none";
/** Stands for what the shared screen or tab plays. */
export const SCREEN_SOUND = "screen";

/** What the user chose. */
export interface Wish {
  source: Source;
  /** A camera's id, empty or `NONE`. */
  picture: string;
  /** A microphone's id, empty, `SCREEN_SOUND` or `NONE`. */
  sound: string;
  /** Stereo as it is, instead of speech without echo and noise. */
  isMusic: boolean;
  /** Lines of the picture: 360, 720 or 1080. */
  height: number;
  /** Written into the test picture. */
  title: string;
}

/** Media that is being captured. Whoever captured it stops it. */
export interface Capture {
  media: MediaStream;
  stop: () => void;
}

/** Captures what was chosen; where the browser refuses, the error says why in plain words. */
export async function capture(wish: Wish): Promise<Capture> {
  if (wish.source === "test") return testCapture(wish);
  if (!window.isSecureContext || navigator.mediaDevices === undefined) {
    throw new Error("The browser gives camera, microphone and screen to https pages only.");
  }
  const tracks: MediaStreamTrack[] = [];
  const stop = () => tracks.forEach((track) => track.stop());
  try {
    if (wish.source === "screen") tracks.push(...(await screenTracks(wish)));
    tracks.push(...(await deviceTracks(wish)));
  } catch (error) {
    stop();
    throw new Error(plain(error, wish.source));
  }
  tracks.forEach((track) => hint(track, wish));
  return { media: new MediaStream(tracks), stop };
}

function testCapture(wish: Wish): Capture {
  const running: Running[] = [];
  if (wish.picture !== NONE) running.push(testPicture(wish.title));
  if (wish.sound !== NONE) running.push(testTone());
  const media = new MediaStream(running.map(({ track }) => track));
  media.getTracks().forEach((track) => hint(track, { ...wish, isMusic: true }));
  return { media, stop: () => running.forEach((source) => source.stop()) };
}

async function screenTracks(wish: Wish): Promise<MediaStreamTrack[]> {
  const video = { frameRate: { ideal: 30, max: 60 } };
  const untouched = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const audio = wish.sound === SCREEN_SOUND ? untouched : false;
  return (await navigator.mediaDevices.getDisplayMedia({ video, audio })).getTracks();
}

async function deviceTracks(wish: Wish): Promise<MediaStreamTrack[]> {
  const isChosen = (id: string) => id !== NONE && id !== SCREEN_SOUND;
  const exactly = (id: string) => (id === "" ? {} : { deviceId: { exact: id } });
  const wide = Math.round((wish.height * 16) / 9);
  const video = wish.source === "camera" && isChosen(wish.picture) && {
    ...exactly(wish.picture),
    width: { ideal: wide },
    height: { ideal: wish.height },
    frameRate: { ideal: 30 },
  };
  const isSpeech = !wish.isMusic;
  const audio = isChosen(wish.sound) && {
    ...exactly(wish.sound),
    echoCancellation: isSpeech,
    noiseSuppression: isSpeech,
    autoGainControl: isSpeech,
    channelCount: { ideal: wish.isMusic ? 2 : 1 },
  };
  if (!video && !audio) return [];
  return (await navigator.mediaDevices.getUserMedia({ video, audio })).getTracks();
}

/** Tells the encoder what matters: smooth motion, sharp letters, every overtone. */
function hint(track: MediaStreamTrack, wish: Wish): void {
  if (!("contentHint" in track)) return;
  if (track.kind === "video") track.contentHint = wish.source === "screen" ? "detail" : "motion";
  else track.contentHint = wish.isMusic || wish.sound === SCREEN_SOUND ? "music" : "speech";
}

function plain(error: unknown, source: Source): string {
  const name = error instanceof Error ? error.name : "";
  const what = source === "screen" ? "the screen" : "the camera or the microphone";
  switch (name) {
    case "NotAllowedError":
    case "SecurityError":
      return source === "screen"
        ? "No screen was shared: it was not allowed. Press the button to choose again."
        : `The browser may not use ${what}. Allow it beside the address, then try again.`;
    case "NotFoundError":
      return `No camera or no microphone was found. Plug one in, or choose "none" for it.`;
    case "NotReadableError":
    case "AbortError":
      return `Another program is using ${what}, or it does not respond.`;
    case "OverconstrainedError":
      return "That camera or microphone is not there any more. Choose another.";
    default:
      return error instanceof Error ? error.message : String(error);
  }
}

/** The devices to choose from. They have names only once their use was allowed. */
export async function devices(kind: "videoinput" | "audioinput"): Promise<MediaDeviceInfo[]> {
  if (navigator.mediaDevices === undefined) return [];
  const all = await navigator.mediaDevices.enumerateDevices();
  return all.filter((device) => device.kind === kind && device.deviceId !== "");
}
