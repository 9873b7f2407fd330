//! What the window of a packaged stream takes of the heap, to the byte: a stream that goes by, its window where it is owned
//! and on another core, and the texts that were last asked for.

use std::{alloc::System, sync::Arc, time::Duration};

use bytes::Bytes;
use shardcast_engine::{
    codec::{Codec, Parameters},
    dash, hls,
    media::{Frame, Payload, TrackId},
    segment::{Found, Item, Numbering, Packager, Settings, Window},
    session::Opening,
    time::{MediaTime, Now, Wall},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How long it goes by: twice as long as anything is kept.
const MILLIS: i64 = 90_000;
/// Of 2 Mbit/s, 25 in a second, with a key frame each two seconds.
const PICTURE_BYTES: usize = 9000;
const KEY_BYTES: usize = 59_000;
/// Of 128 kbit/s.
const SOUND_BYTES: usize = 341;
/// `avcC` of a stream of 1280x720.
const AVCC: &[u8] = &[
    0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05,
    0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
    0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
];
/// `AudioSpecificConfig` of AAC-LC, 48 kHz, two channels.
const ASC: &[u8] = &[0x11, 0x90];

fn live_bytes() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn frame(track: TrackId, at: MediaTime, payload: Payload) -> Frame {
    Frame { track, dts: at, pts: at, payload }
}

fn described(track: TrackId, codec: Codec, record: &'static [u8]) -> Frame {
    let parameters = Parameters::parse(codec, Bytes::from_static(record)).expect("a legal record");
    frame(track, MediaTime::from_millis(0), Payload::Parameters(Arc::new(parameters)))
}

/// Each frame in memory of its own, as it was taken in.
fn picture(at: i64) -> Frame {
    let key = at % 2000 == 0;
    let len = if key { KEY_BYTES } else { PICTURE_BYTES };
    let mut data = vec![0x5a; len];
    data[..4].copy_from_slice(&(len as u32 - 4).to_be_bytes());
    data[4] = if key { 0x65 } else { 0x41 };
    let payload = Payload::Video { codec: Codec::H264, key, data: data.into() };
    frame(TrackId::VIDEO, MediaTime::from_millis(at), payload)
}

fn sound(number: i64) -> Frame {
    let at = MediaTime { ticks: number * 1024, rate: 48_000 };
    let payload = Payload::Audio { codec: Codec::Aac, data: vec![0x21; SOUND_BYTES].into() };
    frame(TrackId::AUDIO, at, payload)
}

/// Pictures and sound as they come.
fn stream() -> impl Iterator<Item = Frame> {
    let mut sounds = (0..).map(sound).peekable();
    (0..MILLIS).step_by(40).flat_map(move |at| {
        let mut due = Vec::new();
        while let Some(next) = sounds.next_if(|sound| sound.dts.as_nanos() <= at * 1_000_000) {
            due.push(next);
        }
        due.push(picture(at));
        due
    })
}

/// The texts that players ask for.
fn texts() -> Vec<Item> {
    let playlist = |file| hls::request(file, "").expect("a legal query").expect("a name of ours");
    let manifest = dash::request("manifest.mpd", "").expect("a name of ours");
    vec![playlist("index.m3u8"), playlist("video.m3u8"), playlist("audio.m3u8"), manifest]
}

/// One test, for it counts what the whole process takes.
#[test]
fn a_window_takes_a_tenth_more_than_its_media() {
    let mut opening = Opening::default();
    opening.note(&described(TrackId::VIDEO, Codec::H264, AVCC));
    opening.note(&described(TrackId::AUDIO, Codec::Aac, ASC));
    let texts = texts();
    let before = live_bytes();

    let settings = Settings::default();
    let group = Some(Duration::from_secs(2));
    let mut packager = Packager::new(settings.clone(), 1, group, &opening, Numbering::default());
    let (mut own, mut other) = (Window::new(), Window::new());
    let (mut most, mut judged) = (0.0_f64, 0);
    for (count, frame) in stream().enumerate() {
        let at = frame.dts.as_nanos() as u64;
        packager.frame(&frame, Wall(1_795_333_500_000_000_000 + at));
        drop(frame);
        while let Some(cut) = packager.poll() {
            own.take(&cut, Now(at));
            other.take(&cut, Now(at));
        }
        // Once as much is kept as ever will be.
        if at < 45_000_000_000 || !count.is_multiple_of(500) {
            continue;
        }
        for window in [&mut own, &mut other] {
            let there = texts.iter().all(|text| matches!(window.fetch(text), Found::Text(_)));
            assert!(there, "every text is there");
        }
        let (taken, media) = (live_bytes() - before, own.bytes());
        // The listed segments, and as many that lists of before may name.
        let expected = (settings.window.as_millis() as usize * 2) * (2_000_000 + 128_000) / 8000;
        assert!(media > expected * 9 / 10 && media < expected * 12 / 10, "{media} of {expected} bytes");
        most = most.max(taken as f64 / media as f64);
        judged += 1;
    }
    println!("two windows of one stream take {most:.3} times their media at most");
    assert!(judged > 5 && most <= 1.1, "{most:.3} times its media, {judged} looks");
}
