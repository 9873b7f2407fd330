//! Manifests of whole streams, against texts that a person has looked at and against when the media was there.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::{MANIFEST, NAME, PLAIN_MANIFEST, request};
use crate::{
    codec::Parameters,
    hls::{
        name,
        tests::kit::{
            ID, START, Stream, aac, described, discontinuity, h264, larger, picture, pictures, sound, sounds,
            woven,
        },
    },
    media::TrackId,
    segment::{Found, Item, Numbering, Rendition, Segment, Settings, Shelf, Text},
    time::Wall,
};

fn both(millis: i64) -> Stream {
    Stream::new(&[h264(), aac()]).give(&woven(&[pictures(0, millis), sounds(0, millis)]))
}

fn manifest(stream: &Stream) -> String {
    stream.text(&MANIFEST, NAME)
}

/// What is answered to who has had one already.
fn followed(stream: &Stream) -> String {
    stream.text_for(&MANIFEST, NAME, "", true)
}

/// The elements of this name: what stands in each head.
fn elements<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let head = format!("<{name} ");
    text.lines().filter_map(|line| line.trim_start().strip_prefix(&head)).collect()
}

fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let open = format!("{name}=\"");
    let later = format!(" {open}");
    let (_, rest) = match element.strip_prefix(&open) {
        Some(rest) => ("", rest),
        None => element.split_once(&later)?,
    };
    rest.split('"').next()
}

fn number(element: &str, name: &str) -> u64 {
    attribute(element, name).unwrap().parse().unwrap()
}

/// A duration of the form `PT1.5S`.
fn duration(element: &str, name: &str) -> Duration {
    let seconds = attribute(element, name).unwrap().strip_prefix("PT").unwrap().strip_suffix('S').unwrap();
    let (whole, fraction) = seconds.split_once('.').unwrap();
    Duration::new(whole.parse().unwrap(), fraction.parse::<u32>().unwrap() * 1000)
}

/// A segment as a player knows it: its name, when its first sample was there, and how long it is.
#[derive(Debug)]
struct Known {
    name: String,
    start: Duration,
    length: Duration,
}

/// Reads a manifest as a player does.
fn read(text: &str) -> Vec<Known> {
    let mut known = Vec::new();
    for period in text.split("<Period ").skip(1) {
        let start = duration(period, "start");
        for set in period.split("<SegmentTemplate ").skip(1) {
            let rate = number(set, "timescale");
            let offset = number(set, "presentationTimeOffset");
            let (mut place, mut time) = (number(set, "startNumber"), 0);
            for entry in elements(set, "S") {
                if attribute(entry, "t").is_some() {
                    time = number(entry, "t");
                }
                let lasts = number(entry, "d");
                let repeat = attribute(entry, "r").map_or(0, |repeat| repeat.parse().unwrap());
                for _ in 0..=repeat {
                    let since = |ticks: u64| Duration::from_nanos(ticks * 1_000_000_000 / rate);
                    let name = attribute(set, "media").unwrap().replace("$Number$", &place.to_string());
                    known.push(Known { name, start: start + since(time - offset), length: since(lasts) });
                    (place, time) = (place + 1, time + lasts);
                }
            }
        }
    }
    known
}

/// Demands that the manifest says of each listed segment what the window knows of it.
fn agrees(stream: &Stream) {
    let text = followed(stream);
    let known = read(&text);
    let terms = stream.window.terms().unwrap();
    for one in &known {
        let Some(Item::Segment { rendition, number, .. }) = name::parse(&one.name) else {
            panic!("{}", one.name)
        };
        let shelf = stream.window.shelf(rendition).unwrap();
        let segment = shelf.listed().find(|segment| segment.number == number).unwrap();
        let wall = Duration::from_nanos(segment.parts[0].wall.0 - terms.began.0);
        assert!(one.start.abs_diff(wall) < Duration::from_millis(2), "{one:?} was there at {wall:?}: {text}");
        let short = one.length + Duration::from_micros(50) < segment.duration();
        let long = one.length > segment.duration() + Duration::from_micros(50);
        assert!(
            !short && !(long && (segment.whole || stream.window.ended())),
            "{one:?} {:?}",
            segment.duration()
        );
    }
    for shelf in stream.window.shelves() {
        for segment in shelf.listed() {
            let name = name::segment(ID, shelf.rendition(), segment.number);
            let times = known.iter().filter(|known| known.name == name).count();
            let wanted = if is_between(shelf, segment) { 1 } else { 0 };
            assert_eq!(times, wanted, "{name}: {text}");
        }
    }
    let starts: Vec<Duration> =
        elements(&text, "Period").iter().map(|period| duration(period, "start")).collect();
    assert!(starts.is_sorted_by(|one, next| one < next), "{starts:?}");
}

