//! Whole conversations by RTSP, of which a few bytes are changed, and which are cut anywhere.

use proptest::prelude::*;

use super::{RTSP, fuzz};

const PLAY: &str = "rtsp://127.0.0.1:8554/live/cam";

/// What ffmpeg announces.
const ANNOUNCED: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=No Name\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\na=tool:libavformat\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=control:streamid=0\r\nm=audio 0 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\na=fmtp:97 sprop-stereo=1\r\na=control:streamid=1\r\n";

/// Whole conversations, for whoever changes a few bytes of them.
fn conversations() -> [Vec<u8>; 4] {
    let ask = |number: u32, method: &str, url: &str, rest: &str| {
        format!("{method} {url} RTSP/1.0\r\nCSeq: {number}\r\n{rest}")
    };
    let play = [
        ask(1, "DESCRIBE", PLAY, "\r\n"),
        ask(
            2,
            "SETUP",
            &format!("{PLAY}/trackID=1"),
            "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n",
        ),
        ask(3, "PLAY", PLAY, "\r\n"),
        ask(4, "TEARDOWN", PLAY, "\r\n"),
    ];
    let announced = format!("Content-Length: {}\r\n\r\n{ANNOUNCED}", ANNOUNCED.len());
    let record = [
        ask(1, "ANNOUNCE", PLAY, &announced),
        ask(
            2,
            "SETUP",
            &format!("{PLAY}/streamid=1"),
            "Transport: RTP/AVP/TCP;interleaved=2-3;mode=record\r\n\r\n",
        ),
        ask(3, "RECORD", PLAY, "\r\n"),
        "$\x02\0\x0f\0\x61\0\x07\0\0\0\x5a\x01\x02\x03\x04\x7c\x11\x12".to_owned(),
    ];
    // The same by ports of the peer's, where every other piece is a datagram.
    let by_ports = |parts: &[String]| {
        let text = parts
            .concat()
            .replace("RTP/AVP/TCP;unicast;interleaved=0-1", "RTP/AVP;unicast;client_port=5000-5001");
        text.replace("RTP/AVP/TCP;interleaved=2-3", "RTP/AVP/UDP;client_port=6000").into_bytes()
    };
    let inside = |parts: &[String]| parts.concat().into_bytes();
    [inside(&play), inside(&record), by_ports(&play), by_ports(&record)]
}

proptest! {
    #[test]
    fn damaged_conversations_end_in_order(
        which in 0usize..4,
        plan: [u8; 3],
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = conversations()[which].clone();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        fuzz::drive(&RTSP, &[&plan[..], &bytes].concat());
    }

    #[test]
    fn cut_anywhere_a_conversation_says_the_same(which in 0usize..2, piece in 1usize..90) {
        let bytes = &conversations()[which];
        let course = |piece: u8| {
            fuzz::drive(&RTSP, &[&[piece, 0x42, 0][..], bytes].concat())
        };
        prop_assert_eq!(course(piece as u8).events, course(0).events);
    }
}
