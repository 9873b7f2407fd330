//! What is published: a recorded clip that runs without end, at any bit rate from its own upwards.
//!
//! A real encoder's frames, with a real one's sizes: large key frames, small ones between. The bit rate is reached with
//! filler data behind each picture, in proportion to its size (NAL unit type 12: ITU-T H.264, 7.3.2.7), so that the
//! stream stays one that every decoder takes. Where a receiver leaves filler out, as those of MPEG-TS may, it is reached with a unit of
//! a reserved type, which decoders pass over as well (table 7-1).

use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use shardcast_engine::{
    demo,
    flv::{Demuxer, TagReader},
    media::{Frame, Payload, TrackId},
    session::{Event, Opening},
    time::{MediaTime, Unwrapper},
};

use crate::stamp::{STAMP_BYTES, Stamp, digest};

/// A clip that can be played without end.
#[derive(Clone, Debug)]
pub struct Clip {
    opening: Opening,
    frames: Rc<[Part]>,
    period: i64,
}

/// What a clip is filled up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// Filler data, which may be left out on the way.
    Filler,
    /// What nobody knows, and so nobody leaves out.
    Reserved,
}

impl Filling {
    /// `nal_unit_type`. (ITU-T H.264, table 7-1)
    const fn unit_type(self) -> u8 {
        match self {
            Filling::Filler => 12,
            Filling::Reserved => 23,
        }
    }
}

/// One frame of a clip.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its time and payload; a picture is without its stamp.
    pub frame: Frame,
    /// For a picture: what its stamp says of the rest.
    digest: u64,
}

impl Clip {
    /// The clip that comes with shardcast: 16 s, 640x360 at 30 pictures per second, key frames each 2 s, B-frames, AAC.
    pub fn built_in() -> Clip {
        Self::read(demo::CLIP).expect("the built-in clip is whole: a test reads it")
    }

    /// Reads an FLV file with H.264, with or without AAC.
    ///
    /// # Errors
    /// What is wrong with the file, in words.
    pub fn read(flv: &[u8]) -> Result<Clip, String> {
        let (mut reader, mut demuxer, mut clock) =
            (TagReader::default(), Demuxer::default(), Unwrapper::new(32));
        let (mut opening, mut frames) = (Opening::default(), Vec::new());
        let mut rest = flv;
        while let Some(tag) = reader.read(&mut rest).map_err(|error| error.to_string())? {
            let mut take = |event| match event {
                Event::Frame(frame) if frame.is_media() => frames.push(frame),
                Event::Frame(frame) => drop(opening.note(&frame)),
                _ => {}
            };
            demuxer.tag(&tag, &mut clock, &mut take).map_err(|error| error.to_string())?;
        }
        let first_key = frames.iter().position(Frame::is_key).ok_or("the clip has no key frame")?;
        let mut frames = frames.split_off(first_key);
        let start = frames.first().map_or(0, |frame| frame.dts.as_millis());
        frames.retain(|frame| frame.dts.as_millis() >= start);
        frames.sort_by_key(|frame| frame.dts.as_millis());
        for frame in &mut frames {
            frame.dts = MediaTime::from_millis(frame.dts.as_millis() - start);
            frame.pts = MediaTime::from_millis(frame.pts.as_millis() - start);
        }
        let pictures: Vec<i64> =
            frames.iter().filter(|frame| frame.is_video()).map(|frame| frame.dts.as_millis()).collect();
        let (Some(last), steps @ 1..) = (pictures.last(), pictures.len() - 1) else {
            return Err("the clip has fewer than two pictures from its first key frame on".into());
        };
        let period = last + last / steps as i64;
        // The sound of the last moment would overlap with that of the first when the clip begins anew.
        frames.retain(|frame| frame.dts.as_millis() < period);
        let frames = frames.into_iter().map(Part::of).collect::<Result<_, _>>()?;
        Ok(Clip { opening, frames, period })
    }

    /// The same clip with filler, so that all its frames together take `bits` per second.
    ///
    /// # Errors
    /// The clip has a higher rate by itself.
    pub fn at_bitrate(&self, bits: u64) -> Result<Clip, String> {
        self.filled(bits, Filling::Filler)
    }

