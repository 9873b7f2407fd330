//! Playlists of whole streams, against texts that a person has looked at and against what they promise.

pub(crate) mod kit;
mod transport;

use std::time::Duration;

use proptest::prelude::*;

use super::{MEDIA, MULTIVARIANT, name, request};
use crate::{
    codec::Parameters,
    media::{Frame, Payload, TrackId},
    segment::{Found, Item, Rendition, Settings, Text},
    time::MediaTime,
};
use kit::{
    Stream, aac, described, discontinuity, h264, hdr, larger, lines, picture, pictures, sound, sounds, woven,
};

const INDEX: &str = name::MULTIVARIANT;
const VIDEO: &str = name::playlist(Rendition::Video);
const AUDIO: &str = name::playlist(Rendition::Audio);
const TRANSPORT: &str = name::playlist(Rendition::Transport);

/// Pictures and sound for so long.
fn both(millis: i64) -> Stream {
    Stream::new(&[h264(), aac()]).give(&woven(&[pictures(0, millis), sounds(0, millis)]))
}

fn video(stream: &Stream) -> String {
    stream.text(&MEDIA, VIDEO)
}

fn audio(stream: &Stream) -> String {
    stream.text(&MEDIA, AUDIO)
}

fn index(stream: &Stream) -> String {
    stream.text(&MULTIVARIANT, INDEX)
}

#[test]
fn playlists_of_pictures_and_sound_are_those_that_were_looked_at() {
    let stream = both(9000);
    assert_eq!(index(&stream), include_str!("index.m3u8"));
    assert_eq!(video(&stream), include_str!("video.m3u8"));
    assert_eq!(audio(&stream), include_str!("audio.m3u8"));
}

#[test]
fn an_update_has_a_skip_in_place_of_what_is_old() {
    let stream = both(41_000);
    let whole = video(&stream);
    let update = stream.text_for(&MEDIA, VIDEO, "", true);
    assert!(whole.contains(",CAN-SKIP-UNTIL=12.000000\n"));
    // 16 s are listed and one more; of those the last 12 and what lies on the border are there.
    assert_eq!(lines(&update, "#EXT-X-SKIP:"), ["SKIPPED-SEGMENTS=2"]);
    let segment = |number: u64| name::segment(kit::ID, Rendition::Video, number) + "\n";
    let begin = whole.find(&segment(13)).unwrap() + segment(13).len();
    let head = whole.find("#EXT-X-MAP").unwrap();
    let map = &whole[head..=head + whole[head..].find('\n').unwrap()];
    let expected = [&whole[..head], "#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n", map, &whole[begin..]].concat();
    assert_eq!(update, expected, "the EXT-X-MAP in force is said again");
}

#[test]
fn a_list_that_is_short_or_has_ended_comes_whole() {
    let stream = both(9000);
    assert_eq!(stream.text_for(&MEDIA, VIDEO, "", true), video(&stream));
    let ended = both(41_000).finish();
    assert_eq!(ended.text_for(&MEDIA, VIDEO, "", true), video(&ended));
    let settings = Settings { window: Duration::from_secs(12), ..Settings::default() };
    let small = Stream::with(settings, &[h264()]).give(&pictures(0, 41_000));
    assert!(!video(&small).contains("CAN-SKIP-UNTIL"));
    assert_eq!(small.text_for(&MEDIA, VIDEO, "", true), video(&small));
}

#[test]
fn a_break_and_other_parameters_are_said_before_the_segment_that_has_them() {
    let frames = [
        woven(&[pictures(0, 4000), sounds(0, 4000)]),
        vec![discontinuity(6000), larger()],
        woven(&[pictures(6000, 9000), sounds(6000, 9000)]),
    ];
    let stream = Stream::new(&[h264(), aac()]).give(&frames.concat());
    assert_eq!(video(&stream), include_str!("changed.m3u8"));
    let audio = audio(&stream);
    assert_eq!(lines(&audio, "#EXT-X-DISCONTINUITY").len(), 2, "the sequence, and the break: {audio}");
    assert_eq!(lines(&audio, "#EXT-X-MAP").len(), 1, "the sound is as before: {audio}");
    assert!(index(&stream).contains("RESOLUTION=1920x1080"), "what comes is what counts");
}

