//! A publisher without a peer: a short FLV clip at the pace of its own clock, over and over.
//!
//! For `serve --demo`, and for tests that want a real encoder's frames without an encoder. Times go on rising over the
//! seam by exactly one period of the clip, for picture and sound alike, so that a viewer cannot tell where it is.

mod session;

use std::time::Duration;

use crate::{
    error::Error,
    flv::{Demuxer, TagReader},
    media::{Frame, Payload, TrackId},
    session::Event,
    time::{MediaTime, Now, Unwrapper},
};

pub use session::Session;

/// The built-in clip: 16 s of a moving picture with a clock, H.264 and AAC. `engine/demo/make.sh` makes it.
pub static CLIP: &[u8] = include_bytes!("../demo/demo.flv");

/// A clip that is being played without end.
#[derive(Debug)]
pub struct Demo {
    /// What a viewer must know before the first frame. Emptied as it is told.
    opening: std::vec::IntoIter<Frame>,
    /// The clip's pictures and sound, in the order of its file.
    frames: Vec<Frame>,
    /// How much later each round is than the one before.
    period: i64,
    /// The frame that is due next.
    next: usize,
    /// Milliseconds that this round adds to a frame's time.
    shift: i64,
    /// An instant, and the time of the frame that was due then in nanoseconds; `None` until the first call.
    pace: Option<(Now, i64)>,
}

/// A clip that falls behind by more than this, since the machine slept, goes on from where it is instead of catching up.
const LATE_MAX: Duration = Duration::from_secs(1);

impl Demo {
    /// Reads the FLV file `clip`.
    ///
    /// # Errors
    /// The file is broken, or it has no track with at least two frames whose distance could tell its length.
    pub fn new(clip: &[u8]) -> Result<Self, Error> {
        let (mut opening, mut frames) = (Vec::new(), Vec::new());
        let (mut reader, mut demuxer, mut clock) =
            (TagReader::default(), Demuxer::default(), Unwrapper::new(32));
        let mut rest = clip;
        while let Some(tag) = reader.read(&mut rest)? {
            demuxer.tag(&tag, &mut clock, &mut |event| match event {
                Event::Frame(frame) if frame.is_media() => frames.push(frame),
                Event::Frame(frame) => opening.push(frame),
                _ => {}
            })?;
        }
        if !rest.is_empty() {
            return Err(Error::truncated("the clip's last tag", clip.len() as u64));
        }
        let period = [TrackId::VIDEO, TrackId::AUDIO]
            .into_iter()
            .filter_map(|track| period(frames.iter().filter(|frame| frame.track == track)))
            .max()
            .ok_or(Error::unsupported("a clip without a track of two frames", clip.len() as u64))?;
        // What is told once must come first, wherever the file has it.
        let known = |frame: &Frame| {
            matches!(frame.payload, Payload::Metadata(_) | Payload::Parameters(_) | Payload::ColorInfo { .. })
        };
        opening.retain(known);
        Ok(Demo { opening: opening.into_iter(), frames, period, next: 0, shift: 0, pace: None })
    }

    /// The next frame if its time has come. Call until `None`.
    pub fn poll(&mut self, now: Now) -> Option<Frame> {
        if let Some(frame) = self.opening.next() {
            return Some(frame);
        }
        if self.deadline().is_none_or(|due| now.since(due) > LATE_MAX) {
            self.pace = Some((now, self.next_nanos()?));
        }
        if self.deadline()? > now {
            return None;
        }
        let frame = self.frames.get(self.next)?;
        let shifted = |time: MediaTime| time.plus_nanos(self.shift * NANOS_PER_MILLI);
        let frame = Frame { dts: shifted(frame.dts), pts: shifted(frame.pts), ..frame.clone() };
        self.next += 1;
        if self.next == self.frames.len() {
            self.next = 0;
            self.shift += self.period;
        }
        Some(frame)
    }

    /// When to call [`poll`](Self::poll) again; `None` before the first call, which may be at any time.
    pub fn deadline(&self) -> Option<Now> {
        let (instant, nanos) = self.pace?;
        Some(Now(instant.0.saturating_add_signed(self.next_nanos()? - nanos)))
    }

    /// The time of the frame that is due next.
    fn next_nanos(&self) -> Option<i64> {
        let frame = self.frames.get(self.next)?;
        Some(frame.dts.as_nanos().saturating_add(self.shift * NANOS_PER_MILLI))
    }
}

const NANOS_PER_MILLI: i64 = 1_000_000;

