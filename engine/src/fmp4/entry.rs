//! Sample entries: how each codec's configuration stands in `stsd`, both ways.

use bytes::{BufMut, Bytes, BytesMut};

use super::boxes::{FourCc, full, plain};
use crate::{
    bits::Reader,
    codec::{Codec, Parameters, Shape, h266},
    error::Error,
};

/// `objectTypeIndication` of AAC (ISO/IEC 14496-1, table 5).
const OBJECT_AAC: u8 = 0x40;
/// Of MPEG-2 audio layer III (the low sample rates, ISO/IEC 13818-3).
const OBJECT_MPEG2_AUDIO: u8 = 0x69;
/// Of MPEG-1 audio (ISO/IEC 11172-3).
const OBJECT_MPEG1_AUDIO: u8 = 0x6b;
/// `OpusHead` begins with this (RFC 7845, 5.1).
const OPUS_MAGIC: &[u8; 8] = b"OpusHead";

/// Whether MP4 has a form for a codec that players read. G.711 has names in QuickTime's files alone, and G.722 none at all.
///
/// ```
/// use shardcast_engine::{codec::Codec, fmp4::carries};
///
/// assert!(carries(Codec::Opus) && !carries(Codec::PcmA));
/// ```
pub const fn carries(codec: Codec) -> bool {
    names(codec).is_some()
}

/// The type of a sample entry, and of the box in it that has the configuration.
const fn names(codec: Codec) -> Option<(&'static [u8; 4], &'static [u8; 4])> {
    Some(match codec {
        Codec::H264 => (b"avc1", b"avcC"),
        // `hvc1` and not `hev1`: the parameter sets stand in `hvcC`, and Apple's players take no other.
        Codec::H265 => (b"hvc1", b"hvcC"),
        Codec::H266 => (b"vvc1", b"vvcC"),
        Codec::Av1 => (b"av01", b"av1C"),
        Codec::Vp8 => (b"vp08", b"vpcC"),
        Codec::Vp9 => (b"vp09", b"vpcC"),
        Codec::Aac | Codec::Mp3 => (b"mp4a", b"esds"),
        Codec::Opus => (b"Opus", b"dOps"),
        // ETSI TS 102 366, F.3 and F.4.
        Codec::Ac3 => (b"ac-3", b"dac3"),
        Codec::PcmA | Codec::PcmU | Codec::G722 => return None,
    })
}

/// Writes the sample entry of a track; nothing where there is no form for one ([`carries`]).
pub(super) fn write(out: &mut BytesMut, parameters: &Parameters) {
    let configuration = &parameters.configuration;
    let Some((entry, inner)) = names(parameters.codec) else { return };
    match parameters.shape {
        Shape::Video { width, height } => plain(out, entry, |out| {
            visual(out, width, height);
            match parameters.codec {
                // A full box around the record. `vpcC` is one too, and its configuration has those four bytes.
                Codec::H266 => full(out, inner, 0, 0, |out| out.put_slice(configuration)),
                _ => plain(out, inner, |out| out.put_slice(configuration)),
            }
        }),
        Shape::Audio { sample_rate, channels, .. } => plain(out, entry, |out| {
            audio(out, if parameters.codec == Codec::Opus { 48_000 } else { sample_rate }, channels);
            match parameters.codec {
                Codec::Opus => plain(out, inner, |out| opus(out, configuration, sample_rate, channels)),
                Codec::Ac3 => plain(out, inner, |out| out.put_slice(configuration)),
                Codec::Mp3 if sample_rate < 32_000 => esds(out, OBJECT_MPEG2_AUDIO, &[]),
                Codec::Mp3 => esds(out, OBJECT_MPEG1_AUDIO, &[]),
                _ => esds(out, OBJECT_AAC, configuration),
            }
        }),
    }
}

/// `VisualSampleEntry` up to its boxes (ISO/IEC 14496-12, 12.1.3).
fn visual(out: &mut BytesMut, width: u32, height: u32) {
    out.put_bytes(0, 6);
    out.put_u16(1); // data_reference_index
    out.put_bytes(0, 16);
    out.put_u16(u16::try_from(width).unwrap_or(u16::MAX));
    out.put_u16(u16::try_from(height).unwrap_or(u16::MAX));
    out.put_u32(0x0048_0000); // 72 dpi across
    out.put_u32(0x0048_0000); // and down
    out.put_u32(0);
    out.put_u16(1); // frame_count
    out.put_bytes(0, 32); // compressorname
    out.put_u16(0x0018); // depth
    out.put_i16(-1); // pre_defined
}

/// `AudioSampleEntry` up to its boxes (ISO/IEC 14496-12, 12.2.3).
fn audio(out: &mut BytesMut, sample_rate: u32, channels: u8) {
    out.put_bytes(0, 6);
    out.put_u16(1); // data_reference_index
    out.put_bytes(0, 8);
    out.put_u16(u16::from(channels));
    out.put_u16(16); // samplesize
    out.put_u32(0);
    // 16.16 fixed point. A rate above 65,535 does not fit and is left to the configuration.
    out.put_u32(u16::try_from(sample_rate).map_or(0, |rate| u32::from(rate) << 16));
}

