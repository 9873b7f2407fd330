//! Streams of every kind through the packager of MPEG-TS: what comes out is read back by a reader that shares no code with
//! the muxer, segment by segment and as the one stream that they are.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    codec::{
        Codec,
        samples::{self, hex},
    },
    mpegts::tests::reader::{self, File, unwrap},
    segment::{
        Found, Item, Shelf, Text, TextForm, Window,
        kit::{aac, described, discontinuity, h264, larger, of, packets, parameters, woven},
    },
    time::Now,
};

const START: Wall = Wall(1_795_333_500_000_000_000);
const ID: u64 = 0xabc;
/// What the muxer adds to every time, ticks.
const DELAY: i64 = 63_000;

/// A slice that says when it is.
fn slice(millis: i64, key: bool) -> Vec<u8> {
    [&[if key { 0x65 } else { 0x41 }, 0x88], format!("picture {millis}").as_bytes()].concat()
}

fn picture(millis: i64, key: bool) -> Frame {
    let slice = slice(millis, key);
    let data = [&(slice.len() as u32).to_be_bytes(), &slice[..]].concat().into();
    of(TrackId::VIDEO, millis, Payload::Video { codec: Codec::H264, key, data })
}

fn sound(millis: i64) -> Frame {
    let data = Bytes::from(format!("sound {millis}"));
    of(TrackId::AUDIO, millis, Payload::Audio { codec: Codec::Aac, data })
}

fn vp9() -> Frame {
    described(TrackId::VIDEO, parameters(Codec::Vp9, samples::VP9_180))
}

/// Pictures at 25 a second, a key frame each two seconds.
fn pictures(from: i64, to: i64) -> Vec<Frame> {
    (from..to).step_by(40).map(|time| picture(time, time % 2000 == 0)).collect()
}

fn sounds(from: i64, to: i64) -> Vec<Frame> {
    packets(from, to).map(sound).collect()
}

/// A core: its packager and its window.
struct Core {
    transport: Transport,
    window: Window,
    cuts: Vec<Cut>,
    now: Now,
}

impl Core {
    fn new(group: Option<Duration>, opening: &[Frame], numbering: Numbering) -> Self {
        let mut known = Opening::default();
        for frame in opening {
            known.note(frame);
        }
        let transport = Transport::new(Settings::default(), ID, group, &known, numbering);
        Core { transport, window: Window::new(), cuts: Vec::new(), now: Now(1) }
    }

    /// Of a stream whose groups are known to have two seconds.
    fn usual(opening: &[Frame]) -> Self {
        Core::new(Some(Duration::from_secs(2)), opening, Numbering::default())
    }

    fn give(&mut self, frames: &[Frame]) -> &mut Self {
        for frame in frames {
            let at = frame.dts.as_nanos().max(0) as u64;
            self.now = Now(at + 1);
            self.transport.frame(frame, Wall(START.0 + at));
            self.drain();
        }
        self
    }

    fn finish(&mut self) -> &mut Self {
        self.transport.finish();
        self.drain();
        self
    }

    fn drain(&mut self) {
        while let Some(cut) = self.transport.poll() {
            self.window.take(&cut, self.now);
            self.cuts.push(cut);
        }
    }

    fn parts(&self) -> Vec<Arc<Part>> {
        let part = |cut: &Cut| if let Cut::Part(part) = cut { Some(part.clone()) } else { None };
        self.cuts.iter().filter_map(part).collect()
    }

    /// How long each segment is, milliseconds.
    fn lengths(&self) -> Vec<u64> {
        self.parts().iter().map(|part| (part.duration + 45) / 90).collect()
    }

    fn has_ended(&self) -> bool {
        matches!(self.cuts.last(), Some(Cut::Ended))
    }

    /// All segments, one after the other.
    fn read(&self) -> File {
        let bytes: Vec<u8> = self.parts().iter().flat_map(|part| part.bytes.to_vec()).collect();
        reader::read(&bytes)
    }

