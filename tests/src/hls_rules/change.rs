//! Rules about what becomes of a playlist: what it was before, and what an update of it says.

use super::{
    Facts, list,
    playlist::{Playlist, Segment},
    text::VERSION_OF_SKIP,
};

/// What was and what is, where both are known.
fn both<'a, 'b>(facts: &'b Facts<'a>) -> Option<(&'b Playlist<'a>, &'b Playlist<'a>)> {
    Some((facts.before.as_ref()?, &facts.now))
}

pub(super) fn update(facts: &Facts<'_>) -> Vec<String> {
    let Some(update) = &facts.update else { return Vec::new() };
    let now = &facts.now;
    let mut found = Vec::new();
    if update.skipped == 0 {
        found.push("it skips nothing".to_owned());
    }
    if update.version < VERSION_OF_SKIP {
        found.push(format!("it is of version {}", update.version));
    }
    let Some(boundary) = now.control.as_ref().and_then(|control| control.nanos("CAN-SKIP-UNTIL")) else {
        found.push("nobody said that it can be asked for".to_owned());
        return found;
    };
    if update.segments.first().is_none_or(|first| first.number != now.media_sequence + update.skipped) {
        found.push(format!("it goes on after {} skipped segments", update.skipped));
    }
    // How far the end of the last skipped segment is from the end of all.
    let kept: u64 = now
        .all()
        .filter(|segment| segment.number >= now.media_sequence + update.skipped)
        .map(Segment::length)
        .sum();
    if kept < boundary && !list::open_is_cut(facts) {
        found.push(format!("it has {kept} ns, and the boundary is {boundary}"));
    }
    for (name, one, other) in [
        ("EXT-X-MEDIA-SEQUENCE", now.media_sequence, update.media_sequence),
        ("EXT-X-DISCONTINUITY-SEQUENCE", now.discontinuity_sequence, update.discontinuity_sequence),
        ("EXT-X-TARGETDURATION", now.target.unwrap_or(0), update.target.unwrap_or(0)),
        ("PART-TARGET", now.part_target.unwrap_or(0), update.part_target.unwrap_or(0)),
    ] {
        if one != other {
            found.push(format!("{name} is {other}, not {one}"));
        }
    }
    for segment in update.all() {
        match now.segment(segment.number).map(|whole| known(segment, whole)) {
            Some(same) if same == *segment => {}
            whole => found.push(format!("{segment:?} is {whole:?}")),
        }
    }
    // Where it was fetched a while later, the other renditions may have gone on.
    let reports = now.reports == update.reports
        || !facts.complete && list::reports_go_on(&now.reports, &update.reports);
    let alike = now.hints == update.hints && reports && now.control == update.control;
    if !alike || now.all().count() as u64 != update.all().count() as u64 + update.skipped {
        found.push("it ends in another way".to_owned());
    }
    found
}

/// A segment of the whole list as its update knows it: discontinuities before it may be missing there. EXT-X-MAP may be as
/// well, but there are players that look for it.
fn known<'a>(update: &Segment<'a>, whole: &Segment<'a>) -> Segment<'a> {
    Segment { period: update.period, ..whole.clone() }
}

/// The segments that are in both.
fn kept<'a, 'b>(facts: &'b Facts<'a>) -> impl Iterator<Item = (&'b Segment<'a>, &'b Segment<'a>)> {
    let pair = both(facts);
    let segments = pair.into_iter().flat_map(|(before, now)| {
        before.all().filter_map(|segment| Some((segment, now.segment(segment.number)?)))
    });
    segments.filter(|(was, is)| was.uri.is_some() || !was.parts.is_empty() || is.uri.is_some())
}

pub(super) fn segments(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (was, is) in kept(facts) {
        let said = |segment: &Segment<'_>| {
            let Segment { period, discontinuity, map, date, .. } = *segment;
            (period, discontinuity, map.map(str::to_owned), date)
        };
        // What stands before the parts of an open segment holds from then on.
        let begun = was.uri.is_some() || !was.parts.is_empty();
        if begun && said(was) != said(is) {
            found.push(format!("{} was {:?} and is {:?}", was.number, said(was), said(is)));
        }
        let whole = |segment: &Segment<'_>| {
            (segment.uri.map(str::to_owned), segment.duration, segment.title.to_owned(), segment.gap)
        };
        if was.uri.is_some() && whole(was) != whole(is) {
            found.push(format!("{} was {:?} and is {:?}", was.number, whole(was), whole(is)));
        }
    }
    found
}

