//! Rules about the text of a playlist.

use super::{
    Facts,
    playlist::{Attributes, Line, Value, integer, nanos},
};

pub(super) fn lines(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if !facts.text.ends_with('\n') {
        found.push("the last line has no end".to_owned());
    }
    for line in facts.text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)) {
        let blank = line.trim() != line;
        if blank || line.contains(|character: char| character.is_control() || character == '\u{feff}') {
            found.push(format!("{line:?}"));
        }
    }
    found
}

/// Tags with nothing behind them, and with something.
const BARE: &[&str] =
    &["EXTM3U", "EXT-X-INDEPENDENT-SEGMENTS", "EXT-X-ENDLIST", "EXT-X-DISCONTINUITY", "EXT-X-GAP"];
const NUMBERS: &[&str] = &[
    "EXT-X-VERSION",
    "EXT-X-TARGETDURATION",
    "EXT-X-MEDIA-SEQUENCE",
    "EXT-X-DISCONTINUITY-SEQUENCE",
    "EXT-X-BITRATE",
];

pub(super) fn tags(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for line in &facts.now.lines {
        let Line::Tag(name, value) = line else { continue };
        let legal = match *name {
            name if BARE.contains(&name) => value.is_empty(),
            name if NUMBERS.contains(&name) => integer(value).is_some(),
            "EXTINF" => value.split_once(',').is_some_and(|(duration, _)| nanos(duration).is_some()),
            "EXT-X-PROGRAM-DATE-TIME" => true,
            name => ATTRIBUTES.iter().any(|(tag, ..)| *tag == name),
        };
        if !legal {
            found.push(format!("#{name}:{value}"));
        }
    }
    found
}

/// The type of an attribute's value. (4.2)
#[derive(Clone, Copy, Debug)]
enum Kind {
    Integer,
    Decimal,
    Quoted,
    Yes,
    Hint,
}

/// The attributes of each tag, their type, and whether they must be there.
const ATTRIBUTES: &[(&str, &str, Kind, bool)] = &[
    ("EXT-X-SERVER-CONTROL", "CAN-SKIP-UNTIL", Kind::Decimal, false),
    ("EXT-X-SERVER-CONTROL", "CAN-SKIP-DATERANGES", Kind::Yes, false),
    ("EXT-X-SERVER-CONTROL", "HOLD-BACK", Kind::Decimal, false),
    ("EXT-X-SERVER-CONTROL", "PART-HOLD-BACK", Kind::Decimal, true),
    ("EXT-X-SERVER-CONTROL", "CAN-BLOCK-RELOAD", Kind::Yes, true),
    ("EXT-X-PART-INF", "PART-TARGET", Kind::Decimal, true),
    ("EXT-X-MAP", "URI", Kind::Quoted, true),
    ("EXT-X-PART", "URI", Kind::Quoted, true),
    ("EXT-X-PART", "DURATION", Kind::Decimal, true),
    ("EXT-X-PART", "INDEPENDENT", Kind::Yes, false),
    ("EXT-X-PART", "GAP", Kind::Yes, false),
    ("EXT-X-SKIP", "SKIPPED-SEGMENTS", Kind::Integer, true),
    ("EXT-X-PRELOAD-HINT", "TYPE", Kind::Hint, true),
    ("EXT-X-PRELOAD-HINT", "URI", Kind::Quoted, true),
    ("EXT-X-RENDITION-REPORT", "URI", Kind::Quoted, true),
    ("EXT-X-RENDITION-REPORT", "LAST-MSN", Kind::Integer, true),
    ("EXT-X-RENDITION-REPORT", "LAST-PART", Kind::Integer, true),
];

pub(super) fn attributes(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for line in &facts.now.lines {
        let Line::Tag(tag, value) = line else { continue };
        let of_tag = || ATTRIBUTES.iter().filter(|(named, ..)| named == tag);
        if of_tag().next().is_none() {
            continue;
        }
        let list = match Attributes::read(value) {
            Ok(list) => list,
            Err(why) => {
                found.push(format!("{tag}: {why}"));
                continue;
            }
        };
        for (name, value) in &list.0 {
            match of_tag().find(|(_, known, ..)| known == name) {
                Some((.., kind, _)) if is(*kind, *value) => {}
                Some((.., kind, _)) => found.push(format!("{tag}: {name}={value:?} is no {kind:?}")),
                // One that is not known is to be passed over, but this server has no reason to write one.
                None => found.push(format!("{tag}: {name} is not known")),
            }
        }
        let missing = of_tag().filter(|(_, name, _, must)| *must && list.get(name).is_none());
        found.extend(missing.map(|(_, name, ..)| format!("{tag}: {name} is missing")));
    }
    found
}

