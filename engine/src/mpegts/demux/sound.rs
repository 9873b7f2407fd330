//! Sound: the frames of a stream, wherever its PES packets begin.

use std::sync::Arc;

use bytes::Bytes;

use super::{Context, RATE, pes::Times};
use crate::{
    bits::Reader,
    codec::{Codec, Parameters, ac3, mp3, opus},
    error::{Error, ErrorKind},
    media::{Payload, TrackId},
};

/// How the frames of a stream are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Adts,
    Mp3,
    Ac3,
    /// Behind control headers. The parameters stand in the map alone.
    Opus {
        channels: u8,
    },
}

/// The sound of a program.
#[derive(Debug)]
pub(super) struct Sound {
    coding: Coding,
    /// What has come of a frame that goes on in the next PES packet.
    begun: Vec<u8>,
    /// When that plays, if its PES packet said so.
    begun_time: Option<i64>,
    /// When the last PES packet's first frame plays, and how much came since, in samples of `sample_rate`.
    time: Option<i64>,
    samples: u64,
    sample_rate: u32,
    /// What came last was a frame. If not, the next that looks like one must be followed by another.
    in_step: bool,
    /// What the frames say of themselves, and the parameters that makes.
    shape: Option<Shape>,
    parameters: Option<Arc<Parameters>>,
}

/// A frame, as its head says.
struct Head {
    /// Bytes before what is passed on, and of the whole.
    head_bytes: usize,
    bytes: usize,
    samples: u32,
    sample_rate: u32,
    shape: Shape,
}

/// What parameters are made of. Frames of a track have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// An AudioSpecificConfig.
    Aac([u8; 2]),
    Mp3 {
        version: mp3::Version,
        sample_rate: u32,
        channels: u8,
    },
    Ac3(ac3::Configuration),
    Opus {
        channels: u8,
    },
}

/// Bytes of a frame. None of these codecs can say more than 13 bits; a packet of Opus can, and is none then.
const FRAME_BYTES_MAX: usize = 64 << 10;

impl Sound {
    pub(super) fn new(coding: Coding) -> Self {
        Sound {
            coding,
            begun: Vec::new(),
            begun_time: None,
            time: None,
            samples: 0,
            sample_rate: RATE,
            in_step: false,
            shape: None,
            parameters: None,
        }
    }

    /// Takes the payload of a PES packet. Its time is that of the first frame that begins in it. (2.4.3.7)
    pub(super) fn unit(&mut self, payload: &[u8], times: Option<Times>, context: &mut Context<'_>) {
        let mut bytes = std::mem::take(&mut self.begun);
        let border = bytes.len();
        bytes.extend_from_slice(payload);
        // Of the frame that began before, and of the first that begins here.
        let (mut before, mut here) = (self.begun_time.take(), times.map(|times| times.pts));
        let mut left_out = false;
        let mut reader = Reader::new(&bytes);
        while !reader.is_empty() {
            let rest = reader.peek();
            let head = match Head::parse(self.coding, rest) {
                Ok(head) if self.in_step || self.is_followed(&head, rest) => head,
                Err(error) if error.kind == ErrorKind::Truncated => break,
                Ok(_) | Err(_) => {
                    left_out = true;
                    self.in_step = false;
                    if reader.skip(1, "no frame").is_err() {
                        break;
                    }
                    continue;
                }
            };
            let begins_here = reader.position() >= border;
            let Ok(frame) = reader.take(head.bytes, "frame of sound") else { break };
            self.in_step = true;
            let time = if begins_here { &mut here } else { &mut before };
            if let Some(time) = time.take() {
                (self.time, self.samples) = (Some(time), 0);
            }
            self.frame(&head, frame.split_at(head.head_bytes).1, context);
        }
        // Counted once, however much it is.
        context.counters.broken_frames += u64::from(left_out);
        let begins_here = reader.position() >= border;
        let kept = reader.remaining().min(FRAME_BYTES_MAX);
        if kept > 0 {
            self.begun_time = if begins_here { here } else { before };
        }
        bytes.drain(..bytes.len() - kept);
        self.begun = bytes;
    }

