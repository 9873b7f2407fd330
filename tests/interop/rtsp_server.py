"""A server of GStreamer's by RTSP on a port of loopback, at /cam, until it is killed: a camera that serves test pictures and a tone, or a
recorder that keeps what the user `ann` publishes with the password `s3cret`."""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

port, kind = sys.argv[1:3]
Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1")
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_shared(True)


def serve(sound):
    factory.set_launch(
        "( videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=25/1"
        " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay0 pt=96"
        " audiotestsrc is-live=true ! audioconvert ! audioresample ! "
        + {
            "aac": "avenc_aac ! aacparse ! rtpmp4gpay name=pay1 pt=97",
            "l16": "audio/x-raw,rate=8000,channels=1 ! audioconvert ! rtpL16pay name=pay1 pt=97",
            "pcmu": "audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay1 pt=0",
            "opus": "audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay name=pay1 pt=97",
        }[sound]
        + " )"
    )


def record(path):
    factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
    factory.set_launch(
        "( rtph264depay name=depay0 ! h264parse ! queue ! m. rtpmp4gdepay name=depay1 ! aacparse ! queue ! m."
        f" matroskamux streamable=true name=m ! filesink location={path} buffer-mode=unbuffered )"
    )
    auth = GstRtspServer.RTSPAuth.new()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    token = GstRtspServer.RTSPToken.new()
    token.set_string("media.factory.role", "publisher")
    auth.add_digest("ann", "s3cret", token)
    server.set_auth(auth)
    factory.add_role_from_structure(
        Gst.Structure.new_from_string(
            "publisher, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
        )
    )


def connected(server, client):
    print("client-connected", flush=True)
    client.connect("teardown-request", lambda client, context: print("teardown", flush=True))


record(sys.argv[3]) if kind == "record" else serve(kind)
server.get_mount_points().add_factory("/cam", factory)
server.connect("client-connected", connected)
if server.attach(None) == 0:
    sys.exit("the port is taken")
print("ready", flush=True)
GLib.MainLoop().run()
