//! Descriptions of sessions: of a stream that is played, and of one that is announced. (RFC 8866; RFC 2326, appendix C)

use sdp_types::{Media, Session};

use super::address::{TRACK, join};
use crate::{
    media::{Payload, StreamName, TrackId},
    rtp::format::{Format, describe},
    session::Opening,
};

/// Tracks that a description may have.
const TRACKS_MAX: usize = 16;
/// The first payload type that means what a description says. (RFC 3551, 6)
const DYNAMIC: u8 = 96;

/// The payload type that packets of a track bear.
pub fn payload_type(track: TrackId) -> u8 {
    DYNAMIC + track.0
}

/// A track that is announced.
#[derive(Debug)]
pub struct Announced {
    /// What it is: `video`, `audio`, `application`.
    pub kind: String,
    /// The number that stands first of those that its packets may bear, if that is one.
    pub payload_type: Option<u8>,
    /// What names it in the URL that sets it up. May be empty.
    pub control: String,
    /// Its packets; `None` when they are not understood.
    pub format: Option<Format>,
}

/// Describes a stream for those who ask for it at `url`, and says which tracks of it there are. Empty when no payload format
/// can carry any.
pub fn write(name: &StreamName, opening: &Opening, url: &str) -> (String, Vec<TrackId>) {
    describe_all(name, opening, "a=range:npt=now-\r\na=control:*\r\n", |track| {
        format!("a=control:{}\r\na=sendonly\r\n", join(url, &control_of(track)))
    })
}

/// Describes a stream for a server that it is published on, where each track is set up by the stream's URL, a slash and
/// [`control_of`] it. Empty when no payload format can carry any.
pub fn announce(name: &StreamName, opening: &Opening) -> (String, Vec<TrackId>) {
    describe_all(name, opening, "", |track| format!("a=control:{}\r\n", control_of(track)))
}

/// What a track is called where it is set up.
pub fn control_of(track: TrackId) -> String {
    format!("{TRACK}{}", track.0)
}

fn describe_all(
    name: &StreamName,
    opening: &Opening,
    of_session: &str,
    of_track: impl Fn(TrackId) -> String,
) -> (String, Vec<TrackId>) {
    let mut text = format!(
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns={name}\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=tool:shardcast\r\n{of_session}"
    );
    let mut tracks = Vec::new();
    for frame in &opening.parameters {
        let Payload::Parameters(parameters) = &frame.payload else { continue };
        if frame.track != TrackId::VIDEO && frame.track != TrackId::AUDIO {
            continue;
        }
        let Some(track) = describe(parameters, payload_type(frame.track)) else { continue };
        let kind = if parameters.codec.is_video() { "video" } else { "audio" };
        let number = track.payload_type;
        text.push_str(&format!("m={kind} 0 RTP/AVP {number}\r\na=rtpmap:{number} {}\r\n", track.mapping));
        if !track.parameters.is_empty() {
            text.push_str(&format!("a=fmtp:{number} {}\r\n", track.parameters));
        }
        text.push_str(&of_track(frame.track));
        tracks.push(frame.track);
    }
    (text, tracks)
}

/// Reads the description of a stream: one that is announced here, or one that another server gives.
///
/// ```
/// use shardcast_engine::{rtp::format::Coding, rtsp::sdp};
///
/// let text = "v=0\r\no=- 0 0 IN IP4 10.0.0.9\r\ns=yard\r\nt=0 0\r\nm=audio 0 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\n";
/// let tracks = sdp::read(text.as_bytes())?;
/// let format = tracks[0].format.as_ref().expect("it is Opus");
/// assert_eq!((tracks[0].kind.as_str(), &format.coding), ("audio", &Coding::Opus { stereo: false }));
/// # Ok::<(), &'static str>(())
/// ```
///
/// # Errors
/// A sentence for the peer.
pub fn read(text: &[u8]) -> Result<Vec<Announced>, &'static str> {
    let session = Session::parse(text).map_err(|_| "the description cannot be read")?;
    if session.medias.len() > TRACKS_MAX {
        return Err("the description has more than 16 tracks");
    }
    if session.medias.is_empty() {
        return Err("the description has no tracks");
    }
    Ok(session.medias.iter().map(announced).collect())
}