#[test]
fn breaks_that_left_the_list_are_counted() {
    let mut frames = pictures(0, 3000);
    for round in 1..20 {
        frames.push(discontinuity(round * 4000));
        frames.extend(pictures(round * 4000, round * 4000 + 3000));
    }
    let stream = Stream::new(&[h264()]).give(&frames);
    let text = video(&stream);
    let first: u64 = lines(&text, "#EXT-X-MEDIA-SEQUENCE:")[0].parse().unwrap();
    let before: u64 = lines(&text, "#EXT-X-DISCONTINUITY-SEQUENCE:")[0].parse().unwrap();
    let listed = text.lines().filter(|line| *line == "#EXT-X-DISCONTINUITY").count() as u64;
    assert!(first > 0 && before > 0, "{text}");
    assert_eq!(before + listed, 19, "{text}");
}

#[test]
fn sound_that_comes_late_is_numbered_as_the_pictures_are() {
    let late = [
        pictures(0, 6000),
        vec![discontinuity(6000)],
        pictures(6000, 11_000),
        vec![aac()],
        woven(&[pictures(11_000, 17_000), sounds(11_000, 17_000)]),
    ];
    let stream = Stream::new(&[h264()]).give(&late.concat());
    let (video, audio) = (video(&stream), audio(&stream));
    let head = |text: &str| {
        let number = |tag| lines(text, tag)[0].parse::<u64>().unwrap();
        (number("#EXT-X-MEDIA-SEQUENCE:"), number("#EXT-X-DISCONTINUITY-SEQUENCE:"))
    };
    assert_eq!((head(&video), head(&audio)), ((0, 0), (5, 1)));
    // Segments of one number begin at the same time, but for the first, which lacks what was before it came.
    let date = |text: &str, number: u64| {
        let uri = format!("-{number}.m4s");
        let before = text.split(&uri).next().unwrap();
        lines(before, "#EXT-X-PROGRAM-DATE-TIME:").last().unwrap().to_string()
    };
    assert_eq!(&date(&video, 7)[..21], &date(&audio, 7)[..21]);
    let whole = |text: &str| text.matches("#EXTINF").count() as u64;
    let report = lines(&video, "#EXT-X-RENDITION-REPORT:")[0].to_owned();
    assert!(
        report.starts_with(&format!("URI=\"audio.m3u8\",LAST-MSN={},", 5 + whole(&audio))),
        "{report} {audio}"
    );
    assert!(index(&stream).contains("TYPE=AUDIO"));
}

#[test]
fn sound_that_was_announced_is_waited_for_but_not_for_ever() {
    let asked = |stream: &mut Stream| {
        let item = request(INDEX, "").unwrap().unwrap();
        match stream.window.fetch(&item) {
            Found::Text(text) => Some(String::from_utf8(text.plain().to_vec()).unwrap()),
            Found::Later => None,
            other => panic!("{other:?}"),
        }
    };
    let announced = || Stream::new(&[h264(), aac()]).give(&pictures(0, 3000));
    let mut stream = announced();
    assert_eq!(asked(&mut stream), None, "a player would never hear of it");
    let mut stream = stream.give(&woven(&[pictures(3000, 5000), sounds(3000, 5000)]));
    assert!(asked(&mut stream).is_some_and(|index| index.contains("TYPE=AUDIO")));
    let mut stream = announced().give(&pictures(3000, 7000));
    assert!(asked(&mut stream).is_some_and(|index| !index.contains("AUDIO")), "it may never come");
    let mut stream = Stream::new(&[h264()]).give(&pictures(0, 3000));
    assert!(asked(&mut stream).is_some(), "nothing is missing");
}

#[test]
fn sound_alone_is_one_variant() {
    let stream = Stream::new(&[aac()]).give(&sounds(0, 7000));
    assert_eq!(index(&stream), include_str!("sound.m3u8"));
    let audio = audio(&stream);
    assert!(!audio.contains("RENDITION-REPORT"), "{audio}");
    assert!(lines(&audio, "#EXT-X-PART:").iter().all(|part| part.contains("INDEPENDENT=YES")));
}

