//! What a player asks of a stream's folder: the name of a file, a `?`, and a query with directives and tokens.
#![no_main]

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    codec::{Codec, Parameters},
    dash, hls,
    media::{Frame, Payload, TrackId},
    segment::{Item, Numbering, Packager, Rendition, Settings, Text, Transport, Window},
    session::Opening,
    time::{MediaTime, Now, Wall},
};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (file, query) = text.split_once('?').unwrap_or((text, ""));
    let playlist = hls::request(file, query).ok().flatten();
    let manifest = dash::request(file, query);
    for item in playlist.into_iter().chain(manifest) {
        match item {
            Item::Init { id, rendition, version } => {
                assert_eq!(hls::name::init(id, rendition, version), file)
            }
            Item::Segment { id, rendition, number, .. } => {
                assert_eq!(hls::name::segment(id, rendition, number), file);
            }
            Item::Slot { id, rendition, period, slot } => {
                assert_eq!(hls::name::slot(id, rendition, period, slot), file);
            }
            Item::Part { id, rendition, number, index } => {
                assert_eq!(hls::name::part(id, rendition, number, index), file);
            }
            Item::Text(text) => written(file, &text),
            Item::Clock => {}
        }
    }
});

/// A query stands in a text as it is, changes nothing else of it, and is taken for the same when a player brings it back.
fn written(file: &str, text: &Text) {
    assert!(text.query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'), "{}", text.query);
    let transport = text.rendition == Some(Rendition::Transport);
    let manifest = text.form == &dash::MANIFEST || text.form == &dash::PLAIN_MANIFEST;
    // What chose the form is not carried: what is named is of that form.
    let choice = match (transport, text.form == &dash::PLAIN_MANIFEST) {
        (true, _) => "format=ts&",
        (_, true) => "timeline=no&",
        _ => "",
    };
    let chosen = format!("{choice}{}", text.query);
    let again = hls::request(file, &chosen).ok().flatten().or(dash::request(file, &chosen));
    let plain = Text { skip: false, until: None, ..text.clone() };
    assert_eq!(again, Some(Item::Text(plain.clone())));

    let window = if transport { transported() } else { fragmented() };
    let bare = (text.form.write)(window, &Text { query: String::new(), ..plain.clone() });
    let whole = (text.form.write)(window, &plain);
    assert_eq!(bare.lines().count(), whole.lines().count(), "{whole}");
    if manifest {
        return assert_eq!(
            bare.matches(['"', '<', '>']).count(),
            whole.matches(['"', '<', '>']).count(),
            "{whole}"
        );
    }
    let tail = if text.query.is_empty() { String::new() } else { format!("?{}", text.query) };
    for (bare, whole) in bare.lines().zip(whole.lines()) {
        let carries = whole == format!("{bare}{tail}");
        let inside = whole.replacen(&format!("{tail}\""), "\"", 1) == bare;
        assert!(whole == bare || carries || inside, "{whole}");
    }
}

fn fragmented() -> &'static Window {
    static WINDOW: OnceLock<Window> = OnceLock::new();
    WINDOW.get_or_init(|| {
        let (opening, numbering) = (Opening::default(), Numbering::default());
        let mut packager = Packager::new(Settings::default(), 0xabc, None, &opening, numbering);
        let mut window = Window::new();
        for (frame, wall) in sound() {
            packager.frame(&frame, wall);
            while let Some(cut) = packager.poll() {
                window.take(&cut, Now(0));
            }
        }
        window
    })
}

fn transported() -> &'static Window {
    static WINDOW: OnceLock<Window> = OnceLock::new();
    WINDOW.get_or_init(|| {
        let (opening, numbering) = (Opening::default(), Numbering::default());
        let mut transport = Transport::new(Settings::default(), 0xabc, None, &opening, numbering);
        let mut window = Window::new();
        for (frame, wall) in sound() {
            transport.frame(&frame, wall);
            while let Some(cut) = transport.poll() {
                window.take(&cut, Now(0));
            }
        }
        window
    })
}

/// Five seconds of sound.
fn sound() -> impl Iterator<Item = (Frame, Wall)> {
    let of = |payload, ticks| {
        let time = MediaTime { ticks, rate: 48_000 };
        Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
    };
    let packet = move |number: i64| {
        let sound = Payload::Audio { codec: Codec::Opus, data: vec![0xfc; 80].into() };
        (of(sound, number * 960), Wall(number as u64 * 20_000_000))
    };
    let parameters = Payload::Parameters(Arc::new(Parameters::of_opus(2)));
    std::iter::once((of(parameters, 0), Wall(0))).chain((0..250).map(packet))
}
