//! What no player in its right mind asks. Each has an answer all the same.

use super::request::{Method, Request};
use crate::sim::random::Random;

/// Something of that kind, in the folder of a stream whose addresses carry `query`.
pub fn nonsense(query: &str, random: &mut Random) -> Request {
    let by_door = |address: &str, status| Request { status: Some(status), ..Request::get(address) };
    let by_hub = |address: String| Request::get(address);
    let and = if query.is_empty() { String::new() } else { format!("&{query}") };
    match random.below(13) {
        // Directives that say nothing sensible. (RFC 8216bis, 6.2.5.2)
        0 => by_door("video.m3u8?_HLS_part=1", 400),
        1 => by_door("audio.m3u8?_HLS_msn=1&_HLS_msn=2", 400),
        2 => by_door("video.m3u8?_HLS_msn=-1", 400),
        3 => by_hub(format!("video.m3u8?_HLS_msn={}{and}", random.pick(&[0, 40, u64::MAX]))),
        // Names that nobody has told it.
        4 => by_door("video.m4s", 404),
        5 => by_door("../../etc/passwd", 404),
        6 => by_hub("video-1-0.m4s".to_owned()),
        7 => by_hub("audio-ffffffffffffffff-4294967295.mp4".to_owned()),
        8 => Request { method: Method::Post, ..by_door("index.m3u8", 405) },
        9 => Request { method: Method::Options, ..by_door("index.m3u8", 204) },
        10 => Request { method: Method::Head, ..by_hub("index.m3u8".to_owned()) },
        11 => by_hub("time".to_owned()),
        _ => Request { old: true, ..by_hub("index.m3u8".to_owned()) },
    }
}
