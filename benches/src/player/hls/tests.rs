//! The player as a server sees it: what it asks for, and what it makes of answers.

use super::*;
use proptest::prelude::*;
use shardcast_engine::media::Frame;

use crate::{
    clip::{Clip, Playback},
    player::{
        Body, What,
        fmp4::tests::{fragment, init},
        shelf::Shelves,
    },
};

/// A player, what it shares with others, and what it found.
struct Stage {
    player: Player,
    shelves: Shelves,
    checks: Checks,
    frames: Vec<Frame>,
    now: Now,
}

const MASTER: &str = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",DEFAULT=YES,URI=\"a.m3u8\"\n\
    #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\nv.m3u8?k=1\n";

impl Stage {
    fn new(low_latency: bool, parses: bool) -> Stage {
        let url = Url::parse("http://h:80/live/cam/index.m3u8").unwrap();
        let player = Player::new(url, low_latency, parses, Now(0));
        let (shelves, checks) = (Shelves::default(), Checks::default());
        Stage { player, shelves, checks, frames: Vec::new(), now: Now(0) }
    }

    /// Everything that it asks for now: connection, path below the stream's folder, and whether it is to be held.
    fn asks(&mut self) -> Vec<(usize, String, bool)> {
        let mut found = Vec::new();
        while let Some(Ask { connection, request }) = self.player.poll(self.now) {
            let path = request.url.path.strip_prefix("/live/cam/").expect("below the stream").to_owned();
            let range = request.range.map(|(first, last)| format!(" {first}-{last}")).unwrap_or_default();
            assert_eq!(request.what == What::Playlist, path.contains(".m3u8"), "{path}");
            found.push((connection, path + &range, request.held));
        }
        found
    }

    fn paths(&mut self) -> Vec<String> {
        self.asks().into_iter().map(|(_, path, _)| path).collect()
    }

    fn answer(&mut self, connection: usize, status: u16, body: &[u8]) -> Result<(), String> {
        // Where a relative address leads does not depend on the directives.
        let url = Rc::new(Url::parse("http://h:80/live/cam/v.m3u8?k=1").unwrap());
        let answer = Answer { status, reason: "Because", url: &url, body, gzip: false };
        let Stage { shelves, checks, frames, .. } = self;
        let emit = &mut |frame: &Frame| frames.push(frame.clone());
        self.player.answered(connection, &answer, self.now, &mut Desk { shelves, checks, emit })
    }

    fn ok(&mut self, connection: usize, body: impl AsRef<[u8]>) {
        self.answer(connection, 200, body.as_ref()).unwrap();
    }

    fn wait(&mut self, millis: u64) {
        self.now = self.now.after(Duration::from_millis(millis));
    }
}

/// A playlist with low latency: segments of 2 s and parts of .5 s from segment 10 on, up to before part `part` of segment
/// `segment`. Parts of the last two segments are listed.
fn parts(segment: u64, part: u64) -> String {
    let mut text = String::from(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.5\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5,CAN-SKIP-UNTIL=12\n\
         #EXT-X-MEDIA-SEQUENCE:10\n#EXT-X-MAP:URI=\"i.mp4\"\n",
    );
    let list = |segment: u64, count: u64| -> String {
        let one = |index: u64| {
            let entrance = if index == 0 { ",INDEPENDENT=YES" } else { "" };
            format!("#EXT-X-PART:DURATION=0.5,URI=\"{segment}.{index}.m4s\"{entrance}\n")
        };
        (0..count).map(one).collect()
    };
    for number in 10..segment {
        if number + 2 > segment {
            text += &list(number, 4);
        }
        text += &format!("#EXTINF:2.0,\n{number}.m4s\n");
    }
    text + &list(segment, part)
}

/// A playlist of segments of 2 s.
fn segments(first: u64, count: u64) -> String {
    let head = format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n#EXT-X-MAP:URI=\"i.mp4\"\n"
    );
    (first..first + count).fold(head, |text, number| text + &format!("#EXTINF:2.0,\n{number}.m4s\n"))
}

