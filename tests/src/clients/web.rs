//! A client of the HTTP door that keeps its connection, asks for one thing after the other and sees everything of an answer.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::{server::Server, wait_for};

/// How long an answer may take: longer than any request is held.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
pub struct Web {
    stream: BufReader<TcpStream>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Page {
    /// The number in its first line.
    pub status: u16,
    /// First line and fields.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Page {
    /// The body as text.
    ///
    /// # Panics
    /// When it is none.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let line = self
            .head
            .lines()
            .find(|line| line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name)))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }
}

impl Web {
    /// Connects to the HTTP door.
    ///
    /// # Panics
    /// When it is shut.
    pub fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.ports().http)).expect("the HTTP door is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_nodelay(true).expect("a TCP socket");
        Web { stream: BufReader::new(stream) }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Panics
    /// When there is none.
    pub fn get(&mut self, path: &str) -> Page {
        self.get_with(path, "")
    }

    /// The same with further fields, each with its line's end.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn get_with(&mut self, path: &str, fields: &str) -> Page {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
        self.answer()
    }

    /// Sends what may be a request.
    ///
    /// # Panics
    /// When the server has closed.
    pub fn ask(&mut self, request: &str) {
        self.stream.get_mut().write_all(request.as_bytes()).expect("the server takes what is asked");
    }

    /// The next answer, by its Content-Length.
    ///
    /// # Panics
    /// When there is none, or none that is whole.
    pub fn answer(&mut self) -> Page {
        let mut head = String::new();
        loop {
            let before = head.len();
            let read = self.stream.read_line(&mut head).expect("an answer in time");
            assert!(read > 0, "the server closed in the middle of {head:?}");
            if head.len() - before <= 2 {
                break;
            }
        }
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status line");
        let mut page = Page { status, head, body: Vec::new() };
        let length = page.field("Content-Length").map_or(0, |text| text.parse().expect("a length"));
        page.body.resize(length, 0);
        self.stream.read_exact(&mut page.body).expect("the whole body");
        page
    }

    /// True when nothing has come that is not read.
    ///
    /// # Panics
    /// When the server has closed.
    pub fn is_quiet(&mut self) -> bool {
        if !self.stream.buffer().is_empty() {
            return false;
        }
        self.stream.get_ref().set_nonblocking(true).expect("a socket");
        let quiet = match self.stream.fill_buf() {
            Ok(bytes) => {
                assert!(!bytes.is_empty(), "the server closed");
                false
            }
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        };
        self.stream.get_ref().set_nonblocking(false).expect("a socket");
        quiet
    }
}

/// The answer to a single question.
///
/// # Panics
/// When there is none.
pub fn get(server: &Server, path: &str) -> Page {
    Web::connect(server).get(path)
}

/// Asks again and again until there is such a thing.
///
/// # Panics
/// When it takes too long.
pub fn get_when_there(server: &Server, path: &str) -> Page {
    let found = wait_for(PATIENCE, || {
        let page = get(server, path);
        (page.status == 200).then_some(page)
    });
    found.unwrap_or_else(|| panic!("{path} is not there after {PATIENCE:?}"))
}

/// The lines of a playlist that are addresses.
pub fn addresses(playlist: &str) -> Vec<&str> {
    playlist.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect()
}

/// The value of a playlist's tag, from its first such line.
pub fn tag<'a>(playlist: &'a str, name: &str) -> Option<&'a str> {
    playlist.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// The value of an attribute in a tag's list, without its quotes.
pub fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let start = list.match_indices(name).map(|(place, _)| place).find(|&place| {
        let before = list.get(..place).unwrap_or_default();
        (before.is_empty() || before.ends_with(','))
            && list.get(place + name.len()..).is_some_and(|rest| rest.starts_with('='))
    })?;
    let value = list.get(start + name.len() + 1..)?;
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split(',').next(),
    }
}
