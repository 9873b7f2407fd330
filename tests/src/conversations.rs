//! Conversations as peers have them, piece by piece, for whoever damages them.

use bytes::Bytes;

/// What somebody asks for by HTTP: pages, streams, playlists of `live/beside`.
pub fn http() -> Vec<Bytes> {
    let get = |path: &str, rest: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{rest}\r\n").into();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    vec![
        get("/", ""),
        get("/live/fuzzed.flv", ""),
        get("/live/beside/index.m3u8?_HLS_msn=1&_HLS_part=0", ""),
        get("/live/beside/manifest.mpd", "Range: bytes=0-10\r\n"),
        "POST /live/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".into(),
        get("/live/beside.ts", upgrade),
    ]
}

/// How somebody publishes `live/fuzzed` by RTSP, or watches `live/beside`. `beside` the connection goes what is a packet: each of
/// those is a datagram then. Where a piece is empty nothing is said for a moment.
pub fn rtsp(publishes: bool, beside: bool) -> Vec<Bytes> {
    const URL: &str = "rtsp://192.0.2.1:8554/live";
    const SDP: &str = "v=0\r\no=- 0 0 IN IP4 192.0.2.9\r\ns=a\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
        m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=control:streamid=0\r\n\
        m=audio 0 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\na=control:streamid=1\r\n";
    let ask = |number: u32, method: &str, url: String, rest: &str| -> Bytes {
        format!("{method} {url} RTSP/1.0\r\nCSeq: {number}\r\n{rest}\r\n").into()
    };
    let transport = |channel: u32, mode: &str| match beside {
        true => format!("Transport: RTP/AVP;unicast;client_port={}{mode}\r\n", 5000 + channel),
        false => format!("Transport: RTP/AVP/TCP;unicast;interleaved={channel}-{}{mode}\r\n", channel + 1),
    };
    if !publishes {
        let mut said = vec![
            ask(1, "OPTIONS", "*".to_owned(), ""),
            ask(2, "DESCRIBE", format!("{URL}/beside"), ""),
            ask(3, "SETUP", format!("{URL}/beside/trackID=0"), &transport(0, "")),
            ask(4, "SETUP", format!("{URL}/beside/trackID=1"), &transport(2, "")),
            ask(5, "PLAY", format!("{URL}/beside"), "Range: npt=0-\r\n"),
        ];
        for (number, method) in [(6, "PAUSE"), (7, "PLAY"), (8, "TEARDOWN")] {
            // It watches for a while.
            said.extend(std::iter::repeat_n(Bytes::new(), 80));
            said.push(ask(number, method, format!("{URL}/beside"), ""));
        }
        return said;
    }
    let announce = ask(1, "ANNOUNCE", format!("{URL}/fuzzed"), &format!("Content-Length: {}\r\n", SDP.len()));
    let mut said = vec![
        [&announce[..], SDP.as_bytes()].concat().into(),
        ask(2, "SETUP", format!("{URL}/fuzzed/streamid=0"), &transport(0, ";mode=record")),
        ask(3, "SETUP", format!("{URL}/fuzzed/streamid=1"), &transport(2, ";mode=record")),
        ask(4, "RECORD", format!("{URL}/fuzzed"), ""),
    ];
    for number in 0_u8..60 {
        let (kind, channel) = if number % 2 == 0 { (96, 0) } else { (97, 2) };
        let head = [0x80, 0x80 | kind, 0, number / 2, 0, 0, number, 0, 1, 2, 3, kind];
        // A key frame of VP8, or a packet of Opus.
        let media: &[u8] = if channel == 0 {
            &[0x10, 0x10, 2, 0, 0x9d, 1, 0x2a, 0x40, 1, 0xf0, 0, 7]
        } else {
            &[0xfc, 1, 2]
        };
        let packet = [&head[..], media].concat();
        let length = u8::try_from(packet.len()).expect("it is short");
        said.push(match beside {
            true => packet.into(),
            false => [&[b'$', channel, 0, length][..], &packet].concat().into(),
        });
    }
    said.push(ask(5, "TEARDOWN", format!("{URL}/fuzzed"), ""));
    said
}
