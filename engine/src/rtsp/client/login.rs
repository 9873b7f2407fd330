//! How we show a server that we may: by a proof that we know the password (Digest: RFC 7616, and RFC 2617 for those that count
//! nothing), or by the password itself (RFC 7617), whichever is the best that the server takes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::{
    super::auth::{algorithm_of, unquoted},
    Credentials,
};
use crate::{
    access::{Algorithm, Proof},
    limits::Secret,
    time::Now,
};

/// Who we are to a server, and how it wants that shown.
#[derive(Debug)]
pub(super) struct Login {
    credentials: Option<Credentials>,
    wanted: Option<Challenge>,
    /// Proofs with the number that the server has given last.
    count: u32,
    /// What numbers of our own are made of.
    secret: Secret,
}

/// How a server wants it shown. The best stands last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Digest { algorithm: Algorithm, realm: String, nonce: String, opaque: Option<String>, counted: bool },
}

impl Login {
    pub fn new(credentials: Option<Credentials>, secret: Secret) -> Self {
        Login { credentials, wanted: None, count: 0, secret }
    }

    /// There is somebody to show.
    pub fn is_somebody(&self) -> bool {
        self.credentials.is_some()
    }

    /// Takes what a server says by `WWW-Authenticate`: one challenge or several. False when none of them can be answered.
    pub fn challenged(&mut self, header: &str) -> bool {
        let best = challenges(header).into_iter().filter_map(Challenge::read).max_by_key(Challenge::rank);
        (self.wanted, self.count) = (best, 0);
        self.wanted.is_some()
    }

    /// What `Authorization` says for a request; `None` while nobody has asked.
    pub fn header(&mut self, method: &str, uri: &str, now: Now) -> Option<String> {
        let Credentials { user, password } = self.credentials.as_ref()?;
        match self.wanted.as_ref()? {
            Challenge::Basic => Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))),
            Challenge::Digest { algorithm, realm, nonce, opaque, counted } => {
                self.count = self.count.wrapping_add(1);
                let own = || own_number(self.secret, now, self.count);
                let mut proof = Proof {
                    algorithm: *algorithm,
                    user: user.clone(),
                    realm: realm.clone(),
                    method: method.to_owned(),
                    uri: uri.to_owned(),
                    nonce: nonce.clone(),
                    counted: counted.then(|| (format!("{:08x}", self.count), own())),
                    response: String::new(),
                };
                proof.response = proof.response_for(password);
                Some(written(&proof, opaque.as_deref()))
            }
        }
    }
}

impl Challenge {
    /// `None` for one that we cannot answer.
    fn read((scheme, parameters): (String, Vec<(String, String)>)) -> Option<Self> {
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        let value = |name: &str| {
            let pair = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            pair.map(|(_, value)| value.clone())
        };
        let algorithm = algorithm_of(value("algorithm").as_deref())?;
        let counted = match value("qop") {
            None => false,
            Some(offered) => {
                let mut offered = offered.split(',').map(str::trim);
                offered.any(|quality| quality.eq_ignore_ascii_case("auth")).then_some(true)?
            }
        };
        let (realm, nonce, opaque) = (value("realm")?, value("nonce")?, value("opaque"));
        // A header goes on in another line behind these; what is given back must not.
        let legal = |text: &str| !text.chars().any(char::is_control);
        let all = legal(&realm) && legal(&nonce) && opaque.as_deref().is_none_or(legal);
        (scheme.eq_ignore_ascii_case("digest") && all).then_some(Challenge::Digest {
            algorithm,
            realm,
            nonce,
            opaque,
            counted,
        })
    }

    fn rank(&self) -> u8 {
        match self {
            Challenge::Basic => 0,
            Challenge::Digest { algorithm: Algorithm::Md5, .. } => 1,
            Challenge::Digest { algorithm: Algorithm::Sha256, .. } => 2,
        }
    }
}

