//! Packets of the source's codec to samples, of one channel or two.

use std::panic::{AssertUnwindSafe, catch_unwind};

use opus::MSDecoder;
use shardcast_engine::{
    bits::BitReader,
    codec::{
        Codec, Parameters,
        aac::AudioSpecificConfig,
        opus::{Head, Mapping, packet_samples},
    },
    error::Error,
};
use symphonia_codec_aac::AacDecoder;
use symphonia_core::{
    audio::layouts::{CHANNEL_LAYOUT_MONO, CHANNEL_LAYOUT_STEREO},
    codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions, well_known::CODEC_ID_AAC},
    packet::PacketRef,
    units::{Duration, Timestamp},
};

use super::{SAMPLE_RATE, SoundError, voice};

/// Rates that are converted: those of AAC's table. (ISO/IEC 14496-3, table 1.18)
const RATES: [u32; 13] =
    [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];
/// Samples per channel in the longest packet of Opus, 120 ms.
const OPUS_SAMPLES_MAX: usize = SAMPLE_RATE as usize * 120 / 1000;
/// Bytes in the longest packet of G.711 that is converted, 200 ms. Longer ones are cut there.
const VOICE_BYTES_MAX: usize = 1600;

/// A decoder of the source's codec.
pub(super) struct Decoder {
    codec: Box<dyn Packets + Send>,
    sample_rate: u32,
    /// Samples per channel of the last packet that could be decoded: as many has a damaged one.
    last: usize,
    /// Ticks of 48 kHz.
    early: i64,
    mixer: Mixer,
    /// What comes before it is mixed down.
    surround: Vec<f32>,
}

/// What a packet has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Samples per channel.
    pub(super) samples: usize,
    /// It could not be decoded; what was appended hides it.
    pub(super) damaged: bool,
}

/// What one codec does. What it appends is interleaved, with the channels that its layout has.
trait Packets {
    /// Decodes a packet; `None` where it is damaged.
    fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Option<()>;
    /// Appends what hides a damaged packet, if the codec knows better than silence.
    fn conceal(&mut self, _packet: &[u8], _out: &mut Vec<f32>) -> Option<()> {
        None
    }
}

impl Decoder {
    /// For the track that `parameters` describe.
    pub(super) fn new(parameters: &Parameters) -> Result<Self, SoundError> {
        let configuration = &parameters.configuration;
        match parameters.codec {
            Codec::Aac => Self::of_aac(configuration),
            Codec::Opus => Self::of_opus(configuration),
            Codec::PcmA => Ok(Self::of_voice(voice::a_law)),
            Codec::PcmU => Ok(Self::of_voice(voice::mu_law)),
            Codec::Mp3 => Err(SoundError::Unsupported("MP3")),
            Codec::Ac3 => Err(SoundError::Unsupported("AC-3")),
            Codec::G722 => Err(SoundError::Unsupported("G.722")),
            _ => Err(SoundError::Unsupported("not a codec of sound")),
        }
    }

    fn of_aac(configuration: &[u8]) -> Result<Self, SoundError> {
        let config = AudioSpecificConfig::parse(configuration);
        let config = config.map_err(|_| SoundError::Unsupported("AAC with a broken configuration"))?;
        // Band replication doubles the core's rate, or cleans the same.
        let doubled = config.sample_rate / config.core_sample_rate;
        if config.object_type != LOW_COMPLEXITY || config.packet_samples != Aac::PACKET_SAMPLES * doubled {
            return Err(SoundError::Unsupported("AAC of another kind than LC and HE"));
        }
        if !RATES.contains(&config.core_sample_rate) {
            return Err(SoundError::Unsupported("AAC of an uncommon sample rate"));
        }
        let channels = match config.channel_configuration {
            channels @ 1..=2 => channels.into(),
            _ => {
                return Err(SoundError::Unsupported(
                    "AAC of more than two channels, or of a layout of its own",
                ));
            }
        };
        let aac = Aac::new(config.core_sample_rate, channels)?;
        let samples = Aac::PACKET_SAMPLES as usize;
        let mut decoder = Self::of(aac, Mixer::None(channels), config.core_sample_rate, samples);
        if config.spectral_band_replication == Some(true) {
            decoder.early = REPLICATION_DELAY * i64::from(SAMPLE_RATE) / i64::from(config.core_sample_rate);
        }
        Ok(decoder)
    }

