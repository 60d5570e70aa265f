"""ffmpeg's WHIP muxer, as the libraries that come with PyAV have it, as a publisher.

    ffmpeg_client.py publish URL --token TOKEN [--active]

Sends a picture that brightens, in H.264, and a silent sound, in Opus. Writes a JSON object per
line; ends when its input ends, and its session with it.
"""

import argparse
import json
import sys
import threading
import time
from fractions import Fraction

import av

WIDTH, HEIGHT, FRAME_RATE = 320, 180, 30
SAMPLE_RATE, FRAME_SAMPLES = 48_000, 960
REPORT_EVERY_FRAMES = 15


def picture(count: int) -> av.VideoFrame:
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    for index, plane in enumerate(frame.planes):
        shade = 128 if index else count % 200 + 20
        plane.update(bytes([shade]) * plane.buffer_size)
    frame.pts, frame.time_base = count, Fraction(1, FRAME_RATE)
    return frame


def silence(count: int) -> av.AudioFrame:
    frame = av.AudioFrame(format="s16", layout="stereo", samples=FRAME_SAMPLES)
    frame.planes[0].update(bytes(frame.planes[0].buffer_size))
    frame.sample_rate = SAMPLE_RATE
    frame.pts, frame.time_base = count * FRAME_SAMPLES, Fraction(1, SAMPLE_RATE)
    return frame


def publish(options: argparse.Namespace, ended: threading.Event) -> None:
    settings = {"authorization": options.token}
    if options.active:
        settings["whip_flags"] = "dtls_active"
    with av.open(options.url, "w", format="whip", options=settings) as output:
        # As "ffmpeg -c:v libx264 -profile:v baseline -tune zerolatency -g 30 -c:a libopus -f whip".
        encoding = {"profile": "baseline", "tune": "zerolatency", "preset": "veryfast"}
        video = output.add_stream("libx264", rate=FRAME_RATE, options=encoding)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.gop_size, video.max_b_frames = FRAME_RATE, 0
        audio = output.add_stream("libopus", rate=SAMPLE_RATE, layout="stereo")
        began = time.monotonic()
        frames = sounds = 0
        while not ended.is_set():
            output.mux(video.encode(picture(frames)))
            frames += 1
            while sounds * FRAME_SAMPLES * FRAME_RATE < frames * SAMPLE_RATE:
                output.mux(audio.encode(silence(sounds)))
                sounds += 1
            if frames % REPORT_EVERY_FRAMES == 0:
                print(json.dumps({"frames": frames}), flush=True)
            time.sleep(max(0, began + frames / FRAME_RATE - time.monotonic()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["publish"])
    parser.add_argument("url")
    parser.add_argument("--token", required=True)
    parser.add_argument("--active", action="store_true", help="be the DTLS client")
    options = parser.parse_args()
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    publish(options, ended)


if __name__ == "__main__":
    main()
