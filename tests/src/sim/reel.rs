//! What a publisher of this world sends: frames whose every byte follows from who sent them and which one it is, so that
//! whatever arrives can be told and checked without keeping what was sent.

use std::sync::Arc;

use bytes::Bytes;
use shardcast_engine::{
    codec::{Codec, Parameters},
    media::{Frame, Payload, TrackId},
    session::Opening,
    time::MediaTime,
};

use super::random::{Random, mix};

/// Which frame it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Who sent it. Never used twice in a world.
    pub publisher: u32,
    /// Counts the pictures and packets of sound that it sent, all tracks together.
    pub sequence: u32,
}

const MAGIC: u16 = 0x5ca7;
/// Bytes of a number: seven bits in each, so that none is zero.
const NUMBER_BYTES: usize = 5;
/// Magic, publisher, sequence, track and key.
const STAMP_BYTES: usize = 2 + NUMBER_BYTES + NUMBER_BYTES + 1 + 1;
/// Length, as H.264 samples hold it, and the NAL unit's own first byte.
const NAL_HEAD_BYTES: usize = 5;

impl Stamp {
    /// The stamp of a picture or packet of sound, if each of its bytes is as it was sent.
    pub fn read(frame: &Frame) -> Option<Stamp> {
        let (data, key) = match &frame.payload {
            Payload::Video { key, data, .. } => (data.get(NAL_HEAD_BYTES..)?, *key),
            Payload::Audio { data, .. } => (&data[..], false),
            _ => return None,
        };
        let (publisher, rest) = data.get(2..)?.split_first_chunk()?;
        let (publisher, sequence) = (number(*publisher), number(*rest.first_chunk()?));
        let stamp = Stamp { publisher, sequence };
        let fill = data.len().checked_sub(STAMP_BYTES)?;
        let whole = match &frame.payload {
            Payload::Video { data, .. } => stamp.picture(key, fill) == *data,
            Payload::Audio { data, .. } => stamp.sound(fill) == *data,
            _ => false,
        };
        whole.then_some(stamp)
    }

    fn picture(self, key: bool, fill: usize) -> Bytes {
        let mut data = Vec::with_capacity(NAL_HEAD_BYTES + STAMP_BYTES + fill);
        let length = u32::try_from(1 + STAMP_BYTES + fill).expect("a picture of this world is small");
        data.extend_from_slice(&length.to_be_bytes());
        // An IDR picture or another one (ITU-T H.264, table 7-1), both with a reference count.
        data.push(if key { 0x65 } else { 0x41 });
        self.write(0, key, fill, &mut data);
        data.into()
    }

    fn sound(self, fill: usize) -> Bytes {
        let mut data = Vec::with_capacity(STAMP_BYTES + fill);
        self.write(1, false, fill, &mut data);
        data.into()
    }

    fn write(self, track: u8, key: bool, fill: usize, data: &mut Vec<u8>) {
        // MPEG-TS tells NAL units apart by zeros, so there are none in here.
        data.extend_from_slice(&MAGIC.to_be_bytes());
        data.extend_from_slice(&bytes_of(self.publisher));
        data.extend_from_slice(&bytes_of(self.sequence));
        data.extend_from_slice(&[0x80 | track, 0x80 | u8::from(key)]);
        let mut word = mix((u64::from(self.publisher) << 32) | u64::from(self.sequence));
        let end = data.len() + fill;
        while data.len() < end {
            let bytes = (word | 0x0101_0101_0101_0101).to_be_bytes();
            let take = bytes.len().min(end - data.len());
            data.extend_from_slice(&bytes[..take]);
            word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
        }
    }
}

/// A number without a zero byte.
fn bytes_of(number: u32) -> [u8; NUMBER_BYTES] {
    [28, 21, 14, 7, 0].map(|shift| 0x80 | (number >> shift) as u8)
}

/// The number of these bytes, whatever they are: whoever made them otherwise made another stamp.
fn number(bytes: [u8; NUMBER_BYTES]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 7 | u32::from(byte & 0x7f))
}

/// What a publisher sends.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Pictures from one key frame to the next; 0 for no pictures at all.
    pub group_pictures: u32,
    /// Packets of sound come, too.
    pub sound: bool,
    /// Pictures may come before the first key frame, as from an encoder that was joined in mid-stream.
    pub begins_with_key: bool,
    /// Sound comes for this long before the first picture, in milliseconds.
    pub sound_first_millis: u64,
    /// Milliseconds from picture to picture.
    pub interval_millis: u64,
    /// Bytes of an ordinary picture; key frames have eight times as many.
    pub picture_bytes: usize,
    /// Where its clock begins, in milliseconds.
    pub clock_millis: i64,
    /// After this much media the clock jumps by that many milliseconds.
    pub jump: Option<(u64, i64)>,
    /// Its parameters and metadata change every so many key frames; 0 for never.
    pub change_groups: u32,
}

