//! The pages, and what they are made of: files that the binary carries, so that a player needs no other origin.
//!
//! Plain HTML, CSS and JavaScript without a build step. As their authors distribute them: `hls/` is hls.js 1.7.4
//! (`hls.min.js`; Apache-2.0), `mpegts/` is mpegts.js 1.8.2 (Apache-2.0, with a piece under MIT); the licences stand beside them.

use std::{fmt, sync::OnceLock};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha1::{Digest, Sha1};

/// One file.
pub struct Asset {
    path: &'static str,
    kind: Kind,
    body: &'static [u8],
    packed: &'static [u8],
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
    const fn new(path: &'static str, kind: Kind, body: &'static [u8], packed: &'static [u8]) -> Self {
        Asset { path, kind, body, packed, tag: OnceLock::new() }
    }

    /// What it holds.
    pub const fn body(&self) -> &'static [u8] {
        self.body
    }

    /// The same in gzip's format, by the build script.
    pub const fn packed(&self) -> &'static [u8] {
        self.packed
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

    /// Its entity tag, quoted: a digest of what it holds. Packed or not, it is the same, so it is sent as a weak one. (RFC 9110,
    /// 8.8.1)
    pub fn tag(&self) -> &str {
        self.tag.get_or_init(|| format!("\"{}\"", URL_SAFE_NO_PAD.encode(Sha1::digest(self.body))))
    }

    /// What a page may load and do: this origin's files, this origin's streams, and pictures from Media Source
    /// Extensions (which are `blob:` addresses). No other origin is ever asked for anything. No worker either: hls.js and
    /// mpegts.js would make theirs from a blob of code, and do without.
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

/// An [`Asset`] of a file beside this one.
macro_rules! asset {
    ($path:literal, $kind:ident, $file:literal) => {
        Asset::new(
            $path,
            Kind::$kind,
            include_bytes!($file),
            include_bytes!(concat!(env!("OUT_DIR"), "/", $file, ".gz")),
        )
    };
}

/// The file at `path`, if there is one.
pub fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

/// The page that plays. One for all streams: it reads the stream's name from its own address.
pub fn player() -> &'static Asset {
    &PLAYER
}

static PLAYER: Asset = asset!("/APP/STREAM/", Page, "player.html");

/// A door that serves no HLS does not carry its player, and the page takes the next form.
const ASSETS_COUNT: usize = if cfg!(feature = "hls") { 12 } else { 11 };

static ASSETS: [Asset; ASSETS_COUNT] = [
    asset!("/", Page, "landing.html"),
    asset!("/assets/landing.js", Script, "landing.js"),
    asset!("/assets/player.js", Script, "player.js"),
    asset!("/assets/forms.js", Script, "forms.js"),
    asset!("/assets/style.css", Style, "style.css"),
    asset!("/assets/icon.svg", Icon, "icon.svg"),
    asset!("/favicon.ico", Icon, "icon.svg"),
    #[cfg(feature = "hls")]
    asset!("/assets/hls.js", Script, "hls/hls.js"),
    asset!("/assets/hls.js.LICENSE", Text, "hls/LICENSE"),
    asset!("/assets/mpegts.js", Script, "mpegts/mpegts.js"),
    asset!("/assets/mpegts.js.LICENSE", Text, "mpegts/LICENSE"),
    asset!("/assets/mpegts.js.LICENSE.txt", Text, "mpegts/mpegts.js.LICENSE.txt"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(asset: &Asset) -> &str {
        std::str::from_utf8(asset.body()).unwrap()
    }

    /// All but the libraries.
    fn ours() -> impl Iterator<Item = &'static Asset> {
        let theirs = |asset: &&Asset| asset.path.contains("mpegts.js") || asset.path.contains("hls.js");
        ASSETS.iter().filter(move |asset| !theirs(asset)).chain([player()])
    }

    #[test]
    fn every_file_that_a_page_names_is_carried() {
        let mut named = 0;
        for asset in ours() {
            for piece in text(asset).split("/assets/").skip(1) {
                let file = piece.split(['"', '\'']).next().unwrap();
                let carried = super::asset(&format!("/assets/{file}")).is_some();
                assert!(carried || (file == "hls.js" && !cfg!(feature = "hls")), "{asset:?} names {file}");
                named += 1;
            }
        }
        assert!(
            named >= 9,
            "both pages a style, an icon and a script, a script the forms, these two libraries: {named}"
        );
    }

    #[test]
    fn nothing_of_ours_names_another_origin_or_needs_what_the_policy_forbids() {
        for asset in ours() {
            let text = text(asset).replace("http://www.w3.org/2000/svg", "");
            for bad in
                ["src=\"http", "href=\"http", "url(http", "import(", "eval(", "style=\"", "onclick", "<style"]
            {
                assert!(!text.contains(bad), "{asset:?} has {bad}");
            }
        }
    }

    #[test]
    fn what_is_packed_is_the_file_and_smaller() {
        use std::io::Read;
        for asset in ASSETS.iter().chain([player()]) {
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(asset.packed()).read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == asset.body(), "{asset:?}");
            assert!(asset.packed().len() < asset.body().len(), "{asset:?}: {}", asset.packed().len());
        }
        let library = super::asset("/assets/mpegts.js").unwrap();
        assert!(library.packed().len() * 3 < library.body().len(), "{}", library.packed().len());
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
