#!/usr/bin/env bash
# Shows that the kernel seals what doors with TLS send, on a machine whose own kernel may have no TLS: boots Debian's in QEMU, with
# nothing but memory for a disk, runs shardcast in it, publishes by RTMPS, watches by https and RTMPS in every way, and compares
# what arrived with what was published, packet by packet. /proc/net/tls_stat tells who has sealed it.
#
#   tests/kernel-tls.sh                    ends with 0 only if all of it held; takes about four minutes, ten at most
#   SHARDCAST_BINARY=... tests/kernel-tls.sh       with a binary that is there already
#   KERNEL_DEB=... tests/kernel-tls.sh             with another kernel's package, of 6.1 or later, or packages with spaces between
#
# For a person on Debian or Ubuntu, and no part of tests/run:
#   apt-get install qemu-system-x86 busybox-static cpio xz-utils ffmpeg curl openssl
# The processor is emulated: KVM inside a virtual machine cannot be relied on.
set -euo pipefail
cd "$(dirname "$0")/.."
target="$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)"
work="$target/kernel-tls"
seconds_max=600

say() { printf 'kernel-tls: %s\n' "$1"; }
fail() { say "$1" >&2; exit 1; }

for tool in qemu-system-x86_64 busybox cpio xz ffmpeg curl openssl dpkg-deb; do
    command -v "$tool" >/dev/null || fail "no $tool; see the top of this file"
done
if [ -z "${SHARDCAST_BINARY:-}" ]; then
    cargo build --locked --package shardcast-shards --bin shardcast
    SHARDCAST_BINARY="$target/debug/shardcast"
fi
mkdir -p "$work"

# The kernel: its image, and of its modules TLS and the ciphers.
if [ -z "${KERNEL_DEB:-}" ]; then
    package="$(apt-cache depends linux-image-cloud-amd64 | grep -om1 'linux-image-[0-9][^ ]*')" \
        || fail "no package linux-image-cloud-amd64 here; name a kernel's package by KERNEL_DEB"
    KERNEL_DEB="$(find "$work" -name "${package}_*.deb" | head -n 1)"
    if [ -z "$KERNEL_DEB" ]; then
        say "fetches $package"
        (cd "$work" && apt-get -q download "$package" 2>/dev/null)
        KERNEL_DEB="$(find "$work" -name "${package}_*.deb" | head -n 1)"
    fi
fi
rm -rf "$work/kernel" "$work/root"
for package in $KERNEL_DEB; do dpkg-deb -x "$package" "$work/kernel"; done
image="$(find "$work/kernel" -type f -name 'vmlinuz*' | head -n 1)"
tls="$(find "$work/kernel" -path '*/kernel/net/tls/tls.ko*' | head -n 1)"
[ -n "$image" ] && [ -n "$tls" ] || fail "no kernel, or one without TLS, in $KERNEL_DEB"
modules="${tls%/kernel/net/tls/*}"
version="${modules##*/}"

root="$work/root"
mkdir -p "$root"/{bin,sbin,proc,sys,dev,tmp,data}
for folder in crypto arch/x86/crypto net/tls lib; do
    if [ -d "$modules/kernel/$folder" ]; then
        mkdir -p "$root/lib/modules/$version/kernel/$folder"
        cp -r "$modules/kernel/$folder/." "$root/lib/modules/$version/kernel/$folder"
    fi
done
find "$modules" -maxdepth 1 -name 'modules.*' -exec cp -t "$root/lib/modules/$version" {} +
find "$root/lib/modules" -name '*.ko.xz' -exec xz -d {} +

