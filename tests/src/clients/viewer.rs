//! A viewer by HTTP-FLV that does as it is told: reads, stops reading, reads again, and keeps every tag it got.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketType, sockopt};
use rustls::ClientConfig;

use super::{
    flv::{self, Tag},
    server::Server,
    tls,
};

/// How long a viewer waits for the next byte.
const PATIENCE: Duration = Duration::from_secs(30);

/// A viewer that plays.
pub struct Viewer {
    body: BufReader<Box<dyn Read + Send>>,
    /// Every tag since it began.
    pub tags: Vec<Tag>,
}

impl Viewer {
    /// Asks for `APP/STREAM`.
    ///
    /// # Panics
    /// When the answer is not 200 with an FLV body.
    pub fn open(server: &Server, name: &str) -> Self {
        Self::on(connect(server.ports().http), name)
    }

    /// Asks for `APP/STREAM` on a thread of its own, which waits for the publisher and reads to the end.
    pub fn follow(server: &Server, name: &str) -> Following {
        let (port, name) = (server.ports().http, name.to_owned());
        Following(thread::spawn(move || {
            let mut viewer = Self::on(connect(port), &name);
            viewer.read_to_end();
            viewer
        }))
    }

    /// Asks for `APP/STREAM` inside TLS on a thread of its own, which waits for the publisher and reads to the end.
    pub fn follow_by_tls(server: &Server, name: &str, config: &Arc<ClientConfig>) -> Following {
        let (port, name, config) = (server.ports().http, name.to_owned(), config.clone());
        Following(thread::spawn(move || {
            let mut viewer = Self::on(tls::connect(port, config), &name);
            viewer.read_to_end();
            viewer
        }))
    }

    /// As [`open`](Self::open), with a small receive buffer in the kernel, so that a pause is soon felt.
    ///
    /// # Panics
    /// As [`open`](Self::open).
    pub fn open_narrow(server: &Server, name: &str) -> Self {
        Self::on(connect_narrow(server.ports().http), name)
    }

    /// The same inside TLS.
    ///
    /// # Panics
    /// As [`open`](Self::open).
    pub fn open_narrow_by_tls(server: &Server, name: &str, config: &Arc<ClientConfig>) -> Self {
        let socket = connect_narrow(server.ports().http);
        let stream =
            tls::shake_hands(socket, config.clone()).expect("the door shows the certificate that is trusted");
        Self::on(stream, name)
    }

    /// Asks for `APP/STREAM` by WebSocket on a thread of its own, which waits for the publisher and reads to the end.
    pub fn follow_by_websocket(server: &Server, name: &str) -> Following {
        let (port, name) = (server.ports().http, name.to_owned());
        Following(thread::spawn(move || {
            let mut viewer = Self::by_websocket(connect(port), &name);
            viewer.read_to_end();
            viewer
        }))
    }

