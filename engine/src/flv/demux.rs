//! FLV bodies to frames.
//!
//! A frame's payload is a slice of the body, never a copy. Times come in already unwrapped: the 32-bit clock belongs to
//! the connection or the file, not to a body.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Tag, TagKind, VIDEO_AVC, VIDEO_EXTENDED, VIDEO_HEVC_UNOFFICIAL, amf0, audio_packet, codec_of, frame_type,
    packet, sound, video_packet,
};
use crate::{
    bits::Reader,
    codec::{Codec, Parameters},
    error::{Error, ErrorKind},
    limits,
    media::{Frame, Payload, TrackId},
    session::Event,
    time::{MediaTime, Unwrapper},
};

/// Makes the frames of one publisher.
///
/// ```
/// use bytes::Bytes;
/// use shardcast_engine::{flv::{Demuxer, TagKind}, session::Event};
///
/// let (mut demuxer, mut frames) = (Demuxer::default(), Vec::new());
/// // A packet of Opus in the enhanced format, 20 ms into the stream.
/// let body = Bytes::from_static(b"\x91Opus\xfc\x01\x02");
/// demuxer.body(TagKind::Audio, 20, &body, &mut |event: Event| {
///     if let Event::Frame(frame) = event {
///         frames.push(frame);
///     }
/// })?;
/// // Its publisher sent no parameters: those that the packet itself says come before it.
/// assert_eq!(frames.len(), 2);
/// assert!(frames[1].is_audio() && frames[1].dts.as_millis() == 20 && frames[1].payload_bytes() == 3);
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Demuxer {
    video: Track,
    audio: Track,
    /// The publisher was told of once that its metadata cannot be kept.
    remarked_metadata: bool,
}

#[derive(Debug, Default)]
struct Track {
    /// The parameters of the frames that come.
    parameters: Option<Arc<Parameters>>,
    /// That frames of another codec came, or came before any parameters, was remarked.
    remarked: bool,
}

/// The time and track of a frame to be.
#[derive(Clone, Copy)]
struct At {
    track: TrackId,
    dts: i64,
    /// pts less dts in milliseconds.
    offset: i32,
}

impl Demuxer {
    /// Takes one body of time `dts`, in milliseconds, and emits what is in it as [`Event::Frame`] or [`Event::Remark`].
    ///
    /// # Errors
    /// The body is cut short, its decoder configuration is broken, or it has something that is not supported; `at`
    /// counts from its start.
    pub fn body(
        &mut self,
        kind: TagKind,
        dts: i64,
        body: &Bytes,
        emit: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        // Encoders send empty bodies as a sign of life, or where a frame was dropped.
        if body.is_empty() {
            return Ok(());
        }
        match kind {
            TagKind::Video => self.video(dts, body, emit),
            TagKind::Audio => self.audio(dts, body, emit),
            TagKind::Script => {
                self.script(dts, body, emit);
                Ok(())
            }
        }
    }

    /// As [`body`](Self::body), for the tags of a file whose clock is `clock`.
    ///
    /// # Errors
    /// As [`body`](Self::body); `at` counts from the start of the file.
    pub fn tag(
        &mut self,
        tag: &Tag,
        clock: &mut Unwrapper,
        emit: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        let dts = clock.unwrap(tag.time.into());
        self.body(tag.kind, dts, &tag.body, emit)
            .map_err(|error| error.after(tag.at + super::tag::TAG_HEAD_BYTES as u64))
    }

    fn video(&mut self, dts: i64, body: &Bytes, emit: &mut dyn FnMut(Event)) -> Result<(), Error> {
        let mut reader = Reader::new(body);
        let first = reader.u8("video header")?;
        let mut at = At { track: TrackId::VIDEO, dts, offset: 0 };
        if first & VIDEO_EXTENDED != 0 {
            return self.enhanced_video(first, reader, at, body, emit);
        }
        let kind = first >> 4;
        if kind == frame_type::COMMAND {
            // A seek command to the player of a recording.
            return Ok(());
        }
        let codec = classic_video_codec(first & 0x0f)?;
        let packet = reader.u8("video packet type")?;
        at.offset = reader.i24("composition time")?;
        let data = rest(body, &reader);
        match packet {
            packet::SEQUENCE_HEADER => {
                self.video.configure(codec, data, at, emit).map_err(|error| error.after(5))
            }
            packet::FRAME => {
                self.video.picture(codec, is_key(kind), data, at, emit);
                Ok(())
            }
            // 2 is the end of a sequence, which says nothing a decoder needs.
            _ => Ok(()),
        }
    }

