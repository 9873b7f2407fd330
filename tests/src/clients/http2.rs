//! Clients of HTTP/2: curl, which speaks both versions and so can be compared with itself; `h2`, for many requests on one
//! connection and for windows of any size; and frames as bytes, for what no client would send.

use std::{fs, future::Future, io::Write as _, path::Path, process::Command, time::Duration};

use bytes::Bytes;
use h2::{
    RecvStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{Request, StatusCode};
use tokio::{net::TcpStream, task::JoinHandle, time};

use super::{
    Folder,
    process::{Process, run},
    program,
    server::Server,
};

/// How long an answer may take: longer than any request is held.
const PATIENCE: Duration = Duration::from_secs(30);

/// How curl is to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By HTTP/1.1.
    Http1,
    /// By prior knowledge in the clear, by ALPN inside TLS.
    Http2,
}

/// What curl got.
pub struct Answer {
    /// The version, `1.1` or `2`.
    pub version: String,
    /// The number of its status.
    pub status: String,
    /// First line and fields.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Its fields without those that differ by nature: the first line, and what is of a connection.
    pub fn fields(&self) -> Vec<String> {
        let differs = ["http/", "connection:", "transfer-encoding:"];
        let own =
            |line: &String| !line.is_empty() && !differs.iter().any(|beginning| line.starts_with(beginning));
        let line = |line: &str| match line.split_once(':') {
            Some((name, value)) => format!("{}:{value}", name.to_lowercase()),
            None => line.to_lowercase(),
        };
        let mut fields: Vec<String> = self.head.lines().map(line).filter(own).collect();
        fields.sort();
        fields
    }
}

/// Where `path` is at the HTTP door, inside TLS or not.
pub fn url(server: &Server, secure: bool, path: &str) -> String {
    let scheme = if secure { "https" } else { "http" };
    format!("{scheme}://127.0.0.1:{}{path}", server.ports().http)
}

/// A curl that speaks so, to be told what it is to get.
pub fn curl_command(server: &Server, secure: bool, way: Way) -> Command {
    let mut command = Command::new(program("curl"));
    command.args(["--silent", "--show-error", "--max-time", "60"]);
    command.arg(match (way, secure) {
        (Way::Http1, _) => "--http1.1",
        (Way::Http2, true) => "--http2",
        (Way::Http2, false) => "--http2-prior-knowledge",
    });
    if secure {
        command.arg("--cacert").arg(server.certificate());
    }
    command
}

/// Has curl get `path`.
///
/// # Panics
/// When it fails.
pub fn curl(server: &Server, secure: bool, way: Way, path: &str, arguments: &[&str]) -> Answer {
    let folder = Folder::new("curl");
    let (head, body) = (folder.path().join("head"), folder.path().join("body"));
    let mut command = curl_command(server, secure, way);
    command.args(arguments).arg("--dump-header").arg(&head).arg("--output").arg(&body);
    command.args(["--write-out", "%{http_version} %{http_code}", &url(server, secure, path)]);
    let said = run("curl", &mut command, PATIENCE * 3).output;
    let (version, status) = said.split_once(' ').expect("two words");
    Answer {
        version: version.to_owned(),
        status: status.to_owned(),
        head: fs::read_to_string(head).expect("a head of text"),
        body: fs::read(body).unwrap_or_default(),
    }
}

/// An endless answer, followed to its end.
pub fn follow(server: &Server, secure: bool, way: Way, path: &str, file: &Path) -> Process {
    let mut command = curl_command(server, secure, way);
    Process::start("curl", command.arg("--output").arg(file).arg(url(server, secure, path)))
}

/// One connection by HTTP/2, driven by a task.
pub struct Client {
    /// What requests are sent by.
    pub requests: SendRequest<Bytes>,
    /// Ends when the connection does.
    pub connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    /// Connects to the HTTP door in the clear.
    ///
    /// # Panics
    /// When it is shut, or speaks something else.
    pub async fn connect(server: &Server, rules: &Builder) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", server.ports().http)).await.expect("the door is open");
        let (requests, connection) = rules.handshake(socket).await.expect("the door speaks HTTP/2");
        Client { requests, connection: tokio::spawn(connection) }
    }

    /// Asks, when the door allows one more request at once.
    ///
    /// # Panics
    /// When the connection has ended.
    pub async fn ask(&mut self, path: &str) -> ResponseFuture {
        let request = Request::get(format!("http://localhost{path}")).body(()).expect("a request");
        let mut ready = self.requests.clone().ready().await.expect("the connection goes on");
        ready.send_request(request, true).expect("the connection goes on").0
    }

    /// Asks, and waits for the answer.
    ///
    /// # Panics
    /// When there is none that is whole.
    pub async fn get(&mut self, path: &str) -> (StatusCode, Vec<u8>) {
        let answer = self.ask(path).await;
        whole(answer).await
    }
}

/// The status and the body of an answer.
///
/// # Panics
/// When it does not come, or not to its end.
pub async fn whole(answer: ResponseFuture) -> (StatusCode, Vec<u8>) {
    let response = time::timeout(PATIENCE, answer).await.expect("in time").expect("an answer");
    let (status, mut body) = (response.status(), response.into_body());
    let mut bytes = Vec::new();
    while let Some(data) = read(&mut body).await.expect("a whole answer") {
        bytes.extend_from_slice(&data);
    }
    (status, bytes)
}

/// The next piece of a body; nothing at its end.
///
/// # Errors
/// The answer was cut off, and why.
///
/// # Panics
/// When nothing comes for long.
pub async fn read(body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    let data = time::timeout(PATIENCE, body.data()).await.expect("in time").transpose()?;
    if let Some(data) = &data {
        body.flow_control().release_capacity(data.len()).expect("it was just taken");
    }
    Ok(data)
}

/// Does work that waits, on this thread.
///
/// # Panics
/// When no runtime can be made.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(work)
}

/// A frame of HTTP/2 (RFC 9113, 4.1).
///
/// # Panics
/// When it is too long for one.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&[high, middle, low, kind, flags], stream.to_be_bytes().as_slice(), payload].concat()
}

/// Opens a stream, with a head or the beginning of one (RFC 9113, 6.2).
pub const HEADERS: u8 = 1;
/// Ends a stream at once (6.4).
pub const RST_STREAM: u8 = 3;
/// Says what the other may do (6.5).
pub const SETTINGS: u8 = 4;
/// Wants an echo (6.7).
pub const PING: u8 = 6;
/// More of a head (6.10).
pub const CONTINUATION: u8 = 9;

/// `GET /` of `http://door` (RFC 7541, A).
pub const GET: &[u8] = b"\x82\x86\x84\x41\x04door";

/// A client of bytes, that has said hello.
///
/// # Panics
/// When the door is shut.
pub fn raw(server: &Server) -> std::net::TcpStream {
    let mut stream =
        std::net::TcpStream::connect(("127.0.0.1", server.ports().http)).expect("the door is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_nodelay(true).expect("any TCP socket");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("the kernel takes it");
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).expect("the kernel takes it");
    stream
}
