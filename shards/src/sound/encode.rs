//! Samples of 48 kHz to packets of Opus, each with the time at which what a decoder makes of it begins.

use opus::{Application, Bitrate, Channels};
use shardcast_engine::codec::Parameters;

use super::{SAMPLE_RATE, SoundError};

/// Samples per channel in a packet: 20 ms, what WebRTC sends and what the codec is best at.
const PACKET_SAMPLES: usize = 960;
/// No packet of one frame is longer. (RFC 6716, 3.4)
const PACKET_BYTES_MAX: usize = 1276;

/// libopus, whose first samples are those of the past: as many as it looks ahead.
pub(super) struct Encoder {
    channels: usize,
    /// Samples that fill no packet yet, interleaved.
    waiting: Vec<f32>,
    /// When the first of them is heard.
    at: i64,
    encoder: opus::Encoder,
    look_ahead: i64,
}

/// Takes a packet and its time.
pub(super) type Sink<'a> = &'a mut dyn FnMut(i64, Vec<u8>);

impl Encoder {
    pub(super) fn new(channels: usize) -> Result<Self, SoundError> {
        let (layout, bit_rate) = match channels {
            1 => (Channels::Mono, 80_000),
            _ => (Channels::Stereo, 128_000),
        };
        let encoder = opus::Encoder::new(SAMPLE_RATE, layout, Application::Audio).and_then(|mut encoder| {
            encoder.set_bitrate(Bitrate::Bits(bit_rate))?;
            let look_ahead = encoder.get_lookahead()?.into();
            Ok(Encoder { channels, waiting: Vec::new(), at: 0, encoder, look_ahead })
        });
        encoder.map_err(|_| SoundError::Library("an encoder of Opus"))
    }

    pub(super) const fn channels(&self) -> usize {
        self.channels
    }

    /// What a decoder needs to know.
    pub(super) fn parameters(&self) -> Parameters {
        Parameters::of_opus(self.channels as u8)
    }

    /// What is pushed from here on is heard from `at` on.
    pub(super) fn begin_run(&mut self, at: i64) {
        self.waiting.clear();
        self.at = at;
    }

    /// Takes interleaved samples, and gives the packets that are ready.
    pub(super) fn push(&mut self, mut samples: &[f32], sink: Sink<'_>) -> Result<(), SoundError> {
        let packet = PACKET_SAMPLES * self.channels;
        while self.waiting.len() + samples.len() >= packet {
            let (now, later) = samples.split_at(packet - self.waiting.len());
            self.waiting.extend_from_slice(now);
            samples = later;
            self.packet(sink)?;
        }
        self.waiting.extend_from_slice(samples);
        Ok(())
    }

    /// Fills what waits up with silence, to a packet.
    pub(super) fn end_run(&mut self, sink: Sink<'_>) -> Result<(), SoundError> {
        if self.waiting.is_empty() { Ok(()) } else { self.packet(sink) }
    }

    /// Gives what the codec still holds back: it comes out with silence behind it.
    pub(super) fn drain(&mut self, sink: Sink<'_>) -> Result<(), SoundError> {
        self.end_run(sink)?;
        self.packet(sink)
    }

    /// Encodes what waits, filled up with silence to a packet.
    fn packet(&mut self, sink: Sink<'_>) -> Result<(), SoundError> {
        self.waiting.resize(PACKET_SAMPLES * self.channels, 0.0);
        let at = self.at;
        self.at = at.saturating_add(PACKET_SAMPLES as i64);
        let packet = self.encoder.encode_vec_float(&self.waiting, PACKET_BYTES_MAX);
        self.waiting.clear();
        let packet = packet.map_err(|_| SoundError::Library("a packet of Opus"))?;
        sink(at.saturating_sub(self.look_ahead), packet);
        Ok(())
    }
}
