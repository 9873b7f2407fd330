//! Packets of the source's codec to samples, of one channel or two.

use opus::MSDecoder;
use rusty_aac::AacDecoder;
use shardcast_engine::codec::{
    Codec, Parameters,
    aac::AudioSpecificConfig,
    opus::{Head, Mapping, packet_samples},
};

use super::{SAMPLE_RATE, SoundError, voice};

/// Rates that are converted: those of AAC's table. (ISO/IEC 14496-3, table 1.18)
const RATES: [u32; 13] =
    [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];
/// Samples per channel in the longest packet of Opus, 120 ms.
const OPUS_SAMPLES_MAX: usize = SAMPLE_RATE as usize * 120 / 1000;
/// Bytes in the longest packet of G.711 that is converted, 200 ms. Longer ones are cut there.
const VOICE_BYTES_MAX: usize = 1600;
const CHANNELS_MAX: usize = 8;

/// A decoder of the source's codec.
pub(super) struct Decoder {
    codec: Box<dyn Packets + Send>,
    /// Rate, channels and samples of the last packet that could be decoded: what a damaged one is taken for.
    last: Decoded,
    mixer: Mixer,
    /// What comes before it is mixed down.
    surround: Vec<f32>,
}

/// What a packet has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) sample_rate: u32,
    /// One or two.
    pub(super) channels: usize,
    /// Samples per channel.
    pub(super) samples: usize,
    /// It could not be decoded; what was appended hides it.
    pub(super) damaged: bool,
}

/// What one codec does. What it appends is interleaved.
trait Packets {
    /// Decodes a packet; `None` where it is damaged. Returns the rate, and channels as its own layout has them.
    fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Option<(u32, usize)>;
    /// Appends what hides a damaged packet, if the codec knows better than silence.
    fn conceal(&mut self, _packet: &[u8], _out: &mut Vec<f32>) -> Option<(u32, usize)> {
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
        if !RATES.contains(&config.sample_rate) {
            return Err(SoundError::Unsupported("AAC of an uncommon sample rate"));
        }
        let mixer = Mixer::of_aac(config.channels.into(), config.channel_configuration == 0)?;
        let decoder = AacDecoder::with_config_bytes(configuration);
        let decoder = decoder.map_err(|_| SoundError::Unsupported("this kind of AAC"))?;
        let by_elements = config.channel_configuration == 0;
        let aac = Aac { decoder, configuration: configuration.to_vec(), by_elements };
        Ok(Self::of(aac, mixer, config.sample_rate, config.packet_samples as usize))
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
        let last = Decoded { sample_rate, channels: mixer.channels(), samples, damaged: true };
        Decoder { codec: Box::new(codec), last, mixer, surround: Vec::new() }
    }

    /// Decodes `packet` and appends its samples to `out`, interleaved.
    pub(super) fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Result<Decoded, SoundError> {
        self.surround.clear();
        let mut damaged = false;
        let made = self.codec.decode(packet, &mut self.surround).or_else(|| {
            damaged = true;
            self.surround.clear();
            self.codec.conceal(packet, &mut self.surround)
        });
        let Some((sample_rate, channels)) = made else {
            // The decoder knows no better than silence.
            out.resize(out.len() + self.last.samples * self.last.channels, 0.0);
            return Ok(Decoded { damaged: true, ..self.last });
        };

        // What is broken in a way that decodes must not hurt what follows: no codec makes samples like these.
        for sample in &mut self.surround {
            *sample = if sample.is_finite() { sample.clamp(-LOUDEST, LOUDEST) } else { 0.0 };
        }
        self.mixer.follow(channels);
        let samples = self.mixer.mix(&self.surround, channels, out);
        self.last = Decoded { sample_rate, channels: self.mixer.channels(), samples, damaged: false };
        Ok(Decoded { damaged, ..self.last })
    }
}

/// Samples beyond this are cut off. Lossy codecs go a little over 1, and mixing cuts nothing.
const LOUDEST: f32 = 4.0;

struct Aac {
    decoder: AacDecoder,
    configuration: Vec<u8>,
    /// The configuration leaves it to elements to tell the channels.
    by_elements: bool,
}

