"""aiortc publishes by WHIP or plays by WHEP.

    aiortc_peer.py publish URL CODEC FILE       test pictures by VP8 or H264 and a tone by Opus, until there is a file of that name
    aiortc_peer.py play URL PICTURES SOUNDS     until so many are decoded

Prints one JSON object. Ends with 1 when something is wrong."""

import asyncio
import fractions
import json
import math
import os
import re
import sys
import time
import urllib.parse
import urllib.request

import av
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender, RTCSessionDescription, VideoStreamTrack

RATE = 48000
SAMPLES = 960
WIDTH, HEIGHT = 320, 180
PATIENCE = 30


class Pictures(VideoStreamTrack):
    """A bar that goes through grey, 30 pictures a second."""

    def __init__(self):
        super().__init__()
        self.count = 0

    async def recv(self):
        pts, time_base = await self.next_timestamp()
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for place, plane in enumerate(frame.planes):
            picture = bytearray([128]) * plane.buffer_size
            if place == 0:
                at = self.count * 4 % (WIDTH - 32)
                for row in range(HEIGHT):
                    picture[row * plane.line_size + at : row * plane.line_size + at + 32] = bytes([235]) * 32
            plane.update(bytes(picture))
        frame.pts, frame.time_base = pts, time_base
        self.count += 1
        return frame


class Tone(MediaStreamTrack):
    kind = "audio"

    def __init__(self):
        super().__init__()
        self.samples = 0
        self.began = None

    async def recv(self):
        self.began = self.began or time.monotonic()
        await asyncio.sleep(max(0, self.began + self.samples / RATE - time.monotonic()))
        frame = av.AudioFrame(format="s16", layout="mono", samples=SAMPLES)
        wave = (int(8000 * math.sin(2 * math.pi * 440 * (self.samples + at) / RATE)) for at in range(SAMPLES))
        frame.planes[0].update(b"".join(value.to_bytes(2, "little", signed=True) for value in wave))
        frame.pts, frame.sample_rate, frame.time_base = self.samples, RATE, fractions.Fraction(1, RATE)
        self.samples += SAMPLES
        return frame


def request(method, url, body=None):
    headers = {"Content-Type": "application/sdp"} if body else {}
    ask = urllib.request.Request(url, method=method, data=body and body.encode(), headers=headers)
    with urllib.request.urlopen(ask, timeout=PATIENCE) as answer:
        return answer.status, answer.headers, answer.read().decode()


async def negotiate(peer, url, port=None):
    """Offers, and takes the answer, with the media's port changed if one is named. The address of the conversation."""
    await peer.setLocalDescription(await peer.createOffer())
    status, headers, answer = await asyncio.to_thread(request, "POST", url, peer.localDescription.sdp)
    assert status == 201, status
    if port:
        answer = re.sub(r"(a=candidate:\S+ 1 udp \d+ )\S+ \d+ typ", rf"\g<1>127.0.0.1 {port} typ", answer, flags=re.I)
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    return urllib.parse.urljoin(url, headers["Location"])


async def connected(peer):
    end = time.monotonic() + PATIENCE
    while peer.connectionState != "connected":
        assert time.monotonic() < end and peer.connectionState != "failed", f"the connection is {peer.connectionState}"
        await asyncio.sleep(0.02)


async def publish(url, codec, path):
    peer = RTCPeerConnection()
    video = peer.addTransceiver(Pictures(), "sendonly")
    video.setCodecPreferences(
        [one for one in RTCRtpSender.getCapabilities("video").codecs if one.mimeType.lower() == f"video/{codec.lower()}"]
    )
    peer.addTransceiver(Tone(), "sendonly")
    where = await negotiate(peer, url)
    await connected(peer)
    print("connected", flush=True)
    end = time.monotonic() + 2 * PATIENCE
    while not os.path.exists(path) and time.monotonic() < end:
        assert peer.connectionState == "connected", f"the connection is {peer.connectionState}"
        await asyncio.sleep(0.05)
    status, _, _ = await asyncio.to_thread(request, "DELETE", where)
    assert status == 200, status
    await peer.close()
    return {"codec": codec}


def receiving(count):
    """A peer that takes both kinds, and for each picture and sound calls `count`."""
    peer = RTCPeerConnection()
    for kind in ("video", "audio"):
        peer.addTransceiver(kind, "recvonly")
    tasks = []

    async def take(track):
        while True:
            count(track.kind, await track.recv())

    peer.on("track", lambda track: tasks.append(asyncio.ensure_future(take(track))))
    return peer, tasks


async def play(url, pictures, sounds):
    counts, last, wanted = {"video": 0, "audio": 0}, {}, {"video": int(pictures), "audio": int(sounds)}
    enough = asyncio.Event()

    def count(kind, frame):
        assert frame.pts > last.get(kind, -1), f"{kind} goes back from {last[kind]} to {frame.pts}"
        last[kind] = frame.pts
        counts[kind] += 1
        if all(counts[kind] >= wanted[kind] for kind in counts):
            enough.set()

    peer, tasks = receiving(count)
    where = await negotiate(peer, url)
    waiting = asyncio.ensure_future(enough.wait())
    try:
        await asyncio.wait([waiting, *tasks], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        assert enough.is_set(), f"{counts} of {wanted} came; {[task for task in tasks if task.done()]}"
    finally:
        waiting.cancel()
        for task in tasks:
            task.cancel()
    status, _, _ = await asyncio.to_thread(request, "DELETE", where)
    assert status == 200, status
    await peer.close()
    return counts


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    print(json.dumps(asyncio.run({"publish": publish, "play": play}[what](*rest))), flush=True)