#[test]
fn with_low_latency_it_begins_at_an_entrance_and_then_asks_for_what_comes() {
    let mut stage = Stage::new(true, false);
    assert_eq!(stage.asks(), [(0, "index.m3u8".to_owned(), false)]);
    stage.ok(0, MASTER);
    assert_eq!(stage.asks(), [(0, "v.m3u8?k=1".to_owned(), false), (1, "a.m3u8".to_owned(), false)]);
    // Sound does not begin before it is known where the pictures do.
    stage.ok(1, parts(14, 1).replace(",INDEPENDENT=YES", ""));
    assert_eq!(stage.asks(), []);
    assert_eq!(stage.player.deadline(), None);
    // The list ends 2.5 s after the beginning of segment 13, and players are to stay 1.5 s behind.
    stage.ok(0, parts(14, 1));
    assert_eq!(stage.paths(), ["i.mp4", "i.mp4"]);
    stage.ok(0, b"init");
    stage.ok(1, b"init");
    assert_eq!(stage.paths(), ["13.0.m4s", "13.0.m4s"]);
    for wanted in ["13.1.m4s", "13.2.m4s", "13.3.m4s", "14.0.m4s"] {
        stage.ok(0, b"");
        assert_eq!(stage.paths(), [wanted]);
    }
    stage.ok(0, b"");
    let held = "v.m3u8?k=1&_HLS_msn=14&_HLS_part=1&_HLS_skip=YES".to_owned();
    assert_eq!(stage.asks(), [(0, held, true)]);
    stage.ok(0, parts(14, 2));
    assert_eq!(stage.paths(), ["14.1.m4s"]);
    stage.ok(0, b"");
    assert_eq!(stage.asks(), [(0, "v.m3u8?k=1&_HLS_msn=14&_HLS_part=2&_HLS_skip=YES".to_owned(), true)]);
    // A server that was late lists two at once, and goes on to the next segment.
    stage.ok(0, parts(15, 0));
    assert_eq!(stage.paths(), ["14.2.m4s"]);
    stage.ok(0, b"");
    assert_eq!(stage.paths(), ["14.3.m4s"]);
    stage.ok(0, b"");
    assert_eq!(stage.asks(), [(0, "v.m3u8?k=1&_HLS_msn=15&_HLS_part=0&_HLS_skip=YES".to_owned(), true)]);
    assert_eq!(stage.checks, Checks::default());
}

#[test]
fn an_entrance_too_near_to_the_end_is_not_taken() {
    for (segment, part, wanted) in
        [(14, 2, "13.0.m4s"), (14, 3, "14.0.m4s"), (10, 1, "10.0.m4s"), (15, 0, "14.0.m4s")]
    {
        let mut stage = Stage::new(true, false);
        stage.paths();
        stage.ok(0, parts(segment, part));
        assert_eq!(stage.paths(), ["i.mp4"]);
        stage.ok(0, b"");
        assert_eq!(stage.paths(), [wanted], "the list ends before {segment}.{part}");
    }
}

#[test]
fn without_low_latency_it_begins_three_segments_back_and_reloads_by_the_clock() {
    let mut stage = Stage::new(false, false);
    stage.paths();
    stage.ok(0, segments(10, 6));
    assert_eq!(stage.paths(), ["i.mp4"]);
    stage.ok(0, b"");
    for wanted in ["13.m4s", "14.m4s", "15.m4s"] {
        assert_eq!(stage.paths(), [wanted]);
        stage.wait(100);
        stage.ok(0, b"");
    }
    // 2 s after it began to load the playlist, which was at 0.
    assert_eq!((stage.paths(), stage.player.deadline()), (vec![], Some(Now(2_000_000_000))));
    stage.wait(1700);
    assert_eq!(stage.asks(), [(0, "v.m3u8?k=1".to_owned(), false)]);
    stage.ok(0, segments(10, 6));
    // Nothing new: half of it.
    assert_eq!((stage.paths(), stage.player.deadline()), (vec![], Some(Now(3_000_000_000))));
    stage.wait(1000);
    assert_eq!(stage.paths(), ["v.m3u8?k=1"]);
    stage.ok(0, segments(11, 6));
    assert_eq!(stage.paths(), ["16.m4s"]);
    stage.ok(0, b"");
    assert_eq!(stage.checks, Checks::default());
}

#[test]
fn a_plain_player_does_not_know_parts_and_a_low_latency_one_does_without_them() {
    let mut stage = Stage::new(false, false);
    stage.paths();
    stage.ok(0, parts(14, 3));
    stage.paths();
    stage.ok(0, b"");
    assert_eq!(stage.paths(), ["11.m4s"]);
    let mut stage = Stage::new(true, false);
    stage.paths();
    stage.ok(0, segments(10, 4));
    stage.paths();
    stage.ok(0, b"");
    assert_eq!(stage.paths(), ["11.m4s"]);
}

#[test]
fn what_is_not_there_yet_is_asked_for_again_and_a_refusal_is_one() {
    let mut stage = Stage::new(true, true);
    for tries in 0..TRIES_MAX {
        assert_eq!(stage.paths(), ["index.m3u8"], "{tries}");
        stage.answer(0, 404, b"").unwrap();
        assert_eq!(stage.paths(), [""; 0]);
        stage.wait(500);
    }
    stage.paths();
    assert!(stage.answer(0, 404, b"").unwrap_err().contains("404"));
    let mut stage = Stage::new(true, true);
    stage.paths();
    assert!(stage.answer(0, 403, b"").is_err());
    // An empty playlist is a stream that is about to begin.
    let mut stage = Stage::new(false, true);
    stage.paths();
    stage.ok(0, "#EXTM3U\n#EXT-X-TARGETDURATION:2\n");
    assert_eq!((stage.paths(), stage.player.deadline()), (vec![], Some(Now(1_000_000_000))));
    for (body, why) in [(MASTER, "multivariant"), ("<html>", "EXTM3U"), ("#EXTM3U\n#EXTINF:1,\na b\n", "URI")]
    {
        stage.wait(2000);
        stage.paths();
        assert!(stage.answer(0, 200, body.as_bytes()).unwrap_err().contains(why), "{body}");
    }
}