    /// Part of what comes is missing. True when a frame had begun.
    pub(super) fn lose(&mut self) -> bool {
        let had_begun = !self.begun.is_empty();
        self.begun.clear();
        self.begun_time = None;
        self.in_step = false;
        had_begun
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.begun.capacity()
    }

    /// True when another frame begins behind this one, or that cannot be seen yet.
    fn is_followed(&self, head: &Head, rest: &[u8]) -> bool {
        match rest.get(head.bytes..) {
            None | Some([]) => true,
            Some(behind) => match Head::parse(self.coding, behind) {
                Ok(_) => true,
                Err(error) => error.kind == ErrorKind::Truncated,
            },
        }
    }

    fn frame(&mut self, head: &Head, data: &[u8], context: &mut Context<'_>) {
        let Some(time) = self.take_time(head) else {
            context.counters.broken_frames += 1;
            return;
        };
        if self.shape != Some(head.shape) {
            self.shape = Some(head.shape);
            // A head may say what its codec does not allow. Frames are left out until one says something else.
            self.parameters = head.shape.parameters(data).ok().map(Arc::new);
            if let Some(parameters) = &self.parameters {
                context.parameters(TrackId::AUDIO, time, Arc::clone(parameters));
            }
        }
        let Some(parameters) = &self.parameters else {
            context.counters.early_frames += 1;
            return;
        };
        if data.is_empty() {
            context.counters.broken_frames += 1;
            return;
        }
        let codec = parameters.codec;
        let data: Bytes = context.keep(data);
        context.frame(TrackId::AUDIO, Times { pts: time, dts: time }, Payload::Audio { codec, data });
    }

    /// When a frame plays; what follows plays after it.
    fn take_time(&mut self, head: &Head) -> Option<i64> {
        if self.sample_rate != head.sample_rate {
            self.time = self.now();
            (self.samples, self.sample_rate) = (0, head.sample_rate);
        }
        let now = self.now()?;
        self.samples += u64::from(head.samples);
        Some(now)
    }

    fn now(&self) -> Option<i64> {
        let since = (self.samples as i64).saturating_mul(RATE.into()) / i64::from(self.sample_rate.max(1));
        Some(self.time?.saturating_add(since))
    }
}

impl Head {
    /// Reads the head at the start of `bytes`.
    fn parse(coding: Coding, bytes: &[u8]) -> Result<Self, Error> {
        let head = match coding {
            Coding::Adts => adts(bytes)?,
            Coding::Mp3 => mp3(bytes)?,
            Coding::Ac3 => {
                let header = ac3::Header::parse(bytes)?;
                Head {
                    head_bytes: 0,
                    bytes: header.frame_bytes,
                    samples: ac3::FRAME_SAMPLES,
                    sample_rate: header.configuration.sample_rate(),
                    shape: Shape::Ac3(header.configuration),
                }
            }
            Coding::Opus { channels } => opus(bytes, channels)?,
        };
        if head.bytes < head.head_bytes || head.bytes > FRAME_BYTES_MAX {
            return Err(Error::malformed("length of a frame of sound", 0));
        }
        Ok(head)
    }
}