    /// The same, filled up with something else.
    ///
    /// # Errors
    /// The clip has a higher rate by itself.
    pub fn filled(&self, bits: u64, filling: Filling) -> Result<Clip, String> {
        let period = self.period.unsigned_abs();
        let wanted = (bits * period / 8000) as usize;
        let sound: usize = self.sizes(false).sum();
        let pictures: usize = self.sizes(true).sum();
        let Some(room) = wanted.checked_sub(sound + pictures) else {
            let own = (sound + pictures) as u64 * 8000 / period;
            return Err(format!("{bits} bit/s is less than the clip's own rate, {own} bit/s"));
        };
        let (mut passed, mut given) = (0, 0);
        let mut grown = Vec::with_capacity(self.frames.len());
        for part in self.frames.iter() {
            let mut part = part.clone();
            if let Payload::Video { data, .. } = &mut part.frame.payload {
                // What is due by now, so that rounding does not add up.
                passed += data.len() + STAMP_BYTES;
                let due = (room as u128 * passed as u128 / pictures as u128) as usize;
                let filler = due - given;
                if filler >= FILLER_HEAD + FILLER_TAIL {
                    *data = with_filler(data, filler, filling);
                    given += filler;
                }
                part.digest = digest(data);
            }
            grown.push(part);
        }
        Ok(Clip { opening: self.opening.clone(), frames: grown.into(), period: self.period })
    }

    /// Its pictures alone, each shown when it is sent: by WebRTC browsers take no B-frames and no AAC, and what encoders for them send
    /// has neither. Only the times are others; nothing looks into the pictures for their order.
    #[must_use]
    pub fn in_order(&self) -> Clip {
        let mut opening = self.opening.clone();
        opening.parameters.retain(|frame| frame.track == TrackId::VIDEO);
        let pictures = self.frames.iter().filter(|part| part.frame.is_video());
        let frames = pictures.map(|part| {
            let mut part = part.clone();
            part.frame.pts = part.frame.dts;
            part
        });
        Clip { opening, frames: frames.collect(), period: self.period }
    }

    /// What a viewer must know before the first frame.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// The frames of one round, in the order of their decoding times, which begin at 0.
    pub fn parts(&self) -> &[Part] {
        &self.frames
    }

    /// Length of one round in milliseconds.
    pub fn period_millis(&self) -> i64 {
        self.period
    }

    /// Bytes of all frames of one round, stamps included.
    pub fn bytes(&self) -> u64 {
        self.sizes(true).chain(self.sizes(false)).sum::<usize>() as u64
    }

    fn sizes(&self, video: bool) -> impl Iterator<Item = usize> + '_ {
        self.frames.iter().filter(move |part| part.frame.is_video() == video).map(Part::bytes)
    }
}

impl Part {
    fn of(frame: Frame) -> Result<Part, String> {
        let digest = match &frame.payload {
            Payload::Video { codec, data, .. } => {
                if *codec != shardcast_engine::codec::Codec::H264 {
                    return Err(format!("the clip's pictures are {codec:?}; stamps are for H.264"));
                }
                digest(data)
            }
            _ => 0,
        };
        Ok(Part { frame, digest })
    }

    /// Its bytes as published.
    pub fn bytes(&self) -> usize {
        self.frame.payload_bytes() + if self.frame.is_video() { STAMP_BYTES } else { 0 }
    }

    /// The frame as it is published: `shift` milliseconds later than in the first round, and with its stamp if it is a
    /// picture.
    pub fn stamped(&self, shift: i64, number: u64, sent: u64) -> Frame {
        let mut frame = self.frame.clone();
        let later = |time: MediaTime| MediaTime::from_millis(time.as_millis() + shift);
        (frame.dts, frame.pts) = (later(frame.dts), later(frame.pts));
        if let Payload::Video { data, .. } = &mut frame.payload {
            // An access unit delimiter must stay first.
            let (before, after) = data.split_at(delimiter(data));
            let mut unit = Vec::with_capacity(data.len() + STAMP_BYTES);
            unit.extend_from_slice(before);
            Stamp { number, sent, digest: self.digest }.write(&mut unit);
            unit.extend_from_slice(after);
            *data = unit.into();
        }
        frame
    }
}

/// Length of the access unit delimiter that the access unit begins with, if it does (NAL unit type 9).
fn delimiter(unit: &[u8]) -> usize {
    match unit {
        [0, 0, 0, 2, header, _, ..] if header & 0x1f == 9 => 6,
        _ => 0,
    }
}

/// The filler's length field and its first byte; its stop bit.
const FILLER_HEAD: usize = 5;
const FILLER_TAIL: usize = 1;

/// The access unit with a NAL unit of `bytes` in all behind its last one, which says nothing.
fn with_filler(unit: &[u8], bytes: usize, filling: Filling) -> Bytes {
    let mut out = BytesMut::with_capacity(unit.len() + bytes);
    out.put_slice(unit);
    out.put_u32((bytes - 4) as u32);
    out.put_u8(filling.unit_type());
    out.put_bytes(0xff, bytes - FILLER_HEAD - FILLER_TAIL);
    out.put_u8(0x80);
    out.freeze()
}

