//! Streams of every kind through packager and window: what comes out is read back as a player would.

mod holes;
mod rules;
mod slots;
mod streams;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    kit::{aac, described, discontinuity, h264, larger, of, packets, parameters, woven},
    *,
};
use crate::{
    codec::{Codec, samples},
    fmp4::demux::{self, BoxHead, Fragment, Movie},
    media::{Frame, Payload, TrackId},
    session::Opening,
    time::{MediaTime, Now},
};

const START: Wall = Wall(1_795_333_500_000_000_000);
const SEGMENT_HEAD: usize = crate::fmp4::mux::SEGMENT_HEAD_BYTES;

fn picture(millis: i64, key: bool) -> Frame {
    let data = Bytes::from(format!("picture {millis} {key}"));
    of(TrackId::VIDEO, millis, Payload::Video { codec: Codec::H264, key, data })
}

fn sound(millis: i64) -> Frame {
    of(TrackId::AUDIO, millis, Payload::Audio { codec: Codec::Aac, data: format!("sound {millis}").into() })
}

/// Pictures at this pace with a key frame each so many, their times in milliseconds as RTMP has them.
fn pictures(per_second: i64, group: i64, count: i64) -> Vec<Frame> {
    (0..count).map(|number| picture(number * 1000 / per_second, number % group == 0)).collect()
}

fn sounds(from: i64, to: i64) -> Vec<Frame> {
    packets(from, to).map(sound).collect()
}

/// A core: its packager and its window.
struct Core {
    packager: Packager,
    window: Window,
    cuts: Vec<Cut>,
    now: Now,
}

impl Core {
    fn new(settings: Settings, group: Option<Duration>, opening: &[Frame]) -> Self {
        Core::from(Numbering::default(), settings, group, opening)
    }

    /// One that goes on where another packaging of the stream has ended.
    fn from(numbering: Numbering, settings: Settings, group: Option<Duration>, opening: &[Frame]) -> Self {
        let mut known = Opening::default();
        for frame in opening {
            known.note(frame);
        }
        let packager = Packager::new(settings, 0xabc, group, &known, numbering);
        Core { packager, window: Window::new(), cuts: Vec::new(), now: Now(1) }
    }

    fn usual(opening: &[Frame]) -> Self {
        Core::new(Settings::default(), Some(Duration::from_secs(2)), opening)
    }

    fn give(&mut self, frames: &[Frame]) -> &mut Self {
        for frame in frames {
            let at = frame.dts.as_nanos().max(0) as u64;
            self.now = Now(at + 1);
            self.packager.frame(frame, Wall(START.0 + at));
            self.drain();
        }
        self
    }

    fn finish(&mut self) -> &mut Self {
        self.packager.finish();
        self.drain();
        self
    }

    fn drain(&mut self) {
        while let Some(cut) = self.packager.poll() {
            self.window.take(&cut, self.now);
            self.cuts.push(cut);
        }
    }

    fn terms(&self) -> &Terms {
        self.window.terms().expect("enough has come")
    }

    fn parts(&self, rendition: Rendition) -> Vec<Arc<Part>> {
        let part = |cut: &Cut| match cut {
            Cut::Part(part) if part.rendition == rendition => Some(part.clone()),
            _ => None,
        };
        self.cuts.iter().filter_map(part).collect()
    }

    /// Segments as lists of parts, by number.
    fn segments(&self, rendition: Rendition) -> BTreeMap<u64, Vec<Arc<Part>>> {
        let mut segments = BTreeMap::<u64, Vec<Arc<Part>>>::new();
        for part in self.parts(rendition) {
            segments.entry(part.segment).or_default().push(part);
        }
        segments
    }

    /// When each segment begins and how long it is, milliseconds.
    fn lengths(&self, rendition: Rendition) -> Vec<(u64, u64)> {
        let length = |parts: &Vec<Arc<Part>>| {
            let ticks: u64 = parts.iter().map(|part| part.duration).sum();
            let rate = u64::from(parts[0].rate);
            (parts[0].start * 1000 / rate, (ticks * 1000 + rate / 2) / rate)
        };
        self.segments(rendition).values().map(length).collect()
    }

