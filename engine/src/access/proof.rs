//! What a peer shows in place of its password: that it knows it. (HTTP Digest: RFC 7616, and RFC 2617 before it)

use std::fmt;

#[cfg(feature = "digest")]
use md5::{Digest as _, Md5};
#[cfg(feature = "digest")]
use sha2::Sha256;

/// How a proof is reckoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// What all clients can.
    Md5,
    /// What they should.
    Sha256,
}

/// A proof that a peer knows its password, for one request and with a number that the server gave it. Whoever has the
/// passwords tries them; what is proved by none is refused. That the number and the request are those that they should be has
/// been looked at.
///
/// ```
/// use shardcast_engine::access::{Algorithm, Proof};
///
/// // The example of RFC 7616, 3.9.1.
/// let proof = Proof {
///     algorithm: Algorithm::Md5,
///     user: "Mufasa".into(),
///     realm: "http-auth@example.org".into(),
///     method: "GET".into(),
///     uri: "/dir/index.html".into(),
///     nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v".into(),
///     counted: Some(("00000001".into(), "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ".into())),
///     response: "8ca523f5e9506fed4657c9700eebdbec".into(),
/// };
/// assert!(proof.proves("Circle of Life") && !proof.proves("Circle of Live"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    /// How it is reckoned.
    pub algorithm: Algorithm,
    /// Who the peer says it is.
    pub user: String,
    /// Of what the server says it is.
    pub realm: String,
    /// What the request wants.
    pub method: String,
    /// Of what.
    pub uri: String,
    /// The server's number.
    pub nonce: String,
    /// Where the peer counts its proofs (`qop=auth`): the count, and a number of its own.
    pub counted: Option<(String, String)>,
    /// What proves it, in hexadecimal digits.
    pub response: String,
}

impl Proof {
    /// Whether it proves that the peer knows `password`.
    #[cfg(feature = "digest")]
    pub fn proves(&self, password: &str) -> bool {
        let expected = self.response_for(password);
        super::same(expected.as_bytes(), self.response.to_ascii_lowercase().as_bytes())
    }

    /// A build without the feature `digest` believes none.
    #[cfg(not(feature = "digest"))]
    pub fn proves(&self, _: &str) -> bool {
        false
    }

    /// What would prove it.
    #[cfg(feature = "digest")]
    pub fn response_for(&self, password: &str) -> String {
        let Proof { user, realm, method, uri, nonce, .. } = self;
        let secret = self.hash(&[user, realm, password]);
        let request = self.hash(&[method, uri]);
        match &self.counted {
            Some((count, own)) => self.hash(&[&secret, nonce, count, own, "auth", &request]),
            None => self.hash(&[&secret, nonce, &request]),
        }
    }

    /// The parts with colons between them, hashed, in hexadecimal digits.
    #[cfg(feature = "digest")]
    fn hash(&self, parts: &[&str]) -> String {
        let text = parts.join(":");
        match self.algorithm {
            Algorithm::Md5 => hex(&Md5::digest(text)),
            Algorithm::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what proves it: whoever has that may try passwords until one fits.
        write!(f, "Proof({:?} of {:?})", self.algorithm, self.user)
    }
}

#[cfg(feature = "digest")]
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(all(test, feature = "digest"))]
mod tests {
    use super::*;

    fn proof(algorithm: Algorithm, response: &str) -> Proof {
        Proof {
            algorithm,
            user: "Mufasa".into(),
            realm: "http-auth@example.org".into(),
            method: "GET".into(),
            uri: "/dir/index.html".into(),
            nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v".into(),
            counted: Some(("00000001".into(), "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ".into())),
            response: response.into(),
        }
    }

    #[test]
    fn the_examples_of_the_standards_prove_their_password_and_no_other() {
        let sha256 =
            proof(Algorithm::Sha256, "753927FA0E85D155564E2E272A28D1802CA10DAF4496794697CF8DB5856CB6C1");
        assert!(sha256.proves("Circle of Life"));
        // RFC 2069, with the response that RFC 2617 gives for it.
        let old = Proof {
            realm: "testrealm@host.com".into(),
            nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093".into(),
            counted: None,
            ..proof(Algorithm::Md5, "670fd8c2df070c60b045671b8b24ff02")
        };
        assert!(old.proves("Circle Of Life"));
        for (found, password) in [(&sha256, "circle of Life"), (&sha256, ""), (&old, "Circle of Life")] {
            assert!(!found.proves(password));
        }
        for other in [
            Proof { method: "PUT".into(), ..sha256.clone() },
            Proof { uri: "/dir/".into(), ..sha256.clone() },
            Proof { nonce: "7".into(), ..sha256.clone() },
            Proof { counted: None, ..sha256.clone() },
            Proof { response: String::new(), ..sha256.clone() },
        ] {
            assert!(!other.proves("Circle of Life"), "{other:?}");
        }
        assert!(!format!("{sha256:?}").contains("753927"));
    }
}
