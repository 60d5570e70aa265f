// Starts the browsers of the system. The scenarios of a file share them, one after another: what
// each page has is its own, and starting one takes as long as many a scenario.

import puppeteer from "puppeteer-core";
import { program } from "./programs.mjs";

/** From the end of one scenario to the next one's beginning it is less. */
const IDLE_MS = 300;

const CHROMIUM_FLAGS = [
  "--no-sandbox",
  "--window-size=1280,800",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--allow-loopback-in-peer-connection",
  // A name that is this machine, but no secure context as 127.0.0.1 is one.
  "--host-resolver-rules=MAP studio.test 127.0.0.1",
];
const FAKE_MEDIA = ["--use-fake-device-for-media-stream=fps=30", "--use-fake-ui-for-media-stream"];
const SOUND_AT_ONCE = ["--autoplay-policy=no-user-gesture-required"];
/** As in a network that lets no UDP through. */
const WITHOUT_UDP = ["--webrtc-ip-handling-policy=disable_non_proxied_udp"];

const FIREFOX_PREFERENCES = {
  "media.navigator.streams.fake": true,
  "media.navigator.permission.disabled": true,
  "media.autoplay.default": 0,
  // Nothing is fetched: no codec, no extension, no list.
  "media.gmp-manager.url": "",
  "app.update.enabled": false,
  "extensions.update.enabled": false,
};

/** Those that run, by what they were started with. */
const running = new Map();

/** Gives a browser that is started so, and what to call when it is not needed any more. */
async function take(options) {
  const key = JSON.stringify(options);
  const launch = () => puppeteer.launch({ headless: true, defaultViewport: null, ...options });
  const known = running.get(key) ?? { launched: launch(), uses: 0 };
  running.set(key, known);
  known.uses += 1;
  clearTimeout(known.idle);
  const browser = await known.launched;
  if (!browser.connected) {
    // It has crashed, which is a matter of those who used it.
    if (running.get(key) === known) running.delete(key);
    return take(options);
  }
  const close = () => {
    if (running.get(key) === known) running.delete(key);
    browser.close().catch(() => {});
  };
  const leave = () => {
    known.uses -= 1;
    if (known.uses === 0) known.idle = setTimeout(close, IDLE_MS);
  };
  return { browser, leave };
}

/** A Chromium, as `World.chromium` has it. */
export function chromium({ demandsClick = false, withoutUdp = false } = {}) {
  const sound = demandsClick ? [] : SOUND_AT_ONCE;
  const network = withoutUdp ? WITHOUT_UDP : [];
  return take({
    browser: "chrome",
    executablePath: program("CHROMIUM", ["chromium", "chromium-browser", "google-chrome"]),
    args: [...CHROMIUM_FLAGS, ...FAKE_MEDIA, ...sound, ...network],
  });
}

export function firefox() {
  return take({
    browser: "firefox",
    protocol: "webDriverBiDi",
    executablePath: program("FIREFOX", ["firefox-esr", "firefox"]),
    args: ["--width=1280", "--height=800"],
    extraPrefsFirefox: FIREFOX_PREFERENCES,
  });
}