/// A publisher's film, frame by frame.
#[derive(Debug)]
pub struct Reel {
    publisher: u32,
    shape: Shape,
    random: Random,
    sequence: u32,
    pictures: u32,
    groups: u32,
    /// Media time of the next picture and of the next packet of sound, from the start of the film.
    next_picture: u64,
    next_sound: u64,
    /// Metadata and parameters that come before the next picture or sound.
    ahead: Vec<Payload>,
}

/// A packet of sound each 23 ms, near to what 1024 samples at 44.1 kHz take.
const SOUND_MILLIS: u64 = 23;
const VIDEO_RATE: u32 = 90_000;
const AUDIO_RATE: u32 = 48_000;

/// Decoder configurations as ffmpeg 5.1 of Debian 12 wrote them (`testsrc2` of 1280x720, 1920x1080, 720x576 in H.264).
const VIDEO_CONFIGURATIONS: [&str; 3] = [
    "0164001fffe1001a6764001facd9405005bb0110000003001000000303c0f183196001000668ebe3cb22c0fdf8f800",
    "0142c028ffe100176742c028da01e0089f97011000003e90000ea600f1832a01000468ce0fc8",
    "0164001effe100186764001eacd940b424d8088000000300800000190f8a14cb01000668fba3cb22c0fdf8f800",
];
/// AudioSpecificConfigs of the same ffmpeg: 48 kHz stereo, 44.1 kHz mono, 48 kHz 5.1.
const AUDIO_CONFIGURATIONS: [&str; 3] = ["119056e500", "120856e500", "11b056e500"];

impl Reel {
    /// The film of `publisher`.
    pub fn new(publisher: u32, shape: Shape) -> Self {
        let random = Random::new(mix(u64::from(publisher)));
        let next_picture = if shape.sound { shape.sound_first_millis } else { 0 };
        let mut reel = Reel {
            publisher,
            shape,
            random,
            sequence: 0,
            pictures: 0,
            groups: 0,
            next_picture,
            next_sound: 0,
            ahead: Vec::new(),
        };
        reel.announce(0);
        reel
    }

    /// The parameters that it begins with, as far as nothing of it has been taken.
    pub fn opening(&self) -> Opening {
        let dts = self.time(0, 1000);
        let frame = |payload: &Payload| match payload {
            Payload::Parameters(parameters) => {
                let track = if parameters.codec.is_video() { TrackId::VIDEO } else { TrackId::AUDIO };
                Some(Frame { track, dts, pts: dts, payload: payload.clone() })
            }
            _ => None,
        };
        Opening { parameters: self.ahead.iter().filter_map(frame).collect(), ..Opening::default() }
    }

    /// Pictures come in it.
    pub fn has_pictures(&self) -> bool {
        self.shape.group_pictures > 0
    }

    /// Milliseconds from the start of the film to its next frame.
    pub fn next_millis(&self) -> u64 {
        match (self.shape.group_pictures > 0, self.shape.sound) {
            (true, true) => self.next_picture.min(self.next_sound),
            (true, false) => self.next_picture,
            (false, _) => self.next_sound,
        }
    }

    /// The next frame.
    pub fn take(&mut self) -> Frame {
        let millis = self.next_millis();
        if !self.ahead.is_empty() {
            let payload = self.ahead.remove(0);
            let track = match &payload {
                Payload::Parameters(parameters) if parameters.codec.is_video() => TrackId::VIDEO,
                Payload::Parameters(_) => TrackId::AUDIO,
                _ => TrackId::DATA,
            };
            let dts = self.time(millis, 1000);
            return Frame { track, dts, pts: dts, payload };
        }
        let sound =
            self.shape.group_pictures == 0 || (self.shape.sound && self.next_sound < self.next_picture);
        let stamp = Stamp { publisher: self.publisher, sequence: self.sequence };
        self.sequence += 1;
        if sound {
            self.next_sound += SOUND_MILLIS;
            let dts = self.time(millis, AUDIO_RATE);
            let data = stamp.sound(self.random.index(120));
            return Frame {
                track: TrackId::AUDIO,
                dts,
                pts: dts,
                payload: Payload::Audio { codec: Codec::Aac, data },
            };
        }
        self.next_picture += self.shape.interval_millis;
        let key = self.is_key(self.pictures);
        self.pictures += 1;
        if key {
            self.groups += 1;
        }
        let size = if key { self.shape.picture_bytes * 8 } else { self.shape.picture_bytes };
        let data = stamp.picture(key, 1 + self.random.index(size * 2));
        let dts = self.time(millis, VIDEO_RATE);
        // Every other picture is shown later than the next one is decoded, as B-frames make it.
        let delay = i64::from(self.pictures % 2) * 2 * i64::try_from(self.shape.interval_millis).unwrap_or(0);
        let pts = dts.plus_nanos(delay * 1_000_000);
        // What follows the last picture of a group belongs to the next one.
        if self.is_key(self.pictures)
            && self.shape.change_groups > 0
            && self.groups.is_multiple_of(self.shape.change_groups)
        {
            self.announce(self.groups / self.shape.change_groups);
        }
        Frame { track: TrackId::VIDEO, dts, pts, payload: Payload::Video { codec: Codec::H264, key, data } }
    }