/// `esds` (ISO/IEC 14496-14, 6.7.2) with the descriptors of ISO/IEC 14496-1, 7.2.6.
fn esds(out: &mut BytesMut, object: u8, configuration: &[u8]) {
    /// Bytes of a descriptor's tag and of its length in the four-byte form.
    const HEAD: usize = 5;
    fn head(out: &mut BytesMut, tag: u8, len: usize) {
        out.put_u8(tag);
        for shift in [21, 14, 7] {
            out.put_u8(0x80 | (len >> shift & 0x7f) as u8);
        }
        out.put_u8((len & 0x7f) as u8);
    }
    let specific = if configuration.is_empty() { 0 } else { HEAD + configuration.len() };
    let decoder = 13 + specific;
    full(out, b"esds", 0, 0, |out| {
        head(out, 0x03, 3 + HEAD + decoder + HEAD + 1);
        out.put_u16(0); // ES_ID, 0 in a file
        out.put_u8(0);
        head(out, 0x04, decoder);
        out.put_u8(object);
        out.put_u8(0x05 << 2 | 1); // streamType: audio
        out.put_uint(0, 3); // bufferSizeDB
        out.put_u32(0); // maxBitrate
        out.put_u32(0); // avgBitrate, unknown
        if !configuration.is_empty() {
            head(out, 0x05, configuration.len());
            out.put_slice(configuration);
        }
        head(out, 0x06, 1);
        out.put_u8(2); // SLConfigDescriptor: MP4
    });
}

/// `dOps` (Encapsulation of Opus in ISO BMFF, 4.3.2): the fields of `OpusHead` in the other byte order.
fn opus(out: &mut BytesMut, head: &Bytes, sample_rate: u32, channels: u8) {
    let start = out.len();
    if opus_from_head(out, head).is_err() {
        // A publisher that sends no header, or half of one: mono or stereo need none.
        out.truncate(start);
        out.put_u8(0);
        out.put_u8(channels.clamp(1, 2));
        out.put_u16(0);
        out.put_u32(sample_rate);
        out.put_i16(0);
        out.put_u8(0);
    }
}

fn opus_from_head(out: &mut BytesMut, head: &[u8]) -> Result<(), Error> {
    let mut reader = Reader::new(head);
    if reader.array::<8>("Opus head")? != *OPUS_MAGIC {
        return Err(Error::malformed("Opus head without its magic", 0));
    }
    reader.u8("Opus version")?;
    out.put_u8(0);
    out.put_u8(reader.u8("Opus channels")?);
    let [low, high] = reader.array("Opus pre-skip")?;
    out.put_slice(&[high, low]);
    out.put_u32(reader.u32_le("Opus sample rate")?);
    let [low, high] = reader.array("Opus gain")?;
    out.put_slice(&[high, low]);
    out.put_slice(reader.rest()); // channel mapping family and table
    Ok(())
}

/// What a sample entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleEntry {
    /// Its type, `avc1`.
    pub kind: FourCc,
    /// The codec, if it is one that this engine carries.
    pub codec: Option<Codec>,
    /// The configuration in the form of [`Parameters::configuration`].
    pub configuration: Bytes,
    /// Size of the picture or shape of the sound, as the entry has it.
    pub shape: Option<Shape>,
}

/// Reads the first sample entry of an `stsd` box's content.
pub(super) fn read(stsd: &[u8]) -> Result<SampleEntry, Error> {
    let mut reader = Reader::new(stsd);
    reader.skip(8, "stsd head")?;
    let size = reader.u32("sample entry size")? as usize;
    let kind = FourCc::read(&mut reader, "sample entry type")?;
    let body = size.checked_sub(8).ok_or(Error::malformed("sample entry shorter than its head", 8))?;
    let mut body = Reader::new(reader.take(body, "sample entry")?);
    body.skip(8, "sample entry head")?;
    match &kind.0 {
        b"avc1" | b"avc3" | b"hvc1" | b"hev1" | b"vvc1" | b"vvi1" | b"av01" | b"vp08" | b"vp09" => {
            read_visual(kind, &mut body)
        }
        b"mp4a" | b"Opus" | b".mp3" | b"ac-3" => read_audio(kind, &mut body),
        _ => Ok(SampleEntry { kind, codec: None, configuration: Bytes::new(), shape: None }),
    }
}

