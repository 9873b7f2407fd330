//! How a peer shows that it may: by a password (RFC 7617), or by a proof that it knows one (Digest: RFC 7616, and RFC 2617 for those
//! who count nothing). Any user may have the password of a key.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::address::Address;
use crate::{
    access::{self, Algorithm, Proof},
    limits::Secret,
    media::StreamName,
    time::Now,
};

/// What a password is for.
const REALM: &str = "shardcast";
/// How long a number that was given out may be shown.
const NONCE_TIME: Duration = Duration::from_secs(300);

/// What a request shows.
#[derive(Debug, PartialEq, Eq)]
pub enum Shown {
    /// Nothing, or nothing that is understood.
    Nothing,
    /// A password, as the query that says the same.
    Query(String),
    /// That it knows one.
    Proof(Box<Proof>),
    /// The same, with a number that is too old or another connection's.
    Stale,
}

/// The number that proofs on one connection must hold. It is of this connection alone, so that none can be shown again on another.
#[derive(Debug)]
pub struct Nonce {
    secret: Secret,
    /// The number, and when it was given.
    given: Option<(String, Now)>,
    /// How many were.
    count: u64,
}

impl Nonce {
    /// None yet.
    pub fn new(secret: Secret) -> Self {
        Nonce { secret, given: None, count: 0 }
    }

    /// What a peer is told that has shown nothing, or nothing good. The order is one that clients come to terms with: ffmpeg takes
    /// the last of Digest and knows MD5 alone, GStreamer the first that it knows.
    pub fn challenges(&mut self, stale: bool, now: Now) -> [String; 3] {
        let fresh = |given: &&(String, Now)| !stale && now.since(given.1) < NONCE_TIME;
        let nonce = match self.given.as_ref().filter(fresh) {
            Some((nonce, _)) => nonce.clone(),
            None => self.make(now),
        };
        let stale = if stale { ", stale=true" } else { "" };
        let digest = |algorithm: &str| {
            format!("Digest realm=\"{REALM}\", nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\"{stale}")
        };
        [digest("SHA-256"), digest("MD5"), format!("Basic realm=\"{REALM}\"")]
    }

    fn make(&mut self, now: Now) -> String {
        self.count += 1;
        let mut hash = Sha256::new();
        hash.update(self.secret.0);
        hash.update(now.0.to_be_bytes());
        hash.update(self.count.to_be_bytes());
        let nonce: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.given = Some((nonce.clone(), now));
        nonce
    }

    /// What `header` shows for a request of `method` about the stream `name`.
    pub fn shown(&self, header: &str, method: &str, name: &StreamName, now: Now) -> Shown {
        let Some((scheme, rest)) = header.trim().split_once(' ') else { return Shown::Nothing };
        if scheme.eq_ignore_ascii_case("basic") {
            return access::credentials(header).map_or(Shown::Nothing, Shown::Query);
        }
        let proof = scheme.eq_ignore_ascii_case("digest").then(|| proof(rest, method)).flatten();
        // What is proved for another stream is not for this one.
        let about = |proof: &Proof| Address::read(&proof.uri).is_ok_and(|address| address.name == *name);
        let Some(proof) = proof.filter(about) else { return Shown::Nothing };
        match &self.given {
            Some((nonce, given)) if *nonce == proof.nonce && now.since(*given) < NONCE_TIME => {
                Shown::Proof(Box::new(proof))
            }
            _ => Shown::Stale,
        }
    }
}

/// What a side says that it reckons by, MD5 where it says nothing. `None` for what is not known here. (RFC 7616, 3.3)
pub(super) fn algorithm_of(name: Option<&str>) -> Option<Algorithm> {
    match name {
        None => Some(Algorithm::Md5),
        Some(name) if name.eq_ignore_ascii_case("MD5") => Some(Algorithm::Md5),
        Some(name) if name.eq_ignore_ascii_case("SHA-256") => Some(Algorithm::Sha256),
        Some(_) => None,
    }
}

/// Reads what a peer proves. `None` when something is missing, or is reckoned in a way that was not offered.
fn proof(text: &str, method: &str) -> Option<Proof> {
    let found = parameters(text);
    let value = |name: &str| {
        let pair = found.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        pair.map(|(_, value)| value.clone())
    };
    let algorithm = algorithm_of(value("algorithm").as_deref())?;
    let counted = match value("qop") {
        None => None,
        Some(quality) if quality.eq_ignore_ascii_case("auth") => Some((value("nc")?, value("cnonce")?)),
        Some(_) => return None,
    };
    let realm = value("realm").filter(|realm| realm == REALM)?;
    Some(Proof {
        algorithm,
        user: value("username")?,
        realm,
        method: method.to_owned(),
        uri: value("uri")?,
        nonce: value("nonce")?,
        counted,
        response: value("response")?,
    })
}

