//! Holds the rules of the house that a compiler cannot see: who may import whom, what the engine never touches, where
//! unsafe code stands and why, how long a file may grow. `docs/ARCHITECTURE.md` gives the reasons.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A file of source.
struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
    /// The text with comments and the insides of literals blanked out, line by line as before.
    code: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package stands in the workspace").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file below `folder`.
fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folders of the workspace can be read").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("source is UTF-8");
                let inside = path.strip_prefix(root()).expect("it was found below the root");
                let code = blank(&text);
                found.push(Source { path: inside.display().to_string(), text, code });
            }
        }
    }
    assert!(!found.is_empty(), "there is no source below {folder}");
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn all_sources() -> Vec<Source> {
    ["engine", "io", "shards", "benches", "tests"].into_iter().flat_map(sources).collect()
}

/// Blanks out comments and the insides of literals; line breaks stay where they are.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    let mut erase = |from: usize, to: usize| {
        for byte in &mut out[from..to.min(bytes.len())] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    };
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = if rest.starts_with(b"//") {
            at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            at + text[at..].find("*/").map_or(rest.len(), |length| length + 2)
        } else if let Some(hashes) = raw_string(rest, at.checked_sub(1).map(|before| bytes[before])) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = at + hashes + 2;
            let end = text[open..].find(&close).map_or(bytes.len(), |length| open + length);
            erase(open, end);
            at = end + close.len();
            continue;
        } else if rest[0] == b'"' {
            let end = at + 1 + literal(&rest[1..], b'"');
            erase(at + 1, end);
            at = end + 1;
            continue;
        } else if rest[0] == b'\'' && is_character(rest) {
            let end = at + 1 + literal(&rest[1..], b'\'');
            erase(at + 1, end);
            at = end + 1;
            continue;
        } else {
            at += 1;
            continue;
        };
        erase(at, end);
        at = end;
    }
    String::from_utf8(out).expect("whole literals and comments were blanked")
}

/// How many hashes the raw string that begins here has.
fn raw_string(rest: &[u8], before: Option<u8>) -> Option<usize> {
    let inside_a_word =
        before.is_some_and(|byte| byte.is_ascii_alphanumeric() && byte != b'b' || byte == b'_');
    let after = rest.strip_prefix(b"r").filter(|_| !inside_a_word)?;
    let hashes = after.iter().take_while(|byte| **byte == b'#').count();
    (after.get(hashes) == Some(&b'"')).then_some(hashes)
}

/// True for a character's quote, false for a lifetime's.
fn is_character(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(first) if first.is_ascii() => rest.get(2) == Some(&b'\''),
        _ => true,
    }
}

/// The length of the literal that `rest` begins with, without its closing quote.
fn literal(rest: &[u8], quote: u8) -> usize {
    let mut escaped = false;
    rest.iter()
        .position(|byte| {
            let closes = *byte == quote && !escaped;
            escaped = *byte == b'\\' && !escaped;
            closes
        })
        .unwrap_or(rest.len())
}

/// The first names of what `code` imports or names by a path from `crate`.
fn rooms_named(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    let mut rest = code;
    while let Some(place) = rest.find("crate::") {
        let inside_a_word = rest[..place].ends_with(|last: char| last.is_alphanumeric() || last == '_');
        rest = &rest[place + "crate::".len()..];
        if inside_a_word {
            continue;
        }
        let mut depth = 0;
        let mut begins = true;
        for (at, character) in rest.char_indices() {
            match character {
                '{' => {
                    depth += 1;
                    begins = depth == 1;
                }
                '}' => {
                    depth -= 1;
                    begins = false;
                }
                ',' => begins = depth == 1,
                _ if begins && !character.is_whitespace() => {
                    rooms.insert(word(&rest[at..]).to_owned());
                    begins = false;
                }
                _ => {}
            }
            if depth <= 0 && !begins {
                break;
            }
        }
    }
    rooms
}

fn word(text: &str) -> &str {
    text.split(|character: char| !(character.is_alphanumeric() || character == '_')).next().unwrap_or("")
}

