//! The rules for media playlists, held against what the engine writes for streams of a real encoder, moment by moment; and
//! each rule against a playlist that was broken for it.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use shardcast_engine::{
    demo::{CLIP, Demo},
    hls,
    media::{Frame, Payload, TrackId},
    segment::{Cut, Found, Item, Numbering, Packager, Settings, Transport, Window},
    session::Opening,
    time::{MediaTime, Now, Wall},
};
use shardcast_tests::hls_rules::{Case, RULES, are_of_one_moment, check, demand};

const VIDEO: &str = "video.m3u8";
const AUDIO: &str = "audio.m3u8";
const TRANSPORT: &str = "ts.m3u8";
/// The clip's clock and the wall's.
const START: Wall = Wall(1_795_333_500_000_000_000);
const MILLI: u64 = 1_000_000;

/// The demo's clip, packaged into a window as time goes on.
struct Stream {
    demo: Demo,
    now: Now,
    maker: Maker,
    window: RefCell<Window>,
    /// Which frames the publisher sends.
    sends: fn(&Frame) -> bool,
    /// Milliseconds that were added to the clip's times.
    shift: i64,
}

/// What cuts it.
enum Maker {
    Fragments(Packager),
    Transport(Transport),
}

impl Maker {
    fn frame(&mut self, frame: &Frame, wall: Wall) {
        match self {
            Maker::Fragments(packager) => packager.frame(frame, wall),
            Maker::Transport(transport) => transport.frame(frame, wall),
        }
    }

    fn finish(&mut self) {
        match self {
            Maker::Fragments(packager) => packager.finish(),
            Maker::Transport(transport) => transport.finish(),
        }
    }

    fn poll(&mut self) -> Option<Cut> {
        match self {
            Maker::Fragments(packager) => packager.poll(),
            Maker::Transport(transport) => transport.poll(),
        }
    }
}

impl Stream {
    fn new(sends: fn(&Frame) -> bool) -> Self {
        let (settings, opening, numbering) = (Settings::default(), Opening::default(), Numbering::default());
        let packager = Packager::new(settings, 0xabc, None, &opening, numbering);
        Stream::of(Maker::Fragments(packager), sends)
    }

    fn of_transport(sends: fn(&Frame) -> bool) -> Self {
        let (settings, opening, numbering) = (Settings::default(), Opening::default(), Numbering::default());
        let transport = Transport::new(settings, 0xabc, None, &opening, numbering);
        Stream::of(Maker::Transport(transport), sends)
    }

    fn of(maker: Maker, sends: fn(&Frame) -> bool) -> Self {
        let demo = Demo::new(CLIP).expect("the clip is whole");
        Stream { demo, now: Now(0), maker, window: RefCell::default(), sends, shift: 0 }
    }

    /// Lets so much time pass.
    fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        while self.now <= end {
            while let Some(frame) = self.demo.poll(self.now) {
                let shifted = |time: MediaTime| time.plus_nanos(self.shift * MILLI as i64);
                let frame = Frame { dts: shifted(frame.dts), pts: shifted(frame.pts), ..frame };
                if (self.sends)(&frame) {
                    self.give(&frame);
                }
            }
            self.now = self.demo.deadline().expect("a demo never ends");
        }
    }

    /// The publisher is away for so long.
    fn pause(&mut self, time: Duration) {
        self.shift += i64::try_from(time.as_millis()).expect("a short pause");
        let at = MediaTime::from_millis(0);
        self.give(&Frame { track: TrackId::DATA, dts: at, pts: at, payload: Payload::Discontinuity });
    }

    fn finish(&mut self) {
        self.maker.finish();
        self.drain();
    }

    fn give(&mut self, frame: &Frame) {
        let wall = Wall(START.0 + self.now.0 + self.shift as u64 * MILLI);
        self.maker.frame(frame, wall);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(cut) = self.maker.poll() {
            self.window.borrow_mut().take(&cut, self.now);
        }
    }

    fn text(&self, file: &str, query: &str) -> Option<String> {
        let item = hls::request(file, query).expect("a good query").expect("a playlist's name");
        match self.window.borrow_mut().fetch(&item) {
            Found::Text(text) => Some(String::from_utf8(text.plain().to_vec()).expect("a playlist is UTF-8")),
            _ => None,
        }
    }

    fn bytes(&self, uri: &str) -> Option<Vec<u8>> {
        let item = hls::name::parse(uri).unwrap_or_else(|| panic!("{uri} is no name"));
        assert!(!matches!(item, Item::Text(_)));
        match self.window.borrow_mut().fetch(&item) {
            Found::Bytes(pieces) => Some(pieces.concat()),
            _ => None,
        }
    }
}

