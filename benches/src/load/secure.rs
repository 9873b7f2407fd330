//! A viewer's half of TLS, without its socket.
//!
//! It takes any certificate: what is measured is what the server's side costs, and servers under test sign for themselves.

use std::{
    io::{Read, Write},
    sync::{Arc, OnceLock},
};

use bytes::{Bytes, BytesMut};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// Plain bytes that are taken out in one go.
const PIECE_BYTES: usize = 64 << 10;

/// One connection.
pub struct Secure {
    connection: ClientConnection,
    /// Where what was opened is read to.
    plain: Vec<u8>,
}

impl Secure {
    /// A connection to `address` (host and port) that will first say `first`; gives what goes onto the wire at once.
    ///
    /// # Errors
    /// The host is no name.
    pub fn new(address: &str, first: &[u8]) -> Result<(Secure, Bytes), String> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let connection = ClientConnection::new(config(), name).map_err(|error| error.to_string())?;
        let mut secure = Secure { connection, plain: vec![0; PIECE_BYTES] };
        secure.say(first)?;
        let hello = secure.written()?;
        Ok((secure, hello))
    }

    /// Takes what came, gives what it says in plain.
    ///
    /// # Errors
    /// It is no TLS, or the peer refuses.
    pub fn received(&mut self, mut bytes: &[u8], plain: &mut BytesMut) -> Result<(), String> {
        while !bytes.is_empty() {
            self.connection.read_tls(&mut bytes).map_err(|error| error.to_string())?;
            self.connection.process_new_packets().map_err(|error| format!("TLS: {error}"))?;
            // `WouldBlock` says that there is no more.
            while let Ok(read @ 1..) = self.connection.reader().read(&mut self.plain) {
                plain.extend_from_slice(&self.plain[..read]);
            }
        }
        Ok(())
    }

    /// Says `plain`.
    ///
    /// # Errors
    /// The connection takes no more.
    pub fn say(&mut self, plain: &[u8]) -> Result<(), String> {
        self.connection.writer().write_all(plain).map_err(|error| error.to_string())
    }

    /// What goes onto the wire now.
    ///
    /// # Errors
    /// None that a peer could cause.
    pub fn written(&mut self) -> Result<Bytes, String> {
        let mut out = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut out).map_err(|error| error.to_string())?;
        }
        Ok(out.into())
    }
}

fn config() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let make = || {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions that the provider has")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth();
        Arc::new(config)
    };
    CONFIG.get_or_init(make).clone()
}

/// Takes any certificate, and makes sure only that its key has signed.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
