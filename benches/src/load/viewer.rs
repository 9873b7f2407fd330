//! What a viewer says, and how it takes apart what it is sent.

use bytes::{Bytes, BytesMut};
use shardcast_engine::{
    flv::{Demuxer, TagReader},
    limits::DoorLimits,
    media::Frame,
    rtmp::Client,
    session::{Answer, Event, Input, Output, Session},
    time::{Now, Unwrapper},
};

use super::target_of;
use crate::server::Url;

/// A viewer's conversation without its socket.
pub enum Talk {
    /// By RTMP.
    Rtmp(Box<Client>),
    /// FLV by HTTP.
    HttpFlv(Box<HttpFlv>),
}

impl Talk {
    /// A viewer of `url`; gives what it says first.
    ///
    /// # Errors
    /// The URL is none that can be played.
    pub fn new(url: &Url, now: Now) -> Result<(Talk, Bytes), String> {
        match url.scheme.as_str() {
            "rtmp" => {
                let (target, name) = target_of(url)?;
                let mut client = Box::new(Client::pull(target, name, &DoorLimits::default(), now));
                let first = listen(&mut client, now, &mut |_| {})?;
                Ok((Talk::Rtmp(client), first))
            }
            "http" => Ok((Talk::HttpFlv(Box::default()), request(url))),
            scheme => Err(format!("nothing is played by {scheme}://")),
        }
    }

    /// The server has sent something. Gives each frame that is whole, and what is to be said.
    ///
    /// # Errors
    /// What was sent is no stream, or the server refused.
    pub fn received(
        &mut self,
        bytes: &[u8],
        now: Now,
        emit: &mut dyn FnMut(&Frame),
    ) -> Result<Bytes, String> {
        match self {
            Talk::Rtmp(client) => {
                client.handle(Input::Received(bytes), now).map_err(|error| error.to_string())?;
                listen(client, now, emit)
            }
            Talk::HttpFlv(http) => http.received(bytes, emit).map(|()| Bytes::new()),
        }
    }
}

