//! Sound of other codecs made Opus, for viewers whose protocol does not carry what the publisher sends: WebRTC has no AAC.
//!
//! Here is the conversion alone, as a machine: frames in, frames out. Who needs it, on which thread it runs and when it ends
//! is said elsewhere. `decode` makes samples of packets, `resample` brings them to 48 kHz, `timeline` says when each of
//! them is heard, `encode` makes packets of them.

mod decode;
#[cfg(feature = "server")]
pub(crate) mod demand;
mod encode;
mod resample;
#[cfg(test)]
mod tests;
mod timeline;
mod voice;

use std::{error::Error, fmt, sync::Arc};

use shardcast_engine::{
    codec::{Codec, Parameters},
    media::{Frame, Payload, TrackId},
    time::MediaTime,
};

use decode::Decoder;
use encode::Encoder;
use resample::Resampler;
use timeline::Timeline;

/// Samples per second of all that comes out.
pub const SAMPLE_RATE: u32 = 48_000;

/// Why a frame was not converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoundError {
    /// Sound came before the parameters of its codec, or after parameters that were refused.
    NoParameters,
    /// The source's sound is of a kind that is not converted.
    Unsupported(&'static str),
    /// The library that codes the sound refused what it cannot refuse; says what was asked of it.
    Library(&'static str),
}

impl fmt::Display for SoundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SoundError::NoParameters => f.write_str("sound without parameters of its codec"),
            SoundError::Unsupported(what) => write!(f, "not converted: {what}"),
            SoundError::Library(what) => write!(f, "codec library: {what}"),
        }
    }
}

impl Error for SoundError {}

/// Sound made Opus: 128 kbit/s (80 kbit/s for one channel), 20 ms to a packet. Frames in, frames out; no thread, no clock.
///
/// It takes AAC of one channel and two (AAC-LC, 7.35 to 96 kHz; of HE-AAC the core alone, which is half the bandwidth, and one
/// channel of parametric stereo's two), G.711, and Opus of up to eight channels, more than two of which are mixed down to
/// stereo. What comes out has 48 kHz, and one channel where the source has one.
///
/// **Time.** A decoder that plays what comes out as it comes, leaving nothing out, plays each sound at the time it has in the
/// source: the delays of decoder, resampler and encoder are taken off the times of the packets. Inside a run, packets follow
/// each other without a gap and to the sample, however the source's times jitter. Where these drift away from its samples,
/// a sample in a quiet place is left out or doubled now and then (at most some per 20 ms, so 1 ms or more is made good in a
/// second). A source whose times jump by more than 40 ms begins a new run, at the new time.
///
/// **Damage.** A packet that cannot be decoded costs its sound alone: it is concealed (Opus) or silent (the others), for as
/// long as it would have lasted.
///
/// **Latency.** 20 ms of sound are gathered for a packet, and up to 30 ms more where the rate is changed.
///
/// **Memory.** Bounded whatever comes: tables and states of the two codecs, and at most a quarter of a second of samples.
///
/// ```
/// use std::sync::Arc;
/// use shardcast_engine::{
///     codec::{Codec, Parameters},
///     media::{Frame, Payload, TrackId},
///     time::MediaTime,
/// };
/// use shardcast_shards::sound::Converter;
///
/// // A phone: G.711, 20 ms to a packet. Its silence becomes Opus.
/// let frame = |millis, payload| {
///     let time = MediaTime::from_millis(millis);
///     Frame { track: TrackId::AUDIO, dts: time, pts: time, payload }
/// };
/// let mut converter = Converter::new();
/// let mut out = Vec::new();
/// let parameters = Parameters::of_voice(Codec::PcmA).expect("it is G.711");
/// converter.convert(&frame(0, Payload::Parameters(Arc::new(parameters))), &mut out)?;
/// for packet in 0..50 {
///     let payload = Payload::Audio { codec: Codec::PcmA, data: vec![0xd5; 160].into() };
///     converter.convert(&frame(20 * packet, payload), &mut out)?;
/// }
/// converter.finish(&mut out)?;
///
/// assert!(matches!(&out[0].payload, Payload::Parameters(parameters) if parameters.codec == Codec::Opus));
/// assert!(out[1..].iter().all(|frame| matches!(frame.payload, Payload::Audio { codec: Codec::Opus, .. })));
/// // One second of it, and less than 20 ms to end the last packet; 20 ms from one to the next.
/// assert!((51..=52).contains(&(out.len() - 1)));
/// assert_eq!(out[2].pts.ticks - out[1].pts.ticks, 960);
/// assert_eq!(converter.damaged(), 0);
/// # Ok::<(), shardcast_shards::sound::SoundError>(())
/// ```
pub struct Converter {
    track: TrackId,
    source: Option<Source>,
    encoder: Option<Encoder>,
    damaged: u64,
    /// What a packet holds, until it is encoded: reused, and of the size of a packet.
    samples: Vec<f32>,
    resampled: Vec<f32>,
}

/// What belongs to one set of the source's parameters.
struct Source {
    parameters: Arc<Parameters>,
    decoder: Decoder,
    timeline: Timeline,
    /// Begun with the first packet.
    resampler: Option<Resampler>,
}

impl Default for Converter {
    fn default() -> Self {
        Self::new()
    }
}

impl Converter {
    /// One that has seen nothing yet.
    pub fn new() -> Self {
        Converter {
            track: TrackId::AUDIO,
            source: None,
            encoder: None,
            damaged: 0,
            samples: Vec::new(),
            resampled: Vec::new(),
        }
    }

