//! What is measured on the segments of a window, and how it is written.

use std::{fmt, time::Duration};

use crate::{
    fmp4::demux::{BoxHead, Fragment, Movie},
    segment::{Init, Segment, Shelf, Transport},
};

/// Bits per second of a rendition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BitRate {
    /// Of the run of segments that takes most (the "peak segment bit rate" of RFC 8216bis, 4.1).
    pub peak: u64,
    /// Of all.
    pub average: u64,
}

/// The bit rate of the whole segments that are listed. `target` is the target duration in seconds.
pub(crate) fn bits_per_second(shelf: &Shelf, target: u32) -> BitRate {
    let sizes: Vec<(u64, Duration)> =
        shelf.whole().map(|segment| (segment.len() as u64 * 8, segment.duration())).collect();
    let target = Duration::from_secs(target.into());
    let (least, most) = (target / 2, target * 3 / 2);
    let mut peak = 0;
    for begin in 0..sizes.len() {
        let (mut bits, mut length) = (0, Duration::ZERO);
        for (more, lasts) in sizes.iter().skip(begin) {
            bits += more;
            length += *lasts;
            if length > most {
                break;
            }
            if length >= least {
                peak = peak.max(rate(bits, length));
            }
        }
    }
    let all = sizes.iter().fold((0, Duration::ZERO), |sum, size| (sum.0 + size.0, sum.1 + size.1));
    let average = rate(all.0, all.1);
    BitRate { peak: peak.max(average).max(1), average: average.max(1) }
}

/// Rounded up.
fn rate(bits: u64, length: Duration) -> u64 {
    let per_second = (u128::from(bits) * 1_000_000_000).div_ceil(length.as_nanos().max(1));
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

/// Pictures in a thousand seconds, counted in the whole segments that need `init`; `None` when there are none.
pub(super) fn pictures_per_1000_seconds(shelf: &Shelf, init: &Init) -> Option<u64> {
    let movie = Movie::parse(content(&init.bytes, b"moov")?).ok()?;
    let segments = shelf.whole().filter(|segment| segment.init == init.version);
    per_1000_seconds(segments, |segment| samples(segment, &movie))
}

/// The same of a transport stream, all of whose segments that are listed are counted.
pub(super) fn pictures_per_1000_seconds_of_transport(shelf: &Shelf) -> Option<u64> {
    per_1000_seconds(shelf.whole(), |segment| {
        segment.parts.iter().map(|part| u64::try_from(Transport::pictures(part)).ok()).sum()
    })
}

fn per_1000_seconds<'a>(
    segments: impl Iterator<Item = &'a Segment>,
    pictures: impl Fn(&Segment) -> Option<u64>,
) -> Option<u64> {
    let (mut count, mut time) = (0, Duration::ZERO);
    for segment in segments.filter(|segment| !segment.is_gap()) {
        count += u128::from(pictures(segment)?);
        time += segment.duration();
    }
    let rate = (count * 1_000_000_000_000 + time.as_nanos() / 2).checked_div(time.as_nanos())?;
    u64::try_from(rate).ok().filter(|rate| *rate > 0)
}

fn samples(segment: &Segment, movie: &Movie) -> Option<u64> {
    let count = |bytes: &[u8]| {
        let fragment = Fragment::parse(movie, content(bytes, b"moof")?, 0).ok()?;
        u64::try_from(fragment.samples.len()).ok()
    };
    segment.parts.iter().filter(|part| !part.gap).map(|part| count(&part.bytes)).sum()
}

/// What the first box of this type holds.
fn content<'a>(mut bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    loop {
        let head = BoxHead::parse(bytes).ok()?;
        let (whole, rest) = bytes.split_at_checked(usize::try_from(head.len?).ok()?)?;
        if head.kind.0 == *kind {
            return whole.get(usize::try_from(head.head_len).ok()?..);
        }
        bytes = rest;
    }
}

/// A duration as a decimal-floating-point number of seconds (RFC 8216bis, 4.2), to the nearest microsecond: a thousand
/// segments add up to half a millisecond of error.
pub(crate) fn seconds(duration: Duration) -> impl fmt::Display {
    let micros = (duration.as_nanos() + 500) / 1000;
    fmt::from_fn(move |f| write!(f, "{}.{:06}", micros / 1_000_000, micros % 1_000_000))
}
