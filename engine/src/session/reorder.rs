//! Whether pictures are sent in the order in which they are shown.

use std::sync::Arc;

use crate::{
    codec::{Codec, Parameters, h264, h265, nal::LengthSize},
    media::{Frame, Payload, TrackId},
    time::MediaTime,
};

/// What is known of the order of a stream's pictures, from those that have come since its parameters last changed: for players that
/// show each picture as it comes, and know no B-frames.
///
/// ```
/// use shardcast_engine::session::{Opening, Reorder};
///
/// assert_eq!(Opening::default().reorder, Reorder::None);
/// assert!(Reorder::None < Reorder::Disposable && Reorder::Disposable < Reorder::Needed);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reorder {
    /// Each was sent in the order in which it is shown.
    #[default]
    None,
    /// Some are shown before one that was sent earlier, and no picture that remains refers to those: they can be left out.
    Disposable,
    /// Some of those are referred to: without them the others cannot be decoded.
    Needed,
}

/// Finds the pictures of a stream that are shown before one that was sent earlier.
#[derive(Debug, Default)]
pub(crate) struct Showing {
    parameters: Option<Arc<Parameters>>,
    length_size: LengthSize,
    /// The parameters say that there are none. Then times that step back are a fault of the sender's clock.
    in_order: bool,
    /// When the last picture is shown of those that were sent since a decoder could begin.
    latest: Option<MediaTime>,
}

impl Showing {
    /// What is known with `frame`, when `known` was before it.
    pub(crate) fn after(&mut self, known: Reorder, frame: &Frame) -> Reorder {
        match &frame.payload {
            Payload::Video { .. } if frame.track == TrackId::VIDEO => known.max(self.picture(frame)),
            Payload::Parameters(parameters) if frame.track == TrackId::VIDEO => {
                if self.change(parameters) {
                    Reorder::None
                } else {
                    known
                }
            }
            Payload::Discontinuity => {
                self.restart();
                known
            }
            _ => known,
        }
    }

    /// Takes the parameters of the pictures that follow. True when they are others than before.
    pub(crate) fn change(&mut self, parameters: &Arc<Parameters>) -> bool {
        if self.parameters.as_ref() == Some(parameters) {
            return false;
        }
        self.parameters = Some(Arc::clone(parameters));
        self.length_size = parameters.nal_length_size();
        self.in_order = is_in_order(parameters);
        true
    }

    /// What follows does not continue what came before.
    pub(crate) fn restart(&mut self) {
        self.latest = None;
    }

    /// Takes the next picture, and says whether it is out of order, and whether others refer to it.
    pub(crate) fn picture(&mut self, frame: &Frame) -> Reorder {
        let Payload::Video { codec, key, data } = &frame.payload else { return Reorder::None };
        if *key || self.latest.is_none_or(|latest| !is_before(frame.pts, latest)) {
            self.latest = Some(frame.pts);
            return Reorder::None;
        }
        let disposable = match codec {
            _ if self.in_order => return Reorder::None,
            Codec::H264 => h264::is_disposable(data, self.length_size),
            Codec::H265 => h265::is_disposable(data, self.length_size),
            // Which ones are referred to is not read.
            Codec::H266 => false,
            // What is not shown is sent together with what is.
            _ => return Reorder::None,
        };
        if disposable { Reorder::Disposable } else { Reorder::Needed }
    }
}

fn is_before(one: MediaTime, other: MediaTime) -> bool {
    if one.rate == other.rate { one.ticks < other.ticks } else { one.as_nanos() < other.as_nanos() }
}

