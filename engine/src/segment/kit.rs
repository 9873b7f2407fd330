//! Frames that the tests of everything packaged are made of.

use std::sync::Arc;

use crate::{
    codec::{
        Codec, Parameters,
        samples::{self, hex},
    },
    media::{Frame, Payload, TrackId},
    time::MediaTime,
};

pub fn parameters(codec: Codec, configuration: &str) -> Arc<Parameters> {
    Arc::new(Parameters::parse(codec, hex(configuration).into()).expect("a real encoder wrote it"))
}

pub fn of(track: TrackId, millis: i64, payload: Payload) -> Frame {
    let time = MediaTime::from_millis(millis);
    Frame { track, dts: time, pts: time, payload }
}

pub fn described(track: TrackId, parameters: impl Into<Arc<Parameters>>) -> Frame {
    of(track, 0, Payload::Parameters(parameters.into()))
}

/// 1280 by 720.
pub fn h264() -> Frame {
    described(TrackId::VIDEO, parameters(Codec::H264, samples::H264_HIGH_720))
}

/// 1920 by 1080.
pub fn larger() -> Frame {
    described(TrackId::VIDEO, parameters(Codec::H264, samples::H264_BASELINE_1080))
}

/// 48 kHz, stereo.
pub fn aac() -> Frame {
    described(TrackId::AUDIO, parameters(Codec::Aac, samples::AAC_LC_48000_STEREO))
}

pub fn discontinuity(millis: i64) -> Frame {
    of(TrackId::DATA, millis, Payload::Discontinuity)
}

/// When packets of 1024 samples at 48 kHz are due, in milliseconds as RTMP has them.
pub fn packets(from: i64, to: i64) -> impl Iterator<Item = i64> {
    let times = (0..).map(|number: i64| (number * 1024 + 24) / 48).skip_while(move |time| *time < from);
    times.take_while(move |time| *time < to)
}

/// All of them as a publisher sends them: in the order of their times.
pub fn woven(parts: &[Vec<Frame>]) -> Vec<Frame> {
    let mut all = parts.concat();
    all.sort_by_key(|frame| frame.dts.as_nanos());
    all
}
