//! Packets of sound out of RTP's. (RFC 3640, 3; RFC 7587, 4; RFC 2250, 3.5; RFC 3551, 4.5)

use std::sync::Arc;

use bytes::Bytes;

use super::{super::Packet, Context};
use crate::{
    bits::{BitReader, Reader},
    codec::{Codec, Parameters, Shape, mp3},
    media::Payload,
    time::MediaTime,
};

/// Bytes of a packet that is put together. A larger one is left out.
const BYTES_MAX: usize = 64 << 10;

/// In place of the widths of headers that are not there.
pub(super) const LATM: [u32; 3] = [0; 3];

/// AAC.
#[derive(Debug)]
pub(super) struct Aac {
    parameters: Arc<Parameters>,
    /// They were given to the stream.
    told: bool,
    /// Ticks that an access unit lasts.
    samples: i64,
    /// Bits of size, index and difference of index in the header of an access unit.
    widths: [u32; 3],
    begun: Begun,
}

/// Opus.
#[derive(Debug)]
pub(super) struct Opus {
    stereo: bool,
    told: bool,
}

/// G.711 and G.722.
#[derive(Debug)]
pub(super) struct Voice {
    parameters: Arc<Parameters>,
    told: bool,
}

/// MPEG audio.
#[derive(Debug, Default)]
pub(super) struct Mp3 {
    parameters: Option<Arc<Parameters>>,
    begun: Begun,
}

/// What has come of a packet that needs several of RTP's.
#[derive(Debug, Default)]
struct Begun {
    timestamp: u32,
    data: Vec<u8>,
}

impl Aac {
    /// `None` when the configuration is broken.
    pub(super) fn new(configuration: Bytes, rate: u32, widths: [u32; 3]) -> Option<Self> {
        let parameters = Parameters::parse(Codec::Aac, configuration).ok()?;
        let samples = match parameters.shape {
            Shape::Audio { sample_rate, packet_samples, .. } if sample_rate > 0 => {
                MediaTime { ticks: packet_samples.into(), rate: sample_rate }.ticks_at(rate)
            }
            _ => return None,
        };
        Some(Aac { parameters: Arc::new(parameters), told: false, samples, widths, begun: Begun::default() })
    }

    /// The parameters of the description, once.
    pub(super) fn known_parameters(&mut self) -> Option<Arc<Parameters>> {
        (!std::mem::replace(&mut self.told, true)).then(|| self.parameters.clone())
    }

    /// Takes a packet; `None` when it breaks a rule. (RFC 3640, 3.2)
    pub(super) fn packet(&mut self, packet: &Packet<'_>, context: &mut Context<'_>) -> Option<()> {
        if self.widths == LATM {
            return self.element(packet, context);
        }
        let [size_bits, index_bits, delta_bits] = self.widths;
        let mut reader = Reader::new(packet.payload);
        let bits = usize::from(reader.u16("length of headers").ok()?);
        let headers = reader.take(bits.div_ceil(8), "headers of access units").ok()?;
        let mut headers = BitReader::new(headers);
        let mut number = 0;
        while headers.position() + size_bits as usize <= bits {
            let size = headers.bits(size_bits, "size of an access unit").ok()? as usize;
            let index = if number == 0 { index_bits } else { delta_bits };
            headers.skip(index as usize, "index of an access unit").ok()?;
            if size > BYTES_MAX {
                return None;
            }
            // A piece of one has the size of the whole.
            if size > reader.remaining() || !self.begun.data.is_empty() {
                return self.piece(size, packet, reader.rest(), context);
            }
            let data = reader.take(size, "access unit").ok()?;
            self.unit(packet.timestamp, number * self.samples, data, context);
            number += 1;
        }
        Some(())
    }

    /// Takes a packet of an audioMuxElement, which ends with the one that is marked. (RFC 6416, 6.1; ISO/IEC 14496-3, 1.7.3)
    fn element(&mut self, packet: &Packet<'_>, context: &mut Context<'_>) -> Option<()> {
        if self.begun.timestamp != packet.timestamp {
            self.begun.data.clear();
        }
        self.begun.timestamp = packet.timestamp;
        if self.begun.data.len() + packet.payload.len() > BYTES_MAX {
            return None;
        }
        self.begun.data.extend(packet.payload);
        if !packet.marker {
            return Some(());
        }
        let data = std::mem::take(&mut self.begun.data);
        let mut reader = Reader::new(&data);
        let mut number = 0;
        while !reader.is_empty() {
            let mut size = 0;
            loop {
                let byte = reader.u8("length of an access unit").ok()?;
                size += usize::from(byte);
                if byte < u8::MAX {
                    break;
                }
            }
            let unit = reader.take(size, "access unit").ok()?;
            self.unit(packet.timestamp, number * self.samples, unit, context);
            number += 1;
        }
        Some(())
    }

