//! Samples of 48 kHz to packets, each with the time at which what a decoder makes of it begins.

use std::collections::VecDeque;

use opus::{Application, Bitrate, Channels};
use rusty_aac::{AacEncoder, AacEncoderConfig};
use shardcast_engine::codec::{Codec, Parameters};

use super::{SAMPLE_RATE, SoundError, Target};

/// An encoder of one codec.
pub(super) struct Encoder {
    channels: usize,
    /// Samples that fill no packet yet, interleaved.
    waiting: Vec<f32>,
    /// When the first of them is heard.
    at: i64,
    codec: Coder,
}

enum Coder {
    Opus(Box<Opus>),
    Aac(Aac),
}

/// Takes a packet and its time.
pub(super) type Sink<'a> = &'a mut dyn FnMut(i64, Vec<u8>);

impl Encoder {
    pub(super) fn new(to: Target, channels: usize) -> Result<Self, SoundError> {
        let codec = match to {
            Target::Opus => Coder::Opus(Box::new(Opus::new(channels)?)),
            Target::Aac => Coder::Aac(Aac::new(channels)),
        };
        Ok(Encoder { channels, waiting: Vec::new(), at: 0, codec })
    }

    pub(super) const fn channels(&self) -> usize {
        self.channels
    }

    /// What a decoder needs to know.
    pub(super) fn parameters(&self) -> Result<Parameters, SoundError> {
        match &self.codec {
            Coder::Opus(_) => Ok(Parameters::of_opus(self.channels as u8)),
            Coder::Aac(_) => {
                // AAC-LC of 48 kHz, and behind it that there is no band replication: decoders need not look for it.
                let first: &[u8] = if self.channels == 1 { &[0x11, 0x88] } else { &[0x11, 0x90] };
                let configuration = [first, &[0x56, 0xe5, 0x00]].concat();
                let parameters = Parameters::parse(Codec::Aac, configuration.into());
                parameters.map_err(|_| SoundError::Library("a configuration of AAC"))
            }
        }
    }

    /// What is pushed from here on is heard from `at` on.
    pub(super) fn begin_run(&mut self, at: i64) {
        self.waiting.clear();
        self.at = at;
    }

    /// Takes interleaved samples, and gives the packets that are ready.
    pub(super) fn push(&mut self, mut samples: &[f32], sink: Sink<'_>) -> Result<(), SoundError> {
        let packet = self.packet_samples() * self.channels;
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
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.waiting.resize(self.packet_samples() * self.channels, 0.0);
        self.packet(sink)
    }

    /// Gives what the codec still holds back.
    pub(super) fn drain(&mut self, sink: Sink<'_>) -> Result<(), SoundError> {
        self.end_run(sink)?;
        match &mut self.codec {
            Coder::Opus(_) => {
                self.waiting.resize(Opus::PACKET_SAMPLES * self.channels, 0.0);
                self.packet(sink)
            }
            Coder::Aac(aac) => aac.drain(sink),
        }
    }

    const fn packet_samples(&self) -> usize {
        match self.codec {
            Coder::Opus(_) => Opus::PACKET_SAMPLES,
            Coder::Aac(_) => Aac::PACKET_SAMPLES,
        }
    }

    /// Encodes the packet that waits.
    fn packet(&mut self, sink: Sink<'_>) -> Result<(), SoundError> {
        let at = self.at;
        self.at = at.saturating_add(self.packet_samples() as i64);
        let done = match &mut self.codec {
            Coder::Opus(opus) => opus.packet(&self.waiting, at, sink),
            Coder::Aac(aac) => aac.packet(&self.waiting, Some(at), sink),
        };
        self.waiting.clear();
        done
    }
}

/// libopus, whose first samples are those of the past: as many as it looks ahead.
struct Opus {
    encoder: opus::Encoder,
    look_ahead: i64,
}

impl Opus {
    /// 20 ms, what WebRTC sends and what the codec is best at.
    const PACKET_SAMPLES: usize = 960;
    /// No packet of one frame is longer. (RFC 6716, 3.4)
    const PACKET_BYTES_MAX: usize = 1276;