    /// Packets that could not be decoded, so far.
    pub const fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Takes one frame of the source's audio track, and appends to `out` what it makes: parameters first, and again where they
    /// change, then sound, in the order of its times. Frames of another kind than parameters, sound and discontinuities
    /// are passed over.
    ///
    /// # Errors
    /// The source's kind of sound is not converted, or its parameters are missing. Nothing is made of its frames then, until
    /// parameters come that can be used. A damaged packet is no error.
    pub fn convert(&mut self, frame: &Frame, out: &mut Vec<Frame>) -> Result<(), SoundError> {
        match &frame.payload {
            Payload::Parameters(parameters) => self.configure(frame.track, parameters, out),
            Payload::Audio { codec, data } => self.packet(*codec, data, frame.pts, out),
            Payload::Discontinuity => self.end_run(out),
            Payload::Video { .. } | Payload::Metadata(_) | Payload::ColorInfo { .. } | Payload::Script(_) => {
                Ok(())
            }
        }
    }

    /// The source has ended: appends what still waits, its last packet filled up with silence. More may follow, as a new run.
    ///
    /// # Errors
    /// As [`convert`](Self::convert).
    pub fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), SoundError> {
        self.end_run(out)?;
        let track = self.track;
        match &mut self.encoder {
            Some(encoder) => encoder.drain(&mut |time, data| out.push(sound(track, time, data))),
            None => Ok(()),
        }
    }

    fn configure(
        &mut self,
        track: TrackId,
        parameters: &Arc<Parameters>,
        out: &mut Vec<Frame>,
    ) -> Result<(), SoundError> {
        // Encoders of RTMP repeat them, and relays at every key frame.
        if self.source.as_ref().is_some_and(|source| source.parameters == *parameters) {
            return Ok(());
        }
        let ended = self.end_run(out);
        self.track = track;
        self.source = None;
        let decoder = Decoder::new(parameters)?;
        let timeline = Timeline::new();
        self.source = Some(Source { parameters: parameters.clone(), decoder, timeline, resampler: None });
        ended
    }

    fn packet(
        &mut self,
        codec: Codec,
        data: &[u8],
        at: MediaTime,
        out: &mut Vec<Frame>,
    ) -> Result<(), SoundError> {
        let source = self.source.as_mut().filter(|source| source.parameters.codec == codec);
        let source = source.ok_or(SoundError::NoParameters)?;
        self.samples.clear();
        let decoded = source.decoder.decode(data, &mut self.samples);
        self.damaged += u64::from(decoded.damaged);
        if decoded.samples == 0 {
            return Ok(());
        }

        let channels = source.decoder.channels();
        let at = at.ticks_at(SAMPLE_RATE).saturating_add(source.decoder.early());
        if source.timeline.jumps(at) {
            self.end_run(out)?;
            self.begin_run(at, out)?;
        }
        let Some(source) = &mut self.source else { return Ok(()) };
        let Some(resampler) = &mut source.resampler else { return Ok(()) };
        let correction = source.timeline.correction(at, decoded.samples);
        let corrected = timeline::correct(&mut self.samples, channels, correction);
        source.timeline.take(self.samples.len() / channels, corrected);
        self.resampled.clear();
        resampler.push(&self.samples, &mut self.resampled)?;
        self.encode(out)
    }

    /// Begins a run at `at`, on the clock of what comes out.
    fn begin_run(&mut self, at: i64, out: &mut Vec<Frame>) -> Result<(), SoundError> {
        let Some(source) = &mut self.source else { return Ok(()) };
        let (sample_rate, channels) = (source.decoder.sample_rate(), source.decoder.channels());
        match &mut source.resampler {
            Some(resampler) => resampler.reset(),
            none => *none = Some(Resampler::new(sample_rate, channels)?),
        }
        source.timeline.begin(at, sample_rate);
        if self.encoder.as_ref().is_none_or(|encoder| encoder.channels() != channels) {
            if let Some(old) = &mut self.encoder {
                let track = self.track;
                old.drain(&mut |time, data| out.push(sound(track, time, data)))?;
            }
            let encoder = self.encoder.insert(Encoder::new(channels)?);
            let payload = Payload::Parameters(Arc::new(encoder.parameters()));
            let time = MediaTime { ticks: at, rate: SAMPLE_RATE };
            out.push(Frame { track: self.track, dts: time, pts: time, payload });
        }
        if let Some(encoder) = &mut self.encoder {
            encoder.begin_run(at);
        }
        Ok(())
    }

    /// What the resampler and the encoder still hold is heard at its time: the last packet is filled up with silence.
    fn end_run(&mut self, out: &mut Vec<Frame>) -> Result<(), SoundError> {
        let Some(source) = &mut self.source else { return Ok(()) };
        if !source.timeline.end() {
            return Ok(());
        }
        self.resampled.clear();
        if let Some(resampler) = &mut source.resampler {
            resampler.end(&mut self.resampled)?;
        }
        self.encode(out)?;
        let track = self.track;
        match &mut self.encoder {
            Some(encoder) => encoder.end_run(&mut |time, data| out.push(sound(track, time, data))),
            None => Ok(()),
        }
    }

    /// Encodes what was resampled.
    fn encode(&mut self, out: &mut Vec<Frame>) -> Result<(), SoundError> {
        let track = self.track;
        match &mut self.encoder {
            Some(encoder) => {
                encoder.push(&self.resampled, &mut |time, data| out.push(sound(track, time, data)))
            }
            None => Ok(()),
        }
    }
}

fn sound(track: TrackId, ticks: i64, data: Vec<u8>) -> Frame {
    let time = MediaTime { ticks, rate: SAMPLE_RATE };
    Frame { track, dts: time, pts: time, payload: Payload::Audio { codec: Codec::Opus, data: data.into() } }
}
