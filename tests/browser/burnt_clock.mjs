// A clock in the picture that programs read: what a viewer sees tells when it was captured.
//
// Each bit is a square, black or white, so large that no encoder blurs it; the time is written
// once, and its complement below, so that a torn or half-decoded picture is known for what it is.

/** Runs in a page before its own scripts: its camera shows the time, in ms since the Unix epoch. */
export function filmClock() {
  const [width, height, bits, size] = [640, 360, 32, 20];
  navigator.mediaDevices.getUserMedia = async (wishes) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const pen = canvas.getContext("2d", { alpha: false });
    const paint = () => {
      // The low bits last for 49 days.
      const now = Math.round(performance.timeOrigin + performance.now()) % 2 ** bits;
      pen.fillStyle = `hsl(${(now / 20) % 360} 60% 40%)`;
      pen.fillRect(0, 0, width, height);
      for (let bit = 0; bit < bits; bit += 1) {
        const isSet = Math.floor(now / 2 ** bit) % 2 === 1;
        for (const [row, isWhite] of [[0, isSet], [1, !isSet]]) {
          pen.fillStyle = isWhite ? "#fff" : "#000";
          pen.fillRect(bit * size, row * size, size, size);
        }
      }
    };
    setInterval(paint, 10);
    paint();
    const media = canvas.captureStream(30);
    if (wishes.audio) {
      const audio = new AudioContext();
      const sink = audio.createMediaStreamDestination();
      const tone = audio.createOscillator();
      tone.connect(sink);
      tone.start();
      media.addTrack(sink.stream.getAudioTracks()[0]);
    }
    return media;
  };
}

/** Runs in each page before its own scripts: `testReadClock(video)` gives the time in a picture. */
export function readClock() {
  const [bits, size] = [32, 20];
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [640, 360];
  const pen = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  const isWhite = (data, column, row) => data[(row * 640 + column) * 4] > 127;
  window.testReadClock = (video) => {
    pen.drawImage(video, 0, 0, 640, 360);
    const { data } = pen.getImageData(0, 0, bits * size, 2 * size);
    let low = 0;
    for (let bit = 0; bit < bits; bit += 1) {
      const column = bit * size + size / 2;
      const isSet = isWhite(data, column, size / 2);
      if (isSet === isWhite(data, column, size + size / 2)) return undefined;
      if (isSet) low += 2 ** bit;
    }
    const now = performance.timeOrigin + performance.now();
    return now - (((now - low) % 2 ** bits) + 2 ** bits) % 2 ** bits;
  };
}