/// Milliseconds from a track's first frame to where a frame after its last would stand: as many steps as it has frames.
fn period<'a>(frames: impl Iterator<Item = &'a Frame>) -> Option<i64> {
    let times: Vec<i64> = frames.map(|frame| frame.dts.as_millis()).collect();
    let (first, last) = (times.first()?, times.last()?);
    let steps = i64::try_from(times.len() - 1).ok().filter(|&steps| steps > 0)?;
    let length = last.checked_sub(*first).filter(|&length| length > 0)?;
    // To the nearest millisecond: the file's times are rounded to it, the clip's length is not a rounded number of them.
    Some((length * (steps + 1) * 2 + steps) / (steps * 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;

    const START: Now = Now(5_000_000_000);

    /// Drives a demo as its deadlines say until `end`, and gives what came, with the time at which it came.
    fn play(demo: &mut Demo, end: Now) -> Vec<(Now, Frame)> {
        let (mut now, mut frames) = (START, Vec::new());
        while now <= end {
            while let Some(frame) = demo.poll(now) {
                frames.push((now, frame));
            }
            let due = demo.deadline().expect("a demo never ends");
            assert!(due > now, "a demo that was drained waits");
            now = due;
        }
        frames
    }

    fn times(frames: &[(Now, Frame)], track: TrackId) -> Vec<i64> {
        let of_track = frames.iter().filter(|(_, frame)| frame.is_media() && frame.track == track);
        of_track.map(|(_, frame)| frame.dts.as_millis()).collect()
    }

    #[test]
    fn the_clip_is_16_seconds_of_both_tracks_exactly() {
        let demo = Demo::new(CLIP).unwrap();
        let count = |codec: Codec| {
            let is = |frame: &&Frame| match frame.payload {
                Payload::Video { codec: c, .. } | Payload::Audio { codec: c, .. } => c == codec,
                _ => false,
            };
            demo.frames.iter().filter(is).count()
        };
        assert_eq!((demo.period, count(Codec::H264), count(Codec::Aac)), (16_000, 480, 750));
        assert_eq!(demo.frames.len(), 480 + 750);
        assert!(demo.frames.iter().any(|frame| frame.pts.ticks > frame.dts.ticks), "it has B-frames");
        let keys: Vec<_> =
            demo.frames.iter().filter(|frame| frame.is_key()).map(|frame| frame.dts.as_millis()).collect();
        assert_eq!(keys, [0, 2000, 4000, 6000, 8000, 10_000, 12_000, 14_000]);
    }

    #[test]
    fn the_seam_cannot_be_seen_in_either_track() {
        let frames = play(&mut Demo::new(CLIP).unwrap(), START.after(Duration::from_secs(50)));
        for (track, per_round, step) in [(TrackId::VIDEO, 480, 33..=34), (TrackId::AUDIO, 750, 21..=22)] {
            let times = times(&frames, track);
            assert!(times.len() > 3 * per_round, "three seams were played");
            for pair in times.windows(2) {
                assert!(step.contains(&(pair[1] - pair[0])), "{track:?}: {pair:?}");
            }
            for (first, second) in times.iter().zip(times.iter().skip(per_round)) {
                assert_eq!(second - first, 16_000);
            }
        }
    }

    #[test]
    fn frames_come_at_the_pace_of_their_clock() {
        let frames = play(&mut Demo::new(CLIP).unwrap(), START.after(Duration::from_secs(20)));
        let first = frames.iter().find(|(_, frame)| frame.is_media()).unwrap();
        for (came, frame) in frames.iter().filter(|(_, frame)| frame.is_media()) {
            let media = frame.dts.as_nanos() - first.1.dts.as_nanos();
            // The file is interleaved, so a packet of sound may stand behind a picture that is due a little later.
            let wait = i64::try_from(came.since(first.0).as_nanos()).unwrap() - media;
            assert!((0..40_000_000).contains(&wait), "{frame:?} came {wait} ns late");
        }
    }

    #[test]
    fn what_is_known_of_the_stream_is_told_once_and_first() {
        let frames = play(&mut Demo::new(CLIP).unwrap(), START.after(Duration::from_secs(40)));
        let told: Vec<_> = frames.iter().take_while(|(_, frame)| !frame.is_media()).collect();
        let parameters = |codec: Codec| {
            let is = |(_, frame): &&&(Now, Frame)| matches!(&frame.payload, Payload::Parameters(p) if p.codec == codec);
            told.iter().filter(is).count()
        };
        assert_eq!((parameters(Codec::H264), parameters(Codec::Aac)), (1, 1));
        assert_eq!(told.iter().filter(|(_, frame)| matches!(frame.payload, Payload::Metadata(_))).count(), 1);
        assert_eq!(told.len(), 3);
        assert!(frames.iter().skip(3).all(|(_, frame)| frame.is_media()));
    }

    #[test]
    fn a_machine_that_slept_goes_on_without_a_burst() {
        let mut demo = Demo::new(CLIP).unwrap();
        play(&mut demo, START.after(Duration::from_secs(3)));
        let woke = START.after(Duration::from_secs(3600));
        let mut burst = 0;
        let mut last = None;
        while let Some(frame) = demo.poll(woke) {
            burst += 1;
            last = Some(frame.dts.as_millis());
        }
        assert!(burst <= 3, "{burst} frames at once");
        assert!(last.unwrap() < 4000, "the clip's own clock knows nothing of the sleep");
        assert!(
            demo.deadline().unwrap() > woke
                && demo.deadline().unwrap() < woke.after(Duration::from_millis(50))
        );
    }

    #[test]
    fn a_broken_clip_is_refused() {
        for clip in [&b""[..], b"FLV", b"not a clip at all", CLIP.get(..5000).unwrap()] {
            assert!(Demo::new(clip).is_err(), "{} bytes", clip.len());
        }
    }
}