const BASE: &[&str] = &["bits", "canary", "error", "limits", "slab", "time"];
const MEDIA: &[&str] = &["codec", "media"];
const CONTAINERS: &[&str] = &["flv", "fmp4", "mpegts"];

/// What each room of the engine may name, beside itself.
fn may_name(room: &str) -> Option<Vec<&'static str>> {
    let base = BASE.to_vec();
    let media = [BASE, MEDIA].concat();
    Some(match room {
        "bits" | "canary" | "error" | "limits" | "slab" | "storage" | "time" | "codec" => base,
        "media" => [BASE, &["codec"]].concat(),
        // What a peer fetches crosses with its wish, and how it is made is a setting.
        "stats" | "access" | "observe" => [&media[..], &["access", "segment"]].concat(),
        "session" => [&media[..], &["access", "segment", "stats"]].concat(),
        "settings" => [&media[..], &["access", "relay", "segment"]].concat(),
        "container" => media,
        // Payload formats are of frames; in datagrams without a format only the packets count.
        "rtp" => [&media[..], &["session"]].concat(),
        "datagram" => [&media[..], &["session", "stats"]].concat(),
        "flv" | "fmp4" | "mpegts" => [&media[..], &["container", "session"]].concat(),
        // The stream's numbered frames cross between cores, and the cores that want them are the stream's subscribers.
        "stream" | "message" => [&media[..], &["session", "message", "segment", "stream"]].concat(),
        "record" => [&media[..], &["container", "fmp4"]].concat(),
        "segment" => [&media[..], &["container", "fmp4", "mpegts", "session"]].concat(),
        "hub" => {
            let below = &[
                "access", "message", "observe", "record", "segment", "session", "settings", "stats", "stream",
            ];
            [&media[..], below].concat()
        }
        // What stands in a playlist or a manifest follows from the window alone.
        // How often pictures come is read from the fragments themselves.
        "hls" | "dash" => [&media[..], &["fmp4", "segment", "session", "hls"]].concat(),
        // It routes to what is fetched by its requests. What a peer shows is read as by RTSP.
        "http" => [&media[..], CONTAINERS, &["access", "session", "segment", "hls", "dash"]].concat(),
        "http2" => [&media[..], &["http", "session"]].concat(),
        // A protocol never names another.
        "rtmp" | "demo" => [&media[..], CONTAINERS, &["session"]].concat(),
        // What a peer proves is read where it is said, and judged by whoever has the keys.
        "rtsp" => [&media[..], &["access", "rtp", "session"]].concat(),
        "srt" => [&media[..], &["container", "datagram", "mpegts", "session", "slab", "stats"]].concat(),
        // Who is met at several addresses names itself in the first datagram. Its packets are those of RTSP.
        "webrtc" => [&media[..], &["access", "datagram", "rtp", "session", "stats"]].concat(),
        "udp" => [&media[..], CONTAINERS, &["container", "rtp", "session"]].concat(),
        // Where streams go to and come from. Who goes there is for the driver to open.
        // The keys of a URL are read as those of a peer are.
        "relay" => [&media[..], &["access", "srt", "udp"]].concat(),
        "protocol" => {
            [&media[..], &["datagram", "demo", "http", "rtmp", "rtsp", "session", "srt", "webrtc"]].concat()
        }
        "lib" => Vec::new(),
        _ => return None,
    })
}

#[test]
fn rooms_of_the_engine_name_only_those_they_stand_on() {
    for source in sources("engine/src") {
        let inside = source.path.trim_start_matches("engine/src/");
        let room = word(inside);
        let allowed = may_name(room)
            .unwrap_or_else(|| panic!("{}: a new room: say here what it may name", source.path));
        for named in rooms_named(&source.code) {
            assert!(
                named == room || allowed.contains(&named.as_str()) || named.is_empty(),
                "{} names `{named}`, which `{room}` does not stand on",
                source.path
            );
        }
    }
}

