//! What a viewer says that is sent a stream, and how it takes apart what it is sent.

use bytes::{Bytes, BytesMut};
use shardcast_engine::{
    flv::{Demuxer, TagReader},
    limits::DoorLimits,
    media::Frame,
    rtmp::Client,
    session::{Answer, Event, Input, Output, Session},
    time::{Now, Unwrapper},
};

use super::{rtsp::Rtsp, secure::Secure, target_of};
use crate::{
    player::{
        http::{self, Responses, Terms},
        ts,
    },
    scenario::Door,
    url::Url,
};

/// A viewer's conversation without its socket.
pub struct Talk {
    words: Words,
    /// Around it all, where the URL's scheme says so.
    secure: Option<Box<Secure>>,
}

enum Words {
    /// By RTMP.
    Rtmp(Box<Client>),
    /// By RTSP.
    Rtsp(Box<Rtsp>),
    /// FLV by HTTP.
    HttpFlv(Box<HttpFlv>),
    /// A transport stream by HTTP.
    HttpTs(Box<HttpTs>),
}

impl Talk {
    /// A viewer of `url` by a door; gives what it says first.
    ///
    /// # Errors
    /// The URL is none that can be played by that door.
    pub fn new(url: &Url, door: Door, now: Now) -> Result<(Talk, Bytes), String> {
        let (words, first) = match (door, url.scheme.as_str()) {
            (Door::Rtmp, "rtmp" | "rtmps") => {
                let (target, name) = target_of(url)?;
                let mut client = Box::new(Client::pull(target, name, &DoorLimits::default(), now));
                let first = listen(&mut client, now, &mut |_, _| {})?;
                (Words::Rtmp(client), first)
            }
            (Door::Rtsp | Door::RtspUdp, "rtsp") => {
                let (viewer, first) = Rtsp::new(url, door == Door::RtspUdp);
                (Words::Rtsp(Box::new(viewer)), first)
            }
            (Door::HttpFlv, "http" | "https") => (Words::HttpFlv(Box::default()), request(url)),
            (Door::HttpTs, "http" | "https") => (Words::HttpTs(Box::default()), request(url)),
            (door, scheme) => return Err(format!("nothing is played by {} from {scheme}://", door.name())),
        };
        if !matches!(url.scheme.as_str(), "rtmps" | "https") {
            return Ok((Talk { words, secure: None }, first));
        }
        let (secure, hello) = Secure::new(&url.address, &first)?;
        Ok((Talk { words, secure: Some(Box::new(secure)) }, hello))
    }

    /// The conversation of a viewer by RTSP.
    pub(super) fn rtsp(&mut self) -> Option<&mut Rtsp> {
        match &mut self.words {
            Words::Rtsp(viewer) => Some(viewer),
            _ => None,
        }
    }

    /// The server has sent something, which came at `now`. Gives each frame that is whole with when it was, and what is to be
    /// said.
    ///
    /// # Errors
    /// What was sent is no stream, or the server refused.
    pub fn received(
        &mut self,
        bytes: &[u8],
        now: Now,
        emit: &mut dyn FnMut(&Frame, Now),
    ) -> Result<Bytes, String> {
        let Some(secure) = &mut self.secure else { return self.words.received(bytes, now, emit) };
        let mut plain = BytesMut::new();
        secure.received(bytes, &mut plain)?;
        let answer = self.words.received(&plain, now, emit)?;
        secure.say(&answer)?;
        secure.written()
    }
}

impl Words {
    fn received(
        &mut self,
        bytes: &[u8],
        now: Now,
        emit: &mut dyn FnMut(&Frame, Now),
    ) -> Result<Bytes, String> {
        match self {
            Words::Rtmp(client) => {
                client.handle(Input::Received(bytes), now).map_err(|error| error.to_string())?;
                listen(client, now, emit)
            }
            Words::Rtsp(viewer) => viewer.received(bytes, now, emit),
            Words::HttpFlv(http) => http.received(bytes, now, emit).map(|()| Bytes::new()),
            Words::HttpTs(http) => http.received(bytes, now, emit).map(|()| Bytes::new()),
        }
    }
}

/// What is said to an HTTP server.
pub fn request(url: &Url) -> Bytes {
    let mut out = BytesMut::new();
    http::write_request(&mut out, url, Terms::default());
    out.freeze()
}

