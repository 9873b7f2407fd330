//! A whole file: the initialisation segment, then a `moof` and `mdat` for each fragment, all on one timeline.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::mux::{self, Run, Sample};
use crate::{
    codec::{Codec, Parameters, Shape},
    container::{Container, Muxer, Pieces, Track},
    media::{Frame, Payload, TrackId},
    time::{MediaTime, Wall},
};

/// Fragmented MP4 (ISO/IEC 14496-12). Of the codecs that it [carries](super::carries) its frames are not copied.
pub static CONTAINER: Container =
    Container { name: "mp4", extension: "mp4", open: || Box::new(Mp4::default()) };

/// A longer step to the next frame is a jump or a pause, and not how long the frame before it lasts.
const SAMPLE_DURATION_MAX: Duration = Duration::from_secs(10);

/// How long a frame lasts where no other of its track says it.
///
/// ```
/// use std::time::Duration;
/// use shardcast_engine::{codec::{Codec, Parameters}, fmp4::file::usual_duration};
///
/// // AAC of 48 kHz: 1,024 samples a packet.
/// let aac = Parameters::parse(Codec::Aac, vec![0x11, 0x90].into())?;
/// assert_eq!(usual_duration(&aac).as_micros(), 21_333);
/// // Packets of Opus differ; nearly all are of this length.
/// assert_eq!(usual_duration(&Parameters::of_opus(2)), Duration::from_millis(20));
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
pub fn usual_duration(parameters: &Parameters) -> Duration {
    match parameters.shape {
        Shape::Video { .. } => Duration::from_millis(40),
        Shape::Audio { sample_rate, packet_samples, .. } if sample_rate > 0 && packet_samples > 0 => {
            Duration::from_secs(packet_samples.into()) / sample_rate
        }
        // What most senders choose, and RFC 3551, 4.2, advises.
        Shape::Audio { .. }
            if matches!(parameters.codec, Codec::Opus | Codec::PcmA | Codec::PcmU | Codec::G722) =>
        {
            Duration::from_millis(20)
        }
        Shape::Audio { .. } => Duration::from_millis(23),
    }
}

/// A file while it is written.
#[derive(Default)]
struct Mp4 {
    tracks: Vec<Timeline>,
    /// The time of the file's first sample, from which all its times are counted.
    origin: Option<MediaTime>,
    /// Fragments so far.
    sequence: u32,
}

/// One track of it.
struct Timeline {
    id: TrackId,
    parameters: Arc<Parameters>,
    timescale: u32,
    /// Time of its last sample in the file. Times never fall below it.
    last: Option<u64>,
    last_duration: Option<u32>,
}

impl Muxer for Mp4 {
    fn takes(&self, parameters: &Parameters) -> bool {
        super::carries(parameters.codec)
    }

    fn begin(&mut self, tracks: &[Track], started: Wall, out: &mut Pieces) {
        let timeline = |track: &Track| Timeline {
            id: track.id,
            parameters: track.parameters.clone(),
            timescale: track.rate,
            last: None,
            last_duration: None,
        };
        self.tracks = tracks.iter().filter(|track| self.takes(&track.parameters)).map(timeline).collect();
        let tracks: Vec<_> = (1..)
            .zip(&self.tracks)
            .map(|(id, track)| mux::Track {
                id,
                timescale: track.timescale,
                parameters: track.parameters.clone(),
            })
            .collect();
        mux::init(&tracks, started, out.bytes());
    }