impl Packets for Aac {
    fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Option<(u32, usize)> {
        // A packet is raw by its contract. One that begins like a header of ADTS would be taken for one, with a configuration
        // of its own: an element with the number 7 ends a packet, so no sound is lost.
        // And one that begins with a layout of channels (element 5), where the configuration has one already, is noise: it would
        // silence all that follows.
        let lays_out = packet.first().is_some_and(|byte| byte >> 5 == 5);
        if rusty_aac::is_adts(packet) || (lays_out && !self.by_elements) {
            return None;
        }
        let Ok(decoded) = self.decoder.decode(packet, None) else {
            // Whatever it has understood of the packet before it gave up is not to be believed.
            self.decoder = AacDecoder::with_config_bytes(&self.configuration).ok()?;
            return None;
        };
        let channels = usize::from(decoded.channels);
        if !RATES.contains(&decoded.sample_rate) || !(1..=CHANNELS_MAX).contains(&channels) {
            return None;
        }
        out.extend_from_slice(&decoded.samples);
        Some((decoded.sample_rate, channels))
    }
}

struct Opus {
    decoder: MSDecoder,
    channels: usize,
    /// Samples per channel of the last packet.
    last: usize,
}

impl Packets for Opus {
    fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Option<(u32, usize)> {
        // Without this an empty packet would mean a lost one, and several streams say their lengths apart.
        packet_samples(packet)?;
        out.resize(OPUS_SAMPLES_MAX * self.channels, 0.0);
        let samples = self.decoder.decode_float(packet, out, false).ok()?;
        self.last = samples;
        out.truncate(samples * self.channels);
        Some((SAMPLE_RATE, self.channels))
    }

    fn conceal(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Option<(u32, usize)> {
        let samples = packet_samples(packet).map_or(self.last, |samples| samples as usize);
        out.resize(samples * self.channels, 0.0);
        let samples = self.decoder.decode_float(&[], out, false).ok()?;
        out.truncate(samples * self.channels);
        Some((SAMPLE_RATE, self.channels))
    }
}

struct Voice {
    law: fn(u8) -> i16,
}

impl Packets for Voice {
    fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Option<(u32, usize)> {
        let packet = packet.get(..VOICE_BYTES_MAX).unwrap_or(packet);
        out.extend(packet.iter().map(|&byte| f32::from((self.law)(byte)) / 32_768.0));
        Some((8_000, 1))
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
    /// In the order of the AAC decoder, which is that of WAV.
    fn of_aac(channels: usize, by_elements: bool) -> Result<Self, SoundError> {
        use Place::{Back, BackLeft, BackRight, Center, Left, Low, Right};
        Ok(match channels {
            1 | 2 => Mixer::None(channels),
            3 => Self::down(&[Left, Right, Center]),
            // Told by elements it is quadraphony, what ffmpeg does; else it has a number, which says this.
            4 if by_elements => Self::down(&[Left, Right, BackLeft, BackRight]),
            4 => Self::down(&[Left, Right, Center, Back]),
            5 => Self::down(&[Left, Right, Center, BackLeft, BackRight]),
            6 => Self::down(&[Left, Right, Center, Low, BackLeft, BackRight]),
            7 => Self::down(&[Left, Right, Center, Low, Back, BackLeft, BackRight]),
            8 => Self::down(&[Left, Right, Center, Low, BackLeft, BackRight, BackLeft, BackRight]),
            _ => return Err(SoundError::Unsupported("more than eight channels")),
        })
    }

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
    fn channels(&self) -> usize {
        match self {
            Mixer::None(channels) => *channels,
            Mixer::Down(_) => 2,
        }
    }

    /// The decoder made `channels`, which a configuration cannot always tell: parametric stereo is found in the packets. Who
    /// has become stereo stays so.
    fn follow(&mut self, channels: usize) {
        let expected = match self {
            Mixer::None(channels) => *channels,
            Mixer::Down(parts) => parts.len(),
        };
        if channels == expected || channels == 1 {
            return;
        }
        if let Ok(mixer) = Mixer::of_aac(channels, false) {
            *self = mixer;
        }
    }

    /// Appends `samples` of `channels` with one channel or two; returns how many per channel.
    fn mix(&self, samples: &[f32], channels: usize, out: &mut Vec<f32>) -> usize {
        let before = out.len();
        match self {
            _ if channels < self.channels() => {
                out.extend(samples.iter().flat_map(|&sample| [sample, sample]))
            }
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