    fn of_opus(configuration: &[u8]) -> Result<Self, SoundError> {
        let head = Head::parse(configuration);
        let head = head.map_err(|_| SoundError::Unsupported("Opus with a broken OpusHead"))?;
        let channels = usize::from(head.channels);
        let mixer = match head.mapping {
            Mapping::Table { family: 1, .. } | Mapping::One => Mixer::of_vorbis(channels)?,
            Mapping::Table { .. } => {
                return Err(SoundError::Unsupported("Opus whose channels have no places"));
            }
        };
        let decoder = match head.mapping {
            Mapping::One if channels == 1 => MSDecoder::new(SAMPLE_RATE, 1, 0, &[0]),
            Mapping::One => MSDecoder::new(SAMPLE_RATE, 1, 1, &[0, 1]),
            Mapping::Table { streams, coupled, channels, .. } => {
                MSDecoder::new(SAMPLE_RATE, streams, coupled, channels)
            }
        };
        let mut decoder = decoder.map_err(|_| SoundError::Unsupported("this layout of Opus"))?;
        let gain = decoder.set_gain(head.output_gain.into());
        gain.map_err(|_| SoundError::Library("the gain of an OpusHead"))?;
        Ok(Self::of(Opus { decoder, channels, last: 960 }, mixer, SAMPLE_RATE, 960))
    }

    fn of_voice(law: fn(u8) -> i16) -> Self {
        Self::of(Voice { law }, Mixer::None(1), 8_000, 160)
    }

    fn of(codec: impl Packets + Send + 'static, mixer: Mixer, sample_rate: u32, samples: usize) -> Self {
        Decoder { codec: Box::new(codec), sample_rate, last: samples, early: 0, mixer, surround: Vec::new() }
    }

    /// Samples per second of what it makes.
    pub(super) const fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// Channels of what it makes: one or two.
    pub(super) const fn channels(&self) -> usize {
        self.mixer.channels()
    }

    /// How much earlier the sound of a packet comes out than it would of the decoder that the source counts on, ticks of 48 kHz.
    pub(super) const fn early(&self) -> i64 {
        self.early
    }

    /// Decodes `packet` and appends its samples to `out`, interleaved.
    pub(super) fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Decoded {
        self.surround.clear();
        let mut damaged = false;
        let made = self.codec.decode(packet, &mut self.surround).or_else(|| {
            damaged = true;
            self.surround.clear();
            self.codec.conceal(packet, &mut self.surround)
        });
        if made.is_none() {
            // The decoder knows no better than silence.
            out.resize(out.len() + self.last * self.channels(), 0.0);
            return Decoded { samples: self.last, damaged };
        }

        // What is broken in a way that decodes must not hurt what follows: no codec makes samples like these.
        for sample in &mut self.surround {
            *sample = if sample.is_finite() { sample.clamp(-LOUDEST, LOUDEST) } else { 0.0 };
        }
        self.last = self.mixer.mix(&self.surround, out);
        Decoded { samples: self.last, damaged }
    }
}

/// Samples beyond this are cut off. Lossy codecs go a little over 1, and mixing cuts nothing.
const LOUDEST: f32 = 4.0;

/// The audio object type of AAC-LC, which is the core of HE-AAC too. (ISO/IEC 14496-3, table 1.17)
const LOW_COMPLEXITY: u8 = 2;
/// Samples of the core that the filters of band replication hold back in a decoder that has them. Encoders count on it: their
/// packets' times are that much earlier.
const REPLICATION_DELAY: i64 = 481;