/// It has media, or there are segments of its period with media on both sides of it.
fn is_between(shelf: &Shelf, segment: &Segment) -> bool {
    let mut before =
        shelf.listed().filter(|one| one.period == segment.period && one.number <= segment.number);
    let mut after = shelf.listed().filter(|one| one.period == segment.period && one.number >= segment.number);
    before.any(|one| !one.is_gap()) && after.any(|one| !one.is_gap())
}

#[test]
fn a_manifest_of_pictures_and_sound_is_the_one_that_was_looked_at() {
    let stream = both(9000);
    assert_eq!(manifest(&stream), include_str!("tests/live.mpd"));
    agrees(&stream);
}

#[test]
fn an_ended_manifest_says_how_long_it_is() {
    let stream = both(9000).finish();
    assert_eq!(manifest(&stream), include_str!("tests/ended.mpd"));
    agrees(&stream);
}

#[test]
fn what_is_left_of_a_stream_that_is_over_begins_with_zero() {
    let frames = [
        woven(&[pictures(0, 30_000), sounds(0, 30_000)]),
        vec![discontinuity(33_000)],
        woven(&[pictures(34_000, 43_000), sounds(34_000, 43_000)]),
    ];
    let stream = Stream::new(&[h264(), aac()]).give(&frames.concat()).finish();
    let text = manifest(&stream);
    assert!(!text.contains("availabilityStartTime") && !text.contains("UTCTiming"), "{text}");
    let known = read(&text);
    let of = |rendition| {
        let is_of = move |known: &&Known| match name::parse(&known.name) {
            Some(Item::Segment { rendition: found, .. }) => found == rendition,
            _ => false,
        };
        known.iter().filter(is_of).collect::<Vec<_>>()
    };
    let (video, audio) = (of(Rendition::Video), of(Rendition::Audio));
    assert_eq!(video[0].start, Duration::ZERO);
    assert!(audio[0].start < Duration::from_millis(30), "{audio:?}");
    // One follows the other, across the pause as well.
    let hole = Duration::from_millis(50);
    for pair in video.windows(2).chain(audio.windows(2)) {
        assert!((pair[0].start + pair[0].length).abs_diff(pair[1].start) < hole, "{pair:?}");
    }
    let whole: Duration = video.iter().map(|known| known.length).sum();
    let said = duration(elements(&text, "MPD")[0], "mediaPresentationDuration");
    assert!(said.abs_diff(whole) < hole, "{said:?} {whole:?}");
    assert!((12..20).contains(&said.as_secs()), "what is listed: {said:?}");
}

#[test]
fn who_has_followed_a_stream_finds_its_end_in_the_same_times() {
    let stream = both(41_000);
    let before = read(&followed(&stream));
    let stream = stream.finish();
    agrees(&stream);
    let text = followed(&stream);
    assert!(text.contains("type=\"static\""), "{text}");
    let known = read(&text);
    let same = known.iter().filter(|known| {
        before
            .iter()
            .any(|one| one.name == known.name && one.start.abs_diff(known.start) < Duration::from_micros(100))
    });
    assert!(same.count() + 2 >= known.len(), "{text}");
}

#[test]
fn a_live_manifest_says_where_it_is_fetched_again() {
    let live = both(9000);
    assert!(manifest(&live).contains("<Location>manifest.mpd?_DASH_follows=YES</Location>"));
    let text = live.text_for(&MANIFEST, NAME, "a=1&b='%22", false);
    assert!(
        text.contains("<Location>manifest.mpd?a=1&amp;b='%22&amp;_DASH_follows=YES</Location>"),
        "{text}"
    );
    assert!(!manifest(&live.finish()).contains("Location"));
}

