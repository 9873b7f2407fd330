//! Streams at random: at every usual pace, with pauses, breaks, late sound, changes of parameters and jitter.

use super::*;
use crate::codec::Shape;

/// Sound of so many samples in a packet, at this rate.
fn described_sound(samples: u32, rate: u32) -> Frame {
    let aac = parameters(Codec::Aac, samples::AAC_LC_48000_STEREO);
    let shape = Shape::Audio { sample_rate: rate, channels: 2, packet_samples: samples };
    described(TrackId::AUDIO, Parameters { shape, ..(*aac).clone() })
}

/// Something that happens to a stream, at a time in milliseconds.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Pictures, or sound, or both are missing for so long.
    Pause { pictures: bool, sound: bool, millis: i64 },
    /// The publisher goes, and comes back after so long.
    Break { millis: i64 },
    /// Other parameters of the pictures.
    Change,
    /// Key frames are missing for so long.
    Keyless { millis: i64 },
}

/// A stream, and when what happens to it.
#[derive(Clone, Debug)]
struct Plan {
    /// Pictures in a thousand seconds, and from key frame to key frame.
    rate: i64,
    group: i64,
    /// Samples in a packet, and in a second.
    packet: (u32, u32),
    /// Sound begins so late, milliseconds; it comes later than pictures of its time by so much.
    late: i64,
    behind: i64,
    /// Times are off by up to this much.
    jitter: i64,
    settings: (u64, u64),
    events: Vec<(i64, Event)>,
    seconds: i64,
}

const RATES: [i64; 8] = [23_976, 24_000, 25_000, 29_970, 30_000, 50_000, 59_940, 60_000];
const PACKETS: [(u32, u32); 5] =
    [(1024, 44_100), (1024, 48_000), (960, 48_000), (1024, 22_050), (2048, 24_000)];

impl Plan {
    /// One to which nothing happens.
    fn plain(rate: i64, packet: (u32, u32), segment: u64, part: u64) -> Self {
        let group = (rate * 2 + 500) / 1000;
        let (late, behind, jitter, events) = (0, 0, 0, Vec::new());
        Plan { rate, group, packet, late, behind, jitter, settings: (segment, part), events, seconds: 9 }
    }

    fn settings(&self) -> Settings {
        let (segment, part) = self.settings;
        let (segment, part) = (Duration::from_millis(segment), Duration::from_millis(part));
        Settings { segment, part, ..Settings::default() }
    }

    /// All frames in the order in which they come.
    fn frames(&self) -> Vec<Frame> {
        // Times of the film, and how much breaks have moved what is behind them.
        let moved = |time: i64| {
            let breaks = self.events.iter().filter_map(|(at, event)| match event {
                Event::Break { millis } if *at <= time => Some(*millis),
                _ => None,
            });
            breaks.sum::<i64>()
        };
        let paused = |time: i64, of_pictures: bool| {
            self.events.iter().any(|(at, event)| match event {
                Event::Pause { pictures, sound, millis } => {
                    let of_it = if of_pictures { *pictures } else { *sound };
                    of_it && (*at..at + millis).contains(&time)
                }
                _ => false,
            })
        };
        let keyless = |time: i64| {
            let without = |(at, event): &(i64, Event)| match event {
                Event::Keyless { millis } => (*at..at + millis).contains(&time),
                _ => false,
            };
            self.events.iter().any(without)
        };
        let off = |number: i64| {
            if self.jitter == 0 { 0 } else { number * 7919 % (2 * self.jitter + 1) - self.jitter }
        };
        let end = self.seconds * 1000;
        let mut frames: Vec<(i64, Frame)> = Vec::new();
        // After a break the publisher begins with a key frame.
        let mut begins = true;
        for number in 0.. {
            let time = number * 1_000_000 / self.rate;
            if time >= end {
                break;
            }
            let before = (number - 1) * 1_000_000 / self.rate;
            begins |= number > 0 && moved(before) != moved(time);
            if paused(time, true) {
                continue;
            }
            let key = std::mem::take(&mut begins) || (number % self.group == 0 && !keyless(time));
            let at = time + moved(time);
            frames.push((at, picture(at + if key { 0 } else { off(number) }, key)));
        }
        for number in 0.. {
            let (samples, rate) = (i64::from(self.packet.0), i64::from(self.packet.1));
            let time = (number * samples * 1000 + rate / 2) / rate;
            if time >= end {
                break;
            }
            if time < self.late || paused(time, false) {
                continue;
            }
            let at = time + moved(time);
            frames.push((at + self.behind, sound(at + off(number))));
        }
        for (at, event) in &self.events {
            match event {
                // Before the first frame that is behind it.
                Event::Break { millis } => frames.push((
                    at + moved(*at) - millis + millis / 2,
                    of(TrackId::DATA, 0, Payload::Discontinuity),
                )),
                Event::Change => {
                    frames.push((at + moved(*at), larger()));
                }
                Event::Pause { .. } | Event::Keyless { .. } => {}
            }
        }
        frames.sort_by_key(|(comes, _)| *comes);
        frames.into_iter().map(|(_, frame)| frame).collect()
    }

