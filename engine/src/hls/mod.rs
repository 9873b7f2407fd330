//! HTTP Live Streaming (draft-pantos-hls-rfc8216bis, called RFC 8216bis here): what the names in a stream's folder ask for
//! ([`name`], [`request`]), and the playlists that name them ([`MULTIVARIANT`], [`MEDIA`]).
//!
//! Each stream is offered in two forms: fragmented MP4 with parts, and by `index.m3u8?format=ts` whole segments of MPEG-TS.
//!
//! Everything that is fetched stands in one folder, `APP/STREAM/`, and every address in a playlist is relative to it. What is
//! listed and for how long is the window's business ([`segment`](crate::segment)); nothing here keeps state.

mod measure;
mod multivariant;
pub mod name;
mod playlist;
mod query;
#[cfg(test)]
pub(crate) mod tests;

use crate::segment::{Item, Rendition, Text, TextForm};

#[cfg(not(feature = "dash"))]
use self::query::Query;
#[cfg(feature = "dash")]
pub(crate) use self::{
    measure::{bits_per_second, seconds},
    query::Query,
};

/// The media type of both kinds of playlist. (RFC 8216bis, 10)
const CONTENT_TYPE: &str = "application/vnd.apple.mpegurl";

/// The playlist that names a stream's renditions. (RFC 8216bis, 4.4.6)
pub static MULTIVARIANT: TextForm =
    TextForm { name: "multivariant playlist", content_type: CONTENT_TYPE, write: multivariant::write };

/// The playlist of one rendition: its segments and parts. (RFC 8216bis, 4.4.3 to 4.4.5)
pub static MEDIA: TextForm =
    TextForm { name: "media playlist", content_type: CONTENT_TYPE, write: playlist::write };

/// What a GET of `file` in a stream's folder asks for; `None` when the name is none of ours. `query` is that of the request,
/// without its `?`: delivery directives (RFC 8216bis, 6.2.5) are taken out of it, and what is left is for the addresses in
/// the playlist.
///
/// # Errors
/// What is wrong with the query of a playlist, to be answered by 400: directives that say nothing sensible (6.2.5.2), or one
/// that no address could carry.
pub fn request(file: &str, query: &str) -> Result<Option<Item>, &'static str> {
    if let Some(item) = name::parse(file) {
        return Ok(Some(item));
    }
    let (form, rendition) = match (file, name::rendition_of(file)) {
        (name::MULTIVARIANT, _) => (&MULTIVARIANT, None),
        (_, Some(rendition)) => (&MEDIA, Some(rendition)),
        _ => return Ok(None),
    };
    let Query { msn, part, skip, transport, carried } = Query::parse(query)?;
    // Directives are about media playlists, and the container is chosen before.
    let (rendition, skip, until) = match rendition {
        Some(_) => (rendition, skip, msn.map(|msn| (msn, part))),
        None => (transport.then_some(Rendition::Transport), false, None),
    };
    Ok(Some(Item::Text(Text { form, rendition, skip, until, query: carried })))
}