    /// The samples of a track as a player reads them: time, length, what they hold.
    fn samples(&self, rendition: Rendition) -> Vec<(u64, u64, String)> {
        let inits = self.movies(rendition);
        let mut samples = Vec::new();
        for part in self.parts(rendition).iter().filter(|part| !part.gap) {
            let fragment = fragment(part, &inits);
            for sample in &fragment.samples {
                let data = &part.bytes[sample.offset as usize..][..sample.size as usize];
                samples.push((sample.dts, u64::from(sample.duration), String::from_utf8_lossy(data).into()));
            }
        }
        samples
    }

    /// The initialisation segments of a track, by version.
    fn movies(&self, rendition: Rendition) -> BTreeMap<u32, Movie> {
        let movie = |cut: &Cut| match cut {
            Cut::Init(init) if init.rendition == rendition => Some((init.version, movie(&init.bytes))),
            _ => None,
        };
        self.cuts.iter().filter_map(movie).collect()
    }
}

/// What is in a part.
fn fragment(part: &Part, inits: &BTreeMap<u32, Movie>) -> Fragment {
    let skipped = if part.bytes[4..8] == *b"styp" { SEGMENT_HEAD } else { 0 };
    let head = BoxHead::parse(&part.bytes[skipped..]).expect("a part begins with a box");
    assert_eq!(head.kind.0, *b"moof");
    let end = head.len.expect("a moof has a length") as usize;
    let content = &part.bytes[skipped..][head.head_len as usize..end];
    Fragment::parse(&inits[&part.init], content, skipped as u64).expect("we wrote it")
}

fn movie(init: &[u8]) -> Movie {
    let ftyp = BoxHead::parse(init).unwrap().len.unwrap() as usize;
    demux::Movie::parse(&init[ftyp + 8..]).unwrap()
}

#[test]
fn each_frame_is_in_the_segments_once_and_segments_of_a_number_belong_together() {
    let (pictures, sounds) = (pictures(30, 60, 300), sounds(0, 10_000));
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&woven(&[pictures.clone(), sounds.clone()])).finish().check();
    core.check_parts();
    assert_eq!((core.terms().target, core.terms().part.as_millis()), (2, 201));
    let held = |rendition| core.samples(rendition).into_iter().map(|(_, _, data)| data).collect::<Vec<_>>();
    let given = |frames: &[Frame]| frames.iter().map(data).collect::<Vec<_>>();
    assert_eq!(held(Rendition::Video), given(&pictures));
    assert_eq!(held(Rendition::Audio), given(&sounds));
    let video = core.lengths(Rendition::Video);
    assert_eq!(video, [(1000, 2000), (3000, 2000), (5000, 2000), (7000, 2000), (9000, 1999)]);
    for ((start, length), (other, _)) in core.lengths(Rendition::Audio).iter().zip(&video) {
        assert!(
            (*start as i64 - *other as i64).abs() <= 22 && length.abs_diff(2000) <= 22,
            "{start} {length}"
        );
    }
    assert!(core.segments(Rendition::Video).values().all(|parts| parts[0].independent));
}

fn data(frame: &Frame) -> String {
    match &frame.payload {
        Payload::Video { data, .. } | Payload::Audio { data, .. } => String::from_utf8_lossy(data).into(),
        other => panic!("no media: {other:?}"),
    }
}

#[test]
fn sound_lasts_as_long_as_its_samples_however_its_times_were_rounded() {
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&woven(&[pictures(30, 60, 300), sounds(0, 10_000)])).finish();
    let samples = core.samples(Rendition::Audio);
    assert!(samples.iter().all(|(_, length, _)| *length == 1024), "{samples:?}");
    assert!(samples.windows(2).all(|pair| pair[1].0 - pair[0].0 == 1024));
}

#[test]
fn a_packet_that_is_missing_leaves_a_hole_and_shifts_nothing() {
    let mut sounds = sounds(0, 6000);
    sounds.remove(100);
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&woven(&[pictures(30, 60, 180), sounds])).finish();
    let samples = core.samples(Rendition::Audio);
    assert!((samples[100].0 as i64 - (101 * 1024 + 48_000)).abs() <= 48, "within the rounding of its time");
    assert_eq!(samples[99].1 + samples[99].0, samples[100].0, "the one before it lasts until there");
}

