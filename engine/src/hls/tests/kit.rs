//! Streams whose every byte is known, packaged into a window: what the tests of playlists and manifests look at.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    codec::{Codec, samples},
    media::{Frame, Payload, TrackId},
    segment::{
        Numbering, Packager, Settings, Text, TextForm, Window,
        kit::{of, packets, parameters},
    },
    session::Opening,
    time::{Now, Wall},
};

pub use crate::segment::kit::{aac, described, discontinuity, h264, larger, woven};

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

/// HEVC with the colours of HDR10.
pub fn hdr() -> Frame {
    described(TrackId::VIDEO, parameters(Codec::H265, samples::H265_MAIN10_1080_HDR))
}

/// A picture of 1000 bytes; of 5000 where a decoder can begin.
pub fn picture(millis: i64, key: bool) -> Frame {
    let data = Bytes::from(vec![7; if key { 5000 } else { 1000 }]);
    of(TrackId::VIDEO, millis, Payload::Video { codec: Codec::H264, key, data })
}

pub fn sound(millis: i64) -> Frame {
    of(TrackId::AUDIO, millis, Payload::Audio { codec: Codec::Aac, data: vec![7; 100].into() })
}

/// Pictures at 25 a second with a key frame each two seconds.
pub fn pictures(from: i64, to: i64) -> Vec<Frame> {
    (from..to).step_by(40).map(|time| picture(time, time % 2000 == 0)).collect()
}

pub fn sounds(from: i64, to: i64) -> Vec<Frame> {
    packets(from, to).map(sound).collect()
}

/// The lines that begin so, without their beginning.
pub fn lines<'a>(text: &'a str, beginning: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(beginning)).collect()
}
