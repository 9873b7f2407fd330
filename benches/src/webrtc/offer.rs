//! What is said by HTTP: an offer goes, an answer comes, and what is in it. (RFC 9725; RFC 8866)

use bytes::{BufMut, Bytes, BytesMut};
use shardcast_engine::rtp::format::Format;

use crate::{
    player::http::{Event, Responses},
    url::Url,
};

/// Bytes of an answer. No server says so much.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// The request that brings an offer to `url`.
pub fn request(url: &Url, sdp: &str) -> Bytes {
    let Url { path, address, .. } = url;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: shardcast-bench\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n",
        sdp.len()
    );
    let mut out = BytesMut::from(head.as_bytes());
    out.put_slice(sdp.as_bytes());
    out.freeze()
}

/// The answer to it, as it comes.
#[derive(Debug, Default)]
pub struct Answer {
    responses: Responses,
    body: Vec<u8>,
    refused: Option<String>,
}

impl Answer {
    /// Takes what has come; gives the answer once it is whole.
    ///
    /// # Errors
    /// The server refuses, or what it says is no HTTP.
    pub fn received(&mut self, mut bytes: &[u8]) -> Result<Option<String>, String> {
        while let Some(event) = self.responses.read(&mut bytes)? {
            match event {
                Event::Head(head) if !head.is_success() => {
                    self.refused = Some(format!("the server answers {} {}", head.status, head.reason));
                }
                Event::Head(_) => {}
                Event::Body(piece) if self.body.len() + piece.len() > ANSWER_BYTES_MAX => {
                    return Err("an endless answer".to_owned());
                }
                Event::Body(piece) => self.body.extend_from_slice(piece),
                Event::End => {
                    let body = String::from_utf8_lossy(&std::mem::take(&mut self.body)).into_owned();
                    return match self.refused.take() {
                        Some(refused) => Err(format!("{refused}: {}", body.trim())),
                        None => Ok(Some(body)),
                    };
                }
            }
        }
        Ok(None)
    }
}

/// One of the media of a description, in the coding that stands there first.
#[derive(Clone, Debug)]
pub struct Described {
    /// What the description calls it.
    pub mid: String,
    /// The number that its packets bear.
    pub number: u8,
    /// The number of packets that are sent again. (RFC 4588)
    pub again: Option<u8>,
    /// What is in them.
    pub format: Format,
    /// What `a=fmtp` says of it.
    pub parameters: String,
}

/// The media of a description whose first coding that is `wanted` can be read, in their order.
pub fn described(sdp: &str, wanted: impl Fn(&Format, &str) -> bool) -> Vec<Described> {
    let media = sdp.split("\nm=").skip(1);
    media.filter_map(|section| read_media(section, &wanted)).collect()
}

fn read_media(section: &str, wanted: &impl Fn(&Format, &str) -> bool) -> Option<Described> {
    let lines: Vec<&str> = section.lines().map(str::trim_end).collect();
    let about = |name: &str, number: &str| {
        lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(number)?.strip_prefix(' '))
    };
    let mid = lines.iter().find_map(|line| line.strip_prefix("a=mid:"))?;
    let numbers: Vec<&str> = lines.first()?.split(' ').skip(3).collect();
    let (number, format, parameters) = numbers.iter().find_map(|text| {
        let number = text.parse().ok()?;
        let parameters = about("a=fmtp:", text).unwrap_or_default();
        let format = Format::read(number, about("a=rtpmap:", text), parameters)?;
        wanted(&format, parameters).then_some((number, format, parameters))
    })?;
    let apt = format!("apt={number}");
    let again = numbers.iter().find(|other| about("a=fmtp:", other) == Some(&apt));
    Some(Described {
        mid: (*mid).to_owned(),
        number,
        again: again.and_then(|again| again.parse().ok()),
        format,
        parameters: parameters.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_goes_and_an_answer_comes_in_pieces() {
        let url = Url::parse("http://h:1/live/x/whep").unwrap();
        let request = request(&url, "v=0\r\n");
        assert!(request.starts_with(b"POST /live/x/whep HTTP/1.1\r\nHost: h:1\r\n"));
        assert!(request.ends_with(b"Content-Length: 5\r\n\r\nv=0\r\n"));
        let said = b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\nLocation: /x\r\n\r\nv=0\r\n";
        let mut answer = Answer::default();
        let pieces: Vec<_> = said.chunks(7).map(|piece| answer.received(piece).unwrap()).collect();
        assert_eq!(pieces.last(), Some(&Some("v=0\r\n".to_owned())));
        let refused = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone";
        let why = Answer::default().received(refused).unwrap_err();
        assert!(why.contains("404") && why.contains("none"), "{why}");
    }

    #[test]
    fn what_is_described_is_found_with_its_numbers() {
        let sdp = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:a\r\na=rtpmap:111 opus/48000/2\r\n\
                   m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99\r\na=mid:v\r\na=rtpmap:96 H264/90000\r\n\
                   a=fmtp:96 packetization-mode=0\r\na=rtpmap:98 H264/90000\r\na=fmtp:98 packetization-mode=1\r\n\
                   a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:99 rtx/90000\r\na=fmtp:99 apt=98\r\n";
        let found = |mode: &str| -> Vec<_> {
            described(sdp, |format, text| !format.coding.is_video() || text.contains(mode))
                .into_iter()
                .map(|media| (media.mid, media.number, media.again))
                .collect()
        };
        let sound = ("a".to_owned(), 111, None);
        assert_eq!(found("mode=0"), [sound.clone(), ("v".to_owned(), 96, Some(97))]);
        assert_eq!(found("mode=1"), [sound.clone(), ("v".to_owned(), 98, Some(99))]);
        assert_eq!(found("mode=2"), [sound]);
    }
}
