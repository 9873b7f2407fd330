//! Streams as publishers send them, the ways in which they are written, and who reads what of the live form.

use bytes::BytesMut;

use super::*;
use crate::{
    mpegts::{FORM, Segmenter},
    session::{Opening, Wire},
};

/// A stream.
pub struct Scene {
    pub name: &'static str,
    pub tracks: Vec<Track>,
    pub frames: Vec<Frame>,
}

/// Bytes among which there is no start code, and none that a decoder would leave out.
pub fn solid(len: usize, seed: u32) -> Vec<u8> {
    noise(len, seed).into_iter().map(|byte| byte.max(4)).collect()
}

/// A picture of H.264 with one slice.
pub fn slice(dts: MediaTime, pts: MediaTime, key: bool, len: usize) -> Frame {
    let mut unit = vec![if key { 0x65 } else { 0x41 }];
    unit.extend(solid(len, dts.ticks as u32));
    let data = prefixed(&[&unit]).into();
    Frame { track: VIDEO, dts, pts, payload: Payload::Video { codec: Codec::H264, key, data } }
}

/// Pictures of `rate.0 / rate.1` a second on a clock of milliseconds, as they come by RTMP: a key frame each two seconds.
fn pictures(rate: (i64, i64), seconds: i64, from: i64) -> Vec<Frame> {
    let group = (2 * rate.0 + rate.1 - 1) / rate.1;
    (0..seconds * rate.0 / rate.1)
        .map(|number| {
            let time = MediaTime::from_millis(from + number * 1000 * rate.1 / rate.0);
            let key = number % group == 0;
            slice(time, time, key, if key { 9000 } else { 700 + (number % 7 * 300) as usize })
        })
        .collect()
}

/// Packets of AAC of 1024 samples at 48 kHz.
fn sounds(seconds: i64, from: i64) -> Vec<Frame> {
    (0..seconds * 48_000 / 1024)
        .map(|number| {
            let time = MediaTime { ticks: from * 48 + number * 1024, rate: 48_000 };
            let data = noise(300 + (number % 60) as usize, number as u32).into();
            let payload = Payload::Audio { codec: Codec::Aac, data };
            Frame { track: AUDIO, dts: time, pts: time, payload }
        })
        .collect()
}

/// Frames in the order in which a publisher sends them whose sound comes `late` milliseconds too late.
fn woven(pictures: Vec<Frame>, sounds: Vec<Frame>, late: i64) -> Vec<Frame> {
    let mut all: Vec<(i64, Frame)> =
        pictures.into_iter().map(|frame| (frame.dts.as_nanos(), frame)).collect();
    all.extend(sounds.into_iter().map(|frame| (frame.dts.as_nanos() + late * 1_000_000, frame)));
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, frame)| frame).collect()
}

/// Pictures that are shown in another order: I P B B, decoded two frames before they are shown.
fn reordered(pictures: Vec<Frame>) -> Vec<Frame> {
    let shown = [2, 3, 0, 1];
    pictures
        .into_iter()
        .zip(0..)
        .map(|(frame, number): (Frame, usize)| {
            let offset = if frame.is_key() { 2 } else { shown[number % 4] };
            Frame { pts: frame.dts.plus_nanos(40_000_000 * offset), ..frame }
        })
        .collect()
}

fn moved(frames: Vec<Frame>, millis: i64) -> Vec<Frame> {
    let nanos = millis * 1_000_000;
    frames
        .into_iter()
        .map(|frame| Frame { dts: frame.dts.plus_nanos(nanos), pts: frame.pts.plus_nanos(nanos), ..frame })
        .collect()
}

/// The publisher went and came back after `pause` milliseconds.
fn broken(frames: Vec<Frame>, pause: i64) -> Vec<Frame> {
    let middle = frames.iter().rposition(Frame::is_key).unwrap_or(frames.len() / 2);
    let (before, after) = frames.split_at(middle);
    let after = moved(after.to_vec(), pause);
    let (dts, pts) = (after[0].dts, after[0].dts);
    let notice = Frame { track: TrackId::DATA, dts, pts, payload: Payload::Discontinuity };
    [before, &[notice], &after[..]].concat()
}

/// All of them. Times are a stream's: a wire begins wherever the stream is.
pub fn all() -> Vec<Scene> {
    let pal = (25, 1);
    let scene = |name, tracks: &[Track], frames| Scene { name, tracks: tracks.to_vec(), frames };
    let both = [h264(), aac()];
    let usual = || woven(pictures(pal, 8, 1000), sounds(8, 1000), 0);
    // 2^33 ticks are 95,443.718 s, and times are written 0.7 s later.
    let wrap = 95_443_718 - 4000;
    vec![
        scene("both", &both, usual()),
        scene("sound alone", &[aac()], sounds(6, 0)),
        scene("pictures alone", &[h264()], pictures(pal, 6, 0)),
        scene("24 pictures a second", &both, woven(pictures((24, 1), 6, 0), sounds(6, 0), 0)),
        scene("29.97 pictures a second", &both, woven(pictures((30_000, 1001), 6, 7), sounds(6, 0), 0)),
        scene("60 pictures a second", &[h264()], pictures((60, 1), 5, 0)),
        scene("5 pictures a second", &[h264()], pictures((5, 1), 6, 0)),
        scene("reordered", &both, woven(reordered(pictures(pal, 8, 0)), sounds(8, 0), 0)),
        scene("sound that lags", &both, woven(pictures(pal, 8, 0), sounds(8, 0), 450)),
        scene("pictures that lag", &both, woven(pictures(pal, 8, 0), sounds(8, 0), -450)),
        scene("sound that lags too much", &both, woven(pictures(pal, 8, 0), sounds(8, 0), 1500)),
        scene("a jump", &both, broken(usual(), 500)),
        scene("a long jump", &both, broken(usual(), 5_000_000)),
        scene("a pause", &both, [usual(), moved(usual(), 60_000)].concat()),
        scene("a jump of sound alone", &[aac()], broken(sounds(6, 0), 500)),
        scene("the wrap", &both, moved(usual(), wrap)),
        scene("before the beginning", &both, moved(usual(), -3000)),
    ]
}