/// Runs the stream for so many seconds, and looks at both playlists four times a second. Gives how often there was something
/// to look at, and how often updates.
fn watch(stream: &mut Stream, seconds: u64, before: &mut BTreeMap<&'static str, String>) -> (usize, usize) {
    let mut looks = (0, 0);
    for _ in 0..seconds * 4 {
        stream.run(Duration::from_millis(250));
        let counted = look(stream, before);
        looks = (looks.0 + counted.0, looks.1 + counted.1);
    }
    looks
}

fn look(stream: &Stream, before: &mut BTreeMap<&'static str, String>) -> (usize, usize) {
    let mut looks = (0, 0);
    for (file, other) in [(VIDEO, Some(AUDIO)), (AUDIO, Some(VIDEO)), (TRANSPORT, None)] {
        let Some(text) = stream.text(file, "") else { continue };
        let others: Vec<(&str, String)> =
            other.and_then(|other| Some((other, stream.text(other, "")?))).into_iter().collect();
        let others: Vec<(&str, &str)> = others.iter().map(|(uri, text)| (*uri, text.as_str())).collect();
        let update = stream.text(file, "_HLS_skip=YES").filter(|update| update.contains("EXT-X-SKIP"));
        demand(&Case {
            text: &text,
            before: before.get(file).map(String::as_str),
            update: update.as_deref(),
            others: &others,
            fetch: &|uri| stream.bytes(uri),
            complete: true,
        });
        looks = (looks.0 + 1, looks.1 + usize::from(update.is_some()));
        before.insert(file, text);
    }
    looks
}

#[test]
fn a_stream_of_pictures_and_sound_keeps_to_the_rules_at_every_moment() {
    let mut stream = Stream::new(|_| true);
    let mut before = BTreeMap::new();
    let (looks, updates) = watch(&mut stream, 60, &mut before);
    assert!(looks > 400 && updates > 250, "{looks} {updates}");
    stream.finish();
    assert_eq!(look(&stream, &mut before).0, 2);
    assert!(before.values().all(|text| text.ends_with("#EXT-X-ENDLIST\n")));
    assert_eq!(look(&stream, &mut before).0, 2, "nothing follows");
}

#[test]
fn a_publisher_that_comes_and_goes_keeps_to_them() {
    let mut stream = Stream::new(|_| true);
    let mut before = BTreeMap::new();
    for round in 0..8 {
        let (looks, _) = watch(&mut stream, 3 + round, &mut before);
        assert!(looks > 0 || round == 0);
        stream.pause(Duration::from_millis(2500));
    }
    assert!(
        before.values().all(|text| !text.contains("#EXT-X-DISCONTINUITY-SEQUENCE:0\n")),
        "some have left"
    );
}

#[test]
fn pictures_alone_and_sound_alone_keep_to_them() {
    for sends in [
        (|frame: &Frame| frame.is_video() || frame.track == TrackId::VIDEO) as fn(&Frame) -> bool,
        |frame: &Frame| frame.is_audio() || frame.track == TrackId::AUDIO,
    ] {
        let mut stream = Stream::new(sends);
        let mut before = BTreeMap::new();
        let (looks, updates) = watch(&mut stream, 40, &mut before);
        assert!(looks > 130 && updates > 60, "{looks} {updates}");
        assert_eq!(before.len(), 1);
    }
}

