//! Segments of a stream that are fetched one by one, each readable by itself.

use bytes::BytesMut;

use super::{
    clock::Clock,
    coding::Coding,
    packet::{ADAPTATION, PACKET_BYTES},
    pes,
    program::Program,
};
use crate::{codec::Parameters, container::Track, media::Frame, time::MediaTime};

/// Writes a stream in runs of packets, for HLS (RFC 8216, 3.2): a segment, or a part of one.
///
/// Each run begins with the tables and a reading of the clock, so that a player may begin with any that begins with a key
/// frame. Counters and times go on from run to run, so that runs that follow each other are one stream, too.
///
/// ```
/// # use std::sync::Arc;
/// # use shardcast_engine::{codec::{Codec, Parameters}, media::{Frame, Payload, TrackId}};
/// use shardcast_engine::{container::Track, mpegts::Segmenter, time::MediaTime};
///
/// # let time = MediaTime { ticks: 0, rate: 48_000 };
/// # let data = bytes::Bytes::from_static(&[0xfc, 1, 2]);
/// # let frame = Frame { track: TrackId::AUDIO, dts: time, pts: time, payload: Payload::Audio { codec: Codec::Opus, data } };
/// let parameters = Arc::new(Parameters::of_opus(2));
/// assert!(Segmenter::takes(&parameters));
/// let tracks = [Track { id: TrackId::AUDIO, parameters, rate: 48_000 }];
/// let mut segment = bytes::BytesMut::new();
/// Segmenter::new(&tracks, MediaTime::from_millis(0)).write(&[frame], &mut segment);
/// // Two tables and the frame.
/// assert_eq!(segment.len(), 3 * 188);
/// ```
pub struct Segmenter {
    program: Program,
}

impl Segmenter {
    /// For a stream with these tracks; those that cannot be said are left out ([`crate::mpegts`] says which). `zero` is the
    /// time from which times count: a frame of that time stands at 0.7 s. All renditions of a stream have the same.
    pub fn new(tracks: &[Track], zero: MediaTime) -> Self {
        let mut program = Program::new(Clock::from(zero));
        for track in tracks {
            program.learn(track.id, &track.parameters);
        }
        Segmenter { program }
    }

    /// Whether a track of these parameters can be said.
    pub fn takes(parameters: &Parameters) -> bool {
        Coding::of(parameters).is_some()
    }

    /// Appends a run of frames, in the order in which they came. Writes nothing when none of them can be said.
    ///
    /// Parameters among them hold from there on, under a new version of the map; after a
    /// [discontinuity](crate::media::Payload::Discontinuity) the packets say that the clock begins anew.
    pub fn write(&mut self, frames: &[Frame], out: &mut BytesMut) {
        self.program.run(frames, out);
    }

    /// How many pictures are in a run.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use shardcast_engine::{codec::{Codec, Parameters}, media::{Frame, Payload, TrackId}};
    /// use shardcast_engine::{container::Track, mpegts::Segmenter, time::MediaTime};
    ///
    /// # let avcc = [
    /// #     0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40,
    /// #     0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0,
    /// #     0xf1, 0x83, 0x19, 0x60, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8,
    /// #     0xf8, 0x00
    /// # ];
    /// # let parameters = Arc::new(Parameters::parse(Codec::H264, avcc.to_vec().into())?);
    /// # let picture = |millis, key, data: &'static [u8]| {
    /// #     let time = MediaTime::from_millis(millis);
    /// #     let payload = Payload::Video { codec: Codec::H264, key, data: data.into() };
    /// #     Frame { track: TrackId::VIDEO, dts: time, pts: time, payload }
    /// # };
    /// let tracks = [Track { id: TrackId::VIDEO, parameters, rate: 90_000 }];
    /// let frames = [picture(0, true, &[0, 0, 0, 2, 0x65, 0x88]), picture(40, false, &[0, 0, 0, 2, 0x41, 0x9a])];
    /// let mut run = bytes::BytesMut::new();
    /// Segmenter::new(&tracks, MediaTime::from_millis(0)).write(&frames, &mut run);
    /// assert_eq!(Segmenter::pictures(&run), 2);
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    pub fn pictures(run: &[u8]) -> usize {
        let begins_picture = |packet: &&[u8]| {
            const UNIT_START: u8 = 0x40;
            let [_, second, _, fourth, field, ..] = **packet else { return false };
            let head = if fourth & ADAPTATION == 0 { 4 } else { 5 + usize::from(field) };
            second & UNIT_START != 0 && packet.get(head..head + 4) == Some(&[0, 0, 1, pes::PICTURES])
        };
        run.chunks_exact(PACKET_BYTES).filter(begins_picture).count()
    }
}