fn is(kind: Kind, value: Value<'_>) -> bool {
    match (kind, value) {
        (Kind::Integer, Value::Plain(value)) => integer(value).is_some(),
        (Kind::Decimal, Value::Plain(value)) => nanos(value).is_some(),
        // All of them are addresses. (RFC 3986)
        (Kind::Quoted, Value::Quoted(value)) => {
            !value.is_empty()
                && value.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\\^`{|}".contains(&byte))
        }
        // A value that is not known is to be passed over.
        (Kind::Yes, Value::Plain(value)) => value == "YES",
        (Kind::Hint, Value::Plain(value)) => matches!(value, "PART" | "MAP"),
        _ => false,
    }
}

pub(super) fn first(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let is_head = |line: &Line<'_>| *line == Line::Tag("EXTM3U", "");
    if !facts.now.lines.first().is_some_and(is_head) {
        found.push(format!("it begins with {:?}", facts.now.lines.first()));
    }
    if facts.now.lines.iter().skip(1).any(is_head) {
        found.push("it is there again".to_owned());
    }
    found
}

/// Decimals in EXTINF. (8)
const VERSION_OF_DECIMALS: u64 = 3;
/// EXT-X-MAP in other playlists than those of I-frames. (8)
const VERSION_OF_MAP: u64 = 6;
/// EXT-X-SKIP. (8)
pub(super) const VERSION_OF_SKIP: u64 = 9;

pub(super) fn version(facts: &Facts<'_>) -> Vec<String> {
    let said = count(facts, "EXT-X-VERSION");
    let wanted = if count(facts, "EXT-X-SKIP") > 0 {
        VERSION_OF_SKIP
    } else if count(facts, "EXT-X-MAP") > 0 {
        VERSION_OF_MAP
    } else if facts
        .now
        .lines
        .iter()
        .any(|line| matches!(line, Line::Tag("EXTINF", value) if value.contains('.')))
    {
        VERSION_OF_DECIMALS
    } else {
        1
    };
    match (said, facts.now.version) {
        (1, version) if version >= wanted => Vec::new(),
        (said, version) => vec![format!("{version}, said {said} times, where {wanted} is wanted")],
    }
}

fn count(facts: &Facts<'_>, tag: &str) -> usize {
    facts.now.lines.iter().filter(|line| matches!(line, Line::Tag(name, _) if *name == tag)).count()
}

pub(super) fn once(facts: &Facts<'_>) -> Vec<String> {
    let tags = [
        "EXT-X-INDEPENDENT-SEGMENTS",
        "EXT-X-TARGETDURATION",
        "EXT-X-MEDIA-SEQUENCE",
        "EXT-X-DISCONTINUITY-SEQUENCE",
        "EXT-X-ENDLIST",
        "EXT-X-PART-INF",
        "EXT-X-SERVER-CONTROL",
    ];
    let times = |tag: &str| (tag.to_owned(), count(facts, tag));
    let twice = tags.into_iter().map(times).filter(|(_, times)| *times > 1);
    let mut found: Vec<String> = twice.map(|(tag, times)| format!("{tag} is there {times} times")).collect();
    if count(facts, "EXT-X-SKIP") > 0 {
        found.push("EXT-X-SKIP is in a whole playlist".to_owned());
    }
    found
}

pub(super) fn numbers_first(facts: &Facts<'_>) -> Vec<String> {
    let lines = &facts.now.lines;
    let place = |tag: &str| lines.iter().position(|line| matches!(line, Line::Tag(name, _) if *name == tag));
    let is_of_segments = |line: &Line<'_>| match line {
        Line::Tag(name, _) => matches!(*name, "EXT-X-DISCONTINUITY" | "EXT-X-PART" | "EXTINF"),
        Line::Uri(_) => true,
        Line::Blank | Line::Comment(_) => false,
    };
    let begin = lines.iter().position(is_of_segments).unwrap_or(lines.len());
    let late = |tag: &&str| place(tag).is_some_and(|place| place > begin);
    let tags = ["EXT-X-MEDIA-SEQUENCE", "EXT-X-DISCONTINUITY-SEQUENCE"];
    tags.into_iter().filter(late).map(|tag| format!("{tag} stands in line {:?}", place(tag))).collect()
}