#[test]
fn packages_name_only_those_they_stand_on() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("engine", &[][..]),
        ("io", &[]),
        ("shards", &["shardcast_engine", "shardcast_io"]),
        ("benches", &["shardcast_engine", "shardcast_io", "shardcast_shards", "shardcast_bench"]),
        ("tests", &["shardcast_engine", "shardcast_io", "shardcast_shards", "shardcast_tests"]),
    ]);
    for (package, allowed) in allowed {
        let own = format!("shardcast_{package}");
        for source in sources(package) {
            for (place, _) in source.code.match_indices("shardcast_") {
                let named = word(&source.code[place..]);
                assert!(named == own || allowed.contains(&named), "{} names {named}", source.path);
            }
        }
        let manifest = read(&format!("{package}/Cargo.toml"));
        let dependencies = manifest.lines().filter(|line| line.starts_with("shardcast-"));
        for named in
            dependencies.map(|line| line.split(['.', ' ', '=']).next().unwrap_or("").replace('-', "_"))
        {
            assert!(allowed.contains(&named.as_str()), "{package}/Cargo.toml names {named}");
        }
        assert!(manifest.contains("[lints]\nworkspace = true"), "{package}/Cargo.toml has lints of its own");
    }
}

#[test]
fn the_executor_is_named_only_where_its_traps_are_known() {
    for source in all_sources() {
        let may = source.path.starts_with("io/")
            || ["shards/src/node.rs", "shards/src/shard.rs"].contains(&source.path.as_str());
        assert!(may || !source.code.contains("glommio"), "{} names glommio", source.path);
    }
}

#[test]
fn the_engine_has_no_clock_socket_file_or_thread() {
    let forbidden = [
        "Instant",
        "SystemTime",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "std::fs",
        "fs::",
        "thread::",
        "std::process",
        "std::env",
        "env::var",
        "tokio",
        "io_uring",
        "println!",
        "HashMap",
    ];
    for source in sources("engine/src") {
        // A table whose order is chance would make a run that cannot be replayed; so it stands on the list, too. A test may
        // have one.
        let test = source.path.ends_with("tests.rs") || source.path.contains("/tests/");
        // `h2` reads and writes by traits of tokio's; it is memory that has them here.
        let pipe = source.path == "engine/src/http2/pipe.rs";
        // The library of WebRTC is told the time as the standard library has it.
        let epoch = source.path == "engine/src/webrtc/epoch.rs";
        let may =
            |word: &str| test && word == "HashMap" || pipe && word == "tokio" || epoch && word == "Instant";
        for word in forbidden.into_iter().filter(|word| !may(word)) {
            let places = source.code.match_indices(word).map(|(place, _)| place);
            for place in places {
                let before = source.code[..place].chars().next_back();
                let whole = before.is_none_or(|before| !(before.is_alphanumeric() || before == '_'));
                assert!(!whole, "{}:{} names {word}", source.path, line_of(&source.code, place));
            }
        }
    }
}

fn line_of(code: &str, place: usize) -> usize {
    code[..place].lines().count().max(1)
}

#[test]
fn unsafe_code_stands_in_io_alone_and_says_why_it_holds() {
    let mut blocks = 0;
    for source in all_sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (place, _) in source.code.match_indices("unsafe") {
            let after = source.code[place + "unsafe".len()..].trim_start();
            let block = after.starts_with('{') || after.starts_with("impl");
            if !block {
                continue;
            }
            // Programs that host the library of somebody else are no part of the workspace.
            let own = source.path != "benches/servers/libsrt/src/libsrt.rs";
            assert!(source.path.starts_with("io/") || !own, "{} has unsafe code", source.path);
            blocks += 1;
            let line = line_of(&source.code, place) - 1;
            // The reason stands right above the statement that the block is in.
            let reason = lines[..=line].iter().rev().take(6).any(|line| line.contains("SAFETY:"));
            assert!(reason, "{}:{} has unsafe code without its reason", source.path, line + 1);
        }
        if !source.path.starts_with("io/") && source.path.ends_with("src/lib.rs") {
            let forbids = source.code.contains("#![forbid(unsafe_code)]");
            assert!(
                forbids || source.path.starts_with("tests/"),
                "{} does not forbid unsafe code",
                source.path
            );
        }
    }
    assert!(blocks > 0, "no unsafe code was found: this test looks at the wrong place");
}

