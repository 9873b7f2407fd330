#!/usr/bin/env bash
# Installs what the build and the tests need on Debian 12 and Ubuntu 24.04, and says of each package what it is for.
# Does nothing, in well under a second, when all is there. The Rust toolchain itself is not its business.
#   tests/setup.sh          for the build and all tests
#   tests/setup.sh build    for the build alone
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${CARGO_TARGET_DIR:-target}/interop"

say() { printf 'setup: %s\n' "$1"; }
fail() { printf 'setup: %s\n' "$1" >&2; exit 1; }

# package | command that shows it is there, or - to ask dpkg | what it is for
packages() {
    cat <<'LIST'
gcc|cc|links the Rust programs
libc6-dev|-|C headers and start files, for linking
git|git|glommio's build script calls it
cmake|cmake|builds libopus
make|make|builds libopus
LIST
    [ "$1" = build ] && return
    cat <<'LIST'
g++|c++|builds libFuzzer
util-linux|unshare|a mount namespace with a small disk, a low limit of descriptors
ffmpeg|ffprobe|publishes, plays and judges recordings
rtmpdump|rtmpdump|plays RTMP by librtmp, the library of OBS
gstreamer1.0-tools|gst-launch-1.0|publishes and plays
gstreamer1.0-plugins-base|-|GStreamer: test pictures and sound
gstreamer1.0-plugins-good|-|GStreamer: FLV
gstreamer1.0-plugins-bad|-|GStreamer: rtmp2sink and rtmp2src
gstreamer1.0-plugins-ugly|-|GStreamer: x264
gstreamer1.0-libav|-|GStreamer: AAC
gstreamer1.0-rtsp|-|GStreamer: rtspclientsink
gstreamer1.0-nice|-|GStreamer: webrtcbin meets its peers by it
gir1.2-gst-plugins-bad-1.0|-|GStreamer: webrtcbin, from a script
srt-tools|srt-live-transmit|publishes and plays by SRT
libsrt-openssl-dev|-|the SRT door by libsrt
gir1.2-gst-rtsp-server-1.0|-|GStreamer: a camera, which is pulled from
python3-gi|-|GStreamer: a camera, which is pulled from; WebRTC
mpv|mpv|plays HTTP-FLV and RTSP
mplayer|mplayer|plays RTSP
vlc-bin|vlc|plays HTTP-FLV
vlc-plugin-base|-|VLC: FLV, H.264 and AAC
xvfb|Xvfb|a screen for OBS
obs-studio|obs|publishes
nodejs|node|drives the browser
npm|npm|installs what drives the browser
curl|curl|asks a door that speaks TLS
openssl|openssl|speaks each version of TLS, and nonsense
python3|python3|unpacks ffmpeg 9 from its wheel; WebRTC by aiortc
python3-venv|-|unpacks ffmpeg 9 and aiortc from their wheels
valgrind|valgrind|counts the instructions of the benches
LIST
    if chromium_is_packaged; then
        echo 'chromium|chromium|plays the page'
    else
        echo 'libnss3|-|Chromium needs it'
        echo 'libexpat1|-|Chromium needs it'
    fi
}

# Ubuntu's package of that name only fetches a snap, which needs a running snapd.
chromium_is_packaged() { command -v chromium >/dev/null || grep -q '^ID=debian' /etc/os-release; }

there() { # package command
    if [ "$2" != - ]; then command -v "$2" >/dev/null 2>&1 || [ -x "/usr/bin/$2" ]; else
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
    fi
}

missing=()
while IFS='|' read -r package command reason; do
    if ! there "$package" "$command"; then
        say "installing $package: $reason"
        missing+=("$package")
    fi
done < <(packages "${1:-tests}")

if [ "${#missing[@]}" -gt 0 ]; then
    command -v apt-get >/dev/null || fail "this system has no apt-get; install these yourself: ${missing[*]}"
    if [ "$(id -u)" = 0 ]; then root=(env); elif command -v sudo >/dev/null; then root=(sudo env); else
        fail "neither root nor sudo; install these yourself: ${missing[*]}"
    fi
    "${root[@]}" apt-get update -qq
    # Where OBS comes in two packages, the one without the other publishes nothing.
    if [[ " ${missing[*]} " = *" obs-studio "* ]] && apt-cache show obs-plugins >/dev/null 2>&1; then
        missing+=(obs-plugins)
    fi
    "${root[@]}" DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi

[ "${1:-tests}" = build ] && exit

mkdir -p "$cache"

# ffmpeg 9 speaks enhanced RTMP and WHIP, which the ffmpeg of neither system does. A Python wheel carries a static build of it.
# aiortc is WebRTC in Python.
if ! cmp -s tests/interop/requirements.txt "$cache/requirements.txt"; then
    say "fetching ffmpeg 9 (enhanced RTMP, WHIP) and aiortc (WebRTC)"
    rm -rf "$cache/python" "$cache/ffmpeg9"
    python3 -m venv "$cache/python"
    "$cache/python/bin/pip" install --quiet --no-deps --requirement tests/interop/requirements.txt
    ln -s "$("$cache/python/bin/python" -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')" "$cache/ffmpeg9"
    "$cache/ffmpeg9" -version | grep -q ' version n\?9' || fail "the wheel's ffmpeg is not ffmpeg 9"
    cp tests/interop/requirements.txt "$cache/requirements.txt"
fi

# The browser's driver.
if [ -f tests/interop/package-lock.json ] &&
    ! cmp -s tests/interop/package-lock.json tests/interop/node_modules/.installed-lock; then
    say "installing the npm packages of tests/interop: the browser's driver"
    (cd tests/interop && npm ci --silent --no-audit --no-fund)
    cp tests/interop/package-lock.json tests/interop/node_modules/.installed-lock
fi

# Chromium, where the system has no package of it: an npm package carries a build with H.264 and AAC, compressed.
if ! chromium_is_packaged && [ ! -x "$cache/chromium" ]; then
    say "fetching Chromium: plays the page"
    npm install --silent --no-audit --no-fund --no-save --prefix "$cache/browser" @sparticuz/chromium@147.0.0
    node -e '
        const { readFileSync, writeFileSync } = require("node:fs");
        const { brotliDecompressSync } = require("node:zlib");
        writeFileSync(process.argv[2], brotliDecompressSync(readFileSync(process.argv[1])), { mode: 0o755 });
    ' "$cache/browser/node_modules/@sparticuz/chromium/bin/chromium.br" "$cache/chromium.part"
    mv "$cache/chromium.part" "$cache/chromium"
    rm -rf "$cache/browser"
fi