/// A number that no server can foretell, so that none can have reckoned its answers before.
fn own_number(secret: Secret, now: Now, count: u32) -> String {
    let mut hash = Sha256::new();
    hash.update(secret.0);
    hash.update(now.0.to_be_bytes());
    hash.update(count.to_be_bytes());
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The header of a proof. (RFC 7616, 3.4)
fn written(proof: &Proof, opaque: Option<&str>) -> String {
    let Proof { algorithm, user, realm, uri, nonce, counted, response, .. } = proof;
    let mut text = format!(
        "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\"",
        quoted(user),
        quoted(realm),
        quoted(nonce),
        quoted(uri)
    );
    // Servers of the older standard name no algorithm, and some do not know the word.
    if *algorithm == Algorithm::Sha256 {
        text.push_str(", algorithm=SHA-256");
    } else if counted.is_some() {
        text.push_str(", algorithm=MD5");
    }
    if let Some((count, own)) = counted {
        text.push_str(&format!(", qop=auth, nc={count}, cnonce=\"{own}\""));
    }
    if let Some(opaque) = opaque {
        text.push_str(&format!(", opaque={}", quoted(opaque)));
    }
    text
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A scheme, and its parameters.
type Offered = (String, Vec<(String, String)>);

/// The challenges in a header, each a scheme and its parameters. Commas stand between them, and between parameters. (RFC 9110, 11.6.1)
fn challenges(text: &str) -> Vec<Offered> {
    let mut found: Vec<Offered> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|character: char| character == ',' || character.is_ascii_whitespace());
        if rest.is_empty() {
            return found;
        }
        let is_end = |character: char| matches!(character, '=' | ',') || character.is_ascii_whitespace();
        let (word, behind) = rest.split_at(rest.find(is_end).unwrap_or(rest.len()));
        let behind = behind.trim_start();
        match (behind.strip_prefix('='), found.last_mut()) {
            (Some(value), owner) => {
                let value = value.trim_start();
                let (value, left) = match value.strip_prefix('"') {
                    Some(inside) => unquoted(inside),
                    None => {
                        let (value, left) = value.split_at(value.find(',').unwrap_or(value.len()));
                        (value.trim().to_owned(), left)
                    }
                };
                if let Some((_, parameters)) = owner {
                    parameters.push((word.to_owned(), value));
                }
                rest = left;
            }
            (None, _) => {
                found.push((word.to_owned(), Vec::new()));
                rest = behind;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Now = Now(1_000_000_000);

    fn login() -> Login {
        let credentials = Credentials { user: "Mufasa".into(), password: "Circle of Life".into() };
        Login::new(Some(credentials), Secret([7; 32]))
    }

    fn shown(header: &str) -> Option<String> {
        let mut login = login();
        login.challenged(header).then(|| login.header("ANNOUNCE", "rtsp://h/live/cam", NOW))?
    }

    /// What a server makes of a header that we show: the same proof.
    fn proof_of(header: &str) -> Proof {
        let [(scheme, parameters)] = &challenges(header)[..] else { panic!("{header}") };
        assert_eq!(scheme, "Digest");
        let value =
            |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        Proof {
            algorithm: if value("algorithm").as_deref() == Some("SHA-256") {
                Algorithm::Sha256
            } else {
                Algorithm::Md5
            },
            user: value("username").unwrap(),
            realm: value("realm").unwrap(),
            method: "ANNOUNCE".into(),
            uri: value("uri").unwrap(),
            nonce: value("nonce").unwrap(),
            counted: value("nc").zip(value("cnonce")),
            response: value("response").unwrap(),
        }
    }

    #[test]
    fn the_best_that_a_server_takes_is_shown() {
        let sha = "Digest realm=\"a, \\\"b\\\"\", nonce=\"n=1\", algorithm=SHA-256, qop=\"auth-int, auth\", opaque=\"o\"";
        let md5 = "Digest realm=\"shardcast\", nonce=\"n\", stale=true, algorithm=MD5";
        let old = "Digest realm=shardcast ,nonce=n";
        for header in [format!("{sha}, {md5}, Basic realm=\"x\""), format!("Basic realm=\"x\", {md5},{sha}")]
        {
            let header = shown(&header).unwrap();
            assert!(header.contains("SHA-256") && header.contains("opaque=\"o\""), "{header}");
            let proof = proof_of(&header);
            assert_eq!(
                (proof.realm.as_str(), proof.counted.as_ref().unwrap().0.as_str()),
                ("a, \"b\"", "00000001")
            );
            assert!(proof.proves("Circle of Life") && !proof.proves("circle"));
        }
        for header in
            [format!("Basic realm=\"x\", {md5}"), old.to_owned(), format!("Bearer, {old}, Negotiate abc==")]
        {
            let header = shown(&header).unwrap();
            assert!(!header.contains("algorithm") && !header.contains("qop"), "{header}");
            assert!(proof_of(&header).proves("Circle of Life"));
        }
        assert_eq!(shown("basic").as_deref(), Some("Basic TXVmYXNhOkNpcmNsZSBvZiBMaWZl"));
    }

    #[test]
    fn what_cannot_be_answered_is_not() {
        for header in [
            "",
            "Bearer realm=\"x\"",
            "Digest realm=\"x\"",
            "Digest nonce=\"x\"",
            "Digest realm=\"x\", nonce=\"y\", algorithm=MD5-sess",
            "Digest realm=\"x\", nonce=\"y\", qop=\"auth-int\"",
            "Digest realm=\"x\r\n y\", nonce=\"y\"",
        ] {
            assert_eq!(shown(header), None, "{header:?}");
        }
        let mut nobody = Login::new(None, Secret::default());
        assert!(nobody.challenged("Basic") && nobody.header("RECORD", "rtsp://h/a/b", NOW).is_none());
    }

    #[test]
    fn proofs_are_counted_and_their_own_numbers_differ() {
        let mut login = login();
        assert!(login.challenged("Digest realm=\"x\", nonce=\"y\", qop=auth"));
        let proofs = [(); 3]
            .map(|()| proof_of(&login.header("ANNOUNCE", "rtsp://h/a/b", NOW).unwrap()).counted.unwrap());
        assert_eq!(proofs.each_ref().map(|(count, _)| count.as_str()), ["00000001", "00000002", "00000003"]);
        assert!(proofs[0].1 != proofs[1].1 && proofs[1].1 != proofs[2].1);
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(text in "((Digest|Basic|X)? ?[a-z]{0,6}=?\"?.{0,12}\"?,? ?){0,6}") {
            let mut login = login();
            if login.challenged(&text) {
                let header = login.header("SETUP", "rtsp://h/a/b", NOW).unwrap();
                prop_assert!(!header.chars().any(char::is_control));
            }
        }

        #[test]
        fn who_proves_a_password_is_believed(user in "[ -~]{0,12}", password in "[ -~]{0,12}", realm in "[ -~]{0,12}") {
            let credentials = Credentials { user: user.clone(), password: password.clone() };
            let mut login = Login::new(Some(credentials), Secret::default());
            let header = format!("Digest realm={}, nonce=\"n\", qop=\"auth\"", quoted(&realm));
            prop_assert!(login.challenged(&header));
            let proof = proof_of(&login.header("ANNOUNCE", "rtsp://h/a/b", NOW).unwrap());
            prop_assert!(proof.proves(&password));
            prop_assert_eq!((proof.user, proof.realm), (user, realm));
        }
    }
}