/// AAC-LC, and of HE-AAC the core: what a decoder hears that knows nothing of band replication, half the bandwidth.
struct Aac {
    decoder: AacDecoder,
    sample_rate: u32,
    channels: usize,
    samples: Vec<f32>,
}

impl Aac {
    /// Samples per channel in a packet.
    const PACKET_SAMPLES: u32 = 1024;

    fn new(sample_rate: u32, channels: usize) -> Result<Self, SoundError> {
        let decoder = Self::decoder(sample_rate, channels);
        let decoder = decoder.ok_or(SoundError::Library("a decoder of AAC-LC"))?;
        Ok(Aac { decoder, sample_rate, channels, samples: Vec::new() })
    }

    /// It is told the core alone: it refuses configurations that announce band replication.
    fn decoder(sample_rate: u32, channels: usize) -> Option<AacDecoder> {
        let layout = if channels == 1 { CHANNEL_LAYOUT_MONO } else { CHANNEL_LAYOUT_STEREO };
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_AAC).with_sample_rate(sample_rate).with_channels(layout);
        AacDecoder::try_new(&parameters, &AudioDecoderOptions::default()).ok()
    }
}

impl Packets for Aac {
    fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Option<()> {
        // Of a packet without sound in all its channels the decoder would give the samples of the packet before it again.
        if first_element(packet).ok()? != if self.channels == 1 { SINGLE_CHANNEL } else { CHANNEL_PAIR } {
            return None;
        }
        let reference = PacketRef::new(0, Timestamp::ZERO, Duration::ZERO, packet);
        let (decoder, samples) = (&mut self.decoder, &mut self.samples);
        // It has no unsafe code, and no panic that we know of. But versions before this one had some, for packets that somebody has
        // to make by hand: another one is to cost such a packet, and not the rendition. Nothing of it is used after that.
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            decoder.decode_ref(&reference).map(|buffer| buffer.copy_to_vec_interleaved(samples)).is_ok()
        }));
        if !matches!(decoded, Ok(true)) {
            // Whatever it has understood of the packet before it gave up is not to be believed.
            self.decoder = Self::decoder(self.sample_rate, self.channels)?;
            return None;
        }
        out.extend_from_slice(&self.samples);
        Some(())
    }
}

/// Elements of a packet. (ISO/IEC 14496-3, table 4.85)
const SINGLE_CHANNEL: u8 = 0;
const CHANNEL_PAIR: u8 = 1;
const DATA: u8 = 4;
const FILL: u8 = 6;

/// The first element of a packet that is neither data nor filling.
fn first_element(packet: &[u8]) -> Result<u8, Error> {
    let mut reader = BitReader::new(packet);
    loop {
        match reader.bits(3, "id_syn_ele")? as u8 {
            DATA => {
                reader.skip(4, "element_instance_tag")?;
                let aligned = reader.bit("data_byte_align_flag")?;
                let mut bytes = reader.bits(8, "count")? as usize;
                if bytes == 255 {
                    bytes += reader.bits(8, "esc_count")? as usize;
                }
                if aligned {
                    reader.skip(reader.position().wrapping_neg() % 8, "byte_alignment")?;
                }
                reader.skip(bytes * 8, "data_stream_byte")?;
            }
            FILL => {
                let mut bytes = reader.bits(4, "count")? as usize;
                if bytes == 15 {
                    bytes = 14 + reader.bits(8, "esc_count")? as usize;
                }
                reader.skip(bytes * 8, "extension_payload")?;
            }
            element => return Ok(element),
        }
    }
}

struct Opus {
    decoder: MSDecoder,
    channels: usize,
    /// Samples per channel of the last packet.
    last: usize,
}

impl Packets for Opus {
    fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Option<()> {
        // Without this an empty packet would mean a lost one, and several streams say their lengths apart.
        packet_samples(packet)?;
        out.resize(OPUS_SAMPLES_MAX * self.channels, 0.0);
        let samples = self.decoder.decode_float(packet, out, false).ok()?;
        self.last = samples;
        out.truncate(samples * self.channels);
        Some(())
    }