#[test]
fn what_has_ended_hints_at_nothing_more() {
    let stream = both(9000).finish();
    for text in [video(&stream), audio(&stream)] {
        assert!(text.ends_with(".m4s\n#EXT-X-ENDLIST\n"), "{text}");
        assert!(!text.contains("PRELOAD-HINT") && !text.contains("RENDITION-REPORT"), "{text}");
        assert_eq!(text.matches("#EXTINF").count(), 5, "the last second is a segment: {text}");
    }
}

#[test]
fn addresses_carry_the_query_and_nothing_else_does() {
    let stream = both(9000);
    let query = "token=a&b=%22";
    for (form, file) in [(&MULTIVARIANT, INDEX), (&MEDIA, VIDEO), (&MEDIA, AUDIO)] {
        let with = stream.text_for(form, file, query, false);
        let without = stream.text(form, file);
        let tail = format!("?{query}");
        assert_eq!(with.replace(&tail, ""), without);
        for line in with
            .lines()
            .filter(|line| line.contains(".m4s") || line.contains(".m3u8") || line.contains(".mp4"))
        {
            assert!(line.ends_with(&tail) || line.contains(&format!("{tail}\"")), "{line}");
        }
    }
}

#[test]
fn parts_are_listed_within_three_target_durations_of_the_end() {
    // The open segment has three fifths of a second.
    let text = video(&both(16_680));
    let listed = |number: u64| text.matches(&format!("-{number}.0.m4s")).count();
    // 5.6 and 7.6 seconds from the end.
    assert_eq!((listed(6), listed(5)), (1, 0), "{text}");
    assert_eq!(text.matches("#EXTINF").count(), 8);
}

#[test]
fn a_part_says_whether_a_decoder_can_begin_with_it() {
    let text = video(&both(9000));
    for part in lines(&text, "#EXT-X-PART:") {
        assert_eq!(part.contains("INDEPENDENT=YES"), part.contains(".0.m4s"), "{part}");
    }
}

#[test]
fn sound_that_stopped_is_a_gap_and_no_part_of_it_is_named() {
    let stream = Stream::new(&[h264(), aac()]).give(&woven(&[pictures(0, 13_000), sounds(0, 5000)]));
    let text = audio(&stream);
    assert!(text.matches("#EXT-X-GAP\n").count() >= 2, "{text}");
    let (_, gap) = text.split_once("#EXT-X-GAP\n").unwrap();
    assert!(!gap.contains("#EXT-X-PART:"), "{text}");
    assert_eq!(text.matches("#EXTINF").count(), text.matches("#EXT-X-GAP").count() + 3, "{text}");
    assert!(index(&stream).contains("TYPE=AUDIO"), "some of it is still listed");
    let longer = Stream::new(&[h264(), aac()]).give(&woven(&[pictures(0, 41_000), sounds(0, 5000)]));
    let index = index(&longer);
    assert!(!index.contains("audio"), "nobody is made to wait for it: {index}");
}

#[test]
fn sound_that_pauses_has_gaps_that_add_up() {
    let packets = [sounds(0, 6600), sounds(7300, 9000)].concat();
    let stream = Stream::new(&[h264(), aac()]).give(&woven(&[pictures(0, 9000), packets]));
    let text = audio(&stream);
    assert!(!text.contains("#EXT-X-GAP\n"), "each segment has something: {text}");
    let (_, rest) = text.split_once("audio-5ca7-2.m4s\n").unwrap();
    let (segment, _) = rest.split_once("audio-5ca7-3.m4s\n").unwrap();
    let parts = lines(segment, "#EXT-X-PART:DURATION=");
    let lasts = |part: &&str| part.split(',').next().unwrap().parse::<f64>().unwrap();
    let gaps: Vec<&&str> = parts.iter().filter(|part| part.ends_with(",GAP=YES")).collect();
    assert!(gaps.len() >= 4 && gaps.len() < parts.len(), "{segment}");
    let missing: f64 = gaps.iter().map(|part| lasts(part)).sum();
    assert!((0.65..0.75).contains(&missing), "{segment}");
    let said: f64 = lines(segment, "#EXTINF:")[0].trim_end_matches(',').parse().unwrap();
    let sum: f64 = parts.iter().map(lasts).sum();
    assert!((said - sum).abs() < 0.0001 && (said - 2.0).abs() < 0.03, "{segment}");
    assert!(parts.iter().all(|part| lasts(part) <= 0.202), "{segment}");
    assert!(index(&stream).contains("FRAME-RATE=25.000"));
}

