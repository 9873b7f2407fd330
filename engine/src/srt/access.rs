//! What a caller wants, from its stream id: in the syntax of libsrt's access control (`#!::r=live/cam,m=publish`), or in short
//! (`publish:live/cam`, `read:live/cam`, `live/cam`).

use super::{decoded, handshake::reason};
use crate::media::StreamName;

/// What a caller wants, as its stream id says it.
///
/// ```
/// use shardcast_engine::srt::{Fault, Wish};
///
/// let wish = Wish::read(b"#!::r=live/cam,m=publish,key=secret").expect("it names a stream");
/// assert!(wish.name.as_str() == "live/cam" && wish.publish && wish.query == "key=secret");
/// assert_eq!(Wish::read(b"write:live/cam"), Err(Fault::Mode));
/// assert_eq!(Fault::Mode.reason(), 1405);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The stream.
    pub name: StreamName,
    /// It wants to publish it, and not to play it.
    pub publish: bool,
    /// What else it says, as a query: `key=secret`.
    pub query: String,
}

/// Why nothing can be made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It names no stream that there could be.
    Name(&'static str),
    /// A mode that there is not here.
    Mode,
}

impl Fault {
    /// What a caller is told: a number of libsrt's access control.
    pub const fn reason(self) -> u32 {
        match self {
            Fault::Name(_) => reason::BAD_REQUEST,
            Fault::Mode => reason::BAD_MODE,
        }
    }
    /// A sentence for the log.
    pub const fn why(self) -> &'static str {
        match self {
            Fault::Name(why) => why,
            Fault::Mode => "a mode other than request and publish",
        }
    }
}

/// What stands before the standard syntax.
const STANDARD: &str = "#!::";

impl Wish {
    /// Reads a stream id.
    ///
    /// # Errors
    /// It names no stream, or wants what is not to be had.
    pub fn read(stream_id: &[u8]) -> Result<Wish, Fault> {
        let text = std::str::from_utf8(stream_id).map_err(|_| Fault::Name("a stream id that is no text"))?;
        // Some clients pass on what their user had to escape in a URL.
        let unescaped = if text.starts_with("%23!") { decoded(text) } else { text.to_owned() };
        let text = unescaped.trim();
        match text.strip_prefix(STANDARD) {
            Some(pairs) => Wish::read_standard(pairs),
            None if text.starts_with("#!") => Err(Fault::Name("a stream id in a syntax that is not known")),
            None => Wish::read_short(text),
        }
    }

    fn read_standard(pairs: &str) -> Result<Wish, Fault> {
        let (mut resource, mut host, mut publish, mut query) = (None, None, false, String::new());
        for pair in pairs.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) =
                pair.split_once('=').ok_or(Fault::Name("a stream id with a key and no value"))?;
            match key {
                "r" => resource = Some(value),
                "h" => host = Some(value),
                "m" => publish = mode(value)?,
                // What sort of thing the resource is: only streams are here.
                "t" if value == "stream" => {}
                "t" => return Err(Fault::Mode),
                // A user, a session, a host's own words: whoever looks after access may want them.
                _ => add(&mut query, key, value),
            }
        }
        // Some encoders say the stream as the host.
        let named = resource.or(host.filter(|host| host.contains('/')));
        Wish::new(named.ok_or(Fault::Name("a stream id without a resource"))?, publish, query)
    }

    fn read_short(text: &str) -> Result<Wish, Fault> {
        let Some((word, rest)) = text.split_once(':') else { return Wish::new(text, false, String::new()) };
        let publish = mode(word)?;
        // User and password may follow.
        let mut parts = rest.splitn(3, ':');
        let name = parts.next().unwrap_or_default();
        let mut query = String::new();
        for (key, value) in ["u", "key"].into_iter().zip(parts) {
            add(&mut query, key, value);
        }
        Wish::new(name, publish, query)
    }

    fn new(resource: &str, publish: bool, mut query: String) -> Result<Wish, Fault> {
        let (name, asked) = resource.split_once('?').unwrap_or((resource, ""));
        if !asked.is_empty() {
            query = if query.is_empty() { asked.to_owned() } else { format!("{asked}&{query}") };
        }
        let name = name.strip_prefix('/').unwrap_or(name);
        let name = StreamName::parse(name).map_err(|error| Fault::Name(error.why))?;
        Ok(Wish { name, publish, query })
    }
}

/// Whether a mode is that of a publisher.
fn mode(word: &str) -> Result<bool, Fault> {
    match word {
        "publish" => Ok(true),
        "request" | "read" | "play" => Ok(false),
        _ => Err(Fault::Mode),
    }
}

/// A pair more in a query, with what has a meaning there escaped.
fn add(query: &mut String, key: &str, value: &str) {
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(key);
    query.push('=');
    for letter in value.chars() {
        match letter {
            '&' => query.push_str("%26"),
            '%' => query.push_str("%25"),
            letter => query.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<(String, bool, String), Fault> {
        Wish::read(text.as_bytes()).map(|wish| (wish.name.as_str().to_owned(), wish.publish, wish.query))
    }

    fn wish(name: &str, publish: bool, query: &str) -> Result<(String, bool, String), Fault> {
        Ok((name.to_owned(), publish, query.to_owned()))
    }

    #[test]
    fn every_form_names_its_stream() {
        assert_eq!(read("#!::r=live/cam,m=publish"), wish("live/cam", true, ""));
        assert_eq!(read("#!::m=request,r=/live/cam"), wish("live/cam", false, ""));
        assert_eq!(read("#!::r=live/cam"), wish("live/cam", false, ""));
        assert_eq!(read("#!::h=live/cam,m=publish"), wish("live/cam", true, ""));
        assert_eq!(read("#!::h=example.org,r=live/cam,t=stream"), wish("live/cam", false, ""));
        assert_eq!(read("%23!::r=live%2fcam,m=publish"), wish("live/cam", true, ""));
        assert_eq!(read("publish:live/cam"), wish("live/cam", true, ""));
        assert_eq!(read("read:live/cam"), wish("live/cam", false, ""));
        assert_eq!(read("live/cam"), wish("live/cam", false, ""));
    }

    #[test]
    fn credentials_become_a_query() {
        assert_eq!(read("#!::r=live/cam,u=ann,key=a&b%"), wish("live/cam", false, "u=ann&key=a%26b%25"));
        assert_eq!(read("#!::r=live/cam?key=x,m=publish,s=7"), wish("live/cam", true, "key=x&s=7"));
        assert_eq!(read("publish:live/cam:ann:se:cret"), wish("live/cam", true, "u=ann&key=se:cret"));
        assert_eq!(read("read:live/cam?key=secret"), wish("live/cam", false, "key=secret"));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in
            ["", "#!::", "#!::m=publish", "#!::r=cam", "#!::h=cam", "#!:{r: live/cam}", "a/b/c", "#!::r"]
        {
            assert!(matches!(read(text), Err(Fault::Name(_))), "{text}");
        }
        assert!(matches!(Wish::read(b"live/\xff"), Err(Fault::Name(_))));
        for text in ["#!::r=live/cam,m=bidirectional", "write:live/cam", "#!::r=live/cam,t=file"] {
            assert_eq!(read(text), Err(Fault::Mode), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = Wish::read(text.as_bytes());
            let _ = Wish::read(format!("#!::{text}").as_bytes());
        }
    }
}