fn read_visual(kind: FourCc, body: &mut Reader<'_>) -> Result<SampleEntry, Error> {
    body.skip(16, "visual sample entry")?;
    let width = u32::from(body.u16("width")?);
    let height = u32::from(body.u16("height")?);
    body.skip(50, "visual sample entry")?;
    let (codec, wanted) = match &kind.0 {
        b"avc1" | b"avc3" => (Codec::H264, b"avcC"),
        b"hvc1" | b"hev1" => (Codec::H265, b"hvcC"),
        b"vvc1" | b"vvi1" => (Codec::H266, b"vvcC"),
        b"av01" => (Codec::Av1, b"av1C"),
        b"vp08" => (Codec::Vp8, b"vpcC"),
        _ => (Codec::Vp9, b"vpcC"),
    };
    let content = child(body, wanted)?;
    let configuration = if codec == Codec::H266 { h266::without_version(content) } else { content };
    Ok(SampleEntry {
        kind,
        codec: Some(codec),
        configuration: Bytes::copy_from_slice(configuration),
        shape: Some(Shape::Video { width, height }),
    })
}

fn read_audio(kind: FourCc, body: &mut Reader<'_>) -> Result<SampleEntry, Error> {
    let version = body.u16("audio sample entry version")?;
    body.skip(6, "audio sample entry")?;
    let channels = u8::try_from(body.u16("channels")?).unwrap_or(u8::MAX);
    body.skip(6, "audio sample entry")?;
    let sample_rate = body.u32("sample rate")? >> 16;
    // QuickTime's version 1 of the entry has four more numbers before the boxes.
    if version == 1 {
        body.skip(16, "audio sample entry")?;
    }
    let (codec, configuration) = match &kind.0 {
        b"Opus" => (Some(Codec::Opus), read_opus(child(body, b"dOps")?)?),
        b".mp3" => (Some(Codec::Mp3), Bytes::new()),
        b"ac-3" => (Some(Codec::Ac3), Bytes::copy_from_slice(child(body, b"dac3")?)),
        _ => read_esds(child(body, b"esds")?)?,
    };
    Ok(SampleEntry {
        kind,
        codec,
        configuration,
        shape: Some(Shape::Audio { sample_rate, channels, packet_samples: 0 }),
    })
}

/// The content of the first box of type `wanted`.
fn child<'a>(body: &mut Reader<'a>, wanted: &[u8; 4]) -> Result<&'a [u8], Error> {
    while !body.is_empty() {
        let at = body.position() as u64;
        let size = body.u32("box size")? as usize;
        let kind: [u8; 4] = body.array("box type")?;
        let len = size.checked_sub(8).ok_or(Error::malformed("box shorter than its head", at))?;
        let content = body.take(len, "box")?;
        if kind == *wanted {
            return Ok(content);
        }
    }
    Err(Error::malformed("sample entry without its configuration", body.position() as u64))
}

fn read_opus(dops: &[u8]) -> Result<Bytes, Error> {
    let mut reader = Reader::new(dops);
    let mut head = BytesMut::with_capacity(dops.len() + 8);
    head.put_slice(OPUS_MAGIC);
    reader.u8("Opus version")?;
    head.put_u8(1);
    head.put_u8(reader.u8("Opus channels")?);
    head.put_u16_le(reader.u16("Opus pre-skip")?);
    head.put_u32_le(reader.u32("Opus sample rate")?);
    head.put_u16_le(reader.u16("Opus gain")?);
    head.put_slice(reader.rest());
    Ok(head.freeze())
}

fn read_esds(esds: &[u8]) -> Result<(Option<Codec>, Bytes), Error> {
    let mut reader = Reader::new(esds);
    reader.skip(4, "esds head")?;
    descriptor(&mut reader, 0x03)?;
    reader.skip(2, "ES_ID")?;
    let flags = reader.u8("ES flags")?;
    if flags & 0x80 != 0 {
        reader.skip(2, "dependsOn_ES_ID")?;
    }
    if flags & 0x40 != 0 {
        let len = reader.u8("URL length")?;
        reader.skip(usize::from(len), "URL")?;
    }
    if flags & 0x20 != 0 {
        reader.skip(2, "OCR_ES_ID")?;
    }
    descriptor(&mut reader, 0x04)?;
    let object = reader.u8("object type")?;
    reader.skip(12, "decoder configuration")?;
    let codec = match object {
        OBJECT_AAC => Codec::Aac,
        OBJECT_MPEG1_AUDIO | OBJECT_MPEG2_AUDIO => return Ok((Some(Codec::Mp3), Bytes::new())),
        _ => return Ok((None, Bytes::new())),
    };
    let len = descriptor(&mut reader, 0x05)?;
    Ok((Some(codec), Bytes::copy_from_slice(reader.take(len, "AudioSpecificConfig")?)))
}

/// Reads the head of a descriptor of type `tag`; its length comes in one to four bytes of seven bits.
fn descriptor(reader: &mut Reader<'_>, tag: u8) -> Result<usize, Error> {
    let at = reader.position() as u64;
    if reader.u8("descriptor tag")? != tag {
        return Err(Error::malformed("esds holds another descriptor than expected", at));
    }
    let mut len = 0;
    for _ in 0..4 {
        let byte = reader.u8("descriptor length")?;
        len = len << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok(len);
        }
    }
    Err(Error::malformed("descriptor length of more than four bytes", at))
}