fn announced(media: &Media) -> Announced {
    let values = |name: &str| {
        let found = media.attributes.iter().filter(move |found| found.attribute.eq_ignore_ascii_case(name));
        found.filter_map(|found| found.value.as_deref()).collect::<Vec<_>>()
    };
    let control = values("control").first().map(|control| (*control).to_owned()).unwrap_or_default();
    // Of several payload types the first that is understood is taken.
    let format = media.fmt.split_ascii_whitespace().find_map(|number| {
        let payload_type: u8 = number.parse().ok().filter(|number| *number < 128)?;
        let of_it = |values: Vec<&str>| {
            values.iter().find_map(|value| {
                let (found, rest) = value.trim().split_once(char::is_whitespace)?;
                (found == number).then(|| rest.trim().to_owned())
            })
        };
        let (mapping, parameters) = (of_it(values("rtpmap")), of_it(values("fmtp")));
        Format::read(payload_type, mapping.as_deref(), &parameters.unwrap_or_default())
    });
    let first = media.fmt.split_ascii_whitespace().next();
    let payload_type = first.and_then(|number| number.parse().ok());
    Announced { kind: media.media.clone(), payload_type, control, format }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        codec::{Codec, Parameters, samples},
        media::Frame,
        rtp::format::Coding,
        time::MediaTime,
    };

    fn parameters(track: TrackId, parameters: Parameters) -> Frame {
        let time = MediaTime::from_millis(0);
        Frame { track, dts: time, pts: time, payload: Payload::Parameters(Arc::new(parameters)) }
    }

    #[test]
    fn what_is_written_is_understood() {
        let avcc = samples::hex(samples::H264_HIGH_720).into();
        let video = Parameters::parse(Codec::H264, avcc).unwrap();
        let opening = Opening {
            parameters: vec![
                parameters(TrackId::VIDEO, video),
                parameters(TrackId::AUDIO, Parameters::of_opus(2)),
            ],
            ..Opening::default()
        };
        let name = StreamName::parse("live/cam").unwrap();
        let (text, tracks) = write(&name, &opening, "rtsp://h/live/cam?key=x");
        assert_eq!(tracks, [TrackId::VIDEO, TrackId::AUDIO]);
        let read = read(text.as_bytes()).unwrap();
        assert_eq!(read[0].control, "rtsp://h/live/cam/trackID=0?key=x");
        assert!(matches!(&read[0].format.as_ref().unwrap().coding, Coding::H264(sets) if sets.len() == 2));
        assert_eq!(read[1].format.as_ref().unwrap().coding, Coding::Opus { stereo: true });
        assert_eq!(read[1].format.as_ref().unwrap().payload_type, 97);
        let (text, announced) = announce(&name, &opening);
        let read_back = super::read(text.as_bytes()).unwrap();
        assert_eq!(announced, tracks);
        assert_eq!(
            (read_back[0].control.as_str(), read_back[1].control.as_str()),
            ("trackID=0", "trackID=1")
        );
        assert!(read_back.iter().zip(&read).all(|(one, other)| one.format == other.format));
    }

    #[test]
    fn what_cannot_be_carried_has_no_place_and_what_is_not_understood_no_format() {
        let opening = Opening {
            parameters: vec![parameters(TrackId::AUDIO, Parameters::of_opus(6))],
            ..Opening::default()
        };
        assert!(write(&StreamName::parse("live/cam").unwrap(), &opening, "rtsp://h/live/cam").1.is_empty());
        let text = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96 14\r\na=rtpmap:96 theora/90000\r\na=control:streamid=0\r\nm=application 0 RTP/AVP 200\r\n";
        let read_back = read(text.as_bytes()).unwrap();
        assert_eq!(read_back[0].format.as_ref().unwrap().coding, Coding::Mp3);
        assert_eq!((read_back[0].control.as_str(), read_back[1].format.is_none()), ("streamid=0", true));
        assert!(read(b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n").is_err());
        assert!(read(b"hello").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(lines in proptest::collection::vec("([vostcmabk]=)?.{0,40}", 0..30)) {
            let _ = read(lines.join("\r\n").as_bytes());
        }
    }
}