    fn run(&self) -> Core {
        let group = Duration::from_millis((self.group * 1_000_000 / self.rate) as u64);
        let opening = [h264(), described_sound(self.packet.0, self.packet.1)];
        let mut core = Core::new(self.settings(), Some(group), &opening);
        core.give(&self.frames()).finish();
        core
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..3, prop_oneof![30i64..400, 400i64..6000]).prop_map(|(kind, millis)| Event::Pause {
            pictures: kind != 1,
            sound: kind != 0,
            millis,
        }),
        2 => (300i64..7000).prop_map(|millis| Event::Break { millis }),
        1 => Just(Event::Change),
        1 => (500i64..9000).prop_map(|millis| Event::Keyless { millis }),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let pictures = (prop::sample::select(RATES.to_vec()), 10i64..150);
    let sound = (prop::sample::select(PACKETS.to_vec()), prop_oneof![Just(0), 0i64..5000], -150i64..150);
    let settings = (prop::sample::select(vec![500u64, 1000, 2000, 3300]), 20u64..500);
    let events = prop::collection::vec((500i64..17_000, event()), 0..5);
    (pictures, sound, settings, 0i64..4, events).prop_map(
        |(pictures, sound, settings, jitter, mut events)| {
            let ((rate, group), (packet, late, behind)) = (pictures, sound);
            events.sort_by_key(|(at, _)| *at);
            Plan { rate, group, packet, late, behind, jitter, settings, events, seconds: 18 }
        },
    )
}

/// Every frame that was given is there once, in its order, about when it was.
fn demand_all(core: &Core, given: &[Frame], rendition: Rendition) {
    let is_of = |frame: &&Frame| match rendition {
        Rendition::Video => frame.is_video(),
        _ => frame.is_audio(),
    };
    let given: Vec<&Frame> = given.iter().filter(is_of).collect();
    let mut found = Vec::new();
    let movies = core.movies(rendition);
    for part in core.parts(rendition).iter().filter(|part| !part.gap) {
        for sample in &fragment(part, &movies).samples {
            let bytes = &part.bytes[sample.offset as usize..][..sample.size as usize];
            let since = i128::from(sample.dts - part.start) * 1_000_000_000 / i128::from(part.rate);
            let at = (i128::from(part.wall.0) - i128::from(START.0) + since) / 1_000_000;
            found.push((at as i64, String::from_utf8_lossy(bytes).into_owned()));
        }
    }
    // What is older than the first picture is left out.
    let left_out = given.len() - found.len();
    assert!(left_out <= 12, "{rendition:?}: {left_out} of {} are missing", given.len());
    for (frame, (at, held)) in given[left_out..].iter().zip(&found) {
        assert_eq!(data(frame), *held, "{rendition:?}");
        let apart = (frame.dts.as_millis() - at).abs();
        assert!(apart <= 100, "{rendition:?} {held} is at {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn parts_come_close_to_their_length_at_every_usual_pace(
        rate in prop::sample::select(RATES.to_vec()),
        packet in prop::sample::select(PACKETS.to_vec()),
        part in 20u64..=1000,
        segment in prop::sample::select(vec![1000u64, 2000, 4000]),
    ) {
        let core = Plan::plain(rate, packet, segment.max(part), part).run();
        core.check();
        core.check_parts();
        prop_assert!(core.terms().part <= Duration::from_secs(1));
        prop_assert!(core.segments(Rendition::Video).len() >= 2 && core.segments(Rendition::Audio).len() >= 2);
    }

    #[test]
    fn whatever_happens_to_a_stream_it_keeps_to_the_rules(plan in plan()) {
        let core = plan.run();
        core.check();
        let frames = plan.frames();
        demand_all(&core, &frames, Rendition::Video);
        demand_all(&core, &frames, Rendition::Audio);
    }

    #[test]
    fn whatever_happens_to_sound_alone_it_keeps_to_the_rules(plan in plan()) {
        let frames: Vec<Frame> = plan.frames().into_iter().filter(|frame| !frame.is_video()).collect();
        let frames: Vec<Frame> = frames.into_iter().filter(|frame| frame.track != TrackId::VIDEO).collect();
        let mut core = Core::new(plan.settings(), None, &[described_sound(plan.packet.0, plan.packet.1)]);
        core.give(&frames).finish();
        core.check();
        demand_all(&core, &frames, Rendition::Audio);
    }
}

fn voice(millis: i64) -> Frame {
    let data = Bytes::from_static(&[0xd5; 160]);
    of(TrackId::AUDIO, millis, Payload::Audio { codec: Codec::PcmA, data })
}

#[test]
fn sound_that_mp4_has_no_form_for_is_left_out_and_pictures_are_not() {
    let described = described(TrackId::AUDIO, crate::codec::Parameters::of_voice(Codec::PcmA).unwrap());
    let mut core = Core::usual(&[h264(), described.clone()]);
    let pictures = pictures(25, 50, 300);
    let voices: Vec<Frame> = (0..600).map(|number| voice(number * 20)).collect();
    core.give(&woven(&[pictures.clone(), voices.clone()])).finish();
    core.check();
    assert_eq!(core.terms().renditions, [Rendition::Video]);
    assert_eq!(core.samples(Rendition::Video).len(), pictures.len());
    assert!(core.parts(Rendition::Audio).is_empty());

    // A stream of nothing else has no end that anybody waits for.
    let mut alone = Core::usual(&[]);
    alone.give(&[described]).give(&voices);
    assert!(matches!(alone.cuts[..], [Cut::Ended]), "{:?}", alone.cuts);
    let known = Opening { parameters: vec![alone_described()], ..Opening::default() };
    assert!(!Packager::takes(&known) && Packager::takes(&Opening::default()));
}

fn alone_described() -> Frame {
    described(TrackId::AUDIO, crate::codec::Parameters::of_voice(Codec::G722).unwrap())
}