    fn enhanced_video(
        &mut self,
        first: u8,
        mut reader: Reader<'_>,
        mut at: At,
        body: &Bytes,
        emit: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        let kind = first >> 4 & 0x07;
        let packet = skip_mod_ex(first & 0x0f, video_packet::MOD_EX, &mut reader)?;
        if kind == frame_type::COMMAND && packet != video_packet::METADATA {
            return Ok(());
        }
        if packet == video_packet::MULTITRACK {
            return Err(Error::unsupported("multitrack video", 0));
        }
        let place = reader.position() as u64;
        let codec = codec_of(reader.array("video FourCC")?).filter(|codec| codec.is_video()).ok_or(
            Error::unsupported("a video FourCC other than avc1, hvc1, vvc1, av01, vp08 and vp09", place),
        )?;
        let has_offset = matches!(codec, Codec::H264 | Codec::H265 | Codec::H266);
        if packet == video_packet::CODED_FRAMES && has_offset {
            at.offset = reader.i24("composition time")?;
        }
        let place = reader.position() as u64;
        let data = rest(body, &reader);
        match packet {
            video_packet::SEQUENCE_START => {
                self.video.configure(codec, data, at, emit).map_err(|error| error.after(place))
            }
            video_packet::CODED_FRAMES | video_packet::CODED_FRAMES_X => {
                self.video.picture(codec, is_key(kind), data, at, emit);
                Ok(())
            }
            video_packet::METADATA => {
                self.color(codec, data, at, emit);
                Ok(())
            }
            video_packet::MPEG2TS_SEQUENCE_START => {
                Err(Error::unsupported("AV1 configured by an MPEG-2 TS descriptor", 0))
            }
            // The end of a sequence, and what may be defined later.
            _ => Ok(()),
        }
    }

    fn audio(&mut self, dts: i64, body: &Bytes, emit: &mut dyn FnMut(Event)) -> Result<(), Error> {
        let mut reader = Reader::new(body);
        let first = reader.u8("audio header")?;
        let at = At { track: TrackId::AUDIO, dts, offset: 0 };
        let codec = match first >> 4 {
            sound::EXTENDED => return self.enhanced_audio(first, reader, at, body, emit),
            sound::AAC => Codec::Aac,
            sound::MP3 | sound::MP3_8_KHZ => Codec::Mp3,
            // Rate and size of the samples are those of G.711, whatever stands there.
            sound::PCMA | sound::PCMU if first & STEREO != 0 => {
                return Err(Error::unsupported("G.711 audio of two channels", 0));
            }
            sound::PCMA => Codec::PcmA,
            sound::PCMU => Codec::PcmU,
            format => return Err(Error::unsupported(sound_format_name(format), 0)),
        };
        if codec == Codec::Aac {
            let packet = reader.u8("AAC packet type")?;
            if packet == packet::SEQUENCE_HEADER {
                return self
                    .audio
                    .configure(codec, rest(body, &reader), at, emit)
                    .map_err(|error| error.after(2));
            }
        }
        self.audio.sound(codec, rest(body, &reader), at, emit);
        Ok(())
    }

    fn enhanced_audio(
        &mut self,
        first: u8,
        mut reader: Reader<'_>,
        at: At,
        body: &Bytes,
        emit: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        let packet = skip_mod_ex(first & 0x0f, audio_packet::MOD_EX, &mut reader)?;
        if packet == audio_packet::MULTITRACK {
            return Err(Error::unsupported("multitrack audio", 0));
        }
        let place = reader.position() as u64;
        let codec = codec_of(reader.array("audio FourCC")?)
            .filter(|codec| !codec.is_video())
            .ok_or(Error::unsupported("an audio FourCC other than mp4a, Opus, .mp3 and ac-3", place))?;
        let place = reader.position() as u64;
        let data = rest(body, &reader);
        match packet {
            // These have no configuration here; what a sender puts there says nothing.
            audio_packet::SEQUENCE_START if matches!(codec, Codec::Mp3 | Codec::Ac3) => Ok(()),
            audio_packet::SEQUENCE_START => {
                self.audio.configure(codec, data, at, emit).map_err(|error| error.after(place))
            }
            audio_packet::CODED_FRAMES => {
                self.audio.sound(codec, data, at, emit);
                Ok(())
            }
            // The end of a sequence, the order of channels (which the configuration has too), and what may be defined
            // later.
            _ => Ok(()),
        }
    }

