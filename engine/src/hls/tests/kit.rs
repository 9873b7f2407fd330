//! Streams whose every byte is known, packaged into a window: what the tests of playlists and manifests look at.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    codec::{
        Codec, Parameters,
        samples::{self, hex},
    },
    media::{Frame, Payload, TrackId},
    segment::{Numbering, Packager, Settings, Text, TextForm, Window},
    session::Opening,
    time::{MediaTime, Now, Wall},
};

/// When a stream's first frame comes.
pub const START: Wall = Wall(1_795_333_500_123_000_000);
/// What its names have.
pub const ID: u64 = 0x5ca7;

/// A stream on its way into a window.
pub struct Stream {
    packager: Packager,
    pub window: Window,
}

impl Stream {
    /// One whose groups are known to be of two seconds, with these parameters in its opening.
    pub fn new(opening: &[Frame]) -> Self {
        Stream::with(Settings::default(), opening)
    }

    pub fn with(settings: Settings, opening: &[Frame]) -> Self {
        Stream::after(Numbering::default(), settings, opening)
    }

    /// One that was packaged before.
    pub fn after(numbering: Numbering, settings: Settings, opening: &[Frame]) -> Self {
        let opening = Opening { parameters: opening.to_vec(), ..Opening::default() };
        let group = Some(Duration::from_secs(2));
        let packager = Packager::new(settings, ID, group, &opening, numbering);
        Stream { packager, window: Window::new() }
    }

    /// Frames that come when their time says.
    pub fn give(mut self, frames: &[Frame]) -> Self {
        for frame in frames {
            let at = u64::try_from(frame.dts.as_nanos()).unwrap_or(0);
            self.packager.frame(frame, Wall(START.0 + at));
            self.drain(Now(at));
        }
        self
    }

    pub fn finish(mut self) -> Self {
        self.packager.finish();
        self.drain(Now(0));
        self
    }

    fn drain(&mut self, now: Now) {
        while let Some(cut) = self.packager.poll() {
            self.window.take(&cut, now);
        }
    }

    /// What is written of it.
    pub fn text(&self, form: &'static TextForm, file: &str) -> String {
        self.text_for(form, file, "", false)
    }

    pub fn text_for(&self, form: &'static TextForm, file: &str, query: &str, skip: bool) -> String {
        let rendition = super::super::name::rendition_of(file);
        let query = query.to_owned();
        (form.write)(&self.window, &Text { form, rendition, skip, until: None, query })
    }
}

pub fn described(track: TrackId, parameters: Parameters) -> Frame {
    of(track, 0, Payload::Parameters(Arc::new(parameters)))
}

fn parsed(codec: Codec, configuration: &str) -> Parameters {
    Parameters::parse(codec, hex(configuration).into()).expect("a real encoder wrote it")
}

/// 1280 by 720.
pub fn h264() -> Frame {
    described(TrackId::VIDEO, parsed(Codec::H264, samples::H264_HIGH_720))
}

/// 1920 by 1080.
pub fn larger() -> Frame {
    described(TrackId::VIDEO, parsed(Codec::H264, samples::H264_BASELINE_1080))
}

/// HEVC with the colours of HDR10.
pub fn hdr() -> Frame {
    described(TrackId::VIDEO, parsed(Codec::H265, samples::H265_MAIN10_1080_HDR))
}

/// 48 kHz, stereo.
pub fn aac() -> Frame {
    described(TrackId::AUDIO, parsed(Codec::Aac, samples::AAC_LC_48000_STEREO))
}

fn of(track: TrackId, millis: i64, payload: Payload) -> Frame {
    let time = MediaTime::from_millis(millis);
    Frame { track, dts: time, pts: time, payload }
}

/// A picture of 1000 bytes; of 5000 where a decoder can begin.
pub fn picture(millis: i64, key: bool) -> Frame {
    let data = Bytes::from(vec![7; if key { 5000 } else { 1000 }]);
    of(TrackId::VIDEO, millis, Payload::Video { codec: Codec::H264, key, data })
}

pub fn sound(millis: i64) -> Frame {
    of(TrackId::AUDIO, millis, Payload::Audio { codec: Codec::Aac, data: vec![7; 100].into() })
}

pub fn discontinuity(millis: i64) -> Frame {
    of(TrackId::DATA, millis, Payload::Discontinuity)
}

/// Pictures at 25 a second with a key frame each two seconds.
pub fn pictures(from: i64, to: i64) -> Vec<Frame> {
    (from..to).step_by(40).map(|time| picture(time, time % 2000 == 0)).collect()
}

/// Packets of 1024 samples at 48 kHz.
pub fn sounds(from: i64, to: i64) -> Vec<Frame> {
    let times = (0..).map(|number: i64| (number * 1024 + 24) / 48).skip_while(move |time| *time < from);
    times.take_while(|time| *time < to).map(sound).collect()
}

/// All of them in the order of their times.
pub fn woven(parts: &[Vec<Frame>]) -> Vec<Frame> {
    let mut all = parts.concat();
    all.sort_by_key(|frame| frame.dts.as_nanos());
    all
}

/// The lines that begin so, without their beginning.
pub fn lines<'a>(text: &'a str, beginning: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(beginning)).collect()
}