    fn conceal(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Option<()> {
        let samples = packet_samples(packet).map_or(self.last, |samples| samples as usize);
        out.resize(samples * self.channels, 0.0);
        let samples = self.decoder.decode_float(&[], out, false).ok()?;
        out.truncate(samples * self.channels);
        Some(())
    }
}

struct Voice {
    law: fn(u8) -> i16,
}

impl Packets for Voice {
    fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Option<()> {
        let packet = packet.get(..VOICE_BYTES_MAX).unwrap_or(packet);
        out.extend(packet.iter().map(|&byte| f32::from((self.law)(byte)) / 32_768.0));
        Some(())
    }
}

/// Brings a layout to one channel or two.
enum Mixer {
    /// So many channels stay as they are, one or two.
    None(usize),
    /// Parts that left and right get of each channel.
    Down(Vec<[f32; 2]>),
}

/// Where a channel of a layout is heard.
#[derive(Clone, Copy)]
enum Place {
    Left,
    Right,
    Center,
    /// Not mixed down: small loudspeakers cannot play it, and it overdrives them.
    Low,
    BackLeft,
    BackRight,
    Back,
}

impl Mixer {
    /// In the order of Vorbis, which is that of Opus. (RFC 7845, 5.1.1.2)
    fn of_vorbis(channels: usize) -> Result<Self, SoundError> {
        use Place::{Back, BackLeft, BackRight, Center, Left, Low, Right};
        Ok(match channels {
            1 | 2 => Mixer::None(channels),
            3 => Self::down(&[Left, Center, Right]),
            4 => Self::down(&[Left, Right, BackLeft, BackRight]),
            5 => Self::down(&[Left, Center, Right, BackLeft, BackRight]),
            6 => Self::down(&[Left, Center, Right, BackLeft, BackRight, Low]),
            7 => Self::down(&[Left, Center, Right, BackLeft, BackRight, Back, Low]),
            8 => Self::down(&[Left, Center, Right, BackLeft, BackRight, BackLeft, BackRight, Low]),
            _ => return Err(SoundError::Unsupported("more than eight channels")),
        })
    }

    /// The usual parts (ITU-R BS.775): what is not in front of a side comes 3 dB softer. All of it is made as soft as it has
    /// to be for the sum never to be louder than one channel can be.
    fn down(places: &[Place]) -> Self {
        const SOFTER: f32 = std::f32::consts::FRAC_1_SQRT_2;
        let part = |place: &Place| match place {
            Place::Left => [1.0, 0.0],
            Place::Right => [0.0, 1.0],
            Place::Center => [SOFTER, SOFTER],
            Place::Low => [0.0, 0.0],
            Place::BackLeft => [SOFTER, 0.0],
            Place::BackRight => [0.0, SOFTER],
            Place::Back => [0.5, 0.5],
        };
        let mut parts: Vec<[f32; 2]> = places.iter().map(part).collect();
        let loudest: f32 = parts.iter().map(|[left, _]| left).sum();
        for side in parts.iter_mut().flatten() {
            *side /= loudest;
        }
        Mixer::Down(parts)
    }

    /// Channels of what is mixed.
    const fn channels(&self) -> usize {
        match self {
            Mixer::None(channels) => *channels,
            Mixer::Down(_) => 2,
        }
    }

    /// Appends `samples` with one channel or two; returns how many per channel.
    fn mix(&self, samples: &[f32], out: &mut Vec<f32>) -> usize {
        let before = out.len();
        match self {
            Mixer::None(_) => out.extend_from_slice(samples),
            Mixer::Down(parts) => {
                for frame in samples.chunks_exact(parts.len()) {
                    let mixed = frame.iter().zip(parts);
                    let mixed = mixed.fold([0.0, 0.0], |[left, right], (sample, [to_left, to_right])| {
                        [left + sample * to_left, right + sample * to_right]
                    });
                    out.extend(mixed);
                }
            }
        }
        (out.len() - before) / self.channels()
    }
}