/// Pairs of a name and a value, which may stand in quotation marks and then hold anything. (RFC 9110, 11.2)
fn parameters(text: &str) -> Vec<(String, String)> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((name, behind)) = rest.split_once('=') {
        let name = name.trim_matches([' ', '\t', ',']).to_owned();
        let behind = behind.trim_start();
        let (value, left) = match behind.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let end = behind.find(',').unwrap_or(behind.len());
                let (value, left) = behind.split_at(end);
                (value.trim().to_owned(), left)
            }
        };
        found.push((name, value));
        rest = left;
    }
    found
}

/// What stands before the closing quotation mark, and what behind it.
pub(super) fn unquoted(text: &str) -> (String, &str) {
    let (mut value, mut escaped) = (String::new(), false);
    for (place, character) in text.char_indices() {
        match character {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return (value, text.split_at(place + 1).1),
            _ => {
                value.push(character);
                escaped = false;
            }
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Now = Now(1_000_000_000);

    fn name() -> StreamName {
        StreamName::parse("live/cam").unwrap()
    }

    #[test]
    fn a_password_is_a_key() {
        let nonce = Nonce::new(Secret::default());
        let shown = |header: &str| nonce.shown(header, "DESCRIBE", &name(), NOW);
        assert_eq!(shown("Basic dXNlcjpzZWM6cmV0Jg=="), Shown::Query("user=user&key=sec%3Aret%26".into()));
        for bad in ["", "Basic", "Basic !", "Basic dXNlcg==", "Digest dXNlcjpz", "Bearer x"] {
            assert_eq!(shown(bad), Shown::Nothing, "{bad}");
        }
    }

    #[test]
    fn a_proof_is_read_with_or_without_a_count_and_holds_the_number_of_its_connection() {
        let mut nonce = Nonce::new(Secret([7; 32]));
        let [sha, md5, basic] = nonce.challenges(false, NOW);
        assert!(sha.contains("SHA-256") && md5.contains("algorithm=MD5") && basic.starts_with("Basic"));
        let (given, _) = nonce.given.clone().unwrap();
        assert!(sha.contains(&given) && md5.contains(&given) && given.len() == 32);
        assert_eq!(nonce.challenges(false, NOW)[1], md5, "one number serves for all requests");
        let url = "rtsp://h/live/cam";
        let show = |rest: &str| {
            format!(
                "Digest username=\"a \\\"b\\\"\", realm=\"shardcast\", nonce=\"{given}\", response=\"00\"{rest}"
            )
        };
        let uri = format!(", uri=\"{url}/trackID=0\"");
        let Shown::Proof(plain) = nonce.shown(&show(&uri), "PLAY", &name(), NOW) else { panic!("a proof") };
        assert_eq!((plain.algorithm, plain.user.as_str()), (Algorithm::Md5, "a \"b\""));
        assert_eq!((plain.method.as_str(), &plain.counted), ("PLAY", &None));
        let counted = format!("{uri}, algorithm=SHA-256, qop=auth, nc=00000001, cnonce=\"x,y=z\"");
        let Shown::Proof(counted) = nonce.shown(&show(&counted), "PLAY", &name(), NOW) else {
            panic!("a proof")
        };
        assert_eq!(counted.algorithm, Algorithm::Sha256);
        assert_eq!(counted.counted, Some(("00000001".into(), "x,y=z".into())));
        for bad in [
            String::new(),
            ", uri=\"rtsp://h/live/other\"".into(),
            format!("{uri}, algorithm=MD5-sess"),
            format!("{uri}, qop=auth-int, nc=1, cnonce=2"),
            format!("{uri}, qop=auth, nc=1"),
        ] {
            assert_eq!(nonce.shown(&show(&bad), "PLAY", &name(), NOW), Shown::Nothing, "{bad}");
        }
        assert_eq!(nonce.shown(&show(&uri), "PLAY", &name(), NOW.after(NONCE_TIME)), Shown::Stale);
        let other = Nonce::new(Secret([7; 32]));
        assert_eq!(other.shown(&show(&uri), "PLAY", &name(), NOW), Shown::Stale);
        let [again, ..] = nonce.challenges(true, NOW);
        assert!(again.ends_with(", stale=true") && !again.contains(&given), "{again}");
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(text in "(Digest |Basic )?([a-z]{1,6}=\"?.{0,12}\"?,? ?){0,6}") {
            let _ = Nonce::new(Secret::default()).shown(&text, "PLAY", &name(), NOW);
        }
    }
}
