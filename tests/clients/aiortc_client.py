"""aiortc as a WHIP publisher and as a WHEP viewer.

    aiortc_client.py publish URL [--token TOKEN] [--codec H264|VP8] [--passive] [--bundle-only]
    aiortc_client.py view URL [--passive] [--bundle-only]

Writes a JSON object per line, twice a second: the state of the connection, our DTLS role, and what
was decoded. When its input ends it deletes its session and ends.
"""

import argparse
import asyncio
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, VideoStreamTrack

WIDTH, HEIGHT = 320, 180
REPORT_EVERY_SECONDS = 0.5
HTTP_TIMEOUT_SECONDS = 20


class Picture(VideoStreamTrack):
    """A grey that brightens frame by frame, at 30 frames a second."""

    count = 0

    async def recv(self) -> av.VideoFrame:
        pts, time_base = await self.next_timestamp()
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for index, plane in enumerate(frame.planes):
            shade = 128 if index else self.count % 200 + 20
            plane.update(bytes([shade]) * plane.buffer_size)
        frame.pts, frame.time_base = pts, time_base
        self.count += 1
        return frame


class Seen:
    """What came out of the decoders."""

    def __init__(self) -> None:
        self.frames = 0
        self.samples = 0
        self.size = [0, 0]
        self.shades: set[int] = set()

    async def watch(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, av.VideoFrame):
                self.frames += 1
                self.size = [frame.width, frame.height]
                self.shades.add(bytes(frame.planes[0])[0])
            else:
                self.samples += frame.samples


def request(method: str, url: str, token: str | None, body: str | None = None):
    headers = {"Content-Type": "application/sdp"} if body else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = body.encode() if body else None
    made = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(made, timeout=HTTP_TIMEOUT_SECONDS) as response:
            return response.read().decode(), response.headers.get("Location")
    except urllib.error.HTTPError as error:
        sys.exit(f"{error}: {error.read().decode()}")


def prefer(peer: RTCPeerConnection, codec: str) -> None:
    """Offers one video codec and its retransmissions only."""
    for transceiver in peer.getTransceivers():
        if transceiver.kind == "video":
            offered = RTCRtpSender.getCapabilities("video").codecs
            wanted = {f"video/{codec}".lower(), "video/rtx"}
            transceiver.setCodecPreferences([it for it in offered if it.mimeType.lower() in wanted])


async def report(peer: RTCPeerConnection, seen: Seen) -> None:
    while True:
        transport = peer.getTransceivers()[0].sender.transport
        line = {
            "state": peer.connectionState,
            "dtlsRole": transport._role,
            "frames": seen.frames,
            "samples": seen.samples,
            "size": seen.size,
            "shades": len(seen.shades),
        }
        print(json.dumps(line), flush=True)
        await asyncio.sleep(REPORT_EVERY_SECONDS)


async def run(options: argparse.Namespace) -> None:
    # Without this, aiortc asks a STUN server on the Internet for its address.
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    seen = Seen()
    watching: list[asyncio.Task] = []
    peer.on("track", lambda track: watching.append(asyncio.ensure_future(seen.watch(track))))
    if options.role == "publish":
        peer.addTrack(AudioStreamTrack())
        peer.addTrack(Picture())
        for transceiver in peer.getTransceivers():
            transceiver.direction = "sendonly"
    else:
        peer.addTransceiver("audio", direction="recvonly")
        peer.addTransceiver("video", direction="recvonly")
    if options.codec:
        prefer(peer, options.codec)
    await peer.setLocalDescription(await peer.createOffer())
    offer = peer.localDescription.sdp
    if options.bundle_only:
        first, video = re.split(r"m=video \d+", offer)
        offer = f"{first}m=video 0{video}a=bundle-only\r\n"
    if options.passive:
        offer = offer.replace("a=setup:actpass", "a=setup:passive")
    answer, location = await asyncio.to_thread(request, "POST", options.url, options.token, offer)
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    reporting = asyncio.ensure_future(report(peer, seen))
    await asyncio.to_thread(sys.stdin.read)
    reporting.cancel()
    session = urllib.parse.urljoin(options.url, location)
    await asyncio.to_thread(request, "DELETE", session, options.token)
    await peer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["publish", "view"])
    parser.add_argument("url")
    parser.add_argument("--token")
    parser.add_argument("--codec", choices=["H264", "VP8"])
    parser.add_argument("--passive", action="store_true", help="be the DTLS server")
    parser.add_argument("--bundle-only", action="store_true", help="offer video so, as GStreamer")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