#[test]
fn a_segment_of_nothing_is_left_out_at_an_end_and_stays_between_others() {
    let gone = woven(&[pictures(0, 13_000), sounds(0, 5000)]);
    let stream = Stream::new(&[h264(), aac()]).give(&gone);
    agrees(&stream);
    let names = |stream: &Stream| -> Vec<String> {
        let known = read(&manifest(stream));
        known.into_iter().map(|known| known.name).filter(|name| name.starts_with("audio")).collect()
    };
    let audio = |numbers: std::ops::RangeInclusive<u64>| -> Vec<String> {
        numbers.map(|number| name::segment(ID, Rendition::Audio, number)).collect()
    };
    assert_eq!(names(&stream), audio(0..=2));
    // Numbers count all that are in a timeline.
    let stream = stream.give(&woven(&[pictures(13_000, 19_000), sounds(13_000, 19_000)]));
    agrees(&stream);
    let listed = |stream: &Stream| -> Vec<u64> {
        let shelf = stream.window.shelf(Rendition::Audio).unwrap();
        shelf.listed().map(|segment| segment.number).collect()
    };
    assert_eq!(names(&stream), audio(listed(&stream)[0]..=9));
    assert!(listed(&stream)[0] <= 2);
    // Those that the list begins with are left out again.
    let stream = stream.give(&woven(&[pictures(19_000, 25_000), sounds(19_000, 25_000)]));
    agrees(&stream);
    assert_eq!(
        (names(&stream), listed(&stream)[0]),
        (audio(6..=12), 3),
        "three that the list begins with are gaps"
    );
}

#[test]
fn a_break_begins_a_period_and_other_parameters_a_representation() {
    let frames = [
        woven(&[pictures(0, 4000), sounds(0, 4000)]),
        vec![discontinuity(6000), larger()],
        woven(&[pictures(6000, 9000), sounds(6000, 9000)]),
    ];
    let stream = Stream::new(&[h264(), aac()]).give(&frames.concat());
    let text = manifest(&stream);
    agrees(&stream);
    let periods = elements(&text, "Period");
    assert_eq!(periods.iter().map(|period| attribute(period, "id").unwrap()).collect::<Vec<_>>(), ["0", "1"]);
    let end = duration(periods[0], "start") + duration(periods[0], "duration");
    let pause = duration(periods[1], "start") - end;
    assert!(pause.abs_diff(Duration::from_secs(2)) < Duration::from_millis(50), "{pause:?}");
    assert!(periods[1].find("duration").is_none(), "more will come");
    let inits: Vec<&str> = elements(&text, "SegmentTemplate")
        .iter()
        .map(|template| attribute(template, "initialization").unwrap())
        .collect();
    assert_eq!(inits, ["video-5ca7-0.mp4", "audio-5ca7-0.mp4", "video-5ca7-1.mp4", "audio-5ca7-0.mp4"]);
    let widths: Vec<Option<&str>> =
        elements(&text, "Representation").iter().map(|one| attribute(one, "width")).collect();
    assert_eq!(widths, [Some("1280"), None, Some("1920"), None]);
}

#[test]
fn times_stay_the_same_while_the_list_moves_on() {
    let frames = [pictures(0, 9000), vec![discontinuity(12_000)], pictures(12_000, 60_000)].concat();
    let mut stream = Stream::new(&[h264()]);
    let mut before: Vec<Known> = Vec::new();
    let mut starts: BTreeMap<String, String> = BTreeMap::new();
    for frames in frames.chunks(25) {
        stream = stream.give(frames);
        if stream.window.shelf(Rendition::Video).is_none_or(|shelf| shelf.whole().next().is_none()) {
            continue;
        }
        agrees(&stream);
        let now = read(&manifest(&stream));
        for known in &now {
            if let Some(same) = before.iter().find(|same| same.name == known.name) {
                assert!(same.start.abs_diff(known.start) < Duration::from_micros(100), "{same:?} {known:?}");
            }
        }
        before = now;
        // The beginning of a period stays when its first segment goes. (5.4.1)
        let text = manifest(&stream);
        for period in elements(&text, "Period") {
            let [id, start] = ["id", "start"].map(|name| attribute(period, name).unwrap().to_owned());
            assert_eq!(*starts.entry(id).or_insert_with(|| start.clone()), start, "{text}");
        }
    }
    assert!(before.len() > 5 && starts.len() == 2);
}