    fn color(&mut self, codec: Codec, data: Bytes, at: At, emit: &mut dyn FnMut(Event)) {
        match check_metadata(&data) {
            Ok(()) => emit(at.frame(Payload::ColorInfo { codec, data })),
            Err(why) => self.remark_metadata(why, emit),
        }
    }

    /// Script data (E.4.4): a name and values. `@setDataFrame` asks the server to keep what follows; a server that keeps
    /// `onMetaData` anyway takes it off, and viewers never see it.
    fn script(&mut self, dts: i64, body: &Bytes, emit: &mut dyn FnMut(Event)) {
        let at = At { track: TrackId::DATA, dts, offset: 0 };
        if let Err(why) = check_metadata(body) {
            return self.remark_metadata(why, emit);
        }
        let mut decoder = amf0::Decoder::new(body);
        let mut start = 0;
        let mut name = decoder.value();
        if matches!(&name, Ok(name) if name.as_str() == Some("@setDataFrame")) {
            start = decoder.position();
            name = decoder.value();
        }
        match name.as_ref().ok().and_then(amf0::Value::as_str) {
            Some("onMetaData") => {
                let values = body.slice(decoder.position()..);
                if !values.is_empty() {
                    emit(at.frame(Payload::Metadata(values)));
                }
            }
            // To clear is to keep nothing: an empty array takes the place of what was kept.
            Some("@clearDataFrame") => {
                emit(at.frame(Payload::Metadata(Bytes::from_static(NO_METADATA))));
            }
            // What a server says to a player alone. It comes where a client plays what it passes on.
            Some("|RtmpSampleAccess" | "onStatus") => {}
            Some(_) => emit(at.frame(Payload::Script(body.slice(start..)))),
            None => self.remark_metadata("script data does not begin with a name; left out", emit),
        }
    }

    fn remark_metadata(&mut self, why: &'static str, emit: &mut dyn FnMut(Event)) {
        if !self.remarked_metadata {
            self.remarked_metadata = true;
            emit(Event::Remark(why));
        }
    }
}

/// An associative array without entries.
const NO_METADATA: &[u8] = b"\x08\0\0\0\0\0\0\x09";

/// Viewers are sent metadata as it came, so it is read once here to know that they can read it.
fn check_metadata(values: &[u8]) -> Result<(), &'static str> {
    if values.len() > limits::METADATA_BYTES_MAX {
        return Err("metadata is larger than the limit; left out");
    }
    match amf0::Decoder::new(values).values() {
        Ok(_) => Ok(()),
        Err(Error { kind: ErrorKind::TooLarge, .. }) => {
            Err("metadata nests too deeply or has too many values; left out")
        }
        Err(_) => Err("metadata is not AMF0; left out"),
    }
}

impl Track {
    /// Takes a decoder configuration. Encoders repeat theirs with each key frame; one that says nothing new is not
    /// worth a frame.
    fn configure(
        &mut self,
        codec: Codec,
        configuration: Bytes,
        at: At,
        emit: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        let known = self.parameters.as_ref();
        let same = known.is_some_and(|known| known.codec == codec && known.configuration == configuration);
        if configuration.is_empty() || same {
            return Ok(());
        }
        // Kept for as long as the stream lives: it must not keep alive what it came with.
        let configuration = Bytes::copy_from_slice(&configuration);
        let parameters = Parameters::parse(codec, configuration)?;
        // What was sent may be a shorter spelling of what is kept.
        if known.is_none_or(|known| **known != parameters) {
            self.set(parameters, at, emit);
        }
        Ok(())
    }

    fn set(&mut self, parameters: Parameters, at: At, emit: &mut dyn FnMut(Event)) {
        let parameters = Arc::new(parameters);
        self.parameters = Some(Arc::clone(&parameters));
        emit(At { offset: 0, ..at }.frame(Payload::Parameters(parameters)));
    }

