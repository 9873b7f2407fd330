"""GStreamer's webrtcbin publishes by WHIP or plays by WHEP.

    gst_peer.py publish URL CODEC FILE       test pictures by VP8 or H264 and a tone by Opus, until there is a file of that name
    gst_peer.py play URL CODEC PICTURES SOUNDS      until so many are decoded

Prints one JSON object. Ends with 1 when something is wrong."""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import Gst, GstSdp, GstWebRTC

PATIENCE = 30
ENCODERS = {
    "VP8": "vp8enc deadline=1 keyframe-max-dist=30 ! rtpvp8pay",
    "H264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! video/x-h264,profile=constrained-baseline"
    " ! rtph264pay config-interval=-1 aggregate-mode=zero-latency",
}
SOURCES = (
    "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=30/1 ! queue ! {encoder}"
    " ! application/x-rtp,media=video,encoding-name={codec},payload=96 ! peer."
    " audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! queue ! opusenc ! rtpopuspay"
    " ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! peer. "
)


def request(method, url, body=None):
    headers = {"Content-Type": "application/sdp"} if body else {}
    ask = urllib.request.Request(url, method=method, data=body and body.encode(), headers=headers)
    with urllib.request.urlopen(ask, timeout=PATIENCE) as answer:
        return answer.status, answer.headers, answer.read().decode()


def wait(what, holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"no {what} in {PATIENCE} s"
        time.sleep(0.02)


def certificate():
    """One with a key of ECDSA, and its fingerprint."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "both.pem")
        line = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=test"
        subprocess.run([*line.split(), "-keyout", path, "-out", path + "2"], check=True, capture_output=True)
        said = subprocess.check_output(["openssl", "x509", "-in", path + "2", "-noout", "-fingerprint", "-sha256"], text=True)
        return open(path).read() + open(path + "2").read(), said.strip().split("=")[1]


def certify(_, bin, element):
    """The certificate that GStreamer makes has a key of RSA, which the server's DTLS does not take."""
    factory = element.get_factory()
    if factory and factory.get_name() == "dtlsdec":
        element.set_property("pem", CERTIFICATE)


class Peer:
    """One that is negotiated as its pipeline says."""

    def __init__(self, line):
        if line:
            self.pipeline = Gst.parse_launch(line + "webrtcbin name=peer")
            self.peer = self.pipeline.get_by_name("peer")
        else:
            self.pipeline = Gst.Pipeline.new()
            self.peer = Gst.ElementFactory.make("webrtcbin")
            self.pipeline.add(self.peer)
        self.peer.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.pipeline.connect("deep-element-added", certify)
        self.bus = self.pipeline.get_bus()
        self.replies = []

    def ask(self, signal, value, wanted=None):
        promise = Gst.Promise.new()
        self.peer.emit(signal, value, promise)
        assert promise.wait() == Gst.PromiseResult.REPLIED, signal
        if not wanted:
            return None
        reply = promise.get_reply()
        # What is in it is not copied out of it.
        self.replies.append((promise, reply))
        return reply.get_value(wanted)

    def negotiate(self, url):
        # What it offers is known once there are caps at its pads.
        needed = threading.Event()
        self.peer.connect("on-negotiation-needed", lambda _: needed.set())
        self.pipeline.set_state(Gst.State.PLAYING)
        assert needed.wait(PATIENCE), "there is nothing to negotiate"
        self.ask("set-local-description", self.ask("create-offer", None, "offer"))
        gathered = GstWebRTC.WebRTCICEGatheringState.COMPLETE
        wait("addresses", lambda: self.peer.get_property("ice-gathering-state") == gathered)
        offer = self.peer.get_property("local-description").sdp.as_text()
        offer = re.sub(r"a=fingerprint:sha-256 [0-9A-F:]+", f"a=fingerprint:sha-256 {FINGERPRINT}", offer)
        status, headers, text = request("POST", url, offer)
        assert status == 201, status
        _, sdp = GstSdp.SDPMessage.new_from_text(text)
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        self.ask("set-remote-description", answer)
        self.resource = urllib.parse.urljoin(url, headers["Location"])
        self.state("connected")

    def state(self, name):
        def holds():
            self.check()
            return self.peer.get_property("connection-state").value_nick == name

        wait(f"state {name}", holds)

    def check(self):
        """Nothing is wrong in the pipeline."""
        message = self.bus.pop_filtered(Gst.MessageType.ERROR)
        assert message is None, message.parse_error()

    def end(self):
        status, _, _ = request("DELETE", self.resource)
        assert status == 200, status
        self.pipeline.set_state(Gst.State.NULL)


def publish(url, codec, path):
    peer = Peer(SOURCES.format(encoder=ENCODERS[codec], codec=codec))
    peer.negotiate(url)
    print("connected", flush=True)
    end = time.monotonic() + 2 * PATIENCE
    while not os.path.exists(path) and time.monotonic() < end:
        peer.check()
        time.sleep(0.05)
    peer.end()
    return {"codec": codec}


def play(url, codec, pictures, sounds):
    peer = Peer("")
    counts, last = {"video": 0, "audio": 0}, {}
    faults = []

    def decoded(pad, info):
        kind = pad.get_current_caps().get_structure(0).get_name().split("/")[0]
        pts = info.get_buffer().pts
        # Its jitter buffer gives what comes at once, as the beginning does, one time.
        if pts < last.get(kind, -1):
            faults.append(f"{kind} goes back from {last[kind]} to {pts}")
        last[kind] = pts
        counts[kind] += 1
        return Gst.PadProbeReturn.OK

    def raw(_, pad):
        sink = Gst.ElementFactory.make("fakesink")
        sink.set_property("sync", False)
        peer.pipeline.add(sink)
        sink.sync_state_with_parent()
        pad.add_probe(Gst.PadProbeType.BUFFER, decoded)
        pad.link(sink.get_static_pad("sink"))

    def coded(_, pad):
        decoder = Gst.ElementFactory.make("decodebin")
        decoder.connect("pad-added", raw)
        peer.pipeline.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))

    peer.peer.connect("pad-added", coded)
    more = ",packetization-mode=(string)1,profile-level-id=(string)42e01f" if codec == "H264" else ""
    for caps in (
        f"application/x-rtp,media=video,encoding-name={codec},payload=96,clock-rate=90000{more}",
        "application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000,encoding-params=(string)2",
    ):
        peer.peer.emit("add-transceiver", GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY, Gst.Caps.from_string(caps))
    peer.negotiate(url)
    wanted = {"video": int(pictures), "audio": int(sounds)}

    def enough():
        peer.check()
        assert not faults, faults
        return all(counts[kind] >= wanted[kind] for kind in wanted)

    try:
        wait(f"{wanted}", enough)
    finally:
        print(counts, file=sys.stderr)
    peer.end()
    return counts


if __name__ == "__main__":
    Gst.init(None)
    CERTIFICATE, FINGERPRINT = certificate()
    what, *rest = sys.argv[1:]
    print(json.dumps({"publish": publish, "play": play}[what](*rest)), flush=True)
