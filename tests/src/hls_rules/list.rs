//! Rules about what a playlist lists.

use super::{
    Facts,
    playlist::{Attributes, Line, Part, Segment, date},
};

/// What decimals are rounded by: half a microsecond for each number that is added up.
const ROUNDING: u64 = 1_000;
/// Dates have milliseconds.
const DATE_ROUNDING: i128 = 2_000_000;
const SECOND: u64 = 1_000_000_000;

pub(super) fn target(facts: &Facts<'_>) -> Vec<String> {
    let Some(target) = facts.now.target else { return vec!["it is missing".to_owned()] };
    let rounded = |segment: &&Segment<'_>| (segment.duration.unwrap_or(0) + SECOND / 2) / SECOND > target;
    let too_long = facts.now.segments.iter().filter(rounded);
    too_long.map(|segment| format!("{} is {:?} ns long", segment.number, segment.duration)).collect()
}

pub(super) fn part_inf(facts: &Facts<'_>) -> Vec<String> {
    let parts = facts.now.all().map(|segment| segment.parts.len()).sum::<usize>();
    let missing = facts.now.part_target.is_none() && parts > 0;
    missing.then(|| format!("it is not, but {parts} parts")).into_iter().collect()
}

/// CAN-BLOCK-RELOAD is wanted by the profile for low latency (appendix B.1), which is none of MPEG-TS.
pub(super) fn control(facts: &Facts<'_>) -> Vec<String> {
    let Some(control) = &facts.now.control else {
        let missing = !facts.now.is_of_transport();
        return missing.then(|| "it is missing".to_owned()).into_iter().collect();
    };
    let target = facts.now.target.unwrap_or(0) * SECOND;
    let mut found = Vec::new();
    let mut at_least = |name: &str, least: u64, must: bool| match control.nanos(name) {
        Some(value) if value >= least => {}
        None if !must => {}
        value => found.push(format!("{name} is {value:?} ns, and {least} are the least")),
    };
    at_least("CAN-SKIP-UNTIL", 6 * target, false);
    at_least("HOLD-BACK", 3 * target, false);
    if let Some(part) = facts.now.part_target {
        // Twice is the least, three times is what should be.
        at_least("PART-HOLD-BACK", 3 * part, true);
    }
    found
}

pub(super) fn extinf(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut times = 0;
    for line in &facts.now.lines {
        match line {
            Line::Tag("EXTINF", _) => times += 1,
            Line::Uri(uri) => {
                if times != 1 {
                    found.push(format!("{uri} has {times}"));
                }
                times = 0;
            }
            _ => {}
        }
    }
    if times > 0 {
        found.push("one stands at the end".to_owned());
    }
    found
}

pub(super) fn map(facts: &Facts<'_>) -> Vec<String> {
    if facts.now.is_of_transport() {
        return Vec::new();
    }
    let has_something = |segment: &&Segment<'_>| segment.uri.is_some() || !segment.parts.is_empty();
    let without = facts.now.all().filter(has_something).filter(|segment| segment.map.is_none());
    without.map(|segment| format!("{} has none", segment.number)).collect()
}

/// The first segment has one, so that all renditions can be laid beside each other. What follows a gap may begin later than
/// its list says: nobody knew how long nothing would come.
pub(super) fn dates(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut expected: Option<i128> = None;
    let mut after_gap = false;
    for segment in facts.now.all() {
        if segment.uri.is_none() && segment.parts.is_empty() {
            continue;
        }
        match (segment.date, expected.filter(|_| !segment.discontinuity)) {
            (Some(date), Some(expected)) if after_gap && date > expected => {}
            (Some(date), Some(expected)) if (date - expected).abs() > DATE_ROUNDING => {
                found.push(format!(
                    "{} is {} ns away from where it belongs",
                    segment.number,
                    date - expected
                ));
            }
            (None, None) => found.push(format!("{} has none", segment.number)),
            _ => {}
        }
        let begins = segment.date.or(expected);
        expected = begins.map(|begins| begins + i128::from(segment.length()));
        after_gap = segment.gap;
    }
    let said = facts.now.lines.iter().filter_map(|line| match line {
        Line::Tag("EXT-X-PROGRAM-DATE-TIME", value) => Some(*value),
        _ => None,
    });
    let broken = said.filter(|value| date(value).is_none());
    found.extend(broken.map(|value| format!("{value:?} is no date")));
    found
}

pub(super) fn late_tags(facts: &Facts<'_>) -> Vec<String> {
    let late = facts.now.all().filter_map(|segment| Some((segment.number, segment.late_tag?)));
    late.map(|(number, tag)| format!("{tag} stands behind a part of {number}")).collect()
}

pub(super) fn part_most(facts: &Facts<'_>) -> Vec<String> {
    let most = facts.now.part_target.unwrap_or(0);
    let parts = facts.now.all().flat_map(|segment| &segment.parts);
    let long = parts.filter(|part| part.duration > most);
    long.map(|part| format!("{} has {} ns, and {most} are the most", part.uri, part.duration)).collect()
}