#[test]
fn sound_with_gaps_keeps_to_them() {
    // Eight of each sixteen seconds have none.
    let mut stream = Stream::new(|frame| !frame.is_audio() || frame.dts.as_millis() / 8000 % 2 == 0);
    let mut before = BTreeMap::new();
    watch(&mut stream, 44, &mut before);
    assert!(before[AUDIO].contains("#EXT-X-GAP\n"), "{}", before[AUDIO]);
}

#[test]
fn a_stream_in_mpeg_ts_keeps_to_them() {
    for sends in [
        (|_: &Frame| true) as fn(&Frame) -> bool,
        |frame: &Frame| frame.is_video() || frame.track == TrackId::VIDEO,
        |frame: &Frame| frame.is_audio() || frame.track == TrackId::AUDIO,
    ] {
        let mut stream = Stream::of_transport(sends);
        let mut before = BTreeMap::new();
        let (looks, updates) = watch(&mut stream, 60, &mut before);
        assert!(looks > 200 && updates == 0, "{looks} {updates}");
        stream.finish();
        assert_eq!(look(&stream, &mut before).0, 1);
        assert!(before.values().all(|text| text.ends_with("#EXT-X-ENDLIST\n")));
        assert_eq!(look(&stream, &mut before).0, 1, "nothing follows");
    }
}

#[test]
fn a_publisher_in_mpeg_ts_that_comes_and_goes_keeps_to_them() {
    let mut stream = Stream::of_transport(|_| true);
    let mut before = BTreeMap::new();
    for round in 0..8 {
        let (looks, _) = watch(&mut stream, 3 + round, &mut before);
        assert!(looks > 0 || round == 0);
        stream.pause(Duration::from_millis(2500));
    }
    assert!(!before[TRANSPORT].contains("#EXT-X-DISCONTINUITY-SEQUENCE:0\n"), "some have left");
}

/// A good case that can be broken.
#[derive(Clone)]
struct Broken {
    text: String,
    before: String,
    update: String,
    other: String,
    /// What is behind an address instead.
    bytes: BTreeMap<String, Option<Vec<u8>>>,
}

impl Broken {
    /// Replaces what stands once or more.
    fn replace(&mut self, from: &str, to: &str) {
        self.text = replaced(&self.text, from, to);
    }

    /// Replaces the value behind `name`, up to a comma or the end of the line, where it stands first.
    fn set(&mut self, name: &str, value: &str) {
        self.text = set(&self.text, name, value);
    }

    fn remove_line(&mut self, beginning: &str) {
        let begin = self.text.find(&format!("\n{beginning}")).unwrap_or_else(|| panic!("{beginning}")) + 1;
        let end = begin + self.text[begin..].find('\n').expect("the playlist has it") + 1;
        self.text.replace_range(begin..end, "");
    }

    fn insert_before(&mut self, beginning: &str, lines: &str) {
        let place = self.text.find(&format!("\n{beginning}")).unwrap_or_else(|| panic!("{beginning}")) + 1;
        self.text.insert_str(place, lines);
    }

    /// The addresses of whole segments.
    fn segments(&self) -> Vec<String> {
        self.text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(str::to_owned)
            .collect()
    }
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in {text}");
    text.replace(from, to)
}

fn set(text: &str, name: &str, value: &str) -> String {
    let (head, tail) = text.split_once(name).unwrap_or_else(|| panic!("{name} is not in {text}"));
    let (_, tail) = tail.split_at(tail.find([',', '\n']).expect("the playlist has it"));
    [head, name, value, tail].concat()
}

/// What breaks a rule.
type Break = fn(&mut Broken, &Stream);