/// A player that has begun and waits for part 14.1.
fn playing(parses: bool) -> Stage {
    let mut stage = Stage::new(true, parses);
    stage.paths();
    stage.ok(0, parts(14, 1));
    stage.paths();
    stage.ok(0, init());
    let mut playback = Playback::new(Clip::built_in());
    for wanted in ["13.0.m4s", "13.1.m4s", "13.2.m4s", "13.3.m4s", "14.0.m4s"] {
        assert_eq!(stage.paths(), [wanted]);
        stage.ok(0, fragment(&mut playback, 15, 1).0);
    }
    assert_eq!(stage.paths(), ["v.m3u8?k=1&_HLS_msn=14&_HLS_part=1&_HLS_skip=YES"]);
    stage
}

#[test]
fn a_parsing_player_gives_the_frames_of_each_part() {
    let stage = playing(true);
    assert_eq!((stage.frames.len(), stage.frames[0].is_key()), (75, true));
    assert_eq!(stage.checks, Checks::default());
    assert_eq!(playing(false).frames.len(), 0);
}

#[test]
fn every_broken_rule_is_seen() {
    // A playlist that goes back, and one that is not what was asked for.
    let mut stage = playing(false);
    stage.ok(0, parts(14, 0));
    assert_eq!((stage.checks.sequence_backwards, stage.checks.reloads_unanswered), (1, 1));
    // It is not asked for again without a pause.
    assert_eq!(stage.paths(), [""; 0]);
    stage.wait(50);
    assert_eq!(stage.paths().len(), 1);

    // A held request that times out at the server.
    let mut stage = playing(false);
    stage.answer(0, 503, b"").unwrap();
    assert_eq!(stage.checks.reloads_unanswered, 1);

    // A listed part that is not to be had: the next is.
    let mut stage = playing(false);
    stage.ok(0, parts(14, 3));
    assert_eq!(stage.paths(), ["14.1.m4s"]);
    stage.answer(0, 404, b"").unwrap();
    assert_eq!((stage.checks.not_found, stage.paths()), (1, vec!["14.2.m4s".to_owned()]));

    // A part that is shorter than its list says, by one picture.
    let mut stage = playing(true);
    stage.ok(0, parts(14, 2));
    stage.paths();
    stage.ok(0, fragment(&mut Playback::new(Clip::built_in()), 14, 1).0);
    assert_eq!(stage.checks.durations_wrong, 1);
    assert_eq!(stage.checks.not_found, 0);
}

#[test]
fn a_millisecond_of_rounding_is_no_fault() {
    for (millis, wrong) in [(0.5, 0), (0.5009, 0), (0.4991, 0), (0.5012, 1), (0.4987, 1)] {
        let mut stage = playing(true);
        let text = parts(14, 1) + &format!("#EXT-X-PART:DURATION={millis},URI=\"14.1.m4s\"\n");
        stage.ok(0, text);
        stage.paths();
        stage.ok(0, fragment(&mut Playback::new(Clip::built_in()), 15, 1).0);
        assert_eq!(stage.checks.durations_wrong, wrong, "{millis}");
    }
}

#[test]
fn gaps_ranges_other_maps_and_discontinuities_are_followed() {
    let mut stage = playing(true);
    let text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:14\n\
        #EXT-X-MAP:URI=\"i.mp4\"\n#EXT-X-GAP\n#EXTINF:2,\n14.m4s\n\
        #EXT-X-PART:DURATION=0.5,URI=\"15.0.m4s\",GAP=YES\n#EXTINF:0.5,\n15.m4s\n\
        #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"j.mp4\",BYTERANGE=\"9@1\"\n\
        #EXT-X-PART:DURATION=0.5,URI=\"16.m4s\",BYTERANGE=\"50@7\",INDEPENDENT=YES\n";
    stage.ok(0, text);
    assert_eq!(stage.paths(), ["j.mp4 1-9"]);
    stage.ok(0, init());
    assert_eq!(stage.paths(), ["16.m4s 7-56"]);
    let before = stage.frames.len();
    stage.ok(0, fragment(&mut Playback::new(Clip::built_in()), 15, 1).0);
    assert!(!stage.frames[before].is_media() && stage.frames[before + 1].is_key());
    // Without blocking it reloads each part.
    assert_eq!((stage.paths(), stage.player.deadline()), (vec![], Some(Now(500_000_000))));
}

