//! The multivariant playlist: one variant, with the sound as a rendition of its own where there are pictures. Of MPEG-TS, one
//! variant with everything.

use std::fmt::Write;

use super::{
    measure::{BitRate, bits_per_second, pictures_per_1000_seconds, pictures_per_1000_seconds_of_transport},
    name,
};
use crate::{
    codec::{Codec, Colour, Parameters, Shape, av1, h264, h265, vp9},
    segment::{Init, Rendition, Shelf, Text, Window},
};

/// EXT-X-MAP in the playlists that are named here. (RFC 8216bis, 8)
const VERSION: u32 = 6;
/// Decimals in the playlist of MPEG-TS. (8)
const VERSION_OF_TRANSPORT: u32 = 3;
/// The one group of renditions.
const GROUP: &str = "audio";

/// Writes it. It is fetched once and promises for good, so EXT-X-INDEPENDENT-SEGMENTS is not in it: an encoder may leave out
/// a key frame at any time. (4.4.2.1)
pub(super) fn write(window: &Window, text: &Text) -> String {
    let target = window.terms().map_or(1, |terms| terms.target);
    let query = if text.query.is_empty() { String::new() } else { format!("?{}", text.query) };
    match text.rendition {
        Some(rendition) => write_transport(window, rendition, target, &query),
        None => write_fragments(window, target, &query),
    }
}

fn write_fragments(window: &Window, target: u32, query: &str) -> String {
    let found = |rendition| {
        let shelf = playable(window).find(|shelf| shelf.rendition() == rendition)?;
        Some((shelf, shelf.init()?))
    };
    let (video, audio) = (found(Rendition::Video), found(Rendition::Audio));
    let Some((main, _)) = video.or(audio) else { return String::new() };

    let mut out = format!("#EXTM3U\n#EXT-X-VERSION:{VERSION}\n");
    let group = video.and(audio).map(|(shelf, init)| media(shelf, init, query, &mut out));
    let named = || [video, audio].into_iter().flatten();
    let rates = named().map(|(shelf, _)| bits_per_second(shelf, target));
    let rate = rates.fold(BitRate::default(), |sum, rate| BitRate {
        peak: sum.peak.saturating_add(rate.peak),
        average: sum.average.saturating_add(rate.average),
    });
    let mut variant = variant(rate, named().map(|(_, init)| &*init.parameters));
    if let Some((shelf, init)) = video {
        picture(&init.parameters, pictures_per_1000_seconds(shelf, init), &mut variant);
    }
    if let Some(group) = group {
        variant.push_str(&format!(",AUDIO=\"{group}\""));
    }
    let uri = name::playlist(main.rendition());
    push(&mut out, format_args!("#EXT-X-STREAM-INF:{variant}\n{uri}{query}\n"));
    out
}

fn write_transport(window: &Window, rendition: Rendition, target: u32, query: &str) -> String {
    let Some(shelf) = window.shelf(rendition) else { return String::new() };
    let tracks = || window.tracks().iter().map(|parameters| &**parameters);
    let mut variant = variant(bits_per_second(shelf, target), tracks());
    if let Some(pictures) = tracks().find(|parameters| parameters.codec.is_video()) {
        picture(pictures, pictures_per_1000_seconds_of_transport(shelf), &mut variant);
    }
    let uri = name::playlist(rendition);
    format!("#EXTM3U\n#EXT-X-VERSION:{VERSION_OF_TRANSPORT}\n#EXT-X-STREAM-INF:{variant}\n{uri}{query}\n")
}

/// What a variant says of its bytes. (4.4.6.2)
fn variant<'a>(rate: BitRate, tracks: impl Iterator<Item = &'a Parameters>) -> String {
    let codecs: Vec<&str> = tracks.map(|parameters| parameters.codec_string.as_str()).collect();
    let BitRate { peak, average } = rate;
    format!("BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},CODECS=\"{}\"", codecs.join(","))
}

/// The renditions that a player can begin with. One that has had nothing for as long as the list goes back would keep it
/// waiting, unless there is no other.
fn playable(window: &Window) -> impl Iterator<Item = &Shelf> {
    let has_media = |shelf: &&Shelf| shelf.whole().any(|segment| !segment.is_gap());
    let any = window.shelves().iter().any(|shelf| has_media(&shelf));
    window
        .shelves()
        .iter()
        .filter(move |shelf| if any { has_media(shelf) } else { shelf.whole().next().is_some() })
}

/// The rendition of the sound, and the group that it is in. (4.4.6.1)
fn media(shelf: &Shelf, init: &Init, query: &str, out: &mut String) -> &'static str {
    let name = shelf.rendition().name();
    let channels = match init.parameters.shape {
        Shape::Audio { channels, .. } if channels > 0 => format!(",CHANNELS=\"{channels}\""),
        _ => String::new(),
    };
    let uri = name::playlist(shelf.rendition());
    push(
        out,
        format_args!(
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{GROUP}\",NAME=\"{name}\",DEFAULT=YES,AUTOSELECT=YES{channels},\
             URI=\"{uri}{query}\"\n"
        ),
    );
    GROUP
}

/// What a variant says of its pictures, of which there are so many in a thousand seconds. (4.4.6.2)
fn picture(parameters: &Parameters, per_1000_seconds: Option<u64>, out: &mut String) {
    if let Some((width, height)) = parameters.width_height() {
        push(out, format_args!(",RESOLUTION={width}x{height}"));
    }
    if let Some(rate) = per_1000_seconds {
        push(out, format_args!(",FRAME-RATE={}.{:03}", rate / 1000, rate % 1000));
    }
    if let Some(range) = colour(parameters).and_then(video_range) {
        push(out, format_args!(",VIDEO-RANGE={range}"));
    }
}

/// What the configuration says of the colours.
fn colour(parameters: &Parameters) -> Option<Colour> {
    let configuration = &parameters.configuration;
    match parameters.codec {
        Codec::H264 => h264::Configuration::parse(configuration).ok()?.sps.vui.colour,
        Codec::H265 => h265::Configuration::parse(configuration).ok()?.sps.vui.colour,
        Codec::Av1 => {
            av1::Configuration::parse(configuration).ok()?.sequence_header.map(|header| header.colour)
        }
        Codec::Vp8 | Codec::Vp9 => {
            vp9::Configuration::parse(configuration).ok().map(|configuration| configuration.colour)
        }
        _ => None,
    }
}

/// By the transfer characteristics (ITU-T H.273, table 3); `None` where nobody said.
const fn video_range(colour: Colour) -> Option<&'static str> {
    match colour.transfer {
        16 => Some("PQ"),
        18 => Some("HLG"),
        2 => None,
        _ => Some("SDR"),
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes all that is written to it");
}
