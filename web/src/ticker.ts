// A worker that only ticks: in the background a page's timers run once a second, a worker's go on.

self.onmessage = ({ data }: MessageEvent<number>) => {
  setInterval(() => self.postMessage(0), data);
};