#[test]
fn an_ended_stream_is_told_once_all_of_it_was_fetched() {
    let mut stage = Stage::new(false, false);
    stage.paths();
    let text = segments(0, 1) + "#EXT-X-ENDLIST\n";
    stage.ok(0, &text);
    for wanted in ["i.mp4", "0.m4s"] {
        assert_eq!(stage.paths(), [wanted]);
        stage.ok(0, b"");
    }
    stage.wait(2000);
    stage.paths();
    assert!(stage.answer(0, 200, text.as_bytes()).unwrap_err().contains("ended"));
}

#[test]
fn segments_of_a_transport_stream_are_as_long_as_it_is_to_the_next() {
    use shardcast_engine::{
        container::{Pieces, Track},
        media::Payload,
        mpegts,
        time::Wall,
    };
    let mut playback = Playback::new(Clip::built_in());
    let track = |frame: &Frame| match &frame.payload {
        Payload::Parameters(parameters) => {
            Some(Track { id: frame.track, parameters: parameters.clone(), rate: frame.dts.rate })
        }
        _ => None,
    };
    let tracks: Vec<Track> = playback.clip().opening().parameters.iter().filter_map(track).collect();
    // Three groups of two seconds, each a segment.
    let mut muxer = (mpegts::CONTAINER.open)();
    let mut pieces = Vec::new();
    let mut frames: Vec<Frame> = vec![playback.take(1)];
    let mut head = Pieces::new();
    muxer.begin(&tracks, Wall(0), &mut head);
    let mut head = Some(head);
    while pieces.len() < 3 {
        let frame = playback.take(1);
        if frame.is_key() {
            let mut out = head.take().unwrap_or_default();
            muxer.fragment(&frames, Some(&frame), &mut out);
            pieces.push(out.finish().concat());
            frames.clear();
        }
        frames.push(frame);
    }
    for (listed, wrong) in [("2.0", 0), ("2.001", 0), ("2.002", 2)] {
        let mut stage = Stage::new(false, true);
        stage.paths();
        let head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n".to_owned();
        stage.ok(0, (0..3).fold(head, |text, number| text + &format!("#EXTINF:{listed},\n{number}.ts\n")));
        for (number, piece) in pieces.iter().enumerate() {
            assert_eq!(stage.paths(), [format!("{number}.ts")]);
            stage.ok(0, piece);
        }
        assert_eq!(stage.checks.durations_wrong, wrong, "{listed}");
        assert_eq!(stage.frames.iter().filter(|frame| frame.is_video()).count(), 180);
    }
}

#[test]
fn a_body_is_kept_only_by_those_who_look_into_it() {
    for parses in [true, false] {
        let mut stage = Stage::new(false, parses);
        stage.paths();
        stage.ok(0, segments(0, 1));
        let ask = stage.player.poll(stage.now).unwrap();
        assert_eq!(ask.request.body, if parses { Body::Keep } else { Body::Count });
        stage.ok(0, if parses { init() } else { Vec::new() });
        stage.player.stop_parsing();
        let ask = stage.player.poll(stage.now).unwrap();
        assert_eq!((ask.request.what, ask.request.body), (What::Media, Body::Count));
    }
}

proptest! {
    #[test]
    fn no_answers_panic(
        low_latency: bool,
        answers in prop::collection::vec((0usize..2, prop::sample::select(vec![200u16, 206, 404, 503]), 0usize..9, 0u64..4), 0..60),
    ) {
        let mut stage = Stage::new(low_latency, true);
        for (connection, status, body, wait) in answers {
            let _ = stage.asks_anything();
            let body = match body {
                0 => MASTER.to_owned().into_bytes(),
                1 => parts(14, wait).into_bytes(),
                2 => parts(10 + wait, 0).into_bytes(),
                3 => segments(wait * 3, wait).into_bytes(),
                4 => init(),
                5 => fragment(&mut Playback::new(Clip::built_in()), 2, 1).0,
                6 => b"#EXTM3U\n#EXT-X-TARGETDURATION:0\n#EXT-X-MEDIA-SEQUENCE:18446744073709551614\n#EXTINF:0,\na\n".to_vec(),
                7 => b"\x47garbage".to_vec(),
                _ => Vec::new(),
            };
            let _ = stage.answer(connection, status, &body);
            stage.wait(wait * 300);
            let _ = stage.player.deadline();
        }
    }
}

impl Stage {
    /// Polls until nothing is wanted; a player that never stops is a fault.
    fn asks_anything(&mut self) -> usize {
        let mut count = 0;
        while self.player.poll(self.now).is_some() {
            count += 1;
            assert!(count <= 2, "one thing by each connection");
        }
        count
    }
}
