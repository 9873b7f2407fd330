#!/bin/sh
# Makes demo.flv, the clip that `shardcast serve --demo` loops: a moving picture with a running clock, H.264 with B-frames,
# and a soft tone each second, AAC. Committed beside this script; run it only to change the clip.
#
# Needs ffmpeg with libx264 and libfreetype, and the DejaVu fonts (Debian: ffmpeg, fonts-dejavu-core).
#
# 16 seconds are 480 pictures at 30 a second and 750 packets of 1024 samples at 48 kHz, both exactly: so the loop has no
# seam in either track. What moves comes back to its place in that time too. (The encoder adds a packet of silence before
# the first, so it is given one less.)
set -eu
cd "$(dirname "$0")"

seconds=16
sans=/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf
mono=/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf
for font in "$sans" "$mono"; do
    [ -r "$font" ] || { echo "make.sh: no font $font (apt install fonts-dejavu-core)" >&2; exit 1; }
done

# Slow waves of violet and teal, drawn small since they are soft; a disc that wanders; a bar that fills once in two
# seconds, which is the length of a group; a dot that flashes with the tone; and the clock.
turn="2*PI*T/$seconds"
waves="geq=
r='70+46*sin(X/34+$turn*2)*cos(Y/27-$turn)+30*sin((X+Y)/60+$turn)':
g='52+34*sin(X/41-$turn)+40*cos(Y/23+$turn*2)*sin(X/50)':
b='150+60*sin((X-Y)/48+$turn*2)+30*cos(Y/31+$turn)'"
disc="geq=r=255:g=255:b=255:a='clip((30-hypot(X-32,Y-32))*64,0,190)'"
text="fontcolor=white:shadowcolor=black@0.45:shadowx=2:shadowy=2"

ffmpeg -hide_banner -loglevel warning -nostdin -y \
    -f lavfi -i "nullsrc=size=160x90:rate=30:duration=$seconds,format=gbrp,$waves,scale=640:360:flags=bicubic,format=yuv420p" \
    -f lavfi -i "nullsrc=size=64x64:rate=30:duration=0.04,format=rgba,$disc,loop=-1:1" \
    -f lavfi -i "color=white:size=640x8:rate=30,format=rgba,colorchannelmixer=aa=0.8" \
    -f lavfi -i "aevalsrc='0.16*sin(2*PI*440*t)*exp(-7*mod(t,1))*min(1,mod(t,1)*120)|0.16*sin(2*PI*554*t)*exp(-7*mod(t,1))*min(1,mod(t,1)*120)':sample_rate=48000:channel_layout=stereo:duration=15.97866" \
    -filter_complex "
        [0][1]overlay=x='288+250*sin(2*PI*t/8)':y='148+120*sin(2*PI*t/(16/3))':shortest=1[moving];
        [moving][2]overlay=x='-640+640*mod(t,2)/2':y=352:shortest=1,
        drawtext=fontfile=$sans:text='shardcast':fontsize=30:x=24:y=20:$text,
        drawtext=fontfile=$sans:text='demo':fontsize=30:x=w-text_w-24:y=20:fontcolor=white@0.7,
        drawtext=fontfile=$mono:text='%{eif\:trunc(t+0.001)\:d\:2}.%{eif\:mod(n,30)\:d\:2}':fontsize=112:x=(w-text_w)/2:y=(h-text_h)/2-8:$text,
        drawtext=fontfile=$mono:text='second . picture':fontsize=20:x=(w-text_w)/2:y=246:fontcolor=white@0.8,
        drawtext=fontfile=$sans:text='●':fontsize=44:x=24:y=296:fontcolor=white:alpha='0.15+0.85*exp(-6*mod(t,1))'[picture]" \
    -map '[picture]' -map 3:a \
    -c:v libx264 -profile:v high -preset veryslow -tune animation -pix_fmt yuv420p -crf 21 -maxrate 700k -bufsize 700k \
    -g 60 -keyint_min 60 -sc_threshold 0 -bf 3 -x264-params open-gop=0 \
    -c:a aac -b:a 96k -ar 48000 -ac 2 \
    -map_metadata -1 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact \
    -flvflags no_duration_filesize \
    -f flv demo.flv
ls -l demo.flv