/// A clip as one publisher plays it: which frame is next, and when.
#[derive(Clone, Debug)]
pub struct Playback {
    clip: Clip,
    next: usize,
    round: i64,
    pictures: u64,
}

impl Playback {
    /// From the beginning.
    pub fn new(clip: Clip) -> Playback {
        Playback { clip, next: 0, round: 0, pictures: 0 }
    }

    /// Nanoseconds after its start at which the next frame is due.
    pub fn due(&self) -> u64 {
        let millis = self.clip.frames[self.next].frame.dts.as_millis() + self.round * self.clip.period;
        millis.unsigned_abs() * 1_000_000
    }

    /// The next frame, stamped as sent at `now`.
    pub fn take(&mut self, now: u64) -> Frame {
        let frame = self.clip.frames[self.next].stamped(self.round * self.clip.period, self.pictures, now);
        self.pictures += u64::from(frame.is_video());
        self.next += 1;
        if self.next == self.clip.frames.len() {
            self.next = 0;
            self.round += 1;
        }
        frame
    }

    /// Pictures taken so far.
    pub fn pictures(&self) -> u64 {
        self.pictures
    }

    /// What is played.
    pub fn clip(&self) -> &Clip {
        &self.clip
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_engine::mpegts;

    #[test]
    fn the_built_in_clip_reaches_any_rate_and_keeps_its_shape() {
        let clip = Clip::built_in();
        assert_eq!(clip.period_millis(), 16_000);
        for bits in [500_000, 2_000_000, 4_000_000, 20_000_000] {
            let grown = clip.at_bitrate(bits).unwrap();
            let found = grown.bytes() * 8 / 16;
            assert!(found.abs_diff(bits) <= bits / 500, "{found} of {bits}");
            assert_eq!(grown.parts().len(), clip.parts().len());
            let key = grown.parts().iter().filter(|part| part.frame.is_key()).map(Part::bytes).max().unwrap();
            let mean = grown.bytes() as usize / grown.parts().len();
            assert!(key > 4 * mean, "key frames stay larger than others: {key} and {mean}");
        }
        assert!(clip.at_bitrate(100_000).unwrap_err().contains("own rate"));
    }

    #[test]
    fn what_is_played_is_numbered_stamped_and_on_time() {
        let mut playback = Playback::new(Clip::built_in().at_bitrate(1_000_000).unwrap());
        let mut last = (0, -1);
        for index in 0..3000u64 {
            let (due, before) = (playback.due(), playback.pictures());
            let frame = playback.take(index);
            assert!(due >= last.0, "frames are due in order");
            assert_eq!(frame.dts.as_millis() * 1_000_000, due as i64);
            if let Payload::Video { data, .. } = &frame.payload {
                let (stamp, whole) = Stamp::read(data).unwrap();
                assert_eq!((stamp.number, stamp.sent, whole), (before, index, true));
                assert!(frame.dts.as_millis() > last.1);
                last.1 = frame.dts.as_millis();
            }
            last.0 = due;
        }
        assert!(last.0 > 32_000_000_000, "it went over the seam twice");
    }

    #[test]
    fn what_is_filled_with_a_reserved_type_passes_through_mpeg_ts_whole() {
        let clip = Clip::built_in();
        for (filling, passes) in [(Filling::Reserved, true), (Filling::Filler, false)] {
            let mut playback = Playback::new(clip.filled(2_000_000, filling).unwrap());
            let (mut wire, mut stream) = ((mpegts::FORM.open)(), BytesMut::new());
            for place in 0..100 {
                let frame = playback.take(1);
                if place == 0 {
                    wire.header(playback.clip().opening(), &frame, &mut stream);
                }
                wire.frame(&frame, &mut stream);
            }
            let (mut demuxer, mut whole) = (mpegts::Demuxer::default(), Vec::new());
            demuxer.push(&stream, &mut |event| {
                if let Event::Frame(Frame { payload: Payload::Video { data, .. }, .. }) = event {
                    whole.push(Stamp::read(&data).is_some_and(|(_, whole)| whole));
                }
            });
            assert!(whole.len() > 30 && whole.iter().all(|whole| *whole == passes), "{filling:?}: {whole:?}");
        }
    }

    #[test]
    fn filler_is_a_nal_unit_that_decoders_pass_over() {
        let unit = with_filler(b"\0\0\0\x02\x65a", 20, Filling::Filler);
        assert_eq!(
            &unit[..],
            b"\0\0\0\x02\x65a\0\0\0\x10\x0c\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x80"
        );
    }
}