/// For each rule, by what it demands, something that breaks it.
const BROKEN: &[(&str, Break)] = &[
    ("lines end with", |case, _| case.replace("#EXT-X-VERSION:9\n", "#EXT-X-VERSION:9 \n")),
    ("lines end with", |case, _| case.text.truncate(case.text.len() - 1)),
    ("every tag is one", |case, _| case.text.push_str("#EXT-X-GAPS\n")),
    ("every tag is one", |case, _| case.set("#EXT-X-TARGETDURATION:", "2.0")),
    ("attributes are those", |case, _| case.replace(",INDEPENDENT=YES", ",INDEPENDENT=NO")),
    ("attributes are those", |case, _| case.replace("CAN-BLOCK-RELOAD=YES,", "")),
    ("attributes are those", |case, _| case.replace(",LAST-PART=", ",LAST-PART=0x")),
    ("attributes are those", |case, _| case.replace("TYPE=PART,", "TYPE=PART,TYPE=PART,")),
    ("EXTM3U is the first", |case, _| case.text.insert(0, '\n')),
    ("EXT-X-VERSION is there once", |case, _| case.set("#EXT-X-VERSION:", "5")),
    ("a tag about the whole", |case, _| case.insert_before("#EXTINF", "#EXT-X-TARGETDURATION:2\n")),
    ("both sequence numbers", |case, _| {
        case.remove_line("#EXT-X-DISCONTINUITY-SEQUENCE");
        case.text.push_str("#EXT-X-DISCONTINUITY-SEQUENCE:0\n");
    }),
    ("no segment is longer", |case, _| case.set("#EXT-X-TARGETDURATION:", "1")),
    ("EXT-X-PART-INF is there", |case, _| case.remove_line("#EXT-X-PART-INF")),
    ("distances in", |case, _| case.set("CAN-SKIP-UNTIL=", "11.9")),
    ("distances in", |case, _| case.set(",HOLD-BACK=", "5.9")),
    ("distances in", |case, _| case.set("PART-HOLD-BACK=", "0.3")),
    ("every segment has one EXTINF", |case, _| case.remove_line("#EXTINF")),
    ("every segment has one EXTINF", |case, _| case.insert_before("#EXTINF", "#EXTINF:2.0,\n")),
    ("EXT-X-MAP stands before", |case, _| case.remove_line("#EXT-X-MAP")),
    ("EXT-X-PROGRAM-DATE-TIME is a date", |case, _| case.remove_line("#EXT-X-PROGRAM-DATE-TIME")),
    ("EXT-X-PROGRAM-DATE-TIME is a date", |case, _| {
        case.set("#EXT-X-PROGRAM-DATE-TIME:", "2026-11-22T07:45:00.123Z");
    }),
    ("what applies to a segment", |case, _| {
        case.insert_before("#EXT-X-PRELOAD-HINT", "#EXT-X-PROGRAM-DATE-TIME:2026-11-22T07:45:00.123Z\n");
    }),
    ("no part is longer", |case, _| case.set("PART-TARGET=", "0.1")),
    ("only the last part", |case, _| case.set("PART-TARGET=", "0.4")),
    ("the parts of a segment are as long", |case, _| case.remove_line("#EXT-X-PART:")),
    ("parts are listed within", |case, _| {
        case.insert_before("#EXTINF", "#EXT-X-PART:DURATION=0.2,URI=\"video-abc-1.1.m4s\"\n");
    }),
    ("parts are listed within", |case, _| {
        while case.text.contains("#EXT-X-PART:") {
            case.remove_line("#EXT-X-PART:");
        }
    }),
    ("one part is hinted at", |case, _| case.remove_line("#EXT-X-PRELOAD-HINT")),
    ("one part is hinted at", |case, _| case.text.push_str("#EXT-X-ENDLIST\n")),
    ("every other rendition", |case, _| case.remove_line("#EXT-X-RENDITION-REPORT")),
    ("every other rendition", |case, _| case.set("LAST-MSN=", "3")),
    ("every other rendition", |case, _| case.set("LAST-MSN=", "3000")),
    ("an update skips", |case, _| case.update = set(&case.update, "SKIPPED-SEGMENTS=", "1")),
    ("an update skips", |case, _| case.update = replaced(&case.update, ",INDEPENDENT=YES", "")),
    ("an update skips", |case, _| case.update = set(&case.update, "#EXT-X-VERSION:", "8")),
    ("an update skips", |case, _| case.update = case.text.clone()),
    ("a segment stays", |case, _| case.before = replaced(&case.before, ",\nvideo", ",title\nvideo")),
    ("a segment stays", |case, _| case.before = replaced(&case.before, ",\nvideo", ",\nold/video")),
    ("a part stays", |case, _| case.before = replaced(&case.before, ",INDEPENDENT=YES", "")),
    ("segments leave", |case, _| case.set("#EXT-X-MEDIA-SEQUENCE:", "1000")),
    ("segments leave", |case, _| case.set("#EXT-X-MEDIA-SEQUENCE:", "0")),
    ("EXT-X-DISCONTINUITY-SEQUENCE counts", |case, _| case.set("#EXT-X-DISCONTINUITY-SEQUENCE:", "1")),
    ("three target durations", |case, _| {
        // Only the last two whole segments are left.
        let segments = case.segments();
        let head = case.text.find("#EXT-X-PROGRAM-DATE-TIME").expect("the playlist has it");
        let gone = &segments[segments.len() - 3];
        let rest = case.text.find(gone.as_str()).expect("the playlist has it") + gone.len() + 1;
        case.text = [&case.text[..head], &case.text[rest..]].concat();
        let first: usize = case
            .before
            .split("SEQUENCE:")
            .nth(1)
            .expect("the playlist has it")
            .lines()
            .next()
            .expect("the playlist has it")
            .parse()
            .expect("the playlist has it");
        case.set("#EXT-X-MEDIA-SEQUENCE:", &(first + segments.len() - 1).to_string());
    }),
    ("EXT-X-TARGETDURATION and PART-TARGET", |case, _| {
        case.before = set(&case.before, "#EXT-X-TARGETDURATION:", "3");
    }),
    ("EXT-X-TARGETDURATION and PART-TARGET", |case, _| {
        case.before = set(&case.before, "PART-TARGET=", "0.3")
    }),
    ("nothing follows", |case, _| case.before.push_str("#EXT-X-ENDLIST\n")),
    ("what was hinted at", |case, _| {
        let hint = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"";
        case.before = replaced(&case.before, hint, &format!("{hint}other-"));
    }),
    ("everything that is listed", |case, _| {
        let last = case.segments().pop().expect("the playlist has it");
        case.bytes.insert(last, None);
    }),
    ("what has just left", |case, _| {
        let first =
            case.before.lines().find(|line| !line.starts_with('#')).expect("the playlist has it").to_owned();
        case.bytes.insert(first, None);
    }),
    ("segments and parts are fragments", |case, stream| {
        let last = case.segments().pop().expect("the playlist has it");
        let mut bytes = stream.bytes(&last).expect("the playlist has it");
        bytes.truncate(bytes.len() - 1);
        case.bytes.insert(last, Some(bytes));
    }),
    ("segments and parts are fragments", |case, _| {
        case.bytes.insert("video-abc-0.mp4".to_owned(), Some(b"\0\0\0\x08free".to_vec()));
    }),
    ("EXTINF is how long", |case, _| case.set("#EXTINF:", "1.999")),
    ("EXTINF is how long", |case, _| {
        // Of the second: what was before the first nobody knows.
        let (head, tail) = case.text.split_once("#EXTINF:").expect("the playlist has it");
        case.text = format!("{head}#EXTINF:{}", set(tail, "#EXTINF:", "2.005"));
    }),
    ("DURATION is how long", |case, _| case.set("#EXT-X-PART:DURATION=", "0.198")),
    ("the parts of a segment are its bytes", |case, stream| {
        let segments = case.segments();
        let [.., before, last] = &segments[..] else { panic!("{segments:?}") };
        case.bytes.insert(last.clone(), stream.bytes(before));
    }),
    ("INDEPENDENT=YES stands", |case, _| case.replace(",INDEPENDENT=YES", "")),
    ("INDEPENDENT=YES stands", |case, _| {
        case.replace(",INDEPENDENT=YES", "");
        case.replace(".m4s\"\n", ".m4s\",INDEPENDENT=YES\n");
    }),
    ("decoding times go on", |case, stream| {
        let segments = case.segments();
        case.bytes.insert(segments[2].clone(), stream.bytes(&segments[4]));
    }),
];

