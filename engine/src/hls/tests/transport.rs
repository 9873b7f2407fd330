//! Playlists of streams in MPEG-TS.

use super::*;
use crate::{
    codec::Codec,
    segment::{Numbering, TextForm, Transport, Window},
    session::Opening,
    time::{Now, Wall},
};

/// A stream on its way into a window.
struct Stream {
    transport: Transport,
    window: Window,
}

impl Stream {
    fn new(opening: &[Frame]) -> Self {
        Stream::numbered(opening, Numbering::default())
    }

    fn numbered(opening: &[Frame], numbering: Numbering) -> Self {
        let opening = Opening { parameters: opening.to_vec(), ..Opening::default() };
        let group = Some(Duration::from_secs(2));
        let transport = Transport::new(Settings::default(), kit::ID, group, &opening, numbering);
        Stream { transport, window: Window::new() }
    }

    fn give(mut self, frames: &[Frame]) -> Self {
        for frame in frames {
            let at = u64::try_from(frame.dts.as_nanos()).unwrap_or(0);
            self.transport.frame(&sayable(frame), Wall(kit::START.0 + at));
            self.drain(Now(at));
        }
        self
    }

    fn finish(mut self) -> Self {
        self.transport.finish();
        self.drain(Now(0));
        self
    }

    fn drain(&mut self, now: Now) {
        while let Some(cut) = self.transport.poll() {
            self.window.take(&cut, now);
        }
    }

    fn text(&self, form: &'static TextForm, query: &str, skip: bool) -> String {
        let (rendition, query) = (Some(Rendition::Transport), query.to_owned());
        (form.write)(&self.window, &Text { form, rendition, skip, until: None, query })
    }

    fn list(&self) -> String {
        self.text(&MEDIA, "", false)
    }

    fn index(&self) -> String {
        self.text(&MULTIVARIANT, "", false)
    }
}

/// The same picture as one NAL unit: the kit's bytes are none.
fn sayable(frame: &Frame) -> Frame {
    match &frame.payload {
        Payload::Video { key, data, .. } => {
            let length = u32::try_from(data.len() - 4).unwrap();
            let mut unit = length.to_be_bytes().to_vec();
            unit.push(if *key { 0x65 } else { 0x41 });
            unit.extend_from_slice(&data[5..]);
            let payload = Payload::Video { codec: Codec::H264, key: *key, data: unit.into() };
            Frame { payload, ..frame.clone() }
        }
        _ => frame.clone(),
    }
}

/// Pictures and sound for so long.
fn both(millis: i64) -> Stream {
    Stream::new(&[h264(), aac()]).give(&woven(&[pictures(0, millis), sounds(0, millis)]))
}

#[test]
fn playlists_of_pictures_and_sound_are_those_that_were_looked_at() {
    let stream = both(9000);
    assert_eq!(stream.index(), include_str!("ts.index.m3u8"));
    assert_eq!(stream.list(), include_str!("ts.m3u8"));
}

#[test]
fn nothing_in_a_list_needs_a_newer_player() {
    let text = both(41_000).list();
    for tag in
        ["EXT-X-MAP", "EXT-X-PART", "EXT-X-SERVER-CONTROL", "PRELOAD-HINT", "RENDITION-REPORT", "EXT-X-SKIP"]
    {
        assert!(!text.contains(tag), "{tag}: {text}");
    }
    assert_eq!(lines(&text, "#EXT-X-VERSION:"), ["3"]);
    assert_eq!(both(41_000).text(&MEDIA, "", true), text, "who asks for an update gets all of it");
    assert_eq!(text.matches("#EXTINF:2.000000,").count(), 8);
    assert_eq!(lines(&text, "#EXT-X-MEDIA-SEQUENCE:"), ["12"]);
}

#[test]
fn breaks_are_said_and_counted_and_the_end_is() {
    let mut frames = pictures(0, 3000);
    for round in 1..20 {
        frames.push(discontinuity(round * 4000));
        frames.extend(pictures(round * 4000, round * 4000 + 3000));
    }
    let text = Stream::new(&[h264()]).give(&frames).finish().list();
    let before: u64 = lines(&text, "#EXT-X-DISCONTINUITY-SEQUENCE:")[0].parse().unwrap();
    let listed = text.lines().filter(|line| *line == "#EXT-X-DISCONTINUITY").count() as u64;
    assert!(before > 0 && listed > 0, "{text}");
    assert_eq!(before + listed, 19, "{text}");
    assert!(text.ends_with(".ts\n#EXT-X-ENDLIST\n"), "{text}");
}

#[test]
fn a_packaging_that_goes_on_begins_with_a_discontinuity() {
    let numbering = Numbering { segment: 7, period: 3, began: None };
    let text = Stream::numbered(&[h264()], numbering).give(&pictures(0, 5000)).list();
    assert_eq!(lines(&text, "#EXT-X-MEDIA-SEQUENCE:"), ["7"]);
    assert_eq!(lines(&text, "#EXT-X-DISCONTINUITY-SEQUENCE:"), ["2"]);
    let (head, _) = text.split_once("#EXTINF").unwrap();
    assert!(head.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
}

#[test]
fn what_is_sent_says_what_it_is() {
    let hevc = Stream::new(&[hdr(), aac()]).give(&woven(&[pictures(0, 5000), sounds(0, 5000)])).index();
    assert!(hevc.contains("CODECS=\"hvc1.2.4.L123.90,mp4a.40.2\""), "{hevc}");
    assert!(hevc.contains("RESOLUTION=1920x1080") && hevc.contains(",VIDEO-RANGE=PQ"), "{hevc}");
    let sound = Stream::new(&[aac()]).give(&sounds(0, 5000)).index();
    assert!(sound.contains("CODECS=\"mp4a.40.2\"\n"), "no pictures, and so no size of them: {sound}");
    let frames = [pictures(0, 4000), vec![larger()], pictures(4000, 9000)].concat();
    let changed = Stream::new(&[h264()]).give(&frames).index();
    assert!(changed.contains("RESOLUTION=1920x1080"), "what comes is what counts: {changed}");
}

#[test]
fn a_pause_is_listed_as_gaps() {
    let frames = [pictures(0, 3000), pictures(16_000, 19_000)].concat();
    let text = Stream::new(&[h264()]).give(&frames).list();
    assert!(text.matches("#EXT-X-GAP\n").count() >= 4, "{text}");
}

#[test]
fn addresses_carry_the_query() {
    let stream = both(9000);
    for form in [&MULTIVARIANT, &MEDIA] {
        let (with, without) = (stream.text(form, "t=1", false), stream.text(form, "", false));
        assert_eq!(with.replace("?t=1", ""), without);
        for line in with.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.ends_with("?t=1"), "{line}");
        }
    }
}