/// The draft lets independent parts be shorter, too. All parts of sound are independent, and none of ours needs it.
pub(super) fn part_least(facts: &Facts<'_>) -> Vec<String> {
    let least = facts.now.part_target.unwrap_or(0) * 85 / 100;
    let mut found = Vec::new();
    for segment in facts.now.all() {
        // The newest part of an open segment may turn out to be its last, too.
        for pair in segment.parts.windows(2) {
            let [part, next] = pair else { continue };
            if part.duration < least && !part.gap && !next.gap {
                found.push(format!("{} has {} ns, and {least} are the least", part.uri, part.duration));
            }
        }
    }
    found
}

/// Whether a part may last longer than is said: as long as parts may is what is said of those where a publisher makes nothing
/// for a while, and the last frame stays.
pub(super) fn is_cut(facts: &Facts<'_>, part: &Part<'_>) -> bool {
    !facts.complete && facts.now.part_target.is_some_and(|target| part.duration + ROUNDING >= target)
}

/// Of the open segment nothing says how long a picture lasts that lasts longer than a part may.
pub(super) fn open_is_cut(facts: &Facts<'_>) -> bool {
    facts.now.open.parts.iter().any(|part| is_cut(facts, part))
}

pub(super) fn part_sum(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for segment in facts.now.segments.iter().filter(|segment| !segment.parts.is_empty() && !segment.gap) {
        let sum: u64 = segment.parts.iter().map(|part| part.duration).sum();
        let length = segment.duration.unwrap_or(0);
        // A publisher that makes nothing for a while leaves holes, which are nobody's part.
        let missing = if facts.complete { 0 } else { length.saturating_sub(sum) };
        if (sum + missing).abs_diff(length) > ROUNDING * (segment.parts.len() as u64 + 1) {
            found.push(format!("{} has {length} ns, its parts {sum}", segment.number));
        }
    }
    found
}

/// A gap's parts need not be named.
pub(super) fn part_place(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let bound = 3 * facts.now.target.unwrap_or(0) * SECOND;
    let of_transport = facts.now.is_of_transport();
    let bound_of_those = if open_is_cut(facts) { 0 } else { bound };
    // Whoever wrote the list added up what it says, and did so before each number was rounded.
    let (mut behind, mut rounding) = (0, 0);
    for segment in facts.now.all().rev() {
        behind += segment.length();
        rounding += ROUNDING * segment.parts.len().max(1) as u64;
        match segment.parts.len() {
            0 if behind + rounding <= bound_of_those
                && segment.uri.is_some()
                && !segment.gap
                && !of_transport =>
            {
                found.push(format!("{} begins {behind} ns before the end and has none", segment.number));
            }
            parts if parts > 0 && behind > bound + rounding => {
                found.push(format!("{} begins {behind} ns before the end and has {parts}", segment.number));
            }
            _ => {}
        }
    }
    found
}

pub(super) fn hint(facts: &Facts<'_>) -> Vec<String> {
    let now = &facts.now;
    let of_parts = now.hints.iter().filter(|hint| hint.plain("TYPE") == Some("PART")).count();
    let mut found = Vec::new();
    if of_parts != usize::from(!now.ended && !now.is_of_transport()) {
        found.push(format!(
            "{of_parts} parts are, and it {}",
            if now.ended { "has ended" } else { "goes on" }
        ));
    }
    let listed = |uri: &str| now.all().flat_map(|segment| &segment.parts).any(|part| part.uri == uri);
    if let Some(uri) = now.hint().filter(|uri| listed(uri)) {
        found.push(format!("{uri} is listed"));
    }
    found
}

/// Segments that a report may be ahead of what was fetched before it.
const AHEAD: u64 = 2;

/// Reports are wanted by the profile for low latency (appendix B.1).
/// The segment and the part that a rendition is said to have come to.
fn last_reported(report: &Attributes<'_>) -> Option<(u64, u64)> {
    Some((report.integer("LAST-MSN")?, report.integer("LAST-PART")?))
}

/// Whether the same renditions are said to be as far, or further. Others may have come: a track begins when it has something.
pub(super) fn reports_go_on(before: &[Attributes<'_>], now: &[Attributes<'_>]) -> bool {
    before.iter().all(|was| {
        let mut same = now.iter().filter(|is| was.quoted("URI") == is.quoted("URI"));
        same.next().is_some_and(|is| last_reported(was) <= last_reported(is))
    })
}

pub(super) fn reports(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if facts.now.ended {
        return found;
    }
    for (uri, other) in &facts.others {
        let report = facts.now.reports.iter().find(|report| report.quoted("URI") == Some(*uri));
        let Some((number, part)) = report.and_then(last_reported) else {
            found.push(format!("{uri} is not"));
            continue;
        };
        let Some((newest, newest_part)) = other.newest() else { continue };
        let behind = (number, part) < (newest, newest_part.unwrap_or(0));
        if behind || (facts.complete && number > newest + AHEAD) {
            found.push(format!("{uri} is said to be at {number}.{part}, and is at {newest}.{newest_part:?}"));
        }
    }
    if facts.complete && facts.now.reports.len() > facts.others.len() {
        found.push(format!("{} are reported, and there are {}", facts.now.reports.len(), facts.others.len()));
    }
    found
}