#[test]
fn parts_come_close_to_their_length_at_every_pace() {
    for (rate, group) in [(24, 48), (25, 50), (30, 60), (50, 100), (60, 120), (15, 30), (10, 20), (5, 10)] {
        let mut core = Core::usual(&[h264(), aac()]);
        core.give(&woven(&[pictures(rate, group, group * 5), sounds(0, 10_000)])).finish().check();
        core.check_parts();
        assert!(core.terms().part <= Duration::from_millis(205), "{rate}: {:?}", core.terms().part);
    }
}

#[test]
fn pictures_at_no_pace_have_longer_parts() {
    let mut time = 0;
    let mut frames = Vec::new();
    for number in 0..600 {
        frames.push(picture(time, number % 60 == 0));
        time += [17, 50, 33, 41, 22][number % 5];
    }
    let mut core = Core::new(Settings::default(), None, &[h264()]);
    core.give(&frames).finish().check();
    core.check_parts();
}

#[test]
fn a_part_is_there_as_soon_as_it_is_full() {
    let mut core = Core::usual(&[h264()]);
    core.give(&pictures(30, 60, 60));
    // The sixth picture's length is known when the seventh comes; the part does not wait for the eighth.
    core.cuts.clear();
    core.give(&(60..66).map(|number| picture(number * 1000 / 30, number == 60)).collect::<Vec<_>>());
    assert_eq!(core.parts(Rendition::Video).len(), 1, "the last of the segment before");
    core.give(&[picture(2200, false)]);
    assert_eq!(core.parts(Rendition::Video).len(), 2);
}

#[test]
fn without_key_frames_segments_end_at_the_target() {
    let mut core = Core::usual(&[h264(), aac()]);
    let mut frames = pictures(25, 50, 100);
    frames.extend((100..350).map(|number| picture(number * 40, false)));
    core.give(&woven(&[frames, sounds(0, 14_000)])).finish().check();
    core.check_parts();
    let lengths: Vec<u64> = core.lengths(Rendition::Video).iter().map(|(_, length)| *length).collect();
    assert_eq!(lengths, [2000, 2080, 2000, 2000, 2000, 2000, 1920]);
    let entered = |number: u64| core.segments(Rendition::Video)[&number][0].independent;
    assert!(entered(0) && entered(1) && !entered(3));
}

#[test]
fn groups_that_are_longer_than_the_segment_make_longer_segments() {
    let mut core = Core::new(Settings::default(), Some(Duration::from_millis(8333)), &[h264()]);
    core.give(&pictures(30, 250, 1000)).finish().check();
    assert_eq!(core.terms().target, 8);
    assert_eq!(core.lengths(Rendition::Video)[..2], [(1000, 8333), (9333, 8333)]);
}

#[test]
fn sound_alone_is_cut_by_time() {
    let mut core = Core::new(Settings::default(), None, &[aac()]);
    core.give(&sounds(0, 9000)).finish().check();
    core.check_parts();
    assert!(core.window.shelf(Rendition::Video).is_none());
    assert!(core.lengths(Rendition::Audio)[..4].iter().all(|(_, length)| length.abs_diff(2000) <= 12));
}

#[test]
fn sound_that_comes_late_joins_at_the_number_that_is_open() {
    let mut core = Core::usual(&[h264()]);
    let mut frames = woven(&[pictures(30, 60, 300), sounds(5000, 10_000)]);
    let place = frames.iter().position(Frame::is_audio).unwrap();
    frames.insert(place, aac());
    core.give(&frames).finish().check();
    assert_eq!(core.segments(Rendition::Audio).keys().copied().collect::<Vec<_>>(), [2, 3, 4]);
}

#[test]
fn sound_that_stops_leaves_gaps_and_nobody_waits() {
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&woven(&[pictures(30, 60, 480), [sounds(0, 5000), sounds(13_000, 16_000)].concat()]));
    core.finish().check();
    let segments = core.segments(Rendition::Audio);
    let gaps: Vec<u64> = segments
        .iter()
        .filter(|(_, parts)| parts.iter().all(|part| part.gap))
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(gaps, [3, 4, 5]);
    let item = Item::Segment { id: 0xabc, rendition: Rendition::Audio, number: 4, from: None };
    let Found::Bytes(pieces) = core.window.fetch(&item) else { panic!("a fragment without samples") };
    let bytes = pieces.concat();
    let inits = core.movies(Rendition::Audio);
    assert!(bytes.len() < 200 && fragment(&segments[&4][0], &inits).samples.is_empty());
}

