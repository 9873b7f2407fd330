//! Who may publish and play: the keys of `[auth]`, held against the query of a peer's URL.

use super::Auth;

/// The keys as the doors ask for them.
#[derive(Clone, Debug, Default)]
pub struct Access {
    auth: Auth,
}

impl Access {
    /// Asks for the keys of `auth`.
    pub fn new(auth: &Auth) -> Self {
        Access { auth: auth.clone() }
    }
    /// May a peer publish whose URL had this query (without its `?`)?
    pub fn may_publish(&self, query: &str) -> bool {
        admits(&self.auth.publish, query)
    }
    /// May a peer play whose URL had this query?
    pub fn may_play(&self, query: &str) -> bool {
        admits(&self.auth.play, query)
    }
}

/// An empty list admits everyone: [`check`](super::check) has seen to it that this is loopback, or was asked for.
fn admits(keys: &[String], query: &str) -> bool {
    if keys.is_empty() {
        return true;
    }
    let given = query.split('&').filter_map(|pair| pair.strip_prefix("key=")).map(decode).next();
    given.is_some_and(|given| {
        // Every key is compared, and in full, so that the time it takes tells nothing about how near a guess was.
        keys.iter().fold(false, |found, key| found | same(key.as_bytes(), &given))
    })
}

fn same(key: &[u8], given: &[u8]) -> bool {
    // The lengths may differ in what an attacker can see: it knows the length of what it sent, and learns no more.
    key.len() == given.len() && key.iter().zip(given).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Undoes percent-encoding (RFC 3986, 2.1). What is not a valid escape stays as it is. A `+` stays a plus: a key is no
/// form field, and base64 keys hold pluses.
fn decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let escaped = (byte == b'%').then(|| Some(hex(ahead.next()?)? << 4 | hex(ahead.next()?)?)).flatten();
        match escaped {
            Some(value) => {
                out.push(value);
                bytes = ahead;
            }
            None => out.push(byte),
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access::new(&Auth { publish: vec!["s3cret".into(), "a+b/c=".into()], play: vec![] })
    }

    #[test]
    fn the_right_key_opens_its_side() {
        let access = access();
        assert!(access.may_publish("key=s3cret"));
        assert!(access.may_publish("a=b&key=s3cret&c=d"));
        assert!(access.may_publish("key=a+b/c="));
        assert!(access.may_publish("key=a%2Bb%2fc%3D"));
    }

    #[test]
    fn a_wrong_or_missing_key_is_refused() {
        let access = access();
        for query in [
            "",
            "key=",
            "key=s3cre",
            "key=s3cret1",
            "xkey=s3cret",
            "s3cret",
            "key=S3CRET",
            "key=%",
            "key=%s3",
        ] {
            assert!(!access.may_publish(query), "{query:?}");
        }
        // The first key counts: a proxy that checks the first must not be passed by a second.
        assert!(!access.may_publish("key=wrong&key=s3cret"));
    }

    #[test]
    fn a_side_without_keys_is_open() {
        assert!(access().may_play(""));
        assert!(access().may_play("key=anything"));
    }

    #[test]
    fn a_key_never_shows_in_debug_output() {
        let shown = format!("{:?}", access());
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