    /// What holds for every stream.
    fn check(&self) {
        let target = self.window.terms().map_or(0, |terms| terms.target);
        let parts = self.parts();
        for part in &parts {
            let (index, last, rate) = (part.index, part.last, part.rate);
            assert_eq!((part.rendition, index, last, rate), (Rendition::Transport, 0, true, RATE));
            let seconds = part.lasts().as_secs_f64();
            assert!(seconds.round() <= f64::from(target), "{}: {seconds} s", part.segment);
            assert_eq!(part.gap, part.bytes.is_empty());
            if part.gap {
                continue;
            }
            // Whoever begins there needs nothing that was before.
            let file = reader::read(&part.bytes);
            assert_eq!(file.readings[0].0, 0, "a reading stands before the first frame");
            let picture = file.units.iter().find(|unit| unit.stream_id == 0xe0);
            let entrance = picture.unwrap_or(&file.units[0]);
            assert!(!part.independent || entrance.random_access, "{}", part.segment);
        }
        for pair in parts.windows(2) {
            let [one, next] = pair else { continue };
            assert_eq!(next.segment, one.segment + 1);
            assert_eq!(next.discontinuity, next.period != one.period);
            assert_eq!(next.period, one.period + u64::from(next.discontinuity));
            // What is before the stream's zero begins at zero.
            let follows = next.discontinuity || one.start == 0 || next.start == one.start + one.duration;
            assert!(follows, "{} lasts {} from {} on: {}", one.segment, one.duration, one.start, next.start);
        }
    }

    /// Every frame is in them once, in the order in which they came.
    fn check_holds(&self, frames: &[Frame]) {
        let units = self.read().units;
        let wanted: Vec<&Frame> = frames.iter().filter(|frame| frame.is_media()).collect();
        assert_eq!(units.len(), wanted.len());
        for (unit, frame) in units.iter().zip(wanted) {
            let end = match &frame.payload {
                Payload::Video { data, .. } => &data[4..],
                Payload::Audio { data, .. } => &data[..],
                other => panic!("no media: {other:?}"),
            };
            assert!(unit.payload.ends_with(end), "{unit:?} is not {frame:?}");
            let pts = frame.pts.ticks_at(RATE) + DELAY;
            assert_eq!(unwrap(unit.pts, pts), pts, "times are those of the stream");
        }
    }
}

#[test]
fn each_frame_is_in_the_segments_once_and_segments_begin_with_key_frames() {
    let frames = woven(&[pictures(0, 10_000), sounds(0, 10_000)]);
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&frames).finish().check();
    core.check_holds(&frames);
    let parameters = match &core.cuts[..2] {
        [Cut::Terms(terms), Cut::Tracks(tracks)] => {
            assert_eq!((terms.id, terms.target), (ID, 2));
            tracks.iter().map(|parameters| parameters.codec).collect::<Vec<_>>()
        }
        other => panic!("first the terms, then the tracks: {other:?}"),
    };
    assert_eq!(parameters, [Codec::H264, Codec::Aac]);
    assert_eq!(core.lengths(), [2000, 2000, 2000, 2000, 2005], "the last until its last sound ends");
    assert!(core.parts().iter().all(|part| part.independent && !part.discontinuity && part.period == 0));
    let third = &core.parts()[2];
    assert_eq!((third.segment, third.start, third.wall), (2, 360_000, Wall(START.0 + 4_000_000_000)));
    assert_eq!(core.read().versions, [0], "one map for all of them");
    assert!(core.has_ended());
}

#[test]
fn a_segment_is_there_as_soon_as_the_next_begins() {
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&woven(&[pictures(0, 2000), sounds(0, 2000)]));
    assert_eq!(core.parts().len(), 0);
    core.give(&[picture(2000, true)]);
    assert_eq!(core.parts().len(), 1);
}

#[test]
fn the_sound_that_comes_with_a_picture_goes_with_it() {
    let mut core = Core::usual(&[h264(), aac()]);
    // The encoder sends its sound 300 ms late.
    let late: Vec<Frame> = sounds(0, 7700);
    let mut frames = pictures(0, 8000);
    for frame in late {
        let place = frames
            .iter()
            .position(|picture| picture.is_video() && picture.dts.as_millis() > frame.dts.as_millis() + 300);
        frames.insert(place.unwrap_or(frames.len()), frame);
    }
    core.give(&frames).finish().check();
    core.check_holds(&frames);
    assert_eq!(core.lengths(), [2000; 4]);
}