    fn by_websocket(mut stream: TcpStream, name: &str) -> Self {
        // The key and the answer to it are those of RFC 6455, 1.3.
        write!(
            stream,
            "GET /{name}.flv HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .expect("a request fits the buffers");
        let mut answer: Answer = BufReader::new(Box::new(stream));
        let head = head_of(&mut answer);
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Self::of(Box::new(Messages { source: answer, left: 0, ended: false }))
    }

    fn on(mut stream: impl Read + Write + Send + 'static, name: &str) -> Self {
        write!(stream, "GET /{name}.flv HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("a request fits the buffers");
        let mut answer: Answer = BufReader::new(Box::new(stream));
        let head = head_of(&mut answer);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let lower = head.to_lowercase();
        assert!(lower.contains("content-type: video/x-flv"), "{head}");
        assert!(lower.contains("transfer-encoding: chunked"), "{head}");
        Self::of(Box::new(Chunked { source: answer, left: 0, ended: false }))
    }

    fn of(body: Box<dyn Read + Send>) -> Self {
        let mut body = BufReader::new(body);
        flv::read_head(&mut body).expect("the body begins as FLV does");
        Viewer { body, tags: Vec::new() }
    }

    /// The next tag, or nothing when the stream has ended.
    ///
    /// # Panics
    /// When what comes is no FLV.
    pub fn next_tag(&mut self) -> Option<&Tag> {
        match Tag::read(&mut self.body) {
            Ok(Some(tag)) => {
                self.tags.push(tag);
                self.tags.last()
            }
            Ok(None) => None,
            // A server that is killed resets its connections; what came before stands.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) =>
            {
                None
            }
            Err(error) => panic!("after {} tags: {error}", self.tags.len()),
        }
    }

    /// Reads for a while.
    pub fn read_for(&mut self, time: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < time && self.next_tag().is_some() {}
    }

    /// Reads to the end.
    pub fn read_to_end(&mut self) {
        while self.next_tag().is_some() {}
    }

    /// The time of the newest picture or sound, in milliseconds.
    pub fn newest(&self) -> Option<u32> {
        self.tags.iter().rev().find(|tag| tag.is_media()).map(|tag| tag.time)
    }

    /// Writes all tags as an FLV file.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) {
        let mut bytes = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        for tag in &self.tags {
            let length = u32::try_from(tag.body.len()).expect("24 bits");
            let [_, l2, l1, l0] = length.to_be_bytes();
            let [t3, t2, t1, t0] = tag.time.to_be_bytes();
            bytes.extend([tag.kind, l2, l1, l0, t2, t1, t0, t3, 0, 0, 0]);
            bytes.extend(&tag.body);
            bytes.extend((length + 11).to_be_bytes());
        }
        std::fs::write(path, bytes).expect("an own folder can be written");
    }
}

/// A viewer that waits and reads on a thread of its own.
pub struct Following(thread::JoinHandle<Viewer>);

impl Following {
    /// The viewer, once its stream has ended.
    ///
    /// # Panics
    /// When it did: what came was no FLV, or nothing came.
    pub fn wait(self) -> Viewer {
        self.0.join().expect("a viewer reads to its end")
    }
}

/// What comes from the server.
type Answer = BufReader<Box<dyn Read + Send>>;

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the HTTP door is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

fn connect_narrow(port: u16) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a TCP socket");
    // Before connecting: the window that TCP offers is negotiated then.
    sockopt::set_socket_recv_buffer_size(&socket, 32 << 10).expect("any size is taken");
    let door = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port);
    rustix::net::connect(&socket, &door).expect("the HTTP door is open");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

fn head_of(answer: &mut Answer) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let count = answer.read_line(&mut head).expect("an answer comes");
        assert!(count > 0, "the door closed in the middle of its answer: {head:?}");
    }
    head
}

/// What the binary messages of a WebSocket hold (RFC 6455, 5.2). A server does not mask.
struct Messages {
    source: Answer,
    left: u64,
    ended: bool,
}

impl Read for Messages {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 && !self.ended {
            let mut head = [0; 2];
            self.source.read_exact(&mut head)?;
            let [kind, length] = head;
            self.left = match length {
                126 => {
                    let mut long = [0; 2];
                    self.source.read_exact(&mut long)?;
                    u64::from(u16::from_be_bytes(long))
                }
                127 => {
                    let mut long = [0; 8];
                    self.source.read_exact(&mut long)?;
                    u64::from_be_bytes(long)
                }
                short => u64::from(short),
            };
            match kind {
                // Final binary, first of several binary, middle, last.
                0x82 | 0x02 | 0x00 | 0x80 => {}
                0x88 => self.ended = true,
                _ => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, format!("frame {kind:#x}")));
                }
            }
        }
        if self.ended {
            return Ok(0);
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.source.read(buffer.get_mut(..room).unwrap_or_default())?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= u64::try_from(count).expect("a usize fits");
        Ok(count)
    }
}

/// The body of a chunked answer (RFC 9112, 7.1).
struct Chunked {
    source: Answer,
    left: usize,
    ended: bool,
}

impl Read for Chunked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended {
            let mut line = String::new();
            if self.source.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.left = usize::from_str_radix(line.trim_end(), 16).map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{line:?} is no chunk size"))
            })?;
            self.ended = self.left == 0;
        }
        if self.ended {
            return Ok(0);
        }
        let room = buffer.len().min(self.left);
        let count = self.source.read(buffer.get_mut(..room).unwrap_or_default())?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count;
        if self.left == 0 {
            let mut end = [0; 2];
            self.source.read_exact(&mut end)?;
            if end != *b"\r\n" {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk does not end with CRLF"));
            }
        }
        Ok(count)
    }
}