/// A file that is longer holds two nouns.
const LINES_MAX: usize = 700;

#[test]
fn files_begin_with_what_they_are_for_and_do_not_grow_without_end() {
    for source in all_sources() {
        let lines = source.text.lines().count();
        assert!(lines < LINES_MAX, "{} has {lines} lines; split it by noun", source.path);
        assert!(source.text.starts_with("//!"), "{} does not say what it is for", source.path);
    }
}

#[test]
fn nothing_is_left_to_be_done_later() {
    for source in all_sources() {
        for word in ["todo!", "unimplemented!", "dbg!"] {
            assert!(!source.code.contains(word), "{} has {word}", source.path);
        }
        if source.path == "tests/tests/tidy.rs" {
            continue;
        }
        for word in ["FIXME", "TODO", "XXX", "HACK"] {
            let found = source.text.lines().position(|line| line.contains(word));
            assert!(found.is_none(), "{}:{} has {word}", source.path, found.unwrap_or(0) + 1);
        }
    }
}

#[test]
fn every_allowance_has_its_reason_beside_it() {
    for source in all_sources() {
        for (place, _) in source.code.match_indices("allow(") {
            let attribute = &source.code[place..];
            let attribute = &attribute[..attribute.find(')').unwrap_or(attribute.len())];
            let before = &source.code[..place];
            let is_attribute = before.trim_end().ends_with(['[', ',']) && before.contains("#");
            let line = line_of(&source.code, place) - 1;
            let above = source.text.lines().nth(line.wrapping_sub(1)).unwrap_or("");
            let reason = attribute.contains("reason") || above.trim_start().starts_with("//");
            assert!(!is_attribute || reason, "{}:{} allows without a reason", source.path, line + 1);
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = read("Cargo.toml");
    let (_, dependencies) =
        manifest.split_once("[workspace.dependencies]\n").expect("the workspace lists its dependencies");
    let dependencies = dependencies.split("\n[").next().unwrap_or("");
    // One reason may stand for two that are used for the same thing.
    let mut covered = 0;
    let mut seen = 0;
    for line in dependencies.lines() {
        if line.starts_with('#') {
            covered = 2;
        } else if line.starts_with("shardcast-") || line.is_empty() {
            covered = 0;
        } else {
            assert!(covered > 0, "Cargo.toml does not say why it takes {line}");
            covered -= 1;
            seen += 1;
        }
    }
    assert!(seen > 0, "no dependency was found: this test looks at the wrong place");
    for package in ["engine", "io", "shards", "benches", "tests"] {
        let manifest = read(&format!("{package}/Cargo.toml"));
        let versions = manifest.lines().filter(|line| {
            line.contains("version = \"") && !line.starts_with("version") && !line.starts_with("rust-version")
        });
        let versions: Vec<_> = versions.collect();
        assert!(versions.is_empty(), "{package}/Cargo.toml chooses versions by itself: {versions:?}");
    }
}

#[test]
fn the_tree_holds_nothing_that_was_left_behind() {
    for folder in ["", "engine", "io", "shards", "benches", "tests", "fuzz", "docs"] {
        for entry in
            fs::read_dir(root().join(folder)).expect("the folders of the workspace can be read").flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let litter = ["crash-", "oom-", "timeout-", "slow-unit-", "leak-"]
                .iter()
                .any(|kind| name.starts_with(kind))
                || name.ends_with(".orig")
                || name.ends_with(".rej")
                || name.ends_with('~');
            assert!(!litter, "{folder}/{name} was left behind");
        }
    }
}

/// The API that embedders use; `docs/EMBEDDING.md` says the same. A room that ends in a slash is a folder.
const ROOMS_FOR_EMBEDDERS: &[&str] = &[
    "engine/src/access.rs",
    "engine/src/error.rs",
    "engine/src/media.rs",
    "engine/src/observe.rs",
    "engine/src/protocol.rs",
    "engine/src/session.rs",
    "engine/src/settings.rs",
    "engine/src/storage.rs",
    "engine/src/time.rs",
    "engine/src/codec/",
    "engine/src/container/",
    "engine/src/record/",
    "engine/src/mpegts/mod.rs",
    "engine/src/mpegts/file.rs",
    "engine/src/mpegts/segment.rs",
    "engine/src/mpegts/wire.rs",
    "engine/src/mpegts/demux/mod.rs",
    "engine/src/fmp4/",
    "engine/src/flv/",
    "shards/src/host/",
    "shards/src/storage/",
];

/// What is written `pub` in those rooms and yet is for nobody outside.
const NOT_FOR_EMBEDDERS: &[(&str, &str)] = &[
    ("engine/src/codec/oracles.rs", "parsers of others, which tests hold against ours"),
    ("engine/src/codec/samples.rs", "what tests parse"),
    ("engine/src/flv/demux/", "tests"),
    ("engine/src/fmp4/tests.rs", "tests"),
    ("engine/src/record/tests/", "tests"),
    (
        "shards/src/host/door.rs",
        "the module is private, but a shard's own parts name its types in a public place",
    ),
];

/// What a line declares: whether everybody may see it, its kind, and its name.
fn declared(line: &str) -> Option<(bool, &str, &str)> {
    const KINDS: &[&str] = &["fn", "struct", "enum", "trait", "type", "const", "static", "mod"];
    let line = line.trim_start();
    let public = line.strip_prefix("pub ");
    // `pub(super)` and its like are as good as private.
    let private = || line.strip_prefix("pub(").and_then(|rest| rest.split_once(' ')).map(|(_, rest)| rest);
    let mut words = public.or_else(private).unwrap_or(line).split_whitespace().peekable();
    let mut kind = words.next()?;
    if words.peek() == Some(&"fn") {
        // `const fn`, `async fn`.
        kind = words.next()?;
    }
    let name = word(words.next()?);
    (KINDS.contains(&kind) && !name.is_empty()).then_some((public.is_some(), kind, name))
}

/// The type whose `impl` begins in a line. Of a trait it is the trait, whose items are never `pub`.
fn implemented(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("impl")?;
    let mut depth = 0;
    let generics_end = rest.find(|character| {
        match character {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    Some(word(rest[generics_end..].trim_start_matches('>').trim_start()))
}

/// The public items of a file, each with its line: not those of tests, of a private module, of a private type. The layout is
/// rustfmt's: what is begun at the margin ends with the next brace at the margin.
fn public_items(code: &str) -> Vec<(usize, &str)> {
    let at_margin = |line: &&str| !line.starts_with(' ');
    let private: BTreeSet<&str> = (code.lines().filter(at_margin).filter_map(declared))
        .filter(|(public, kind, _)| !public && *kind != "fn")
        .map(|(_, _, name)| name)
        .collect();
    let (mut hidden, mut for_tests) = (false, false);
    let mut items = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let item = declared(line);
        if at_margin(&line) {
            if line.starts_with('}') {
                hidden = false;
            } else if let Some(name) = implemented(line) {
                hidden = for_tests || private.contains(name);
            } else if let Some((public, "mod", _)) = item {
                hidden = line.ends_with('{') && (for_tests || !public);
            }
        }
        if let Some((true, kind, name)) = item
            && kind != "mod"
            && !hidden
            && !for_tests
        {
            items.push((index + 1, name));
        }
        // Between this mark and what it is about there may be other attributes.
        let trimmed = line.trim();
        for_tests = trimmed == "#[cfg(test)]" || for_tests && trimmed.starts_with("#[");
    }
    items
}

/// The words of all examples: of code blocks in the docs, which are run as tests, and of programs in `shards/examples`. What a
/// reader does not see, or only a comment says, shows nobody how it is used.
fn words_of_examples() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut add = |text: &str| {
        let words = text.split(|character: char| !(character.is_alphanumeric() || character == '_'));
        found.extend(words.map(str::to_owned));
    };
    for source in ["engine/src", "shards/src"].into_iter().flat_map(sources) {
        // Whether the block that is open is compiled; `None` outside blocks.
        let mut block = None;
        for line in source.text.lines().map(str::trim_start) {
            let Some(doc) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
                block = None;
                continue;
            };
            match (doc.trim_start().strip_prefix("```"), block) {
                (Some(language), None) => block = Some(["", "no_run"].contains(&language)),
                (Some(_), Some(_)) => block = None,
                (None, Some(true)) if !doc.trim_start().starts_with("# ") => add(&blank(doc)),
                (None, _) => {}
            }
        }
    }
    sources("shards/examples").iter().for_each(|source| add(&source.code));
    found
}

#[test]
fn every_public_item_for_embedders_stands_in_an_example() {
    let shown = words_of_examples();
    let all: Vec<Source> = ["engine/src", "shards/src"].into_iter().flat_map(sources).collect();
    let is_in = |path: &str, room: &str| path == room || room.ends_with('/') && path.starts_with(room);
    let rooms = ROOMS_FOR_EMBEDDERS.iter().chain(NOT_FOR_EMBEDDERS.iter().map(|(room, _)| room));
    for room in rooms {
        assert!(all.iter().any(|source| is_in(&source.path, room)), "there is no {room}");
    }
    let mut items = 0;
    let mut missing = Vec::new();
    for source in &all {
        let for_embedders = ROOMS_FOR_EMBEDDERS.iter().any(|room| is_in(&source.path, room));
        if !for_embedders || NOT_FOR_EMBEDDERS.iter().any(|(room, _)| is_in(&source.path, room)) {
            continue;
        }
        for (line, name) in public_items(&source.code) {
            items += 1;
            if !shown.contains(name) {
                missing.push(format!("{}:{line} {name}", source.path));
            }
        }
    }
    assert!(missing.is_empty(), "no example shows how these are used:\n{}", missing.join("\n"));
    assert!(items > 300, "few public items were found: this test looks at the wrong place");
}

#[test]
fn what_nobody_outside_can_reach_needs_no_example() {
    let code = "pub struct Seen;\nstruct Unseen;\npub(super) enum Near {}\nimpl Seen {\n    pub const fn shown(&self) {}\n    \
                pub(crate) fn near(&self) {}\n    #[cfg(test)]\n    #[inline]\n    pub fn tested() {}\n}\nimpl<'a> Unseen<'a> {\n    \
                pub fn hidden() {}\n}\nimpl Near {\n    pub async fn hidden() {}\n}\nmod inner {\n    pub const HIDDEN: u8 = 0;\n}\n\
                pub mod outer;\npub const LAST: u8 = 0;\n#[cfg(test)]\npub mod tests {\n    pub fn tested() {}\n}\n";
    assert_eq!(public_items(code), [(1, "Seen"), (5, "shown"), (21, "LAST")]);
}

#[test]
fn comments_and_literals_do_not_count_as_code() {
    let text = "a(\"x // y\", 'z', '\\'', b\"\\\"\"); // unsafe {\nr#\"todo! \" \"#; /* b\nc */ fn f<'a>(x: &'a str) {}";
    let code = blank(text);
    assert_eq!(code.lines().count(), text.lines().count());
    for hidden in ["x //", "z'", "unsafe", "todo!", "b\nc"] {
        assert!(!code.contains(hidden), "{hidden:?} is left in {code:?}");
    }
    assert!(code.contains("fn f<'a>(x: &'a str) {}"), "{code:?}");
    let rooms =
        rooms_named("use crate::{\n    bits::{Reader, Writer},\n    media,\n};\ncrate::time::Now; $crate::x");
    assert_eq!(rooms.into_iter().collect::<Vec<_>>(), ["bits", "media", "time", "x"]);
}