#[test]
fn sound_alone_is_cut_by_time() {
    let frames = sounds(0, 9000);
    let mut core = Core::new(None, &[aac()], Numbering::default());
    core.give(&frames).finish().check();
    core.check_holds(&frames);
    assert!(core.lengths()[..4].iter().all(|length| length.abs_diff(2000) <= 12), "{:?}", core.lengths());
    assert!(core.parts().iter().all(|part| part.independent));
}

#[test]
fn sound_is_not_kept_waiting_for_pictures_that_were_announced_and_do_not_come() {
    let mut core = Core::new(None, &[h264(), aac()], Numbering::default());
    core.give(&sounds(0, 20_000)).finish().check();
    assert!(core.parts().len() >= 3, "{:?}", core.lengths());
}

#[test]
fn without_key_frames_segments_end_at_the_target() {
    let mut frames = pictures(0, 4000);
    frames.extend((4000..14_000).step_by(40).map(|time| picture(time, false)));
    let frames = woven(&[frames, sounds(0, 14_000)]);
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&frames).finish().check();
    core.check_holds(&frames);
    let independent: Vec<bool> = core.parts().iter().map(|part| part.independent).collect();
    assert_eq!(independent[..4], [true, true, false, false]);
}

#[test]
fn pictures_that_stop_do_not_stop_the_sound() {
    let frames = woven(&[pictures(0, 3000), sounds(0, 16_000)]);
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&frames).finish().check();
    core.check_holds(&frames);
    let parts = core.parts();
    assert!(parts.len() >= 6 && parts.iter().all(|part| !part.gap), "{parts:?}");
    assert!(parts[3..].iter().all(|part| !part.independent), "nobody can begin there");
}

#[test]
fn a_pause_is_gaps_and_the_rest_stands_where_it_belongs() {
    let frames = [
        woven(&[pictures(0, 3000), sounds(0, 3000)]),
        woven(&[pictures(20_000, 24_000), sounds(20_000, 24_000)]),
    ]
    .concat();
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&frames).finish().check();
    core.check_holds(&frames);
    let parts = core.parts();
    assert!(parts.iter().filter(|part| part.gap).count() >= 5, "{parts:?}");
    let again =
        parts.iter().rev().find(|part| part.start == 20_000 * 90).expect("it begins with its key frame");
    assert!(again.independent && !again.discontinuity);
    let total: u64 = core.lengths().iter().sum();
    assert!(total.abs_diff(24_000) < 50, "{total}");
}

#[test]
fn a_publisher_that_comes_back_goes_on_behind_a_discontinuity() {
    let mut frames = woven(&[pictures(0, 5000), sounds(0, 5000)]);
    frames.extend([discontinuity(8000), h264(), aac()]);
    frames.extend(woven(&[pictures(8000, 12_000), sounds(8000, 12_000)]));
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&frames).finish().check();
    core.check_holds(&frames);
    let parts = core.parts();
    let breaks: Vec<u64> = parts.iter().filter(|part| part.discontinuity).map(|part| part.segment).collect();
    assert_eq!(breaks, [3]);
    assert_eq!(
        core.lengths()[..3],
        [2000, 2000, 1013],
        "until the last of its sound ends, and not over the pause"
    );
    assert_eq!(parts[3].wall, Wall(START.0 + 8_000_000_000));
    assert_eq!(core.read().leaps.len(), 1, "the clock begins anew there, and nowhere else");
}

#[test]
fn other_parameters_are_a_discontinuity_of_one_segment_for_both_tracks() {
    let mut frames = woven(&[pictures(0, 4000), sounds(0, 4000)]);
    frames.push(larger());
    frames.push(picture(4000, true));
    frames.push(described(TrackId::AUDIO, parameters(Codec::Aac, samples::AAC_LC_44100_MONO)));
    frames.extend(woven(&[pictures(4040, 8000), sounds(4040, 8000)]));
    let mut core = Core::usual(&[h264(), aac()]);
    core.give(&frames).finish().check();
    core.check_holds(&frames);
    let breaks: Vec<bool> = core.parts().iter().map(|part| part.discontinuity).collect();
    assert_eq!(breaks, [false, false, true, false]);
    let sets = |part: &Part| reader::read(&part.bytes).units[0].payload.clone();
    let sps = hex(samples::H264_BASELINE_1080)[8..16].to_vec();
    let has = |payload: Vec<u8>| payload.windows(sps.len()).any(|window| window == sps);
    assert!(has(sets(&core.parts()[2])) && !has(sets(&core.parts()[1])));
    assert_eq!(core.window.tracks()[0].width_height(), Some((1920, 1080)));
}