#[test]
fn a_picture_that_stays_is_in_a_part_of_the_longest_length() {
    let kept = |frame: &Frame| !(6201..6900).contains(&frame.dts.as_millis());
    let frames: Vec<Frame> = pictures(0, 9000).into_iter().filter(kept).collect();
    let stream = Stream::new(&[h264()]).give(&frames);
    let text = video(&stream);
    let parts = lines(&text, "#EXT-X-PART:DURATION=");
    let lasts = |part: &&str| part.split(',').next().unwrap().parse::<f64>().unwrap();
    assert!(parts.iter().all(|part| lasts(part) <= 0.202), "{text}");
    assert!(parts.iter().any(|part| lasts(part) == 0.202), "{text}");
    assert!(!text.contains("GAP"), "{text}");
    assert!(lines(&text, "#EXTINF:").iter().all(|length| *length == "2.000000,"), "{text}");
    assert!(index(&stream).contains("FRAME-RATE="), "pictures are counted all the same");
}

#[test]
fn a_playlist_begins_with_what_holds_for_all_of_it() {
    let text = video(&both(9000));
    for (tag, value) in [
        ("#EXT-X-VERSION:", "9"),
        ("#EXT-X-TARGETDURATION:", "2"),
        ("#EXT-X-PART-INF:", "PART-TARGET=0.202000"),
    ] {
        assert_eq!(lines(&text, tag), [value]);
    }
    let control = "CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.606000,HOLD-BACK=6.000000,CAN-SKIP-UNTIL=12.000000";
    assert_eq!(lines(&text, "#EXT-X-SERVER-CONTROL:"), [control]);
}

#[test]
fn a_variant_says_how_much_its_worst_seconds_take() {
    let large = |frame: Frame| match (frame.is_key(), frame.dts.as_millis()) {
        (true, 4000) => with_bytes(frame, 250_000),
        _ => frame,
    };
    let frames: Vec<Frame> = pictures(0, 10_500).into_iter().map(large).collect();
    let stream = Stream::new(&[h264()]).give(&frames);
    let text = index(&stream);
    let number = |name: &str| {
        let (_, rest) = text.split_once(name).unwrap();
        rest.split(',').next().unwrap().parse::<f64>().unwrap()
    };
    // Fifty pictures in two seconds, a key frame among them; the third segment has the large one.
    let usual = f64::from(49 * 1000 + 5000) * 8.0 / 2.0;
    let peak = f64::from(49 * 1000 + 250_000) * 8.0 / 2.0;
    let average = (usual * 4.0 + peak) / 5.0;
    let near = |found: f64, wanted: f64| found >= wanted && found < wanted * 1.05;
    assert!(near(number("BANDWIDTH="), peak), "{text}");
    assert!(near(number("AVERAGE-BANDWIDTH="), average), "{text}");
}

fn with_bytes(frame: Frame, count: usize) -> Frame {
    match frame.payload {
        Payload::Video { codec, key, .. } => {
            let data = vec![7; count].into();
            Frame { payload: Payload::Video { codec, key, data }, ..frame }
        }
        _ => frame,
    }
}

#[test]
fn the_rate_of_pictures_is_that_of_the_samples() {
    for (per_second, written) in [(25, "25.000"), (30, "30.000"), (50, "50.000")] {
        let frames: Vec<Frame> = (0..12 * per_second)
            .map(|number| picture(number * 1000 / per_second, number % (2 * per_second) == 0))
            .collect();
        let text = index(&Stream::new(&[h264()]).give(&frames));
        assert!(text.contains(&format!(",FRAME-RATE={written}")), "{text}");
    }
    let time = |number: i64| MediaTime { ticks: number * 3003, rate: 90_000 };
    let frames: Vec<Frame> = (0..600)
        .map(|number| Frame { dts: time(number), pts: time(number), ..picture(0, number % 60 == 0) })
        .collect();
    let text = index(&Stream::new(&[h264()]).give(&frames));
    assert!(text.contains(",FRAME-RATE=29.970"), "{text}");
}