    fn picture(&mut self, codec: Codec, key: bool, data: Bytes, at: At, emit: &mut dyn FnMut(Event)) {
        // AV1 samples have no temporal delimiter (AV1-ISOBMFF 2.4), but some encoders leave it in.
        let mut data = data;
        while codec == Codec::Av1 && data.starts_with(TEMPORAL_DELIMITER) {
            data = data.slice(TEMPORAL_DELIMITER.len()..);
        }
        // A publisher may leave out a configuration that says nothing.
        if codec == Codec::Vp8
            && key
            && !self.knows(codec)
            && let Some(parameters) = Parameters::of_key_frame(codec, &data)
        {
            self.set(parameters, at, emit);
        }
        if !data.is_empty() && self.can_decode(codec, emit) {
            emit(at.frame(Payload::Video { codec, key, data }));
        }
    }

    fn sound(&mut self, codec: Codec, data: Bytes, at: At, emit: &mut dyn FnMut(Event)) {
        if data.is_empty() {
            return;
        }
        if !self.knows(codec) {
            match codec {
                Codec::Mp3 | Codec::Ac3 => {
                    let parse = match codec {
                        Codec::Mp3 => Parameters::from_mp3_frame,
                        _ => Parameters::from_ac3_frame,
                    };
                    if let Ok(parameters) = parse(&data) {
                        self.set(parameters, at, emit);
                    }
                }
                // RFC 6716, 3.1: this bit of the first byte says stereo.
                Codec::Opus => {
                    let stereo = data.first().is_some_and(|byte| byte & 0x04 != 0);
                    self.set(Parameters::of_opus(if stereo { 2 } else { 1 }), at, emit);
                }
                codec => {
                    if let Some(parameters) = Parameters::of_voice(codec) {
                        self.set(parameters, at, emit);
                    }
                }
            }
        }
        if self.can_decode(codec, emit) {
            emit(at.frame(Payload::Audio { codec, data }));
        }
    }

    fn knows(&self, codec: Codec) -> bool {
        self.parameters.as_ref().is_some_and(|parameters| parameters.codec == codec)
    }

    /// Frames that come before their parameters are of no use to anyone.
    fn can_decode(&mut self, codec: Codec, emit: &mut dyn FnMut(Event)) -> bool {
        let knows = self.knows(codec);
        if !knows && !self.remarked {
            self.remarked = true;
            emit(Event::Remark("frames came before the parameters of their codec; left out"));
        }
        knows
    }
}

/// The bit of a sound's first byte that says two channels. (E.4.2.1)
const STEREO: u8 = 0x01;

/// OBU type 2 with a size field of 0.
const TEMPORAL_DELIMITER: &[u8] = &[0x12, 0x00];

impl At {
    fn frame(self, payload: Payload) -> Event {
        Event::Frame(Frame {
            track: self.track,
            dts: MediaTime::from_millis(self.dts),
            pts: MediaTime::from_millis(self.dts.saturating_add(self.offset.into())),
            payload,
        })
    }
}

fn rest(body: &Bytes, reader: &Reader<'_>) -> Bytes {
    body.slice(reader.position()..)
}

const fn is_key(kind: u8) -> bool {
    matches!(kind, frame_type::KEY | frame_type::GENERATED_KEY)
}

/// Modifiers of the packet type ("ModEx"). The only one defined adds nanoseconds to the time, less than the clock of
/// frames can tell, so all are left out.
fn skip_mod_ex(mut packet: u8, mod_ex: u8, reader: &mut Reader<'_>) -> Result<u8, Error> {
    while packet == mod_ex {
        let mut len = usize::from(reader.u8("size of a packet modifier")?) + 1;
        if len == 256 {
            len = usize::from(reader.u16("size of a packet modifier")?) + 1;
        }
        reader.skip(len, "packet modifier")?;
        packet = reader.u8("type after a packet modifier")? & 0x0f;
    }
    Ok(packet)
}

fn classic_video_codec(number: u8) -> Result<Codec, Error> {
    let name = match number {
        VIDEO_AVC => return Ok(Codec::H264),
        VIDEO_HEVC_UNOFFICIAL => return Ok(Codec::H265),
        2 => "Sorenson H.263 video",
        3 | 6 => "Screen video",
        4 | 5 => "On2 VP6 video",
        _ => "an unknown video codec number",
    };
    Err(Error::unsupported(name, 0))
}

const fn sound_format_name(format: u8) -> &'static str {
    match format {
        0 | 3 => "uncompressed audio",
        1 => "ADPCM audio",
        4..=6 => "Nellymoser audio",
        11 => "Speex audio",
        _ => "an unknown sound format",
    }
}

#[cfg(test)]
pub(crate) mod tests;
