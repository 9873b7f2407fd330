//! The nouns that every other file shares: a stream's name, a track, and the one thing that flows, the [`Frame`].

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    codec::{Codec, Parameters},
    error::Error,
    limits,
    time::MediaTime,
};

/// A stream's name, `APP/STREAM`, valid by construction: each part is 1 to 128 characters of `A-Z a-z 0-9 . _ -` and is
/// neither `.` nor `..`. So it can stand in a path, a log line, a URL and a metric label without another look.
///
/// ```
/// use shardcast_engine::media::StreamName;
///
/// let name = StreamName::parse("live/cam1")?;
/// assert_eq!((name.app(), name.stream(), name.as_str()), ("live", "cam1", "live/cam1"));
/// assert_eq!(StreamName::new("live", "cam1")?, name);
/// // The error says where.
/// assert_eq!(StreamName::parse("live/a b").unwrap_err().at, 6);
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    text: Arc<str>,
    slash: u8,
}

impl StreamName {
    /// Parses `APP/STREAM`.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::error::ErrorKind) with the rule that was broken.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (app, stream) = text
            .split_once('/')
            .ok_or(Error::malformed("a stream's name has two parts, APP/STREAM", text.len() as u64))?;
        Self::new(app, stream)
    }

    /// From the two parts.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn new(app: &str, stream: &str) -> Result<Self, Error> {
        check_part(app, 0)?;
        check_part(stream, app.len() as u64 + 1)?;
        let slash = u8::try_from(app.len()).expect("a part has at most 128 characters");
        Ok(StreamName { text: format!("{app}/{stream}").into(), slash })
    }

    /// The same stream as it is made for players that cannot take it as it is: [`OPUS`](Self::OPUS), [`PLAIN`](Self::PLAIN),
    /// [`PLAIN_OPUS`](Self::PLAIN_OPUS). A name that is parsed has no such
    /// character, so that no peer can ask for one or publish it; whoever may play the stream may play it so.
    ///
    /// ```
    /// use shardcast_engine::media::StreamName;
    ///
    /// let name = StreamName::parse("live/cam1")?;
    /// let rendition = name.rendition(StreamName::OPUS);
    /// assert_eq!((rendition.app(), rendition.as_str()), ("live", "live/cam1~opus"));
    /// assert_eq!(rendition.origin(), Some((name.clone(), StreamName::OPUS)));
    /// // Without B-frames that others refer to, and the same with sound by Opus.
    /// let others = [StreamName::PLAIN, StreamName::PLAIN_OPUS].map(|what| name.rendition(what).to_string());
    /// assert_eq!(others, ["live/cam1~plain", "live/cam1~plain-opus"]);
    /// assert!(rendition.is_rendition() && StreamName::parse(rendition.as_str()).is_err());
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    #[must_use]
    pub fn rendition(&self, what: &str) -> StreamName {
        StreamName { text: format!("{}{RENDITION}{what}", self.text).into(), slash: self.slash }
    }
    /// The stream that this is a rendition of, and what is made of it; `None` for a stream of a publisher's.
    pub fn origin(&self) -> Option<(StreamName, &str)> {
        let (origin, what) = self.text.split_once(RENDITION)?;
        Some((StreamName { text: origin.into(), slash: self.slash }, what))
    }
    /// Whether it is a [`rendition`](Self::rendition).
    pub fn is_rendition(&self) -> bool {
        self.text.contains(RENDITION)
    }
    /// The rendition whose sound is Opus.
    pub const OPUS: &str = "opus";
    /// The rendition by H.264 whose pictures are sent in the order in which they are shown.
    pub const PLAIN: &str = "plain";
    /// The rendition that is both.
    pub const PLAIN_OPUS: &str = "plain-opus";
    /// The application, the part before the slash.
    pub fn app(&self) -> &str {
        self.text.split_at(self.slash as usize).0
    }
    /// The stream, the part after the slash.
    pub fn stream(&self) -> &str {
        self.text.split_at(self.slash as usize + 1).1
    }
    /// The whole, `APP/STREAM`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// What stands between a stream's name and what is made of it.
const RENDITION: char = '~';

fn check_part(part: &str, at: u64) -> Result<(), Error> {
    if part.is_empty() {
        return Err(Error::malformed("a part of a stream's name is empty", at));
    }
    if part.len() > limits::NAME_PART_BYTES_MAX {
        return Err(Error::malformed("a part of a stream's name has more than 128 characters", at));
    }
    if part == "." || part == ".." {
        return Err(Error::malformed("a part of a stream's name is . or ..", at));
    }
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match part.as_bytes().iter().position(|byte| !legal(byte)) {
        Some(place) => Err(Error::malformed(
            "a stream's name has a character other than A-Z a-z 0-9 . _ -",
            at + place as u64,
        )),
        None => Ok(()),
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamName({})", self.text)
    }
}

/// Which track of its stream a frame belongs to.
///
/// ```
/// use shardcast_engine::{media::{Frame, Payload, TrackId}, time::MediaTime};
///
/// // What a publisher says about its stream stands in a track of its own, beside pictures and sound.
/// let values = bytes::Bytes::from_static(b"\x08\0\0\0\0\0\0\x09");
/// let time = MediaTime::from_millis(0);
/// let metadata = Frame { track: TrackId::DATA, dts: time, pts: time, payload: Payload::Metadata(values) };
/// assert!(!metadata.is_media());
/// assert!(![TrackId::VIDEO, TrackId::AUDIO].contains(&metadata.track));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(pub u8);

