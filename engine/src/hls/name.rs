//! The names in a stream's folder, both ways.
//!
//! | name | what it is |
//! | --- | --- |
//! | `index.m3u8` | the multivariant playlist |
//! | `video.m3u8`, `audio.m3u8` | a rendition's media playlist |
//! | `video-ID-0.mp4` | its first initialisation segment |
//! | `video-ID-17.m4s` | its segment 17 |
//! | `video-ID-17.3.m4s` | the fourth part of that |
//! | `video-ID-2-17.m4s` | what begins in its period 2 nearest to 17 target durations after that |
//! | `ts.m3u8` | the media playlist of MPEG-TS |
//! | `ts-ID-17.ts` | its segment 17 |
//!
//! `ID` is [`Terms::id`](crate::segment::Terms::id) in lower-case hexadecimal digits: a name is never used for anything else.

use crate::segment::{Item, Packaging, Rendition};

/// The multivariant playlist.
pub const MULTIVARIANT: &str = "index.m3u8";

/// The media playlist of a rendition.
pub const fn playlist(rendition: Rendition) -> &'static str {
    match rendition {
        Rendition::Video => "video.m3u8",
        Rendition::Audio => "audio.m3u8",
        Rendition::Transport => "ts.m3u8",
    }
}

/// The rendition whose media playlist has this name.
pub fn rendition_of(file: &str) -> Option<Rendition> {
    RENDITIONS.into_iter().find(|rendition| playlist(*rendition) == file)
}

/// An initialisation segment.
pub fn init(id: u64, rendition: Rendition, version: u32) -> String {
    format!("{}-{id:x}-{version}.mp4", rendition.name())
}

/// A whole segment.
pub fn segment(id: u64, rendition: Rendition, number: u64) -> String {
    let extension = match rendition.packaging() {
        Packaging::Fragments => "m4s",
        Packaging::Transport => "ts",
    };
    format!("{}-{id:x}-{number}.{extension}", rendition.name())
}

/// A part.
pub fn part(id: u64, rendition: Rendition, number: u64, index: u32) -> String {
    format!("{}-{id:x}-{number}.{index}.m4s", rendition.name())
}

/// The segments of a slot.
pub fn slot(id: u64, rendition: Rendition, period: u64, slot: u64) -> String {
    format!("{}-{id:x}-{period}-{slot}.m4s", rendition.name())
}

/// The initialisation segment, segment, slot or part of this name. Each has exactly one, so that a cache keeps it once.
pub fn parse(file: &str) -> Option<Item> {
    let (stem, extension) = file.rsplit_once('.')?;
    let mut words = stem.split('-');
    let (name, id, place) = (words.next()?, words.next()?, words.next()?);
    let rendition = RENDITIONS.into_iter().find(|rendition| rendition.name() == name)?;
    let id = u64::from_str_radix(id, 16).ok()?;
    let fragments = rendition.packaging() == Packaging::Fragments;
    let (item, written) = match (extension, place.split_once('.')) {
        ("m4s", None) if fragments && let Some(number) = words.next() => {
            let (period, number) = (place.parse().ok()?, number.parse().ok()?);
            (Item::Slot { id, rendition, period, slot: number }, slot(id, rendition, period, number))
        }
        ("mp4", None) if fragments => {
            let version = place.parse().ok()?;
            (Item::Init { id, rendition, version }, init(id, rendition, version))
        }
        ("m4s" | "ts", None) => {
            let number = place.parse().ok()?;
            (Item::Segment { id, rendition, number, from: None }, segment(id, rendition, number))
        }
        ("m4s", Some((number, index))) if fragments => {
            let (number, index) = (number.parse().ok()?, index.parse().ok()?);
            (Item::Part { id, rendition, number, index }, part(id, rendition, number, index))
        }
        _ => return None,
    };
    // Signs, leading zeros, capitals and further words would be second names.
    (written == file).then_some(item)
}

const RENDITIONS: [Rendition; 3] = [Rendition::Video, Rendition::Audio, Rendition::Transport];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_thing_has_its_name() {
        let (video, audio) = (Rendition::Video, Rendition::Audio);
        assert_eq!(init(0xabc, video, 0), "video-abc-0.mp4");
        assert_eq!(segment(0xabc, audio, 17), "audio-abc-17.m4s");
        assert_eq!(part(0xabc, video, 17, 3), "video-abc-17.3.m4s");
        assert_eq!(segment(0xabc, Rendition::Transport, 17), "ts-abc-17.ts");
        assert_eq!(slot(0xabc, video, 2, 17), "video-abc-2-17.m4s");
        assert_eq!([rendition_of("video.m3u8"), rendition_of("audio.m3u8")], [Some(video), Some(audio)]);
        assert_eq!(rendition_of("ts.m3u8"), Some(Rendition::Transport));
        assert_eq!(rendition_of(MULTIVARIANT), None);
    }

    #[test]
    fn what_is_not_written_so_is_no_name() {
        for file in [
            "",
            "video",
            "video.mp4",
            "video-abc.mp4",
            "video--0.mp4",
            "video-abc-.m4s",
            "video-abc-1",
            "video-abc-1.ts",
            "video-abc-1.2.mp4",
            "video-abc-1.2.3.m4s",
            "video-abc-1-2.mp4",
            "video-abc-1-2-3.m4s",
            "video-abc-1-.m4s",
            "video-abc--2.m4s",
            "video-abc-01-2.m4s",
            "video-abc-1-02.m4s",
            "video-abc-1.2-3.m4s",
            "ts-abc-1-2.ts",
            "ts-abc-1-2.m4s",
            "video-ABC-1.m4s",
            "video-0abc-1.m4s",
            "video-+abc-1.m4s",
            "video-abc-+1.m4s",
            "video-abc-01.m4s",
            "video-abc--1.m4s",
            "video-abc-18446744073709551616.m4s",
            "video-10000000000000000-1.m4s",
            "video-abc-1.4294967296.m4s",
            "video-abc-4294967296.mp4",
            "Video-abc-1.m4s",
            "text-abc-1.m4s",
            "ts-abc-1.m4s",
            "ts-abc-1.2.ts",
            "ts-abc-1.2.m4s",
            "ts-abc-1.mp4",
            "video-abc-\u{661}.m4s",
        ] {
            assert_eq!(parse(file), None, "{file}");
        }
    }

    proptest! {
        #[test]
        fn a_name_names_what_it_was_made_of(id: u64, number: u64, index: u32, of_sound: bool) {
            let rendition = if of_sound { Rendition::Audio } else { Rendition::Video };
            let version = index;
            prop_assert_eq!(parse(&init(id, rendition, version)), Some(Item::Init { id, rendition, version }));
            for rendition in [rendition, Rendition::Transport] {
                let whole = Item::Segment { id, rendition, number, from: None };
                prop_assert_eq!(parse(&segment(id, rendition, number)), Some(whole));
            }
            let named = parse(&slot(id, rendition, u64::from(index), number));
            prop_assert_eq!(named, Some(Item::Slot { id, rendition, period: u64::from(index), slot: number }));
            let named = parse(&part(id, rendition, number, index));
            prop_assert_eq!(named, Some(Item::Part { id, rendition, number, index }));
        }
    }
}
