//! What the doors prove who they are with: a chain of certificates and the key of the first, from PEM files, ready for
//! handshakes.
//!
//! Sessions are not resumed: no key of a past session is kept, and the cores share nothing that changes. Each connection pays a
//! whole handshake, which is once in its life.

use std::{fmt, fs::File, io, io::Read, path::Path, sync::Arc};

use rustls::{
    Error, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::NoServerSessionStorage,
};

/// A chain of certificates and its key. Cheap to clone: all that hold it share one.
#[derive(Clone)]
pub struct Certificate {
    config: Arc<ServerConfig>,
    /// The same, and the versions of HTTP that a peer may choose from.
    http_config: Arc<ServerConfig>,
    chain: usize,
}

/// Why a chain and a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which of the two files is at fault.
    pub part: Part,
    /// What is wrong with it, and what to do.
    pub why: String,
}

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The chain.
    Certificate,
    /// The key.
    Key,
}

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// One cannot be read, holds something else, or the key is not the certificate's.
    pub fn load(certificate: &Path, key: &Path) -> Result<Certificate, Refused> {
        let read = |part: Part, path: &Path| {
            read(path)
                .map_err(|error| Refused { part, why: format!("{} cannot be read: {error}", path.display()) })
        };
        let (chain, secret) = (read(Part::Certificate, certificate)?, read(Part::Key, key)?);
        Certificate::from_pem(&chain, &secret).map_err(|refused| {
            let path = if refused.part == Part::Certificate { certificate } else { key };
            Refused { why: format!("{} {}", path.display(), refused.why), ..refused }
        })
    }

    /// Understands what the two files hold, in PEM (RFC 7468): the chain from the server's own certificate up, and the key in
    /// PKCS #8, PKCS #1 or SEC 1.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Certificate, Refused> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Refused { part: Part::Certificate, why: format!("is no PEM: {error}") })?;
        if chain.is_empty() {
            let why = "holds no certificate: it needs a block that begins with BEGIN CERTIFICATE".to_owned();
            return Err(Refused { part: Part::Certificate, why });
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| Refused {
            part: Part::Key,
            why: match error {
                pem::Error::NoItemsFound => {
                    "holds no key: it needs a block that begins with BEGIN PRIVATE KEY, not encrypted"
                        .to_owned()
                }
                error => format!("is no PEM: {error}"),
            },
        })?;
        let length = chain.len();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map(|builder| builder.with_no_client_auth())
            .and_then(|builder| builder.with_single_cert(chain, key));
        let mut config = config.map_err(|error| refusal(&error))?;
        // No session is resumed, see the top of this file.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        // Where the kernel seals, a connection's own keys go there. Those of the certificate stay where they are.
        config.enable_secret_extraction = true;
        let mut http_config = config.clone();
        http_config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        Ok(Certificate { config: Arc::new(config), http_config: Arc::new(http_config), chain: length })
    }

    /// Certificates in the chain.
    pub fn chain(&self) -> usize {
        self.chain
    }

    /// What a handshake is made with.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// What a handshake is made with at a door of HTTP.
    pub(super) fn http_config(&self) -> Arc<ServerConfig> {
        self.http_config.clone()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Refused {}

impl fmt::Debug for Certificate {
    /// Without the key, which must never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate(a chain of {})", self.chain)
    }
}

/// Which of the files a fault is about.
fn refusal(error: &Error) -> Refused {
    match error {
        Error::InconsistentKeys(_) => {
            Refused { part: Part::Key, why: "is not the key of the certificate".to_owned() }
        }
        Error::InvalidCertificate(error) => Refused {
            part: Part::Certificate,
            why: format!("holds no certificate that can be used: {error}"),
        },
        error => Refused { part: Part::Key, why: format!("holds no key that can be used: {error}") },
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(bytes)
}

/// HTTP/2 among the protocols that may be spoken inside TLS (RFC 9113, 3.2).
pub(super) const HTTP2: &[u8] = b"h2";

/// Bytes of one of the files. A chain takes a few thousand; what is larger is some other file.
const PEM_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};

    use super::*;

    fn pair() -> (String, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    fn refused(chain: &str, key: &str) -> (Part, String) {
        let Refused { part, why } = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
        (part, why)
    }

    #[test]
    fn a_chain_and_its_key_are_taken_and_the_key_is_never_shown() {
        let (chain, key) = pair();
        let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(certificate.chain(), 1);
        assert_eq!(format!("{certificate:?}"), "Certificate(a chain of 1)");
        // A file may hold both, as some programs write it.
        let both = format!("{key}{chain}");
        assert!(Certificate::from_pem(both.as_bytes(), both.as_bytes()).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said_of_the_file_that_is_wrong() {
        let (chain, key) = pair();
        let (part, why) = refused(&chain, &KeyPair::generate().unwrap().serialize_pem());
        assert!(part == Part::Key && why.contains("not the key of the certificate"), "{why}");
        let (part, why) = refused(&key, &key);
        assert!(part == Part::Certificate && why.contains("BEGIN CERTIFICATE"), "{why}");
        let (part, why) = refused(&chain, &chain);
        assert!(part == Part::Key && why.contains("BEGIN PRIVATE KEY"), "{why}");
        let (part, why) = refused("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", &key);
        assert!(part == Part::Certificate && why.contains("no PEM"), "{why}");
        let (part, why) = refused("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key);
        assert!(part == Part::Certificate && why.contains("can be used"), "{why}");
        let (part, why) = refused(&chain, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        assert!(part == Part::Key && why.contains("can be used"), "{why}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let missing = Certificate::load(Path::new("/nowhere/certificate.pem"), Path::new("/nowhere/key.pem"));
        let Refused { part, why } = missing.unwrap_err();
        assert!(
            part == Part::Certificate && why.starts_with("/nowhere/certificate.pem cannot be read"),
            "{why}"
        );
        let Refused { why, .. } =
            Certificate::load(Path::new("/dev/zero"), Path::new("/nowhere/key.pem")).unwrap_err();
        assert!(why.contains("larger than"), "{why}");
    }
}