# The programs, with their libraries.
cp -L "$(command -v busybox)" "$root/bin/busybox"
ln -s /bin/busybox "$root/sbin/modprobe"
"$root/bin/busybox" depmod -b "$root" "$version"
cp "$SHARDCAST_BINARY" "$root/bin/shardcast"
cp -L "$(command -v ffmpeg)" "$(command -v curl)" "$root/bin"
for program in shardcast ffmpeg curl; do
    ldd "$root/bin/$program" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root${library%/*}"
        cp -Lu "$library" "$root$library"
    done
done

# What is published: pictures of about 2 Mbit/s, so that blocks are of many records, a key frame each second, and noise.
clip="$work/clip.flv"
if [ ! -e "$clip" ]; then
    ffmpeg -v error -y -f lavfi -i testsrc2=s=320x240:r=10,noise=alls=60:allf=t -f lavfi -i anoisesrc=a=0.1:r=44100 -t 240 \
        -c:v libx264 -preset ultrafast -b:v 2M -maxrate 2M -bufsize 2M -g 10 -bf 0 -pix_fmt yuv420p -c:a aac -b:a 64k "$clip.part.flv"
    mv "$clip.part.flv" "$clip"
fi
cp "$clip" "$root/data/clip.flv"
"$SHARDCAST_BINARY" cert --host 127.0.0.1 --out "$root/data" >/dev/null 2>&1 || fail "no certificate could be made"
cat >"$root/data/shardcast.toml" <<'CONFIG'
shards = 2
[tls]
certificate = "/data/certificate.pem"
key = "/data/key.pem"
[stream]
reconnect_window = "1s"
CONFIG

cat >"$root/init" <<'GUEST'
#!/bin/busybox sh
# Runs as the guest's first process. A line that begins with FAILED, or the want of the last one, is a failure.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin HOME=/tmp
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
ln -s /proc/self/fd /dev/fd
ip link set lo up
ulimit -l unlimited; ulimit -n 65536
cd /tmp
failed() { echo "FAILED: $*"; }
stat_of() { awk -v name="$1" '$1 == name { print $2 }' /proc/net/tls_stat; }
metric() { curl -s http://127.0.0.1:9090/metrics | awk -v name="shardcast_$1" 'index($1, name "{") == 1 { sum += $2 } END { print sum + 0 }'; }
# Of each packet its size and checksum.
packets() { awk -F, '/^[0-9]/ { gsub(/ /, ""); print $5 "," $6 }' "$1"; }
# What arrived is a piece of what was published, without a gap, and of $3 packets at least.
compare() {
    packets "$2" >"$2.packets"
    count=$(wc -l <"$2.packets")
    if awk -v least="$3" 'NR == FNR { said[m++] = $0; next } { heard[n++] = $0 }
        END {
            for (from = 0; from + n <= m; from++) {
                for (at = 0; at < n && said[from + at] == heard[at]; at++) continue
                if (at == n && n >= least) exit 0
            }
            exit 1
        }' "$1" "$2.packets"
    then echo "ok: $2, $count packets"
    else failed "$2: $count packets, not those that were published"; head -n 3 "$2.packets"; fi
}
# Judges a file, or what an URL brings for so many seconds: video and sound each for itself.
judge() { # NAME SECONDS INPUT...
    name=$1 seconds=$2; shift 2
    timeout 120 ffmpeg -nostdin -v error "$@" -t "$seconds" -map 0:v -c copy -f framecrc "$name.video" -t "$seconds" -map 0:a -c copy -f framecrc "$name.sound" \
        || failed "$name: ffmpeg ended with $?"
    compare published.video.packets "$name.video" 30
    compare published.sound.packets "$name.sound" 80
}
fetch() { curl -sS --cacert /data/certificate.pem "$@"; }

echo "guest: Linux $(uname -r)"
modprobe tls || failed "no module tls"
shardcast doctor | grep 'kernel TLS'
shardcast serve --config /data/shardcast.toml >log 2>&1 &
server=$!
ffmpeg -nostdin -v error -i /data/clip.flv -map 0:v -c copy -f framecrc published.video -map 0:a -c copy -f framecrc published.sound
packets published.video >published.video.packets
packets published.sound >published.sound.packets
for try in 1 2 3 4 5 6 7 8 9 10; do [ "$(metric rounds_total)" != 0 ] && break; sleep 1; done
cat log

# Until one was moved to the core that owns its stream; the last is watched.
for number in 1 2 3 4 5 6 7 8 9 10 11 12; do
    stream=live/cam$number
    [ $number -gt 1 ] && kill $publisher && wait $publisher
    ffmpeg -nostdin -v error -re -i /data/clip.flv -c copy -f flv rtmps://127.0.0.1:1936/$stream >publisher.log 2>&1 &
    publisher=$!
    for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do [ "$(metric publishers)" = 1 ] && break; sleep 1; done
    sleep 2
    [ "$(metric moves_total)" -gt 0 ] && break
done
echo "guest: publishes $stream, $(metric moves_total) moved, $(metric tls_kernel_connections_total) connections by the kernel"
[ "$(metric moves_total)" -gt 0 ] || failed "no publisher moved"

url=https://127.0.0.1:8080/$stream
judge rtmps 8 -i rtmps://127.0.0.1:1936/$stream &
one=$!
judge flv 8 -i $url.flv &
wait $one $!
# Each cipher of TLS 1.3 and HTTP/1.1; HTTP/2; and 1.2, which stays with the server itself.
before=$(metric tls_kernel_connections_total)
# They are cut after nine seconds, which curl says by 28.
fetch -m 9 --http1.1 --tls13-ciphers TLS_AES_128_GCM_SHA256 $url.flv -o aes128.flv &
one=$!
fetch -m 9 --http1.1 --tls13-ciphers TLS_CHACHA20_POLY1305_SHA256 $url.flv -o chacha20.flv &
two=$!
fetch -m 9 --http2 $url.flv -o http2.flv &
three=$!
wait $one $two $three
after=$(metric tls_kernel_connections_total)
[ $((after - before)) = 3 ] || failed "$((after - before)) of three connections by the kernel"
fetch -m 9 --tls-max 1.2 $url.flv -o tls12.flv
[ "$(metric tls_kernel_connections_total)" = "$after" ] || failed "TLS 1.2 went to the kernel"
for name in aes128 chacha20 http2 tls12; do judge $name 60 -i $name.flv; done

# HLS: as ffmpeg plays it, and what a playlist lists by each version of HTTP on one connection.
judge hls 8 -i $url/index.m3u8
for version in http1.1 http2; do
    fetch --$version $url/video.m3u8 >list
    map=$(sed -n 's/.*EXT-X-MAP:URI="\([^"]*\)".*/\1/p' list | tail -n 1)
    parts=$(sed -n 's/.*EXT-X-PART:.*URI="\([^"]*\)".*/\1/p' list | tail -n 20)
    requests=
    for name in $map $parts; do requests="$requests -o parts-$version.$name $url/$name"; done
    fetch --$version --fail $requests || failed "parts by $version: curl ended with $?"
    for name in $map $parts; do cat parts-$version.$name; done >parts-$version.mp4
    ffmpeg -nostdin -v error -i parts-$version.mp4 -c copy -f framecrc parts-$version.video || failed "parts by $version"
    compare published.video.packets parts-$version.video 30
done
# Held back until a part is there that is not yet.
next=$(fetch $url/video.m3u8 | sed -n 's/.*PRELOAD-HINT:TYPE=PART,URI="\([^"]*\)".*/\1/p')
fetch --fail -m 10 $url/$next -o held.m4s && [ -s held.m4s ] || failed "a part that is not there yet"
# Who reads slowly has all of what is closed behind.
segment=$(fetch $url/video.m3u8 | grep -v '^#' | tail -n 1)
fetch --fail $url/$segment -o whole.m4s || failed "a segment"
fetch --fail --http1.1 -H 'Connection: close' --limit-rate 60k $url/$segment -o slow.m4s || failed "a slow reader: curl ended with $?"
cmp whole.m4s slow.m4s && echo "ok: a slow reader has all $(wc -c <slow.m4s) bytes" || failed "a slow reader has something else"

# Only a goodbye tells the end of a body without a length from a cut: curl takes the want of one for an error.
fetch --http1.0 --no-alpn $url.flv -o ends.flv &
viewer=$!
timeout 60 ffmpeg -nostdin -v error -i rtmps://127.0.0.1:1936/$stream -c copy -f null - >ends.log 2>&1 &
player=$!
sleep 6
kill -INT $publisher
wait $viewer && echo "ok: the end of a stream by https" || failed "the end of a stream: curl ended with $?"
wait $player && echo "ok: the end of a stream by RTMPS" || { failed "the end of a stream by RTMPS"; cat ends.log; }
sleep 1
echo "guest: $(metric tls_kernel_connections_total) connections by the kernel, $(metric connections) open"
grep -v INFO log
kill -INT $server; wait $server || failed "the server ended with $?"
cat /proc/net/tls_stat
[ "$(stat_of TlsTxSw)" -gt 9 ] && [ "$(stat_of TlsRxSw)" -gt 9 ] || failed "the kernel has not sealed"
[ "$(stat_of TlsDecryptError)" = 0 ] || failed "the kernel could not open a record"
[ "$(stat_of TlsCurrTxSw)" = 0 ] || failed "connections are left"
dmesg | grep -E 'BUG:|WARNING:|Call Trace' && failed "the kernel complains"
echo "guest: done"
poweroff -f
GUEST
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet) >"$work/root.cpio"

say "boots $version, emulated"
timeout "$seconds_max" qemu-system-x86_64 -accel tcg -cpu max -smp 2 -m 3G -nodefaults -nographic -no-reboot -serial stdio \
    -kernel "$image" -initrd "$work/root.cpio" -append "console=ttyS0 quiet panic=-1" </dev/null 2>&1 | stdbuf -oL tr -d '\r' | tee "$work/log"
grep -q '^guest: done' "$work/log" || fail "it did not come to its end in $seconds_max s"
if grep -q '^FAILED' "$work/log"; then fail "$(grep -c '^FAILED' "$work/log") checks have failed"; fi
say "all of it held"
