#!/usr/bin/env python3
"""Makes the streams beside it: real encoders' frames, as src/ingest is handed them.

A file is one frame after the other: decode and present time as 8 bytes each in ticks of 90 kHz,
the length in 4, all big-endian, then NAL units, each after its length in 4 bytes.
Needs ffmpeg and ffprobe with libx264 and libx265; 5.1 made what is committed.
"""
import json, pathlib, re, struct, subprocess, tempfile

X264 = "-c:v libx264 -preset fast -crf 40 -g 12 -x264-params scenecut=0:"
X265 = "-c:v libx265 -preset fast -crf 40 -g 12 -x265-params log-level=none:scenecut=0:"
STREAMS = {
    "h264-in-order": X264 + "bframes=0",
    "h264-baseline": X264 + "bframes=0 -profile:v baseline",
    "h264-b": X264 + "bframes=2:b-adapt=0:b-pyramid=none",
    "h264-b-pyramid": X264 + "bframes=3:b-adapt=0:b-pyramid=normal",
    "h265-in-order": X265 + "bframes=0:open-gop=0",
    "h265-b": X265 + "bframes=2:b-adapt=0:b-pyramid=0:open-gop=0",
    "h265-b-open": X265 + "bframes=2:b-adapt=0:b-pyramid=0:open-gop=1",
    "h265-b-pyramid": X265 + "bframes=3:b-adapt=0:b-pyramid=1",
}
SOURCE = "-f lavfi -i testsrc=size=128x72:rate=30 -frames:v 24 -pix_fmt yuv420p"


def packets(path):
    probe = "ffprobe -v error -show_packets -show_data -of json".split()
    for packet in json.loads(subprocess.check_output(probe + [path]))["packets"]:
        rows = [line.split(": ")[1] for line in packet["data"].strip().split("\n")]
        data = bytes.fromhex("".join(row[:40].replace(" ", "") for row in rows))
        yield packet["dts"], packet["pts"], data[: int(packet["size"])]


def units(data, codec):
    for unit in re.split(b"\0\0\0?\1", data):
        unit = unit.rstrip(b"\0") if unit else unit
        if not unit:
            continue
        is_delimiter = unit[0] & 31 == 9 if codec == "h264" else unit[0] >> 1 == 35
        if not is_delimiter:
            yield struct.pack(">I", len(unit)) + unit


for name, options in STREAMS.items():
    with tempfile.NamedTemporaryFile(suffix=".ts") as file:
        command = f"ffmpeg -v error -y {SOURCE} {options} -f mpegts {file.name}"
        subprocess.check_call(command.split())
        stream = b""
        for decode, present, data in packets(file.name):
            frame = b"".join(units(data, name[:4]))
            stream += struct.pack(">qqI", decode, present, len(frame)) + frame
        pathlib.Path(__file__).with_name(f"{name}.frames").write_bytes(stream)