#[test]
fn sound_that_is_announced_a_moment_late_is_no_discontinuity_and_later_it_is() {
    let mut frames = woven(&[pictures(0, 6000), sounds(100, 6000)]);
    frames.insert(2, aac());
    let mut core = Core::new(None, &[h264()], Numbering::default());
    core.give(&frames).finish().check();
    core.check_holds(&frames);
    assert!(core.parts().iter().all(|part| !part.discontinuity));
    assert_eq!(core.read().versions, [0]);

    let mut frames = pictures(0, 5000);
    frames.push(aac());
    frames.extend(woven(&[pictures(5000, 8000), sounds(5000, 8000)]));
    let mut core = Core::usual(&[h264()]);
    core.give(&frames).finish().check();
    core.check_holds(&frames);
    let breaks = core.parts().iter().filter(|part| part.discontinuity).count();
    assert_eq!((breaks, core.window.tracks().len()), (1, 2), "other tracks than before");
}

#[test]
fn of_what_cannot_be_said_the_rest_is_taken() {
    let opening = |frames: &[Frame]| Opening { parameters: frames.to_vec(), ..Opening::default() };
    assert!(Transport::takes(&opening(&[])) && Transport::takes(&opening(&[vp9(), aac()])));
    assert!(!Transport::takes(&opening(&[vp9()])));
    let sounds = sounds(0, 6000);
    let mut core = Core::usual(&[vp9(), aac()]);
    core.give(&woven(&[pictures(0, 6000), sounds.clone()])).finish().check();
    core.check_holds(&sounds);
    assert!(core.parts().iter().all(|part| part.independent));
}

#[test]
fn a_stream_of_which_nothing_can_be_said_any_more_has_ended() {
    let mut core = Core::new(None, &[], Numbering::default());
    core.give(&[vp9()]).give(&pictures(0, 3000));
    assert!(!core.has_ended(), "its sound may be announced yet");
    core.give(&pictures(3000, 5000));
    assert!(core.has_ended() && core.parts().is_empty());
    let mut core = Core::usual(&[h264()]);
    core.give(&pictures(0, 5000)).give(&[vp9(), picture(5000, true)]);
    assert!(core.has_ended());
    assert_eq!(core.lengths(), [2000, 2000, 1000]);
}

#[test]
fn numbers_go_on_where_the_last_packaging_ended() {
    let frames = pictures(0, 5000);
    let mut core = Core::usual(&[h264()]);
    assert_eq!(core.transport.numbering(), Numbering::default());
    core.give(&frames);
    let numbering = core.transport.numbering();
    let began = core.window.terms().unwrap().began;
    let after = |segment, period| Numbering { segment, period, began: Some(began) };
    assert_eq!(numbering, after(2, 1), "the open one was never listed");
    let mut next = Core::new(Some(Duration::from_secs(2)), &[h264()], numbering);
    assert_eq!(next.transport.numbering(), numbering);
    next.give(&frames).check();
    let first = &next.parts()[0];
    assert_eq!((first.segment, first.period, first.discontinuity), (2, 1, true));
    assert_eq!(next.window.shelf(Rendition::Transport).map(Shelf::discontinuities), Some(0));
    next.finish();
    assert_eq!(next.transport.numbering(), after(5, 2));
}

#[test]
fn more_than_can_wait_for_its_segments_end_breaks_it() {
    let mut core = Core::usual(&[h264()]);
    core.give(&[picture(0, true)]);
    let frames: Vec<Frame> = (0..OPEN_FRAMES_MAX).map(|_| picture(40, false)).collect();
    core.give(&frames).finish().check();
    assert_eq!(core.parts().len(), 2);
    assert!(core.parts()[1].discontinuity);
}