#[test]
fn pictures_that_stop_do_not_stop_the_sound() {
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&woven(&[pictures(30, 60, 90), sounds(0, 16_000)]));
    core.check();
    let (video, audio) = (core.segments(Rendition::Video), core.segments(Rendition::Audio));
    assert!(audio.len() >= 6, "{audio:?}");
    assert!(video.values().filter(|parts| parts[0].gap).count() >= 3, "{video:?}");
    let counted = core.samples(Rendition::Audio).len();
    assert!(counted > 16_000 / 22 - 120, "{counted}");
}

#[test]
fn a_publisher_that_comes_back_goes_on_with_the_next_number() {
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&woven(&[pictures(30, 60, 150), sounds(0, 5000)]));
    let mark = of(TrackId::DATA, 8000, Payload::Discontinuity);
    let back = |frames: Vec<Frame>| -> Vec<Frame> {
        let moved = |time: MediaTime| MediaTime::from_millis(time.as_millis() + 8000);
        let move_frame = |frame: Frame| Frame { dts: moved(frame.dts), pts: moved(frame.pts), ..frame };
        frames.into_iter().map(move_frame).collect()
    };
    core.give(&[mark, h264(), aac()]);
    core.give(&back(woven(&[pictures(30, 60, 120), sounds(0, 4000)]))).finish().check();
    for rendition in [Rendition::Video, Rendition::Audio] {
        let segments = core.segments(rendition);
        let breaks: Vec<u64> =
            segments.iter().filter(|(_, parts)| parts[0].discontinuity).map(|(number, _)| *number).collect();
        assert_eq!(breaks, [3], "{rendition:?}");
        let wall = segments[&3][0].wall.0 - START.0;
        assert!(wall.abs_diff(8_000_000_000) < 50_000_000, "{rendition:?} says when it was: {wall}");
    }
}

#[test]
fn a_change_of_parameters_is_a_break_with_an_initialisation_of_its_own() {
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&woven(&[pictures(30, 60, 120), sounds(0, 4000)]));
    core.give(&[larger()]);
    let rest: Vec<Frame> = (120..240).map(|number| picture(number * 1000 / 30, number % 60 == 0)).collect();
    core.give(&woven(&[rest, sounds(4000, 8000)])).finish().check();
    let video = core.segments(Rendition::Video);
    assert_eq!(video.values().map(|parts| parts[0].init).collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert!(video[&2][0].discontinuity && video[&2][0].independent);
    let audio = core.segments(Rendition::Audio);
    assert!(audio[&2][0].discontinuity && audio.values().all(|parts| parts[0].init == 0));
    let second = core.window.fetch(&Item::Init { id: 0xabc, rendition: Rendition::Video, version: 1 });
    assert!(matches!(second, Found::Bytes(_)));
}

#[test]
fn pictures_that_are_shown_in_another_order_keep_their_times() {
    let mut core = Core::usual(&[h264()]);
    let frames: Vec<Frame> = pictures(25, 50, 150)
        .into_iter()
        .enumerate()
        .map(|(number, frame)| Frame {
            pts: MediaTime::from_millis(frame.dts.as_millis() + [80, 160, 0, 0][number % 4]),
            ..frame
        })
        .collect();
    core.give(&frames).finish().check();
    let init = core.cuts.iter().find_map(|cut| match cut {
        Cut::Init(init) => Some(movie(&init.bytes)),
        _ => None,
    });
    let part = &core.parts(Rendition::Video)[1];
    let head = BoxHead::parse(&part.bytes).unwrap();
    let fragment = Fragment::parse(&init.unwrap(), &part.bytes[8..head.len.unwrap() as usize], 0).unwrap();
    let offsets: Vec<i64> = fragment.samples.iter().map(|sample| sample.pts - sample.dts as i64).collect();
    assert_eq!(offsets, [160, 0, 0, 80, 160], "parts of five: the second begins with the sixth picture");
}

