//! Packets of RTP and RTCP, each behind its track, its length and the milliseconds before it; and a description of what is in them.
//! The first byte says which formats there are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    media::{Frame, Payload},
    rtp::{Demuxer, format::Format},
    session::Event,
    time::Now,
};

/// What a few megabytes of pictures may hold, and no more.
const HELD_BYTES_MAX: usize = 40 << 20;

fuzz_target!(|input: &[u8]| {
    let [first, rest @ ..] = input else { return };
    if let Ok(text) = std::str::from_utf8(rest) {
        let (mapping, parameters) = text.split_once('\n').unwrap_or((text, ""));
        let _ = Format::read(96, Some(mapping), parameters);
    }
    // Bits that were added later stand above the others: a seed keeps its formats.
    let video = match first & 1 | first >> 2 & 6 {
        0 => {
            ("H264/90000", "packetization-mode=1; sprop-parameter-sets=Z2QAH6zZQFAFuwEQAAADABAAAAMDwPGDGWA=,aOvjyyLA")
        }
        1 => ("H265/90000", ""),
        2 => ("VP8/90000", ""),
        3 => ("VP9/90000", "profile-id=0"),
        _ => ("AV1/90000", ""),
    };
    let audio = match first >> 1 & 3 | first >> 3 & 4 {
        0 => ("MPEG4-GENERIC/44100/2", "sizelength=13; indexlength=3; indexdeltalength=3; config=1210"),
        1 => ("opus/48000/2", "sprop-stereo=1"),
        2 => ("MPA/90000", ""),
        // Widths that nobody uses.
        3 => ("MPEG4-GENERIC/8000", "sizelength=6; indexlength=2; indexdeltalength=1; config=1590"),
        4 => ("PCMA/8000", ""),
        5 => ("PCMU/8000/1", ""),
        _ => ("G722/8000", ""),
    };
    let formats = [(96, video), (97, audio)];
    let mut demuxer = Demuxer::new(formats.map(|(number, (mapping, text))| Format::read(number, Some(mapping), text)));
    let (mut rest, mut now) = (rest, Now(0));
    let mut emit = |event| match event {
        Event::Frame(Frame { dts, pts, payload, .. }) => {
            if let Payload::Video { data, .. } | Payload::Audio { data, .. } = payload {
                assert!(!data.is_empty() && dts.rate == pts.rate);
            }
        }
        other => panic!("{other:?}"),
    };
    while let [track, high, low, later, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (packet, more) = more.split_at(length);
        rest = more;
        now = Now(now.0 + u64::from(*later) * 1_000_000);
        let place = usize::from(track & 1);
        if track & 2 == 0 {
            demuxer.packet(place, packet, now, &mut emit);
        } else {
            demuxer.control(place, packet, now);
        }
        assert!(demuxer.held_bytes() <= HELD_BYTES_MAX);
    }
    demuxer.finish(now, &mut emit);
});