/// ISO/IEC 14496-3, 1.A.2.2.
fn adts(bytes: &[u8]) -> Result<Head, Error> {
    const SAMPLE_RATES: [u32; 13] =
        [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];
    let [a, b, c, d, e, f, g] = Reader::new(bytes).array("ADTS header").map_err(|error| {
        // Two bytes that are none are enough to tell.
        match bytes {
            [0xff] | [] => error,
            [0xff, second, ..] if second & 0xf6 == 0xf0 => error,
            _ => NO_ADTS,
        }
    })?;
    if a != 0xff || b & 0xf6 != 0xf0 {
        return Err(NO_ADTS);
    }
    let (profile, rate_index, channels) = (c >> 6, c >> 2 & 0x0f, (c & 1) << 2 | d >> 6);
    let sample_rate = *SAMPLE_RATES.get(usize::from(rate_index)).ok_or(NO_ADTS)?;
    // Several frames behind one header cannot be told apart without decoding them.
    if g & 3 != 0 {
        return Err(Error::unsupported("several AAC frames behind one header", 6));
    }
    let [high, low] =
        (u16::from(profile + 1) << 11 | u16::from(rate_index) << 7 | u16::from(channels) << 3).to_be_bytes();
    Ok(Head {
        // A CRC stands behind it, unless this bit says no.
        head_bytes: if b & 1 == 1 { 7 } else { 9 },
        bytes: usize::from(d & 3) << 11 | usize::from(e) << 3 | usize::from(f >> 5),
        samples: 1024,
        sample_rate,
        shape: Shape::Aac([high, low]),
    })
}

const NO_ADTS: Error = Error::malformed("ADTS header", 0);

fn mp3(bytes: &[u8]) -> Result<Head, Error> {
    let header = mp3::Header::parse(bytes)?;
    if header.frame_bytes == 0 {
        return Err(Error::unsupported("MP3 of a free format", 2));
    }
    Ok(Head {
        head_bytes: 0,
        bytes: header.frame_bytes,
        samples: header.frame_samples,
        sample_rate: header.sample_rate,
        shape: Shape::Mp3 {
            version: header.version,
            sample_rate: header.sample_rate,
            channels: header.channels,
        },
    })
}

/// `opus_control_header` (ETSI TS draft "Opus audio in MPEG-2 transport streams"), and the packet behind it. What is to be
/// trimmed is passed over: a stream may be entered anywhere.
fn opus(bytes: &[u8], channels: u8) -> Result<Head, Error> {
    const SYNC: u16 = 0x3ff << 5;
    const START_TRIM: u16 = 0x10;
    const END_TRIM: u16 = 0x08;
    const EXTENSION: u16 = 0x04;
    let mut reader = Reader::new(bytes);
    let first = reader.u16("head of an Opus packet")?;
    if first & 0xffe0 != SYNC {
        return Err(Error::malformed("head of an Opus packet", 0));
    }
    let mut len = 0;
    loop {
        let byte = reader.u8("length of an Opus packet")?;
        len += usize::from(byte);
        if byte < 255 {
            break;
        }
        if len > FRAME_BYTES_MAX {
            return Err(Error::malformed("length of an Opus packet", 2));
        }
    }
    for trim in [START_TRIM, END_TRIM] {
        if first & trim != 0 {
            reader.skip(2, "trim of an Opus packet")?;
        }
    }
    if first & EXTENSION != 0 {
        let len = reader.u8("extension of an Opus packet's head")?;
        reader.skip(len.into(), "extension of an Opus packet's head")?;
    }
    let head_bytes = reader.position();
    // One that is empty does not even say how long it lasts.
    let packet = reader.take(len, "Opus packet")?;
    let samples = opus::packet_samples(packet).ok_or(Error::malformed("Opus packet", head_bytes as u64))?;
    Ok(Head {
        head_bytes,
        bytes: head_bytes + len,
        samples,
        sample_rate: opus::SAMPLE_RATE,
        shape: Shape::Opus { channels },
    })
}

impl Shape {
    /// Of the track that `frame` is the first of.
    fn parameters(self, frame: &[u8]) -> Result<Parameters, Error> {
        match self {
            Shape::Aac(config) => Parameters::parse(Codec::Aac, Bytes::copy_from_slice(&config)),
            Shape::Mp3 { .. } => Parameters::from_mp3_frame(frame),
            Shape::Ac3(_) => Parameters::from_ac3_frame(frame),
            Shape::Opus { channels } => Ok(Parameters::of_opus(channels)),
        }
    }
}