    fn fragment(&mut self, frames: &[Frame], next: Option<&Frame>, out: &mut Pieces) {
        let first = frames.iter().map(|frame| frame.dts).min_by_key(|dts| dts.as_nanos());
        let Some(origin) = self.origin.or(first) else { return };
        self.origin = Some(origin);
        let mut ready = Vec::with_capacity(self.tracks.len());
        for (number, track) in (1..).zip(&mut self.tracks) {
            let next = next.filter(|next| next.track == track.id).map(|next| next.dts);
            if let Some((base, samples)) = track.samples(origin, frames, next) {
                ready.push((number, base, !track.parameters.codec.is_video(), samples));
            }
        }
        let runs: Vec<_> = ready
            .iter()
            .map(|(track, base, all_key, samples)| Run {
                track: *track,
                base_decode_time: *base,
                all_key: *all_key,
                samples,
            })
            .collect();
        self.sequence += 1;
        out.bytes().reserve(mux::head_len(&runs));
        mux::head(self.sequence, &runs, out.bytes());
        for sample in ready.into_iter().flat_map(|(.., samples)| samples) {
            out.share(sample.data);
        }
    }

    fn played(&self) -> Option<Duration> {
        self.tracks.iter().map(Timeline::end).max()
    }
}

impl Timeline {
    /// The frames of this track on the file's clock, and the time of the first of them.
    fn samples(
        &mut self,
        origin: MediaTime,
        frames: &[Frame],
        next: Option<MediaTime>,
    ) -> Option<(u64, Vec<Sample>)> {
        let timescale = self.timescale;
        let zero = origin.ticks_at(timescale);
        let relative = |time: MediaTime| time.ticks_at(timescale).saturating_sub(zero);
        let mine = || frames.iter().filter(|frame| frame.track == self.id);
        // Encoders step back by a tick now and then, and sound may be older than the picture that opened the file. The
        // times of a track in a file can only rise, so such a frame comes at the time of the one before it.
        let mut floor = self.last.unwrap_or(0);
        let times: Vec<u64> = mine()
            .map(|frame| {
                floor = u64::try_from(relative(frame.dts)).unwrap_or(0).max(floor);
                floor
            })
            .collect();
        let (&first, &last) = (times.first()?, times.last()?);
        let next = next
            .map(relative)
            .and_then(|next| u64::try_from(next).ok())
            .and_then(|next| next.checked_sub(last));
        let longest = ticks(SAMPLE_DURATION_MAX, timescale);
        let mut samples = Vec::with_capacity(times.len());
        for (index, frame) in mine().enumerate() {
            let dts = times[index];
            let step = match times.get(index + 1) {
                Some(after) => Some(after - dts),
                None => next.filter(|step| *step <= longest),
            };
            let duration = match step.and_then(|step| u32::try_from(step).ok()) {
                Some(step) => {
                    if step > 0 {
                        self.last_duration = Some(step);
                    }
                    step
                }
                None => self.last_duration.unwrap_or_else(|| {
                    let usual = ticks(usual_duration(&self.parameters), timescale);
                    u32::try_from(usual).unwrap_or(u32::MAX)
                }),
            };
            let offset = relative(frame.pts).saturating_sub_unsigned(dts);
            // Where the decoding time had to be moved past the time of showing, the showing moves with it.
            let moved = relative(frame.dts).saturating_sub_unsigned(dts) != 0;
            let offset = if moved { offset.max(0) } else { offset };
            let composition_offset = offset.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
            let (data, key) = media(frame);
            samples.push(Sample { duration, composition_offset, key, data });
        }
        self.last = Some(last);
        let tail = samples.last().map_or(0, |sample| sample.duration);
        self.last_duration = self.last_duration.or(Some(tail));
        Some((first, samples))
    }

    /// How long the track plays so far.
    fn end(&self) -> Duration {
        let ticks = self.last.map_or(0, |last| last.saturating_add(self.last_duration.unwrap_or(0).into()));
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(self.timescale.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What a frame carries, and whether a decoder can begin at it.
fn media(frame: &Frame) -> (Bytes, bool) {
    match &frame.payload {
        Payload::Video { data, key, .. } => (data.clone(), *key),
        Payload::Audio { data, .. } => (data.clone(), true),
        // No file gets another; it would stand here as nothing.
        _ => (Bytes::new(), true),
    }
}

fn ticks(duration: Duration, timescale: u32) -> u64 {
    let ticks = (duration.as_nanos() * u128::from(timescale) + 500_000_000) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}
