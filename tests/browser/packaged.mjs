// A stream as files of HLS: one picture in three sizes, its sound in two codecs.

import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const SECONDS = 90;
/** How much of it is there at the beginning. */
const PAST_SECONDS = 8;
/** Pictures in a second, each second beginning with a keyframe. */
const RATE = 10;
const SIZES = [
  { size: "320x180", rate: 300_000, codec: "avc1.42c00d" },
  { size: "640x360", rate: 900_000, codec: "avc1.42c01e" },
  { size: "1280x720", rate: 2_500_000, codec: "avc1.42c01f" },
];
const SOUNDS = [
  { name: "aac", encoder: "aac", codec: "mp4a.40.2" },
  { name: "opus", encoder: "libopus", codec: "opus" },
];

/** Writes it into a folder; `index.m3u8` lists each size with each sound. */
export function writeHls(folder) {
  const shown = `testsrc2=size=1280x720:rate=${RATE}:duration=${SECONDS}`;
  const picture = ["-f", "lavfi", "-i", shown];
  const sound = ["-f", "lavfi", "-i", `sine=frequency=440:sample_rate=48000:duration=${SECONDS}`];
  const outputs = SIZES.flatMap(({ size, rate }) => {
    const codec = ["-c:v", "libx264", "-preset", "ultrafast", "-profile:v", "baseline"];
    const shape = ["-s", size, "-pix_fmt", "yuv420p", "-b:v", `${rate}`, "-g", `${RATE}`];
    return ["-map", "0:v", ...codec, ...shape, ...files(size)];
  });
  const sounds = SOUNDS.flatMap(({ name, encoder }) => {
    return ["-map", "1:a", "-c:a", encoder, "-strict", "experimental", ...files(name)];
  });
  const options = ["-v", "error", ...picture, ...sound, ...outputs, ...sounds];
  const { status, stderr } = spawnSync("ffmpeg", options, { cwd: folder, encoding: "utf8" });
  if (status !== 0) throw new Error(`ffmpeg: ${stderr}`);
  const groups = SOUNDS.map(({ name }) => {
    return `#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="${name}",NAME="sound",DEFAULT=YES,URI="${name}.m3u8"`;
  });
  const variants = SOUNDS.flatMap(({ name, codec: sound }) =>
    SIZES.map(({ size, rate, codec }) => {
      const facts = `BANDWIDTH=${rate + 100_000},RESOLUTION=${size},FRAME-RATE=${RATE}`;
      return `#EXT-X-STREAM-INF:${facts},CODECS="${codec},${sound}",AUDIO="${name}"\n${size}.m3u8`;
    }),
  );
  const lines = ["#EXTM3U", "#EXT-X-VERSION:7", ...groups, ...variants, ""];
  writeFileSync(join(folder, "index.m3u8"), lines.join("\n"));
}

/** A list of its pieces, each a second, as it is so many seconds after the beginning. */
export function liveList(text, seconds) {
  const lines = text.split("\n").filter((line) => !/ENDLIST|PLAYLIST-TYPE/.test(line));
  let left = PAST_SECONDS + Math.floor(seconds);
  const end = lines.findIndex((line) => line.startsWith("#EXTINF") && (left -= 1) < 0);
  return lines.slice(0, end < 0 ? undefined : end).join("\n");
}

function files(name) {
  const pieces = ["-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", `${name}-init.mp4`];
  const list = ["-hls_playlist_type", "vod", "-hls_segment_filename", `${name}-%d.m4s`];
  return ["-f", "hls", "-hls_time", "1", ...pieces, ...list, `${name}.m3u8`];
}
