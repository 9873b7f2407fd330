//! A peer inside TLS, by rustls, that trusts one certificate and no other.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// A connection inside TLS.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Trusts the certificate in the file `path`, and no other.
///
/// # Panics
/// When it is no certificate.
pub fn trust(path: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(path).expect("a certificate in PEM")).expect("a whole one");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions that the provider has")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Connects to 127.0.0.1 and shakes hands.
///
/// # Panics
/// When the door is shut or shows another certificate.
pub fn connect(port: u16, config: Arc<ClientConfig>) -> Stream {
    try_connect(port, config).expect("the door shows the certificate that is trusted")
}

/// Connects to 127.0.0.1 and shakes hands.
///
/// # Errors
/// What went wrong with the handshake.
///
/// # Panics
/// When the door is shut.
pub fn try_connect(port: u16, config: Arc<ClientConfig>) -> std::io::Result<Stream> {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("the door is open");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("not zero");
    shake_hands(socket, config)
}

/// Shakes hands on a connection to 127.0.0.1.
///
/// # Errors
/// What went wrong.
pub fn shake_hands(mut socket: TcpStream, config: Arc<ClientConfig>) -> std::io::Result<Stream> {
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let mut connection = ClientConnection::new(config, name).expect("a config for clients");
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(connection, socket))
}

/// Asks for `path`; the whole answer.
///
/// # Panics
/// When the door does not answer and say goodbye.
pub fn get(port: u16, config: Arc<ClientConfig>, path: &str) -> String {
    let mut stream = connect(port, config);
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("a short request");
    let mut answer = Vec::new();
    // Without a goodbye rustls takes the end for a cut, and this fails.
    stream.read_to_end(&mut answer).expect("an answer, and a goodbye");
    String::from_utf8_lossy(&answer).into_owned()
}