/// The same for rules about MPEG-TS alone.
const BROKEN_TRANSPORT: &[(&str, Break)] = &[
    ("a segment of MPEG-TS begins with", |case, stream| {
        let last = case.segments().pop().expect("the playlist has it");
        let bytes = stream.bytes(&last).expect("the playlist has it");
        case.bytes.insert(last, Some(bytes[188..].to_vec()));
    }),
    ("EXTINF of a segment of MPEG-TS", |case, _| case.set("#EXTINF:", "2.001")),
    ("counters of MPEG-TS go on", |case, stream| {
        let segments = case.segments();
        case.bytes.insert(segments[2].clone(), stream.bytes(&segments[4]));
    }),
    ("EXT-X-VERSION is there once", |case, _| case.set("#EXT-X-VERSION:", "2")),
    ("one part is hinted at", |case, _| {
        case.text.push_str("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"ts-abc-30.ts\"\n");
    }),
];

/// A playlist of MPEG-TS that has had to let segments go, and its predecessor.
fn good_transport() -> (Broken, Stream) {
    let mut stream = Stream::of_transport(|_| true);
    stream.run(Duration::from_secs(41));
    let before = stream.text(TRANSPORT, "").expect("it is there");
    stream.run(Duration::from_millis(2600));
    let text = stream.text(TRANSPORT, "").expect("it is there");
    let (update, other) = Default::default();
    (Broken { text, before, update, other, bytes: BTreeMap::new() }, stream)
}