static NUMBERS: TextForm = TextForm {
    name: "numbers",
    content_type: "text/plain",
    write: |window, _| {
        let shelf = window.shelf(Rendition::Transport).expect("it was asked for");
        shelf.listed().map(|segment| segment.number.to_string()).collect::<Vec<_>>().join(" ")
    },
};

#[test]
fn a_window_answers_for_whole_segments() {
    let text = |until| {
        let rendition = Some(Rendition::Transport);
        Item::Text(Text { form: &NUMBERS, rendition, skip: false, until, query: String::new() })
    };
    let segment = |number, from| Item::Segment { id: ID, rendition: Rendition::Transport, number, from };
    let mut core = Core::usual(&[h264()]);
    assert!(matches!(core.window.fetch(&text(None)), Found::Later));
    core.give(&pictures(0, 3000));
    assert!(matches!(core.window.fetch(&text(None)), Found::Later), "one segment is whole");
    core.give(&pictures(3000, 5000));
    let Found::Text(written) = core.window.fetch(&text(None)) else { panic!("two are") };
    assert_eq!(written.plain(), "0 1");
    assert!(matches!(core.window.fetch(&text(Some((2, None)))), Found::Later));
    assert!(matches!(core.window.fetch(&segment(1, Some(0))), Found::Bytes(_)));
    assert!(matches!(core.window.fetch(&segment(2, Some(0))), Found::Later), "a moment early");
    assert!(matches!(core.window.fetch(&segment(2, None)), Found::Missing));
    let mut other = Window::new();
    core.window.cuts().iter().for_each(|cut| other.take(cut, core.now));
    assert_eq!((other.tracks().len(), other.bytes()), (1, core.window.bytes()), "another core has the same");
    core.finish();
    assert!(matches!(core.window.fetch(&segment(2, None)), Found::Bytes(_)));
}

#[test]
fn a_list_begins_with_two_segments_or_a_long_one() {
    let item = Item::Text(Text {
        form: &NUMBERS,
        rendition: Some(Rendition::Transport),
        skip: false,
        until: None,
        query: String::new(),
    });
    let is_there = |core: &mut Core| matches!(core.window.fetch(&item), Found::Text(_));
    let mut long = Core::new(Some(Duration::from_secs(8)), &[h264()], Numbering::default());
    let frames: Vec<Frame> =
        (0..).step_by(40).take(202).map(|time| picture(time, time % 8000 == 0)).collect();
    long.give(&frames[..200]);
    assert!(!is_there(&mut long));
    long.give(&frames[200..]);
    assert!(is_there(&mut long));
    let mut short = Core::usual(&[h264()]);
    short.give(&pictures(0, 3000));
    assert!(!is_there(&mut short));
    short.finish();
    assert!(is_there(&mut short), "there will be no more");
}

proptest! {
    #[test]
    fn whatever_comes_is_cut_by_the_rules(
        frames in proptest::collection::vec((0u8..20, 0i64..900, any::<bool>(), -300i64..300), 1..400),
        group in proptest::option::of(1u64..20_000),
        numbering in (0u64..9, 0u64..9),
    ) {
        let numbering = Numbering { segment: numbering.0, period: numbering.1, began: None };
        let mut core = Core::new(group.map(Duration::from_millis), &[h264(), aac()], numbering);
        let mut time = 0;
        for (kind, step, key, back) in frames {
            time += step;
            let frame = match kind {
                0 => discontinuity(time),
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
        core.finish().check();
        let parts = core.parts();
        prop_assert!(parts.first().is_none_or(|first| first.segment == numbering.segment
            && first.period == numbering.period && first.discontinuity == (numbering.period > 0)));
        // Its reader holds that counters go on, and that no frame comes after it is decoded.
        core.read();
        let next = parts.last().map_or(numbering, |last| Numbering {
            segment: last.segment + 1,
            period: last.period + 1,
            began: core.window.terms().map(|terms| terms.began),
        });
        prop_assert_eq!(core.transport.numbering(), next);
    }
}