#[test]
fn hevc_with_the_colours_of_hdr_says_so() {
    let text = index(&Stream::new(&[hdr(), aac()]).give(&woven(&[pictures(0, 9000), sounds(0, 9000)])));
    assert!(text.contains("CODECS=\"hvc1.2.4.L123.90,mp4a.40.2\""), "{text}");
    assert!(text.contains("RESOLUTION=1920x1080") && text.contains(",VIDEO-RANGE=PQ"), "{text}");
    assert!(!index(&both(9000)).contains("VIDEO-RANGE"), "nobody said");
}

#[test]
fn a_file_asks_for_what_its_name_says() {
    let text = |file: &str, query: &str| match request(file, query) {
        Ok(Some(Item::Text(text))) => Some(text),
        _ => None,
    };
    let asked = |form, rendition, skip, until, query: &str| {
        Some(Text { form, rendition, skip, until, query: query.to_owned() })
    };
    let sound = Some(Rendition::Audio);
    assert_eq!(text(INDEX, "t=1&_HLS_msn=4"), asked(&MULTIVARIANT, None, false, None, "t=1"));
    assert_eq!(text(AUDIO, ""), asked(&MEDIA, sound, false, None, ""));
    let query = "_HLS_msn=4&_HLS_part=2&_HLS_skip=YES&t=1";
    assert_eq!(text(AUDIO, query), asked(&MEDIA, sound, true, Some((4, Some(2))), "t=1"));
    assert_eq!(text(AUDIO, "_HLS_msn=4"), asked(&MEDIA, sound, false, Some((4, None)), ""));
    let transport = Some(Rendition::Transport);
    assert_eq!(text(INDEX, "format=ts&t=1"), asked(&MULTIVARIANT, transport, false, None, "t=1"));
    assert_eq!(text(TRANSPORT, "t=1&_HLS_msn=4"), asked(&MEDIA, transport, false, Some((4, None)), "t=1"));
    assert_eq!(text(AUDIO, "format=ts"), asked(&MEDIA, sound, false, None, ""), "it has been chosen already");
    assert!(request(VIDEO, "_HLS_part=2").is_err());
    for file in ["", "index.html", "index.m3u", "text.m3u8", "manifest.mpd", "video.m3u8/", "VIDEO.m3u8"] {
        assert_eq!(request(file, "_HLS_part=2"), Ok(None), "{file}");
    }
    let segment = Item::Segment { id: 0xabc, rendition: Rendition::Video, number: 7, from: None };
    assert_eq!(request("video-abc-7.m4s", "t=\n"), Ok(Some(segment)));
}

proptest! {
    #[test]
    fn no_request_makes_it_panic_and_what_it_carries_stands_in_any_line(file in ".*", query in ".*", known in 0usize..5) {
        let file = [INDEX, VIDEO, AUDIO, TRANSPORT, &file][known];
        if let Ok(Some(Item::Text(text))) = request(file, &query) {
            prop_assert!(text.query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'), "{}", text.query);
            prop_assert!(!text.query.contains("_HLS_") || !query.starts_with("_HLS_"));
        }
    }

    #[test]
    fn whatever_comes_can_be_written(
        frames in proptest::collection::vec((0u8..20, 0i64..900, any::<bool>()), 1..300),
        ends: bool,
    ) {
        let (mut time, mut all) = (0, Vec::new());
        for (kind, step, key) in frames {
            time += step;
            all.push(match kind {
                0 => discontinuity(time),
                1 => larger(),
                2 => h264(),
                3 => described(TrackId::AUDIO, Parameters::of_opus(2)),
                4..=11 => picture(time, key),
                _ => sound(time),
            });
        }
        let stream = Stream::new(&[h264(), aac()]).give(&all);
        let stream = if ends { stream.finish() } else { stream };
        for (form, file) in [(&MULTIVARIANT, INDEX), (&MEDIA, VIDEO), (&MEDIA, AUDIO)] {
            for skip in [false, true] {
                let text = stream.text_for(form, file, "t=1", skip);
                prop_assert!(text.is_empty() || text.starts_with("#EXTM3U\n"), "{}", text);
                prop_assert!(text.is_empty() || text.ends_with('\n'), "{}", text);
            }
        }
    }
}