    fn piece(
        &mut self,
        size: usize,
        packet: &Packet<'_>,
        piece: &[u8],
        context: &mut Context<'_>,
    ) -> Option<()> {
        if self.begun.timestamp != packet.timestamp {
            self.begun.data.clear();
        }
        self.begun.timestamp = packet.timestamp;
        if self.begun.data.len() + piece.len() > size {
            return None;
        }
        self.begun.data.extend(piece);
        if self.begun.data.len() == size {
            let data = std::mem::take(&mut self.begun.data);
            self.unit(packet.timestamp, 0, &data, context);
        }
        Some(())
    }

    fn unit(&mut self, timestamp: u32, after: i64, data: &[u8], context: &mut Context<'_>) {
        if data.is_empty() {
            return;
        }
        let parameters = self.known_parameters();
        let data = context.copy(data);
        context.sound(timestamp, after, parameters, Payload::Audio { codec: Codec::Aac, data });
    }

    pub(super) fn lose(&mut self) {
        self.begun.data.clear();
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.begun.data.capacity()
    }
}

impl Opus {
    pub(super) fn new(stereo: bool) -> Self {
        Opus { stereo, told: false }
    }

    /// The parameters of the description, once, as far as it says them.
    pub(super) fn known_parameters(&mut self) -> Option<Arc<Parameters>> {
        let told = !self.stereo || std::mem::replace(&mut self.told, true);
        (!told).then(|| Arc::new(Parameters::of_opus(2)))
    }

    /// Takes a packet; `None` when it breaks a rule. (RFC 7587, 4.2)
    pub(super) fn packet(&mut self, packet: &Packet<'_>, context: &mut Context<'_>) -> Option<()> {
        let first = packet.payload.first()?;
        // What the description says of channels may be left out; the packet itself says it. (RFC 6716, 3.1)
        let channels = if self.stereo || first & 4 != 0 { 2 } else { 1 };
        let parameters =
            (!std::mem::replace(&mut self.told, true)).then(|| Arc::new(Parameters::of_opus(channels)));
        let data = context.copy(packet.payload);
        context.sound(packet.timestamp, 0, parameters, Payload::Audio { codec: Codec::Opus, data });
        Some(())
    }
}

impl Voice {
    /// `None` for another codec.
    pub(super) fn new(codec: Codec) -> Option<Self> {
        Some(Voice { parameters: Arc::new(Parameters::of_voice(codec)?), told: false })
    }

    /// The parameters of the track, once.
    pub(super) fn known_parameters(&mut self) -> Option<Arc<Parameters>> {
        (!std::mem::replace(&mut self.told, true)).then(|| self.parameters.clone())
    }

    /// Takes a packet; `None` when there is nothing in it. (RFC 3551, 4.5.14 and 4.5.2)
    pub(super) fn packet(&mut self, packet: &Packet<'_>, context: &mut Context<'_>) -> Option<()> {
        packet.payload.first()?;
        let parameters = self.known_parameters();
        let (codec, data) = (self.parameters.codec, context.copy(packet.payload));
        context.sound(packet.timestamp, 0, parameters, Payload::Audio { codec, data });
        Some(())
    }
}

impl Mp3 {
    /// Takes a packet; `None` when it breaks a rule. (RFC 2250, 3.5)
    pub(super) fn packet(&mut self, packet: &Packet<'_>, context: &mut Context<'_>) -> Option<()> {
        let mut reader = Reader::new(packet.payload);
        reader.skip(2, "reserved bytes").ok()?;
        let place = usize::from(reader.u16("place in the frame").ok()?);
        if place == 0 {
            self.begun = Begun { timestamp: packet.timestamp, data: Vec::new() };
        } else if place != self.begun.data.len() || packet.timestamp != self.begun.timestamp {
            return None;
        }
        if self.begun.data.len() + reader.remaining() > BYTES_MAX {
            return None;
        }
        self.begun.data.extend(reader.rest());
        let data = std::mem::take(&mut self.begun.data);
        let mut frames = Reader::new(&data);
        let mut after = 0;
        while let Ok(header) = mp3::Header::parse(frames.peek()) {
            // One of a free format says nothing of its length.
            if header.frame_bytes == 0 {
                return None;
            }
            let Ok(frame) = frames.take(header.frame_bytes, "frame") else { break };
            let parameters = Parameters::from_mp3_frame(frame).ok()?;
            let changed = self.parameters.as_deref() != Some(&parameters);
            let parameters = changed.then(|| Arc::new(parameters));
            if let Some(parameters) = &parameters {
                self.parameters = Some(Arc::clone(parameters));
            }
            let data = context.copy(frame);
            context.sound(packet.timestamp, after, parameters, Payload::Audio { codec: Codec::Mp3, data });
            let length = MediaTime { ticks: header.frame_samples.into(), rate: header.sample_rate };
            after += length.ticks_at(context.rate);
        }
        // The rest of a frame comes in the next packets.
        if frames.position() == 0 && mp3::Header::parse(&data).is_ok() {
            self.begun.data = data;
        }
        Some(())
    }

    pub(super) fn lose(&mut self) {
        self.begun.data.clear();
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.begun.data.capacity()
    }
}
