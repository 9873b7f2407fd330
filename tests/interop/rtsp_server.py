"""A camera of GStreamer's: serves test pictures and a tone by RTSP on a port of loopback, at /cam, until it is killed."""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

port, sound = sys.argv[1:3]
LAUNCH = (
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

Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1")
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_launch(LAUNCH)
factory.set_shared(True)
server.get_mount_points().add_factory("/cam", factory)
server.connect("client-connected", lambda server, client: print("client-connected", flush=True))
if server.attach(None) == 0:
    sys.exit("the port is taken")
print("ready", flush=True)
GLib.MainLoop().run()