#[test]
fn the_segment_that_is_being_made_is_as_long_as_others() {
    let stream = both(8600);
    let known = read(&manifest(&stream));
    let open = known.iter().find(|known| known.name == name::segment(ID, Rendition::Video, 4)).unwrap();
    assert_eq!(open.length, Duration::from_secs(2));
    // Of sound, as the longer of two lengths that take turns.
    let open = known.iter().find(|known| known.name == name::segment(ID, Rendition::Audio, 4)).unwrap();
    assert_eq!(open.length.as_micros(), 94 * 1024 * 1_000_000 / 48_000);
    let text = manifest(&stream);
    let template = elements(&text, "SegmentTemplate")[0];
    assert!(
        template.contains("availabilityTimeOffset=\"1.798000\" availabilityTimeComplete=\"false\""),
        "{template}"
    );
}

#[test]
fn sound_that_never_came_again_is_not_there() {
    let stream = Stream::new(&[h264(), aac()]).give(&woven(&[pictures(0, 41_000), sounds(0, 5000)]));
    assert!(!manifest(&stream).contains("audio"));
}

/// What a manifest without a timeline says until this time: each segment's name, and when it is due.
fn due(text: &str, until: Duration) -> Vec<(String, Duration)> {
    let mut due = Vec::new();
    for period in text.split("<Period ").skip(1) {
        let start = duration(period, "start");
        let end = attribute(period.lines().next().unwrap(), "duration")
            .map_or(until, |_| start + duration(period, "duration"));
        for set in elements(period, "SegmentTemplate") {
            let length = Duration::from_secs(number(set, "duration") / number(set, "timescale"));
            for (place, slot) in (number(set, "startNumber")..).enumerate() {
                let at = start + length * u32::try_from(place).unwrap();
                if at >= end {
                    break;
                }
                due.push((attribute(set, "media").unwrap().replace("$Number$", &slot.to_string()), at));
            }
        }
    }
    due
}

#[test]
fn a_manifest_without_a_timeline_is_the_one_that_was_looked_at() {
    let stream = both(9000);
    assert_eq!(stream.text(&PLAIN_MANIFEST, NAME), include_str!("tests/plain.mpd"));
    let text = stream.text_for(&PLAIN_MANIFEST, NAME, "a=1&b=2", true);
    let location = "<Location>manifest.mpd?a=1&amp;b=2&amp;timeline=no&amp;_DASH_follows=YES</Location>";
    assert!(text.contains(location), "{text}");
    assert!(text.contains("$Number$.m4s?a=1&amp;b=2\""), "{text}");
}

#[test]
fn without_a_timeline_each_segment_is_found_when_it_is_due() {
    let mut stream = both(9000);
    let text = stream.text(&PLAIN_MANIFEST, NAME);
    for (name, at) in due(&text, Duration::from_secs(9)) {
        let item = name::parse(&name).unwrap();
        let Item::Slot { rendition, slot, .. } = item else { panic!("{name}") };
        let found = stream.window.fetch(&item);
        let shelf = stream.window.shelf(rendition).unwrap();
        let segment = shelf.listed().find(|segment| segment.number == slot).unwrap();
        match found {
            Found::Bytes(bytes) => {
                assert!(at + Duration::from_secs(2) < Duration::from_secs(9), "{name}");
                assert_eq!(bytes.concat().len(), segment.len(), "{name}");
            }
            Found::Later => assert!(!segment.whole, "{name}"),
            found => panic!("{name}: {found:?}"),
        }
    }
}