#[test]
fn a_window_lists_what_was_wished_and_answers_for_the_rest_a_while() {
    let mut core = Core::usual(&[h264()]);
    let id = 0xabc;
    let get = |core: &mut Core, number| {
        core.window.fetch(&Item::Segment { id, rendition: Rendition::Video, number, from: None })
    };
    core.give(&pictures(25, 50, 1500));
    let shelf = core.window.shelf(Rendition::Video).unwrap();
    let listed: Vec<u64> = shelf.whole().map(|segment| segment.number).collect();
    assert_eq!(listed, (21..29).collect::<Vec<_>>(), "16 s of 2 s each");
    assert!(matches!(get(&mut core, 20), Found::Bytes(_)), "no longer listed");
    assert!(matches!(get(&mut core, 12), Found::Bytes(_)), "a list of 16 s may have had it");
    assert!(matches!(get(&mut core, 8), Found::Missing));
    assert!(matches!(get(&mut core, 29), Found::Later), "it is being made");
    assert!(matches!(get(&mut core, 31), Found::Missing));
    let other = Item::Segment { id: 1, rendition: Rendition::Video, number: 25, from: None };
    assert!(matches!(core.window.fetch(&other), Found::Missing), "of another packaging");
}

#[test]
fn the_next_part_is_waited_for_and_no_later_one() {
    let mut core = Core::usual(&[h264()]);
    core.give(&pictures(25, 50, 120));
    let (number, index) = core.window.shelf(Rendition::Video).unwrap().next();
    assert_eq!((number, index), (2, 3));
    let part = |number, index| Item::Part { id: 0xabc, rendition: Rendition::Video, number, index };
    assert!(matches!(core.window.fetch(&part(2, 2)), Found::Bytes(_)));
    assert!(matches!(core.window.fetch(&part(2, 3)), Found::Later));
    assert!(matches!(core.window.fetch(&part(2, 4)), Found::Missing));
}

#[test]
fn a_segment_comes_as_it_is_made_to_whoever_takes_it_so() {
    let mut core = Core::usual(&[h264()]);
    core.give(&pictures(25, 50, 120));
    let item = |number, from| Item::Segment { id: 0xabc, rendition: Rendition::Video, number, from };
    let Found::Open(first, next) = core.window.fetch(&item(2, Some(0))) else {
        panic!("three parts are there")
    };
    assert_eq!((first.len(), next), (3, 3));
    assert!(matches!(core.window.fetch(&item(2, Some(3))), Found::Later));
    assert!(matches!(core.window.fetch(&item(3, Some(0))), Found::Missing), "two segments early");
    core.give(&(120..151).map(|number| picture(number * 40, number == 150)).collect::<Vec<_>>());
    let Found::Bytes(rest) = core.window.fetch(&item(2, Some(3))) else { panic!("it is whole") };
    let Found::Bytes(whole) = core.window.fetch(&item(2, None)) else { panic!("it is whole") };
    assert_eq!([first, rest].concat(), whole);
    assert!(matches!(core.window.fetch(&item(3, Some(0))), Found::Later), "a moment early");
}

static NUMBERS: TextForm = TextForm {
    name: "numbers",
    content_type: "text/plain",
    write: |window, text| {
        let shelf = text.rendition.and_then(|rendition| window.shelf(rendition)).expect("it was asked for");
        shelf.listed().map(|segment| format!("{}:{} ", segment.number, segment.parts.len())).collect()
    },
};

fn text(until: Option<(u64, Option<u32>)>) -> Item {
    let rendition = Some(Rendition::Video);
    Item::Text(Text { form: &NUMBERS, rendition, skip: false, until, query: String::new() })
}

#[test]
fn a_text_waits_until_it_has_what_was_asked_for() {
    let mut core = Core::usual(&[h264()]);
    core.give(&pictures(25, 50, 40));
    assert!(matches!(core.window.fetch(&text(None)), Found::Later), "no segment is whole");
    core.give(
        &(40..120).map(|number| picture(number * 40, number == 50 || number == 100)).collect::<Vec<_>>(),
    );
    let Found::Text(written) = core.window.fetch(&text(None)) else { panic!("there are two whole segments") };
    assert_eq!(written.plain(), "0:10 1:10 2:3 ");
    for (until, there) in [
        ((2, Some(2)), true),
        ((2, Some(3)), false),
        ((1, None), true),
        ((2, None), false),
        ((1, Some(10)), true),
        ((4, None), false),
    ] {
        let found = core.window.fetch(&text(Some(until)));
        assert_eq!(matches!(found, Found::Text(_)), there, "{until:?}");
        assert_eq!(matches!(found, Found::Later), !there, "{until:?}");
    }
    assert!(matches!(core.window.fetch(&text(Some((5, None)))), Found::Absurd));
    core.finish();
    assert!(matches!(core.window.fetch(&text(Some((4, None)))), Found::Text(_)), "nothing more will come");
}