/// A playlist of pictures that has had to let segments go, its predecessor of two seconds before, and all that is around it.
fn good() -> (Broken, Stream) {
    let mut stream = Stream::new(|_| true);
    stream.run(Duration::from_secs(41));
    let before = stream.text(VIDEO, "").expect("the playlist has it");
    stream.run(Duration::from_millis(2600));
    let text = |file, query| stream.text(file, query).expect("the playlist has it");
    let (other, update) = (text(AUDIO, ""), text(VIDEO, "_HLS_skip=YES"));
    (Broken { text: text(VIDEO, ""), before, update, other, bytes: BTreeMap::new() }, stream)
}

fn faults(case: &Broken, stream: &Stream) -> Vec<&'static str> {
    let fetch = |uri: &str| match case.bytes.get(uri) {
        Some(instead) => instead.clone(),
        None => hls::name::parse(uri).and_then(|_| stream.bytes(uri)),
    };
    let others = [(AUDIO, &*case.other)];
    let faults = check(&Case {
        text: &case.text,
        before: Some(&case.before),
        update: Some(&*case.update).filter(|update| !update.is_empty()),
        others: if case.other.is_empty() { &[] } else { &others },
        fetch: &fetch,
        complete: true,
    });
    faults.into_iter().map(|fault| fault.what).collect()
}

#[test]
fn each_rule_finds_what_breaks_it() {
    for ((good, stream), broken) in [(good(), BROKEN), (good_transport(), BROKEN_TRANSPORT)] {
        assert_eq!(faults(&good, &stream), Vec::<&str>::new());
        for (what, break_it) in broken {
            let mut case = good.clone();
            break_it(&mut case, &stream);
            let found = faults(&case, &stream);
            assert!(
                found.iter().any(|found| found.starts_with(what)),
                "{what}: only {found:?} in {}",
                case.text
            );
        }
    }
    for rule in RULES {
        let broken = BROKEN.iter().chain(BROKEN_TRANSPORT).any(|(what, _)| rule.what.starts_with(what));
        assert!(broken, "nothing breaks {} {}", rule.section, rule.what);
    }
}

#[test]
fn an_update_of_another_moment_is_told_from_one_of_the_same() {
    let (good, _) = good();
    assert!(are_of_one_moment(&good.text, &good.update));
    assert!(!are_of_one_moment(&good.before, &good.update));
}