/// What is said to an HTTP server.
pub fn request(url: &Url) -> Bytes {
    let Url { path, address, .. } = url;
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: shardcast-bench\r\nAccept: */*\r\n\r\n")
        .into()
}

fn listen(client: &mut Client, now: Now, emit: &mut dyn FnMut(&Frame)) -> Result<Bytes, String> {
    let mut out = BytesMut::new();
    while let Some(output) = client.poll() {
        match output {
            Output::Send(bytes) => out.extend_from_slice(&bytes),
            Output::Event(Event::Publish { .. }) => {
                client.handle(Input::Answer(Answer::Publishing), now).map_err(|error| error.to_string())?;
            }
            Output::Event(Event::Frame(frame)) => emit(&frame),
            Output::Event(_) => {}
            Output::Close => return Err("the server has ended the stream".to_owned()),
        }
    }
    Ok(out.freeze())
}

/// An HTTP response whose body is FLV, in chunks or until the end.
pub struct HttpFlv {
    head: Vec<u8>,
    body: Body,
    reader: TagReader,
    demuxer: Demuxer,
    clock: Unwrapper,
}

enum Body {
    /// The head is not whole yet.
    Head,
    /// Everything from here on.
    Plain,
    /// RFC 9112, 7.1: the size's digits so far.
    Size(Vec<u8>),
    /// Bytes of a chunk, with the line end behind them, that are still to come.
    Chunk(usize),
    /// The last chunk was there.
    Over,
}

/// More than any server's head and any chunk's size line have.
const HEAD_BYTES_MAX: usize = 16 << 10;
const SIZE_LINE_BYTES_MAX: usize = 256;
/// Fields of a response head that are looked at.
const FIELDS_MAX: usize = 64;

impl Default for HttpFlv {
    fn default() -> Self {
        HttpFlv {
            head: Vec::new(),
            body: Body::Head,
            reader: TagReader::default(),
            demuxer: Demuxer::default(),
            clock: Unwrapper::new(32),
        }
    }
}

impl HttpFlv {
    fn received(&mut self, mut bytes: &[u8], emit: &mut dyn FnMut(&Frame)) -> Result<(), String> {
        while !bytes.is_empty() {
            match &mut self.body {
                Body::Head => {
                    let before = self.head.len();
                    self.head.extend_from_slice(bytes);
                    let Some((body, length)) = read_head(&self.head)? else { return Ok(()) };
                    bytes = &bytes[length - before..];
                    self.body = body;
                    self.head = Vec::new();
                }
                Body::Plain => {
                    self.flv(bytes, emit)?;
                    return Ok(());
                }
                Body::Size(line) => {
                    let (byte, rest) = (bytes[0], &bytes[1..]);
                    bytes = rest;
                    if byte != b'\n' {
                        line.push(byte);
                        if line.len() > SIZE_LINE_BYTES_MAX {
                            return Err("a chunk's size has no end".to_owned());
                        }
                        continue;
                    }
                    let text = String::from_utf8_lossy(line);
                    let digits = text.split([';', '\r']).next().unwrap_or_default().trim();
                    let size = usize::from_str_radix(digits, 16)
                        .map_err(|_| format!("{digits:?} is no size of a chunk"))?;
                    self.body = if size == 0 { Body::Over } else { Body::Chunk(size + LINE_END) };
                }
                Body::Chunk(left) => {
                    let taken = bytes.len().min(*left);
                    // The line end is no part of the chunk.
                    let media = taken.min(left.saturating_sub(LINE_END));
                    *left -= taken;
                    let (now, rest) = bytes.split_at(taken);
                    bytes = rest;
                    if *left == 0 {
                        self.body = Body::Size(Vec::new());
                    }
                    self.flv(&now[..media], emit)?;
                }
                Body::Over => return Err("the server has ended the stream".to_owned()),
            }
        }
        Ok(())
    }

    fn flv(&mut self, mut bytes: &[u8], emit: &mut dyn FnMut(&Frame)) -> Result<(), String> {
        while let Some(tag) = self.reader.read(&mut bytes).map_err(|error| error.to_string())? {
            let mut take = |event| {
                if let Event::Frame(frame) = event {
                    emit(&frame);
                }
            };
            self.demuxer.tag(&tag, &mut self.clock, &mut take).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

const LINE_END: usize = 2;

/// The head's length and how the body is framed, once the head is whole.
fn read_head(bytes: &[u8]) -> Result<Option<(Body, usize)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(bytes).map_err(|error| format!("the answer is no HTTP: {error}"))? {
        httparse::Status::Partial if bytes.len() > HEAD_BYTES_MAX => {
            Err("the answer's head has no end".to_owned())
        }
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(length) => {
            if response.code != Some(200) {
                let code = response.code.unwrap_or_default();
                return Err(format!("the server answers {code} {}", response.reason.unwrap_or_default()));
            }
            let chunked = response.headers.iter().any(|field| {
                field.name.eq_ignore_ascii_case("transfer-encoding")
                    && field.value.eq_ignore_ascii_case(b"chunked")
            });
            Ok(Some((if chunked { Body::Size(Vec::new()) } else { Body::Plain }, length)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_engine::demo;

    fn frames_of(response: &[u8], piece: usize) -> Result<usize, String> {
        let mut http = HttpFlv::default();
        let mut frames = 0;
        for bytes in response.chunks(piece) {
            http.received(bytes, &mut |_| frames += 1)?;
        }
        Ok(frames)
    }

    #[test]
    fn a_body_is_read_in_chunks_and_without_however_it_is_cut() {
        // About two seconds of the clip, and the last tag is cut, as a live stream's is whenever one looks.
        let clip = &demo::CLIP[..100_000];
        let plain = [b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n\r\n", clip].concat();
        let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in clip.chunks(777) {
            chunked.extend_from_slice(format!("{:X};x=1\r\n", chunk.len()).as_bytes());
            chunked.extend_from_slice(chunk);
            chunked.extend_from_slice(b"\r\n");
        }
        let count = frames_of(&plain, plain.len()).unwrap();
        assert!(count > 100, "{count}");
        for piece in [1, 2, 3, 100, 1000, 100_000] {
            assert_eq!(frames_of(&plain, piece), Ok(count), "plain, {piece}");
            assert_eq!(frames_of(&chunked, piece), Ok(count), "chunked, {piece}");
        }
    }

    #[test]
    fn a_refusal_and_nonsense_are_told() {
        assert!(frames_of(b"HTTP/1.1 404 Not Found\r\n\r\n", 5).unwrap_err().contains("404"));
        assert!(frames_of(b"SSH-2.0-x\r\n\r\n", 50).is_err());
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(frames_of(&[&head[..], b"xyz\r\n"].concat(), 9).is_err());
        assert!(frames_of(&[&head[..], b"0\r\n\r\n"].concat(), 9).unwrap_err().contains("ended"));
    }
}
