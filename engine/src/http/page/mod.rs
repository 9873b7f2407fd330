//! The pages, and what they are made of: files that the binary carries, so that a player needs no other origin.
//!
//! Plain HTML, CSS and JavaScript without a build step. `mpegts/` is mpegts.js 1.8.2 as its authors distribute it
//! (Apache-2.0, with a piece under MIT; both licences beside it).

use std::{fmt, sync::OnceLock};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha1::{Digest, Sha1};

/// One file.
pub struct Asset {
    path: &'static str,
    kind: Kind,
    body: &'static [u8],
    tag: OnceLock<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Page,
    Script,
    Style,
    Icon,
    Text,
}

impl Asset {
    const fn new(path: &'static str, kind: Kind, body: &'static [u8]) -> Self {
        Asset { path, kind, body, tag: OnceLock::new() }
    }

    /// What it holds.
    pub const fn body(&self) -> &'static [u8] {
        self.body
    }

    /// Its media type.
    pub const fn content_type(&self) -> &'static str {
        match self.kind {
            Kind::Page => "text/html; charset=utf-8",
            Kind::Script => "text/javascript; charset=utf-8",
            Kind::Style => "text/css; charset=utf-8",
            Kind::Icon => "image/svg+xml",
            Kind::Text => "text/plain; charset=utf-8",
        }
    }

    /// Its entity tag, quoted: a digest of what it holds.
    pub fn tag(&self) -> &str {
        self.tag.get_or_init(|| format!("\"{}\"", URL_SAFE_NO_PAD.encode(Sha1::digest(self.body))))
    }

    /// What a page may load and do: this origin's files, this origin's streams, and pictures from Media Source
    /// Extensions (which are `blob:` addresses). No other origin is ever asked for anything.
    pub const fn policy(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Page => Some(
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                 media-src 'self' blob:; base-uri 'none'; form-action 'none'",
            ),
            _ => None,
        }
    }
}

impl PartialEq for Asset {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for Asset {}

impl fmt::Debug for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asset({})", self.path)
    }
}

/// The file at `path`, if there is one.
pub fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

/// The page that plays. One for all streams: it reads the stream's name from its own address.
pub fn player() -> &'static Asset {
    &PLAYER
}

static PLAYER: Asset = Asset::new("/APP/STREAM/", Kind::Page, include_bytes!("player.html"));

static ASSETS: [Asset; 9] = [
    Asset::new("/", Kind::Page, include_bytes!("landing.html")),
    Asset::new("/assets/landing.js", Kind::Script, include_bytes!("landing.js")),
    Asset::new("/assets/player.js", Kind::Script, include_bytes!("player.js")),
    Asset::new("/assets/style.css", Kind::Style, include_bytes!("style.css")),
    Asset::new("/assets/icon.svg", Kind::Icon, include_bytes!("icon.svg")),
    Asset::new("/favicon.ico", Kind::Icon, include_bytes!("icon.svg")),
    Asset::new("/assets/mpegts.js", Kind::Script, include_bytes!("mpegts/mpegts.js")),
    Asset::new("/assets/mpegts.js.LICENSE", Kind::Text, include_bytes!("mpegts/LICENSE")),
    Asset::new("/assets/mpegts.js.LICENSE.txt", Kind::Text, include_bytes!("mpegts/mpegts.js.LICENSE.txt")),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(asset: &Asset) -> &str {
        std::str::from_utf8(asset.body()).unwrap()
    }

    #[test]
    fn every_file_that_a_page_names_is_carried() {
        let mut named = 0;
        for page in [&ASSETS[0], player()] {
            for piece in text(page).split("/assets/").skip(1) {
                let file = piece.split(['"', '\'']).next().unwrap();
                assert!(asset(&format!("/assets/{file}")).is_some(), "{page:?} names {file}");
                named += 1;
            }
        }
        assert!(named >= 6, "both pages name a style, an icon and a script: {named}");
    }

    #[test]
    fn nothing_of_ours_names_another_origin_or_needs_what_the_policy_forbids() {
        for asset in ASSETS.iter().filter(|asset| !asset.path.contains("mpegts")).chain([player()]) {
            let text = text(asset).replace("http://www.w3.org/2000/svg", "");
            for bad in
                ["src=\"http", "href=\"http", "url(http", "import(", "eval(", "style=\"", "onclick", "<style"]
            {
                assert!(!text.contains(bad), "{asset:?} has {bad}");
            }
        }
    }

    #[test]
    fn tags_differ_as_files_do() {
        let mut tags: Vec<_> = ASSETS.iter().map(|asset| asset.tag()).collect();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), ASSETS.len() - 1, "only the two icons are the same");
        assert!(tags.iter().all(|tag| tag.len() == 29 && tag.starts_with('"') && tag.ends_with('"')));
    }
}