#[test]
fn a_text_is_written_once_for_all() {
    let mut core = Core::usual(&[h264()]);
    core.give(&pictures(25, 50, 120));
    let Found::Text(first) = core.window.fetch(&text(None)) else { panic!("it is there") };
    let Found::Text(second) = core.window.fetch(&text(Some((1, None)))) else { panic!("it is there") };
    assert!(Arc::ptr_eq(&first, &second));
}

#[test]
fn another_core_has_the_same_window() {
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&woven(&[pictures(30, 60, 1200), sounds(0, 40_000)]));
    let mut other = Window::new();
    for cut in core.window.cuts() {
        other.take(&cut, core.now);
    }
    let listed = |window: &Window| -> Vec<(Rendition, u64, usize, u64)> {
        let shelves = window.shelves().iter();
        let row = |shelf: &Shelf| {
            let (rendition, before) = (shelf.rendition(), shelf.discontinuities());
            let segments = shelf.listed().map(|segment| (rendition, segment.number, segment.len(), before));
            segments.collect::<Vec<_>>()
        };
        shelves.flat_map(row).collect()
    };
    assert_eq!(listed(&core.window), listed(&other));
}

#[test]
fn a_window_takes_little_more_memory_than_its_media() {
    let mut core = Core::usual(&[h264(), aac()]);
    let large = |frame: Frame| match frame.payload {
        Payload::Video { codec, key, .. } => {
            let data = Bytes::from(vec![7; if key { 60_000 } else { 8_000 }]);
            Frame { payload: Payload::Video { codec, key, data }, ..frame }
        }
        Payload::Audio { codec, .. } => {
            Frame { payload: Payload::Audio { codec, data: Bytes::from(vec![7; 340]) }, ..frame }
        }
        _ => frame,
    };
    let frames: Vec<Frame> =
        woven(&[pictures(30, 60, 900), sounds(0, 30_000)]).into_iter().map(large).collect();
    core.give(&frames);
    let media: usize = [Rendition::Video, Rendition::Audio]
        .iter()
        .flat_map(|rendition| &core.window.shelf(*rendition).unwrap().segments)
        .flat_map(|segment| &segment.parts)
        .map(|part| {
            let skipped = if part.index == 0 { SEGMENT_HEAD } else { 0 };
            let head = BoxHead::parse(&part.bytes[skipped..]).unwrap();
            part.bytes.len() - skipped - head.len.unwrap() as usize - 8
        })
        .sum();
    let ratio = core.window.bytes() as f64 / media as f64;
    assert!(ratio < 1.02, "{ratio}");
}

#[test]
fn a_stream_that_begins_with_nothing_known_settles_by_itself() {
    let mut core = Core::new(Settings::default(), None, &[]);
    core.give(&[h264(), aac()]);
    core.give(&woven(&[pictures(30, 60, 60), sounds(0, 1900)]));
    assert!(core.window.terms().is_none(), "how long groups are is not known yet");
    core.give(&[picture(2000, true)]);
    assert_eq!(core.terms().target, 2);
    assert!(core.parts(Rendition::Video).len() > 5, "what came before is there at once");
}

proptest! {
    #[test]
    fn whatever_comes_is_cut_by_the_rules(
        frames in proptest::collection::vec((0u8..20, 0i64..400, any::<bool>(), -300i64..300), 1..400),
        group in proptest::option::of(1u64..20_000),
    ) {
        let mut core = Core::new(Settings::default(), group.map(Duration::from_millis), &[h264(), aac()]);
        let mut time = 0;
        for (kind, step, key, back) in frames {
            time += step;
            let frame = match kind {
                0 => of(TrackId::DATA, time, Payload::Discontinuity),
                1 => larger(),
                2 => h264(),
                3..=11 => {
                    let frame = picture(time + back.min(0), key);
                    Frame { pts: MediaTime::from_millis(time + back), ..frame }
                }
                _ => sound(time + back / 4),
            };
            core.give(&[frame]);
        }
        core.finish();
        if core.window.terms().is_some() {
            core.check_tracks();
        }
    }
}
