//! Addresses in playlists and manifests, which are relative to where the text came from (RFC 3986, 5.2).

use crate::url::Url;

/// The port of an address that names none.
const HTTP_PORT: u16 = 80;

/// What `reference` names in a text that came from `base`. Queries are kept as they stand.
///
/// # Errors
/// It is no address of an HTTP server.
pub fn resolve(base: &Url, reference: &str) -> Result<Url, String> {
    let reference = reference.split('#').next().unwrap_or_default().trim();
    if reference.chars().any(|character| character.is_control() || character == ' ') {
        return Err(format!("{reference:?} is no URI"));
    }
    let there = |path: String| Url { scheme: base.scheme.clone(), address: base.address.clone(), path };
    if let Some((scheme, _)) = reference.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) {
        return absolute(scheme, &reference[scheme.len() + "://".len()..], reference);
    }
    if let Some(rest) = reference.strip_prefix("//") {
        return absolute(&base.scheme, rest, reference);
    }
    let own = base.path.split('?').next().unwrap_or_default();
    if reference.is_empty() {
        return Ok(base.clone());
    }
    if reference.starts_with('?') {
        return Ok(there(format!("{own}{reference}")));
    }
    let (path, query) = match reference.find('?') {
        Some(at) => reference.split_at(at),
        None => (reference, ""),
    };
    let folder = own.rfind('/').map_or("/", |at| &own[..=at]);
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{folder}{path}") };
    Ok(there(format!("{}{query}", without_dots(&whole))))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|character| character.is_ascii_alphanumeric() || "+-.".contains(character))
}

fn absolute(scheme: &str, rest: &str, reference: &str) -> Result<Url, String> {
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(format!("{reference} is not fetched: only http:// is"));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let address = if host.rsplit(']').next().is_some_and(|port| port.contains(':')) {
        host.to_owned()
    } else {
        format!("{host}:{HTTP_PORT}")
    };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Url { scheme: "http".to_owned(), address, path })
}

/// RFC 3986, 5.2.4.
fn without_dots(path: &str) -> String {
    if !path.contains("/.") {
        return path.to_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (place, segment) in segments.iter().enumerate() {
        let last = place + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resolved(reference: &str) -> String {
        let base = Url::parse("http://h:8080/live/cam/index.m3u8?token=a/b").unwrap();
        resolve(&base, reference)
            .map_or_else(|why| why, |url| format!("{}://{}{}", url.scheme, url.address, url.path))
    }

    #[test]
    fn a_reference_is_relative_to_where_its_text_came_from() {
        for (reference, wanted) in [
            ("video.m3u8", "http://h:8080/live/cam/video.m3u8"),
            ("video.m3u8?x=1#t", "http://h:8080/live/cam/video.m3u8?x=1"),
            ("./a/./b.mp4", "http://h:8080/live/cam/a/b.mp4"),
            ("../other/a.mp4?q=../x", "http://h:8080/live/other/a.mp4?q=../x"),
            ("../../../../a", "http://h:8080/a"),
            ("..", "http://h:8080/live/"),
            ("/root.ts", "http://h:8080/root.ts"),
            ("//o/a.ts", "http://o:80/a.ts"),
            ("http://o:81/a?b", "http://o:81/a?b"),
            ("HTTP://[::1]?b", "http://[::1]:80/?b"),
            ("?_HLS_msn=1", "http://h:8080/live/cam/index.m3u8?_HLS_msn=1"),
            ("", "http://h:8080/live/cam/index.m3u8?token=a/b"),
            ("a.mp4?to=http://x/", "http://h:8080/live/cam/a.mp4?to=http://x/"),
        ] {
            assert_eq!(resolved(reference), wanted, "{reference}");
        }
        assert!(resolved("https://o/a").contains("only http"));
        assert!(resolved("a\r\nHost: x").contains("no URI"));
    }

    proptest! {
        #[test]
        fn no_reference_panics_or_leaves_its_line(reference in ".{0,40}") {
            let base = Url::parse("http://h:8080/live/index.m3u8").unwrap();
            if let Ok(url) = resolve(&base, &reference) {
                prop_assert!(url.path.starts_with('/'));
                prop_assert!(!url.path.contains(['\r', '\n', ' ']));
            }
        }
    }
}