/// The parameters say that pictures are sent in the order in which they are shown.
fn is_in_order(parameters: &Parameters) -> bool {
    let configuration = &parameters.configuration;
    let reorder_frames = match parameters.codec {
        Codec::H264 => {
            h264::Configuration::parse(configuration).ok().and_then(|config| config.sps.reorder_frames)
        }
        Codec::H265 => {
            h265::Configuration::parse(configuration).ok().and_then(|config| config.sps.reorder_frames)
        }
        _ => None,
    };
    reorder_frames == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::samples::{self, hex};

    fn told(codec: Codec, configuration: &str) -> Frame {
        let parameters = Parameters::parse(codec, hex(configuration).into()).unwrap();
        let time = MediaTime::from_millis(0);
        let payload = Payload::Parameters(Arc::new(parameters));
        Frame { track: TrackId::VIDEO, dts: time, pts: time, payload }
    }

    fn picture(codec: Codec, shown: i64, data: &str) -> Frame {
        let (data, pts) = (hex(data), MediaTime { ticks: shown, rate: 25 });
        let key = crate::codec::is_key(codec, LengthSize::Four, &data);
        let payload = Payload::Video { codec, key, data: data.into() };
        Frame { track: TrackId::VIDEO, dts: pts, pts, payload }
    }

    /// What is known after these, and which of them are out of order.
    fn known_after(showing: &mut Showing, frames: &[Frame]) -> (Reorder, Vec<i64>) {
        let (mut known, mut found) = (Reorder::None, Vec::new());
        for frame in frames {
            known = showing.after(known, frame);
            let mut other = Showing { latest: showing.latest, ..Showing::default() };
            if other.picture(frame) != Reorder::None {
                found.push(frame.pts.ticks);
            }
        }
        (known, found)
    }

    #[test]
    fn what_encoders_write_is_told_apart() {
        use samples::*;
        let (some, others) = ([1, 2, 4, 5, 7, 8, 10], [2, 1, 3, 6, 5, 7, 9, 10]);
        for (codec, configuration, units, reorder, early) in [
            (Codec::H264, X264_B_ALONE_CONFIGURATION, X264_B_ALONE, Reorder::Disposable, &some[..]),
            (Codec::H264, X264_B_REFERRED_CONFIGURATION, X264_B_REFERRED, Reorder::Needed, &others),
            (
                Codec::H265,
                X265_B_ALONE_CONFIGURATION,
                X265_B_ALONE,
                Reorder::Disposable,
                &[1, 2, 4, 5, 7, 8, 10, 11],
            ),
            (
                Codec::H265,
                X265_B_REFERRED_CONFIGURATION,
                X265_B_REFERRED,
                Reorder::Needed,
                &[2, 1, 3, 6, 5, 7, 10, 9, 11],
            ),
        ] {
            let pictures = units.iter().map(|(shown, data)| picture(codec, *shown, data));
            let frames: Vec<Frame> = [told(codec, configuration)].into_iter().chain(pictures).collect();
            let mut showing = Showing::default();
            assert_eq!(known_after(&mut showing, &frames), (reorder, early.to_vec()), "{codec:?}");
            // The same parameters once more change nothing, others everything.
            assert_eq!(showing.after(reorder, &frames[0]), reorder);
            let other = if codec == Codec::H264 { samples::H264_HIGH_720 } else { samples::H265_MAIN_720 };
            assert_eq!(showing.after(reorder, &told(codec, other)), Reorder::None);
        }
    }

    #[test]
    fn a_clock_that_steps_back_is_no_order_where_none_can_be() {
        let pictures = |codec, data: &str| [0, 5, 4, 6].map(|shown| picture(codec, shown, data));
        let mut showing = Showing::default();
        showing.after(Reorder::None, &told(Codec::H264, samples::H264_BASELINE_1080));
        assert_eq!(
            known_after(&mut showing, &pictures(Codec::H264, samples::H264_P)),
            (Reorder::None, vec![4])
        );
        for (codec, data) in [(Codec::Av1, samples::AV1_INTER), (Codec::Vp9, samples::VP9_INTER)] {
            assert_eq!(known_after(&mut Showing::default(), &pictures(codec, data)), (Reorder::None, vec![]));
        }
        let vvc = pictures(Codec::H266, samples::H266_TRAIL);
        assert_eq!(known_after(&mut Showing::default(), &vvc).0, Reorder::Needed);
    }

    #[test]
    fn what_comes_after_a_gap_or_of_another_track_is_in_order() {
        let mut showing = Showing::default();
        let early = picture(Codec::H264, 3, samples::H264_P);
        let gap = Frame { payload: Payload::Discontinuity, track: TrackId::DATA, ..early.clone() };
        let other = Frame { track: TrackId(7), ..early.clone() };
        let first = picture(Codec::H264, 9, samples::H264_IDR);
        assert_eq!(known_after(&mut showing, &[first, other.clone(), gap, early]).0, Reorder::None);
        assert_eq!(showing.after(Reorder::None, &other), Reorder::None);
    }
}