    fn new(channels: usize) -> Result<Self, SoundError> {
        let (layout, bit_rate) = match channels {
            1 => (Channels::Mono, 80_000),
            _ => (Channels::Stereo, 128_000),
        };
        let encoder = opus::Encoder::new(SAMPLE_RATE, layout, Application::Audio).and_then(|mut encoder| {
            encoder.set_bitrate(Bitrate::Bits(bit_rate))?;
            let look_ahead = encoder.get_lookahead()?.into();
            Ok(Opus { encoder, look_ahead })
        });
        encoder.map_err(|_| SoundError::Library("an encoder of Opus"))
    }

    fn packet(&mut self, samples: &[f32], at: i64, sink: Sink<'_>) -> Result<(), SoundError> {
        let packet = self.encoder.encode_vec_float(samples, Self::PACKET_BYTES_MAX);
        let packet = packet.map_err(|_| SoundError::Library("a packet of Opus"))?;
        sink(at.saturating_sub(self.look_ahead), packet);
        Ok(())
    }
}

/// The library encodes a whole recording at once, but what it makes of a packet hangs on its neighbours alone: blocks are long
/// or short as theirs are, by how loud the sound was shortly before. So the sound is cut in pieces that overlap, and of each
/// the middle is taken: the packets that the whole would have, at twice the cost. Below sixteen packets it starts no threads.
///
/// It takes short blocks for a sudden sound only in the packet that this begins in, not in the next: one that begins in a packet's
/// second half is preceded by up to 10 ms of softer noise.
///
/// What a decoder makes of a packet is the sound of the packet before it, as each spans both.
struct Aac {
    channels: usize,
    /// Packets of samples, interleaved: those in front of the piece, those that are to be encoded, those behind.
    samples: Vec<f32>,
    /// When each of them is heard; `None` for silence that is not.
    times: VecDeque<Option<i64>>,
    /// How many of them have been encoded.
    done: usize,
}

impl Aac {
    const PACKET_SAMPLES: usize = 1024;
    /// Packets in front of a piece: two that its first window hangs on, and one by which these tell what is loud.
    const BEFORE: usize = 3;
    /// Packets that are taken of a piece. Fewer wait less and cost more.
    const TAKEN: usize = 6;
    /// Packets behind it that its last window hangs on.
    const AFTER: usize = 2;
    /// From this many on, with the one of silence that the library adds, it starts threads of its own.
    const THREADS: usize = 16;

    fn new(channels: usize) -> Self {
        const { assert!(Self::BEFORE + Self::TAKEN + Self::AFTER + 1 < Self::THREADS) };
        Aac { channels, samples: Vec::new(), times: VecDeque::new(), done: 0 }
    }

    /// Silence behind the last packet, until its sound has come out: it is in the packet after it. Begins anew then.
    fn drain(&mut self, sink: Sink<'_>) -> Result<(), SoundError> {
        let held = self.times.len() - self.done;
        let pieces = (held + 1).div_ceil(Self::TAKEN);
        let silence = vec![0.0; Self::PACKET_SAMPLES * self.channels];
        if !self.times.is_empty() {
            for _ in held..pieces * Self::TAKEN + Self::AFTER {
                self.packet(&silence, None, sink)?;
            }
        }
        *self = Aac::new(self.channels);
        Ok(())
    }

    fn packet(&mut self, samples: &[f32], at: Option<i64>, sink: Sink<'_>) -> Result<(), SoundError> {
        self.samples.extend_from_slice(samples);
        self.times.push_back(at);
        if self.times.len() < self.done + Self::TAKEN + Self::AFTER {
            return Ok(());
        }

        let failed = |_| SoundError::Library("packets of AAC");
        let bitrate_bps = if self.channels == 1 { 96_000 } else { 160_000 };
        let mut encoder = AacEncoder::new(AacEncoderConfig { bitrate_bps, ..AacEncoderConfig::default() });
        encoder.push_pcm(&self.samples, self.channels as u16, SAMPLE_RATE).map_err(failed)?;
        encoder.finish();
        for packet in 0..self.done + Self::TAKEN {
            let data = encoder.next_packet().map_err(failed)?.data;
            // The very first has only the silence before the sound.
            if packet >= self.done.max(1)
                && let Some(&Some(time)) = self.times.get(packet - 1)
            {
                sink(time, data);
            }
        }

        let forgotten = (self.done + Self::TAKEN).saturating_sub(Self::BEFORE);
        self.done = Self::BEFORE;
        self.times.drain(..forgotten);
        self.samples.drain(..forgotten * Self::PACKET_SAMPLES * self.channels);
        Ok(())
    }
}