impl TrackId {
    /// The video track of a stream that has one (RTMP has no other).
    pub const VIDEO: TrackId = TrackId(0);
    /// The audio track.
    pub const AUDIO: TrackId = TrackId(1);
    /// Metadata and script data.
    pub const DATA: TrackId = TrackId(2);
}

/// One picture, one packet of sound, or one word about them; the only thing that flows through the house.
///
/// Cheap to clone: the payload is shared, never copied.
///
/// ```
/// use shardcast_engine::{codec::Codec, media::{Frame, Payload, TrackId}, time::MediaTime};
///
/// // A key frame of H.264: each NAL unit behind its length, as in MP4. B-frames are shown before it.
/// let data = bytes::Bytes::from_static(&[0, 0, 0, 2, 0x65, 0x88]);
/// let dts = MediaTime { ticks: 180_000, rate: 90_000 };
/// let frame = Frame {
///     track: TrackId::VIDEO,
///     dts,
///     pts: dts.plus_nanos(80_000_000),
///     payload: Payload::Video { codec: Codec::H264, key: true, data },
/// };
/// assert!(frame.is_key() && frame.payload_bytes() == 6);
/// ```
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its track.
    pub track: TrackId,
    /// When it is decoded. Frames of a track come in decoding order.
    pub dts: MediaTime,
    /// When it is shown, on the same clock as `dts`. Differs from it where B-frames reorder pictures.
    pub pts: MediaTime,
    /// What it carries.
    pub payload: Payload,
}

/// What a [`Frame`] carries.
///
/// ```
/// use std::sync::Arc;
/// use shardcast_engine::{codec::{Codec, Parameters}, media::Payload};
///
/// // A track begins with its parameters; then its packets follow.
/// let stereo = Payload::Parameters(Arc::new(Parameters::of_opus(2)));
/// let packet = Payload::Audio { codec: Codec::Opus, data: bytes::Bytes::from_static(&[0xfc, 1, 2]) };
/// # drop((stereo, packet));
/// ```
#[derive(Clone, Debug)]
pub enum Payload {
    /// A picture: one access unit, as MP4 samples hold it (H.264, HEVC and VVC with length-prefixed NAL units, the
    /// length's size as the configuration says; AV1 as a temporal unit of OBUs with sizes, without temporal delimiters;
    /// VP9 as is).
    Video {
        /// How `data` is coded.
        codec: Codec,
        /// A decoder can begin here.
        key: bool,
        /// The access unit.
        data: Bytes,
    },
    /// One packet of sound: raw AAC without ADTS, one Opus packet, one MP3 frame with its header.
    Audio {
        /// How `data` is coded.
        codec: Codec,
        /// The packet.
        data: Bytes,
    },
    /// The parameters a decoder needs for the frames of this track from here on.
    Parameters(Arc<Parameters>),
    /// What the publisher said about its stream: the AMF0 values of an `onMetaData` message after its name (one ECMA
    /// array or object). Kept, and given to every viewer before the first frame.
    Metadata(Bytes),
    /// Colour and HDR metadata of enhanced RTMP: the AMF0 values of a `VideoPacketType.Metadata` packet (name, object).
    /// Kept like [`Payload::Metadata`].
    ColorInfo {
        /// The video codec whose packet it came in.
        codec: Codec,
        /// The AMF0 values.
        data: Bytes,
    },
    /// Any other script data (`onTextData`, `onCuePoint`, ...): the whole AMF0 body. Passed on, not kept.
    Script(Bytes),
    /// What follows does not continue what came before: the publisher went and came back, or its clock jumped.
    /// Times go on rising across it.
    Discontinuity,
}

impl Frame {
    /// True for a picture a decoder can begin at.
    pub const fn is_key(&self) -> bool {
        matches!(self.payload, Payload::Video { key: true, .. })
    }
    /// True for a picture.
    pub const fn is_video(&self) -> bool {
        matches!(self.payload, Payload::Video { .. })
    }
    /// True for a packet of sound.
    pub const fn is_audio(&self) -> bool {
        matches!(self.payload, Payload::Audio { .. })
    }
    /// True for a picture or a packet of sound.
    pub const fn is_media(&self) -> bool {
        self.is_video() || self.is_audio()
    }
    /// Bytes of payload that this frame keeps alive.
    pub fn payload_bytes(&self) -> usize {
        match &self.payload {
            Payload::Video { data, .. }
            | Payload::Audio { data, .. }
            | Payload::Metadata(data)
            | Payload::ColorInfo { data, .. }
            | Payload::Script(data) => data.len(),
            Payload::Parameters(parameters) => parameters.configuration.len(),
            Payload::Discontinuity => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legal_name_keeps_its_two_parts() {
        let name = StreamName::parse("live/cam-1_a.b").unwrap();
        assert_eq!((name.app(), name.stream(), name.as_str()), ("live", "cam-1_a.b", "live/cam-1_a.b"));
    }

    #[test]
    fn names_that_could_hurt_a_disk_or_a_log_are_refused() {
        let long = format!("live/{}", "x".repeat(129));
        let huge = format!("live/{}", "x".repeat(10_000));
        for bad in [
            "",
            "/",
            "live",
            "live/",
            "/cam",
            "live/..",
            "../cam",
            "./cam",
            "live/.",
            "live/a/b",
            "live/a\0",
            "live/a\nb",
            "live/a b",
            "live/\u{e9}",
            "live\\x/y",
            "live/%2e%2e",
            &long,
            &huge,
        ] {
            assert!(StreamName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