pub(super) fn parts(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (was, is) in kept(facts).filter(|(_, is)| !is.parts.is_empty()) {
        let same = was.parts.iter().zip(&is.parts).all(|(one, other)| one == other);
        let grew = is.parts.len() > was.parts.len() && was.uri.is_some() && !was.parts.is_empty();
        if !same || grew || is.parts.len() < was.parts.len() {
            found.push(format!("{} had {:?} and has {:?}", was.number, was.parts, is.parts));
        }
    }
    found
}

pub(super) fn media_sequence(facts: &Facts<'_>) -> Vec<String> {
    let Some((before, now)) = both(facts) else { return Vec::new() };
    let mut found = Vec::new();
    let (first, next) = (before.media_sequence, now.media_sequence);
    if next < first {
        found.push(format!("it was {first} and is {next}"));
    }
    // By their addresses, so that a number that was not counted up is noticed.
    let place = |uri: &str| now.segments.iter().position(|segment| segment.uri == Some(uri));
    for (left, segment) in (0..).zip(&before.segments) {
        let (Some(place), Some(was)) = (segment.uri.and_then(place), next.checked_sub(first)) else {
            continue;
        };
        if left != was + place as u64 {
            found
                .push(format!("{:?} was place {left} and is place {place}, {was} were counted", segment.uri));
        }
    }
    let newest = |playlist: &Playlist<'_>| playlist.segments.last().map(|segment| segment.number);
    if newest(now) < newest(before) {
        found.push(format!("the newest was {:?} and is {:?}", newest(before), newest(now)));
    }
    found
}

pub(super) fn discontinuity_sequence(facts: &Facts<'_>) -> Vec<String> {
    let Some((before, now)) = both(facts) else { return Vec::new() };
    let gone = before.all().filter(|segment| segment.number < now.media_sequence);
    let left = before.discontinuity_sequence + gone.filter(|segment| segment.discontinuity).count() as u64;
    let known = before.all().any(|segment| segment.number >= now.media_sequence);
    let is = now.discontinuity_sequence;
    // Of segments that came and went in between nobody knows.
    let wrong = if known { is != left } else { is < left };
    wrong
        .then(|| format!("it is {is}, and was {} before {left}", before.discontinuity_sequence))
        .into_iter()
        .collect()
}

pub(super) fn length(facts: &Facts<'_>) -> Vec<String> {
    let Some((before, now)) = both(facts) else { return Vec::new() };
    let left = now.media_sequence > before.media_sequence;
    let least = 3 * now.target.unwrap_or(0) * 1_000_000_000;
    let is: u64 = now.segments.iter().map(Segment::length).sum();
    // A segment may be a little shorter than the target that it is rounded to.
    let short = is + now.segments.len() as u64 * 1_000_000 < least;
    (left && short).then(|| format!("{is} ns, and {least} are the least")).into_iter().collect()
}

pub(super) fn targets(facts: &Facts<'_>) -> Vec<String> {
    let Some((before, now)) = both(facts) else { return Vec::new() };
    let of = |playlist: &Playlist<'_>| (playlist.target, playlist.part_target);
    let changed = of(before) != of(now);
    changed.then(|| format!("they were {:?} and are {:?}", of(before), of(now))).into_iter().collect()
}

pub(super) fn end(facts: &Facts<'_>) -> Vec<String> {
    let Some((before, now)) = both(facts) else { return Vec::new() };
    let changed = before.ended && before.lines != now.lines;
    changed.then(|| "it had ended, and is another".to_owned()).into_iter().collect()
}

pub(super) fn hint(facts: &Facts<'_>) -> Vec<String> {
    let Some((before, now)) = both(facts) else { return Vec::new() };
    let Some(hinted) = before.hint() else { return Vec::new() };
    let (number, index) = (before.open.number, before.open.parts.len());
    let came = match now.segment(number) {
        // It is too long ago, or nothing came for a whole segment.
        None => return Vec::new(),
        Some(segment) if segment.gap || (segment.uri.is_some() && segment.parts.is_empty()) => {
            return Vec::new();
        }
        Some(segment) => match segment.parts.get(index) {
            Some(part) => Some(part.uri),
            None if segment.uri.is_none() && !now.ended => now.hint(),
            None if now.ended => return Vec::new(),
            None => None,
        },
    };
    (came != Some(hinted)).then(|| format!("{hinted} was, and {came:?} came")).into_iter().collect()
}
