//! What players make of an update of a playlist. (RFC 8216bis, 6.2.5.1)

use std::collections::BTreeMap;

use crate::hls_rules::playlist::Playlist;

/// The whole playlist that `update` stands for, for who holds the one `before`; `None` when that lacks what is skipped.
///
/// What was skipped is too old for its parts to be listed still.
pub fn whole(before: &str, update: &str) -> Option<String> {
    let (old, new) = (Playlist::read(before), Playlist::read(update));
    let held = segments(before, old.media_sequence);
    let mut text = String::new();
    for line in update.lines() {
        if !line.starts_with("#EXT-X-SKIP:") {
            push(line, &mut text);
            continue;
        }
        for number in new.media_sequence..new.media_sequence + new.skipped {
            let lines = held.get(&number)?;
            // The one in force stood with a segment that has left the list.
            let has_map = lines.iter().any(|line| line.starts_with("#EXT-X-MAP:"));
            let map = old.segment(number)?.map.filter(|_| number == new.media_sequence && !has_map);
            map.into_iter().for_each(|map| push(&format!("#EXT-X-MAP:URI=\"{map}\""), &mut text));
            lines.iter().for_each(|line| push(line, &mut text));
        }
    }
    Some(text)
}

fn push(line: &str, text: &mut String) {
    text.push_str(line);
    text.push('\n');
}

/// Tags about the whole playlist that stand before its segments.
const HEAD: &[&str] = &[
    "#EXTM3U",
    "#EXT-X-VERSION:",
    "#EXT-X-TARGETDURATION:",
    "#EXT-X-SERVER-CONTROL:",
    "#EXT-X-PART-INF:",
    "#EXT-X-MEDIA-SEQUENCE:",
    "#EXT-X-DISCONTINUITY-SEQUENCE:",
];

/// The lines of each segment that has an address, without those of its parts.
fn segments(text: &str, first: u64) -> BTreeMap<u64, Vec<&str>> {
    let mut found = BTreeMap::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        if HEAD.iter().any(|tag| line.starts_with(tag)) || line.starts_with("#EXT-X-PART:") {
            continue;
        }
        lines.push(line);
        if !line.starts_with('#') {
            found.insert(first + found.len() as u64, std::mem::take(&mut lines));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-MEDIA-SEQUENCE:";

    #[test]
    fn an_update_and_the_list_before_it_make_a_list() {
        let before = format!(
            "{HEAD}3\n#EXT-X-MAP:URI=\"i\"\n#EXTINF:1,\na\n#EXTINF:1,\nb\n#EXT-X-PART:URI=\"p\"\n#EXTINF:1,\nc\n\
             #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"h\"\n"
        );
        let update = format!("{HEAD}4\n#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n#EXTINF:1,\nd\n");
        let expected =
            format!("{HEAD}4\n#EXT-X-MAP:URI=\"i\"\n#EXTINF:1,\nb\n#EXTINF:1,\nc\n#EXTINF:1,\nd\n");
        assert_eq!(whole(&before, &update), Some(expected));
        let later = update.replace("SEQUENCE:4", "SEQUENCE:5");
        assert_eq!(whole(&before, &later), None, "nobody said what segment 6 is");
    }
}