    fn is_key(&self, picture: u32) -> bool {
        let late = if self.shape.begins_with_key { 0 } else { self.shape.group_pictures / 2 };
        picture >= late && (picture - late).is_multiple_of(self.shape.group_pictures)
    }

    fn announce(&mut self, version: u32) {
        self.ahead.push(Payload::Metadata(metadata(self.publisher, version)));
        let place = (self.publisher as usize + version as usize) % VIDEO_CONFIGURATIONS.len();
        if self.shape.group_pictures > 0 {
            self.ahead.push(parameters(Codec::H264, VIDEO_CONFIGURATIONS[place]));
        }
        if self.shape.sound {
            self.ahead.push(parameters(Codec::Aac, AUDIO_CONFIGURATIONS[place]));
        }
    }

    fn time(&self, millis: u64, rate: u32) -> MediaTime {
        let jumped = self.shape.jump.filter(|(after, _)| millis >= *after).map_or(0, |(_, by)| by);
        let millis = self.shape.clock_millis + jumped + i64::try_from(millis).unwrap_or(i64::MAX);
        MediaTime { ticks: millis * i64::from(rate / 1000), rate }
    }
}

fn parameters(codec: Codec, hexadecimal: &str) -> Payload {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("the table above is hexadecimal") as u8;
    let configuration: Vec<u8> =
        hexadecimal.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
    let parsed = Parameters::parse(codec, configuration.into()).expect("a real encoder wrote it");
    Payload::Parameters(Arc::new(parsed))
}

/// An AMF0 ECMA array with one number, which tells whose metadata it is and which.
fn metadata(publisher: u32, version: u32) -> Bytes {
    let mut data = vec![8, 0, 0, 0, 1, 0, 5];
    data.extend_from_slice(b"width");
    data.push(0);
    data.extend_from_slice(&(f64::from(publisher) * 1000.0 + f64::from(version)).to_be_bytes());
    data.extend_from_slice(&[0, 0, 9]);
    data.into()
}

/// A number for what `payload` tells a viewer to know: equal for equal content.
pub fn fingerprint(payload: &Payload) -> u64 {
    let bytes: &[u8] = match payload {
        Payload::Metadata(data) | Payload::ColorInfo { data, .. } | Payload::Script(data) => data,
        Payload::Parameters(parameters) => &parameters.configuration,
        Payload::Video { data, .. } | Payload::Audio { data, .. } => data,
        Payload::Discontinuity => &[],
    };
    bytes.iter().fold(0x5ca7, |hash, byte| mix(hash ^ u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        group_pictures: 5,
        sound: true,
        begins_with_key: true,
        sound_first_millis: 0,
        interval_millis: 40,
        picture_bytes: 100,
        clock_millis: 1000,
        jump: None,
        change_groups: 2,
    };

    #[test]
    fn a_frame_tells_who_sent_it_and_whether_a_byte_of_it_changed() {
        let mut reel = Reel::new(7, SHAPE);
        let mut sequence = 0;
        for _ in 0..100 {
            let frame = reel.take();
            if !frame.is_media() {
                continue;
            }
            assert_eq!(Stamp::read(&frame), Some(Stamp { publisher: 7, sequence }));
            sequence += 1;
            let mut broken = frame.clone();
            if let Payload::Video { data, .. } | Payload::Audio { data, .. } = &mut broken.payload {
                let mut bytes = data.to_vec();
                *bytes.last_mut().unwrap() ^= 1;
                *data = bytes.into();
            }
            assert_eq!(Stamp::read(&broken), None);
        }
        assert!(sequence > 80);
    }

    #[test]
    fn a_reel_changes_its_parameters_before_a_key_frame() {
        let mut reel = Reel::new(1, SHAPE);
        let frames: Vec<_> = (0..200).map(|_| reel.take()).collect();
        let changes = frames.iter().filter(|frame| matches!(frame.payload, Payload::Metadata(_))).count();
        assert!(changes > 2);
        for (place, frame) in frames.iter().enumerate() {
            if frame.track == TrackId::VIDEO && matches!(frame.payload, Payload::Parameters(_)) {
                let next = frames[place..].iter().find(|frame| frame.is_video());
                assert!(next.is_none_or(Frame::is_key));
            }
        }
    }
}