/// Who writes a scene.
#[derive(Clone, Copy, Debug)]
pub enum Writer {
    /// A recording, in fragments of so many frames. It has no discontinuities.
    File(usize),
    /// Segments, one group each, or parts of so many frames.
    Segments(usize),
    /// The live form, for whoever watches all of it.
    Wire,
}

pub const WRITERS: [Writer; 4] =
    [Writer::File(40), Writer::Segments(usize::MAX), Writer::Segments(9), Writer::Wire];

impl Scene {
    /// What `writer` makes of it.
    pub fn written_by(&self, writer: Writer) -> Vec<u8> {
        let groups = self.frames.chunk_by(|_, next| !next.is_key());
        match writer {
            Writer::File(fragment) => {
                let media: Vec<Frame> =
                    self.frames.iter().filter(|frame| frame.is_media()).cloned().collect();
                let groups = media.chunk_by(|_, next| !next.is_key());
                let fragments: Vec<&[Frame]> = groups.flat_map(|group| group.chunks(fragment)).collect();
                mux(&self.tracks, &fragments)
            }
            Writer::Segments(part) => {
                let mut segmenter = Segmenter::new(&self.tracks, MediaTime::from_millis(0));
                let mut out = BytesMut::new();
                for run in groups.flat_map(|group| group.chunks(part.min(group.len()))) {
                    segmenter.write(run, &mut out);
                }
                out.to_vec()
            }
            Writer::Wire => Live::of(self).watched_from(0),
        }
    }
}

/// A frame of the live form, and what stands before it for whoever enters there.
pub struct Call {
    pub entrance: Option<[Vec<u8>; 2]>,
    pub bytes: Vec<u8>,
}

/// The live form of a scene, as a wire log has it.
pub struct Live {
    pub calls: Vec<Call>,
}

impl Live {
    pub fn of(scene: &Scene) -> Self {
        Self::through(&mut *(FORM.open)(), scene)
    }

    /// Muxes as a log does: sound alone has an entrance each second.
    pub fn through(wire: &mut dyn Wire, scene: &Scene) -> Self {
        let has_pictures = scene.tracks.iter().any(|track| track.parameters.codec.is_video());
        let mut opening = Opening::default();
        for track in &scene.tracks {
            let at = scene.frames[0].dts;
            opening.note(&Frame {
                track: track.id,
                dts: at,
                pts: at,
                payload: Payload::Parameters(track.parameters.clone()),
            });
        }
        let mut began = None;
        let mut calls = Vec::new();
        for frame in &scene.frames {
            let age = began.map_or(i64::MAX, |began| frame.dts.as_millis() - began);
            let is_entrance = frame.is_key() || frame.is_audio() && !has_pictures && age >= 1000;
            let entrance = is_entrance.then(|| {
                began = Some(frame.dts.as_millis());
                let (mut header, mut refresh) = (BytesMut::new(), BytesMut::new());
                wire.header(&opening, frame, &mut header);
                wire.refresh(&opening, frame, &mut refresh);
                [header.to_vec(), refresh.to_vec()]
            });
            let mut out = BytesMut::new();
            wire.frame(frame, &mut out);
            opening.note(frame);
            calls.push(Call { entrance: entrance.filter(|_| !out.is_empty()), bytes: out.to_vec() });
        }
        Live { calls }
    }

    /// Where one may enter.
    pub fn entrances(&self) -> Vec<usize> {
        (0..self.calls.len()).filter(|place| self.calls[*place].entrance.is_some()).collect()
    }

    /// What a viewer gets that enters at the first entrance from `place` on, and stays.
    pub fn watched_from(&self, place: usize) -> Vec<u8> {
        let first = self.entrances().into_iter().find(|entrance| *entrance >= place).expect("an entrance");
        let [header, _] = self.calls[first].entrance.as_ref().expect("it is one");
        let mut bytes = header.clone();
        self.calls[first..].iter().for_each(|call| bytes.extend(&call.bytes));
        bytes
    }

    /// What a viewer gets that enters at the beginning, leaves before `leaves`, and goes on at `returns`.
    pub fn watched_with_a_jump(&self, leaves: usize, returns: usize) -> Vec<u8> {
        let first = self.entrances()[0];
        let [header, _] = self.calls[first].entrance.as_ref().expect("it is one");
        let [_, refresh] = self.calls[returns].entrance.as_ref().expect("one returns at an entrance");
        let mut bytes = header.clone();
        self.calls[first..leaves].iter().for_each(|call| bytes.extend(&call.bytes));
        bytes.extend(refresh);
        self.calls[returns..].iter().for_each(|call| bytes.extend(&call.bytes));
        bytes
    }
}
