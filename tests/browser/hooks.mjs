// What runs in each page before its own scripts, so that the tests see what is in it.

/** Runs in each page before its own scripts: keeps the peers, whose statistics tell the truth. */
export function keepPeers() {
  const Original = window.RTCPeerConnection;
  window.testPeers = [];
  window.testBegan = [];
  window.RTCPeerConnection = class extends Original {
    constructor(...parameters) {
      super(...parameters);
      window.testPeers.push(this);
      window.testBegan.push(performance.now());
    }
  };
}

/** Runs in each page before its own scripts: finds elements, those within the player included. */
export function findWithin() {
  const player = () => document.querySelector("millrace-player");
  window.testFind = (selector) =>
    document.querySelector(selector) ?? player()?.shadowRoot.querySelector(selector) ?? null;
  window.testInnerText = () => player()?.shadowRoot.querySelector("#stage").innerText ?? "";
  /** The picture that a person sees. */
  window.testVideo = () => player()?.video ?? document.querySelector("video");
}

/** Runs in each page before its own scripts: keeps when which of the last frames was shown. */
export function keepFrames() {
  window.testFrames = [];
  document.addEventListener("DOMContentLoaded", () => {
    const player = document.querySelector("millrace-player");
    const videos = (player?.shadowRoot ?? document).querySelectorAll("video");
    for (const video of videos) {
      const onFrame = (_, { expectedDisplayTime, rtpTimestamp }) => {
        video.requestVideoFrameCallback(onFrame);
        if (video !== window.testVideo()) return;
        const at = performance.timeOrigin + expectedDisplayTime;
        window.testFrames.push({ at, rtpTimestamp });
        if (window.testFrames.length > 1_000) window.testFrames.shift();
      };
      video.requestVideoFrameCallback?.(onFrame);
    }
  });
}

/** Runs in a page before its own scripts. */
export function withoutWebRtc() {
  delete window.RTCPeerConnection;
}

/** Runs in each page before its own scripts: keeps the URLs of the sessions that it was given. */
export function keepSessions() {
  const original = window.fetch;
  window.testSessions = [];
  window.fetch = async (...parameters) => {
    const response = await original(...parameters);
    const location = response.headers.get("Location");
    if (location !== null) window.testSessions.push(new URL(location, response.url).href);
    return response;
  };
}