#[test]
fn without_a_timeline_what_is_left_of_a_stream_begins_with_zero() {
    let frames = [
        woven(&[pictures(0, 30_000), sounds(0, 30_000)]),
        vec![discontinuity(33_000)],
        woven(&[pictures(34_000, 43_000), sounds(34_000, 43_000)]),
    ];
    let mut stream = Stream::new(&[h264(), aac()]).give(&frames.concat()).finish();
    let text = stream.text(&PLAIN_MANIFEST, NAME);
    assert!(text.contains("type=\"static\"") && !text.contains("Location"), "{text}");
    let said = duration(elements(&text, "MPD")[0], "mediaPresentationDuration");
    let due = due(&text, said);
    assert_eq!((due[0].1, due[0].0.as_str()), (Duration::ZERO, "video-5ca7-0-12.m4s"), "{text}");
    let mut heard = BTreeMap::new();
    for (name, at) in due {
        let item = name::parse(&name).unwrap();
        let Item::Slot { rendition, .. } = item else { panic!("{name}") };
        assert!(matches!(stream.window.fetch(&item), Found::Bytes(_)), "{name} at {at:?}: {text}");
        *heard.entry(rendition).or_insert(0) += 1;
    }
    let counts: Vec<i32> = heard.into_values().collect();
    assert!(counts.len() == 2 && counts.iter().all(|count| (8..=9).contains(count)), "{counts:?}: {text}");
}

#[test]
fn addresses_carry_the_query_as_xml_and_templates_have_it() {
    let text = both(9000).text_for(&MANIFEST, NAME, "a=1&b=$Number$&c='%22", false);
    let tail = "?a=1&amp;b=$$Number$$&amp;c=&apos;%22\"";
    assert_eq!(text.matches(tail).count(), 4, "{text}");
    assert!(text.contains(&format!("media=\"video-5ca7-$Number$.m4s{tail}")), "{text}");
}

#[test]
fn a_manifest_is_asked_for_by_its_name() {
    let manifest = |query: &str| {
        let query = query.to_owned();
        Some(Item::Text(Text { form: &MANIFEST, rendition: None, skip: false, until: None, query }))
    };
    assert_eq!(request(NAME, "token=a&_HLS_msn=3"), manifest("token=a"));
    let Some(Item::Text(text)) = request(NAME, "token=a&_DASH_follows=YES&b") else { panic!("it is one") };
    assert!(text.skip && text.query == "token=a&b", "{text:?}");
    let Some(Item::Text(text)) = request(NAME, "timeline=no&token=a") else { panic!("it is one") };
    assert!(text.form == &PLAIN_MANIFEST && !text.skip && text.query == "token=a", "{text:?}");
    let Some(Item::Text(text)) = request(NAME, "timeline=yes") else { panic!("it is one") };
    assert!(text.form == &MANIFEST && text.query == "timeline=yes", "{text:?}");
    assert_eq!(request(NAME, "token=\n"), None);
    let init = Item::Init { id: ID, rendition: Rendition::Audio, version: 2 };
    assert_eq!(request("audio-5ca7-2.mp4", ""), Some(init));
    assert_eq!(request("index.m3u8", ""), None);
}

#[test]
fn times_count_from_when_the_stream_was_first_packaged() {
    let text = manifest(&both(9000));
    let head = elements(&text, "MPD")[0];
    assert_eq!(attribute(head, "availabilityStartTime"), Some(START.to_string().as_str()));
    assert_eq!(attribute(elements(&text, "Period")[0], "start"), Some("PT0.000000S"));
}

#[test]
fn a_stream_that_is_packaged_anew_has_the_times_it_had() {
    let began = Wall(START.0 - 7_000_000_000);
    let numbering = Numbering { segment: 4, period: 2, began: Some(began) };
    let stream = Stream::after(numbering, Settings::default(), &[h264(), aac()]);
    let stream = stream.give(&woven(&[pictures(0, 9000), sounds(0, 9000)]));
    let text = manifest(&stream);
    let head = elements(&text, "MPD")[0];
    assert_eq!(attribute(head, "availabilityStartTime"), Some(began.to_string().as_str()));
    assert_eq!(attribute(elements(&text, "Period")[0], "start"), Some("PT7.000000S"));
    agrees(&stream);
}

proptest! {
    #[test]
    fn whatever_comes_is_where_it_was(
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
        if stream.window.terms().is_some() {
            read(&manifest(&stream));
            due(&stream.text(&PLAIN_MANIFEST, NAME), Duration::from_secs(60));
        }
    }
}