fn listen(client: &mut Client, now: Now, emit: &mut dyn FnMut(&Frame, Now)) -> Result<Bytes, String> {
    let mut out = BytesMut::new();
    while let Some(output) = client.poll() {
        match output {
            Output::Send(bytes) | Output::Share(bytes) | Output::Datagrams { bytes, .. } => {
                out.extend_from_slice(&bytes)
            }
            Output::Event(Event::Publish { .. }) => {
                client.handle(Input::Answer(Answer::Publishing), now).map_err(|error| error.to_string())?;
            }
            Output::Event(Event::Frame(frame)) => emit(&frame, now),
            Output::Event(_)
            | Output::Ports(_)
            | Output::Packets(_)
            | Output::Datagram { .. }
            | Output::Address(_) => {}
            Output::Close => return Err(ENDED.to_owned()),
        }
    }
    Ok(out.freeze())
}

/// An HTTP response whose body is FLV, in chunks or until the end.
pub struct HttpFlv {
    responses: Responses,
    reader: TagReader,
    demuxer: Demuxer,
    clock: Unwrapper,
}

impl Default for HttpFlv {
    fn default() -> Self {
        HttpFlv {
            responses: Responses::default(),
            reader: TagReader::default(),
            demuxer: Demuxer::default(),
            clock: Unwrapper::new(32),
        }
    }
}

impl HttpFlv {
    fn received(
        &mut self,
        mut bytes: &[u8],
        now: Now,
        emit: &mut dyn FnMut(&Frame, Now),
    ) -> Result<(), String> {
        while let Some(mut media) = next_media(&mut self.responses, &mut bytes)? {
            while let Some(tag) = self.reader.read(&mut media).map_err(|error| error.to_string())? {
                let mut take = |event| {
                    if let Event::Frame(frame) = event {
                        emit(&frame, now);
                    }
                };
                self.demuxer.tag(&tag, &mut self.clock, &mut take).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}

/// An HTTP response whose body is a transport stream.
#[derive(Default)]
pub struct HttpTs {
    responses: Responses,
    reader: ts::Reader,
}

impl HttpTs {
    fn received(
        &mut self,
        mut bytes: &[u8],
        now: Now,
        emit: &mut dyn FnMut(&Frame, Now),
    ) -> Result<(), String> {
        while let Some(media) = next_media(&mut self.responses, &mut bytes)? {
            self.reader.push(media, now, emit)?;
        }
        Ok(())
    }
}

const ENDED: &str = "the server has ended the stream";

/// The next bytes of the body of an answer that does not end; `None` when more must come.
fn next_media<'a>(responses: &mut Responses, bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, String> {
    while let Some(event) = responses.read(bytes)? {
        match event {
            http::Event::Head(head) if head.status != 200 => {
                return Err(format!("the server answers {} {}", head.status, head.reason));
            }
            http::Event::Head(_) => {}
            http::Event::Body(media) => return Ok(Some(media)),
            http::Event::End => return Err(ENDED.to_owned()),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_engine::{
        container::{Pieces, Track},
        demo,
        media::Payload,
        mpegts,
        time::Wall,
    };

    use crate::clip::{Clip, Playback};

    fn frames_of(response: &[u8], piece: usize) -> Result<usize, String> {
        let mut http = HttpFlv::default();
        let mut frames = 0;
        for bytes in response.chunks(piece) {
            http.received(bytes, Now(0), &mut |_, _| frames += 1)?;
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

    #[test]
    fn a_transport_stream_is_read_in_chunks_however_it_is_cut() {
        let mut playback = Playback::new(Clip::built_in());
        let track = |frame: &Frame| match &frame.payload {
            Payload::Parameters(parameters) => {
                Some(Track { id: frame.track, parameters: parameters.clone(), rate: frame.dts.rate })
            }
            _ => None,
        };
        let tracks: Vec<Track> = playback.clip().opening().parameters.iter().filter_map(track).collect();
        let frames: Vec<Frame> = (0..100).map(|_| playback.take(1)).collect();
        let (mut muxer, mut pieces) = ((mpegts::CONTAINER.open)(), Pieces::new());
        muxer.begin(&tracks, Wall(0), &mut pieces);
        muxer.fragment(&frames, None, &mut pieces);
        let mut response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in pieces.finish().concat().chunks(1000) {
            response.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            response.extend_from_slice(chunk);
            response.extend_from_slice(b"\r\n");
        }
        for piece in [1, 188, 1000, response.len()] {
            let (mut http, mut count) = (HttpTs::default(), 0);
            for bytes in response.chunks(piece) {
                http.received(bytes, Now(0), &mut |_, _| count += 1).unwrap();
            }
            // The last of each track may wait for what follows.
            assert!((98..=100).contains(&count), "{count} at {piece}");
        }
    }
}
