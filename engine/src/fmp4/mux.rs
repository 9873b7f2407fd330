//! Writing: the initialisation segment of a set of tracks, and fragments of their samples.
//!
//! A fragment's head has a size that is known before it is written, and the samples themselves are never copied here:
//! [`head`] makes the bytes that stand before them.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    BOX_HEAD_BYTES,
    boxes::{full, plain},
    entry,
};
use crate::{
    codec::{Codec, Parameters, Shape},
    time::Wall,
};

/// A track of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// `track_ID`: from 1, unique in its file.
    pub id: u32,
    /// Ticks per second of its samples' times.
    pub timescale: u32,
    /// What its decoder needs.
    pub parameters: Arc<Parameters>,
}

/// A sample on its track's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Ticks until the next sample is decoded.
    pub duration: u32,
    /// When it is shown, in ticks after (or before) it is decoded.
    pub composition_offset: i32,
    /// A decoder can begin here.
    pub key: bool,
    /// The access unit or packet.
    pub data: Bytes,
}

/// The samples of one track in one fragment, in decoding order.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// `track_ID`.
    pub track: u32,
    /// When its first sample is decoded.
    pub base_decode_time: u64,
    /// All samples can be entered at, as those of sound can: their flags then stand once for all.
    pub all_key: bool,
    /// The samples. A run without any says that there is nothing.
    pub samples: &'a [Sample],
}

/// Sample flags (ISO/IEC 14496-12, 8.8.3.1): depends on no other.
const FLAGS_KEY: u32 = 0x0200_0000;
/// Depends on others, and is no sync sample.
const FLAGS_DELTA: u32 = 0x0101_0000;

/// Seconds from 1904, where MP4 counts from, to 1970.
const EPOCH_1904_SECONDS: u64 = 2_082_844_800;

const MFHD_BYTES: usize = 16;
const TFHD_BYTES_MAX: usize = 20;
const TFDT_BYTES: usize = 20;
const TRUN_HEAD_BYTES: usize = 20;

/// Appends the initialisation segment: `ftyp` and `moov`. Tracks of codecs that MP4 does not [carry](super::carries) have no place in it.
pub fn init(tracks: &[Track], created: Wall, out: &mut BytesMut) {
    plain(out, b"ftyp", |out| {
        // iso6 knows composition offsets with a sign (iso4) and data offsets from the `moof` (iso5).
        out.put_slice(b"iso6");
        out.put_u32(0);
        out.put_slice(b"iso5iso6mp41");
        if tracks.iter().any(|track| track.parameters.codec == Codec::Av1) {
            out.put_slice(b"av01");
        }
    });
    let created = created.0 / 1_000_000_000 + EPOCH_1904_SECONDS;
    plain(out, b"moov", |out| {
        full(out, b"mvhd", 1, 0, |out| {
            out.put_u64(created);
            out.put_u64(created);
            out.put_u32(1000); // timescale
            out.put_u64(0); // duration: that of the fragments, which come later
            out.put_u32(0x0001_0000); // rate 1.0
            out.put_u16(0x0100); // volume 1.0
            out.put_bytes(0, 10);
            matrix(out);
            out.put_bytes(0, 24);
            out.put_u32(tracks.iter().map(|track| track.id).max().unwrap_or(0) + 1); // next_track_ID
        });
        let carried = || tracks.iter().filter(|track| super::carries(track.parameters.codec));
        for track in carried() {
            trak(out, track, created);
        }
        plain(out, b"mvex", |out| {
            for track in carried() {
                full(out, b"trex", 0, 0, |out| {
                    out.put_u32(track.id);
                    out.put_u32(1); // default_sample_description_index
                    out.put_u32(0);
                    out.put_u32(0);
                    out.put_u32(0);
                });
            }
        });
    });
}

fn trak(out: &mut BytesMut, track: &Track, created: u64) {
    let (width, height, handler, name) = match track.parameters.shape {
        Shape::Video { width, height } => (width, height, b"vide", &b"video\0"[..]),
        Shape::Audio { .. } => (0, 0, b"soun", &b"sound\0"[..]),
    };
    let video = track.parameters.codec.is_video();
    plain(out, b"trak", |out| {
        full(out, b"tkhd", 1, 3, |out| {
            out.put_u64(created);
            out.put_u64(created);
            out.put_u32(track.id);
            out.put_u32(0);
            out.put_u64(0); // duration
            out.put_u64(0);
            out.put_u16(0); // layer
            out.put_u16(0); // alternate_group
            out.put_u16(if video { 0 } else { 0x0100 }); // volume
            out.put_u16(0);
            matrix(out);
            out.put_u32(width.min(0xffff) << 16);
            out.put_u32(height.min(0xffff) << 16);
        });
        plain(out, b"mdia", |out| {
            full(out, b"mdhd", 1, 0, |out| {
                out.put_u64(created);
                out.put_u64(created);
                out.put_u32(track.timescale);
                out.put_u64(0); // duration
                out.put_u16(0x55c4); // language "und"
                out.put_u16(0);
            });
            full(out, b"hdlr", 0, 0, |out| {
                out.put_u32(0);
                out.put_slice(handler);
                out.put_bytes(0, 12);
                out.put_slice(name);
            });
            plain(out, b"minf", |out| {
                if video {
                    full(out, b"vmhd", 0, 1, |out| out.put_bytes(0, 8));
                } else {
                    full(out, b"smhd", 0, 0, |out| out.put_bytes(0, 4));
                }
                plain(out, b"dinf", |out| {
                    full(out, b"dref", 0, 0, |out| {
                        out.put_u32(1);
                        full(out, b"url ", 0, 1, |_| ()); // the media is in this file
                    });
                });
                plain(out, b"stbl", |out| {
                    full(out, b"stsd", 0, 0, |out| {
                        out.put_u32(1);
                        entry::write(out, &track.parameters);
                    });
                    full(out, b"stts", 0, 0, |out| out.put_u32(0));
                    full(out, b"stsc", 0, 0, |out| out.put_u32(0));
                    full(out, b"stsz", 0, 0, |out| out.put_u64(0));
                    full(out, b"stco", 0, 0, |out| out.put_u32(0));
                });
            });
        });
    });
}

/// The unity matrix of `mvhd` and `tkhd`.
fn matrix(out: &mut BytesMut) {
    for value in [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000] {
        out.put_u32(value);
    }
}

/// Bytes that [`segment_head`] writes.
pub const SEGMENT_HEAD_BYTES: usize = STYP_BYTES + PRFT_BYTES;
const STYP_BYTES: usize = 24;
const PRFT_BYTES: usize = 32;

/// Seconds from 1900, where NTP counts from, to 1970.
const EPOCH_1900_SECONDS: u64 = 2_208_988_800;

/// Appends what stands before the first fragment of a segment that is fetched by itself: `styp` (ISO/IEC 14496-12, 8.16.2),
/// and `prft`, which says when the sample at `media_time` of `track` was there (8.16.5): a player reckons its latency by it.
///
/// ```
/// use shardcast_engine::{fmp4::mux::{SEGMENT_HEAD_BYTES, segment_head}, time::Wall};
///
/// let mut segment = bytes::BytesMut::new();
/// // The first sample of track 1, four seconds into the stream, came at this time.
/// segment_head(1, Wall(1_764_000_000_000_000_000), 4 * 90_000, &mut segment);
/// assert_eq!(segment.len(), SEGMENT_HEAD_BYTES);
/// assert_eq!((&segment[4..8], &segment[28..32]), (&b"styp"[..], &b"prft"[..]));
/// ```
pub fn segment_head(track: u32, wall: Wall, media_time: u64, out: &mut BytesMut) {
    let start = out.len();
    plain(out, b"styp", |out| {
        out.put_slice(b"msdh");
        out.put_u32(0);
        out.put_slice(b"msdhcmfs");
    });
    // Flag 8: when the sample came in, not when it was encoded.
    full(out, b"prft", 1, 8, |out| {
        out.put_u32(track);
        let seconds = wall.0 / 1_000_000_000 + EPOCH_1900_SECONDS;
        let fraction = ((wall.0 % 1_000_000_000) << 32) / 1_000_000_000;
        // The seconds wrap in 2036, as those of NTP do.
        out.put_u32(seconds as u32);
        out.put_u32(fraction as u32);
        out.put_u64(media_time);
    });
    assert_eq!(out.len() - start, SEGMENT_HEAD_BYTES, "the size is known before it is written");
}

/// Bytes that [`head`] writes at most for this many samples of this many tracks.
pub const fn head_len_max(tracks: usize, samples: usize) -> usize {
    let traf = BOX_HEAD_BYTES + TFHD_BYTES_MAX + TFDT_BYTES + TRUN_HEAD_BYTES;
    BOX_HEAD_BYTES + MFHD_BYTES + tracks * traf + samples * 16 + BOX_HEAD_BYTES
}

/// Bytes that [`head`] writes for these runs.
pub fn head_len(runs: &[Run<'_>]) -> usize {
    moof_len(runs) + BOX_HEAD_BYTES
}

/// Appends what stands before the samples of a fragment: `moof` and the head of `mdat`. The samples follow in the order
/// of the runs. `sequence` counts the fragments of a file from 1.
///
/// ```
/// use shardcast_engine::fmp4::mux::{Run, Sample, head, head_len, head_len_max};
///
/// let data = bytes::Bytes::from_static(&[0xfc, 1, 2]);
/// let sample = Sample { duration: 960, composition_offset: 0, key: true, data };
/// let samples = [sample.clone(), sample];
/// let runs = [Run { track: 1, base_decode_time: 48_000, all_key: true, samples: &samples }];
/// let mut fragment = bytes::BytesMut::new();
/// head(1, &runs, &mut fragment);
/// // Room can be made before it is written, and even before it is known what will be in it.
/// assert_eq!(fragment.len(), head_len(&runs));
/// assert!(head_len(&runs) <= head_len_max(runs.len(), samples.len()));
/// ```
pub fn head(sequence: u32, runs: &[Run<'_>], out: &mut BytesMut) {
    let moof = moof_len(runs);
    let media: usize = runs.iter().map(Run::media_len).sum();
    let start = out.len();
    out.reserve(moof + BOX_HEAD_BYTES);
    plain(out, b"moof", |out| {
        full(out, b"mfhd", 0, 0, |out| out.put_u32(sequence));
        let mut offset = moof + BOX_HEAD_BYTES;
        for run in runs {
            traf(out, run, offset);
            offset += run.media_len();
        }
    });
    assert_eq!(out.len() - start, moof, "the size of moof is known before it is written");
    out.put_u32(u32::try_from(media + BOX_HEAD_BYTES).expect("limits keep a fragment far below 4 GiB"));
    out.put_slice(b"mdat");
}

impl Run<'_> {
    fn media_len(&self) -> usize {
        self.samples.iter().map(|sample| sample.data.len()).sum()
    }
    fn reordered(&self) -> bool {
        self.samples.iter().any(|sample| sample.composition_offset != 0)
    }
    fn traf_len(&self) -> usize {
        let per_sample = 8 + if self.all_key { 0 } else { 4 } + if self.reordered() { 4 } else { 0 };
        BOX_HEAD_BYTES + self.tfhd_len() + TFDT_BYTES + TRUN_HEAD_BYTES + per_sample * self.samples.len()
    }
    const fn tfhd_len(&self) -> usize {
        if self.all_key { 20 } else { 16 }
    }
}

fn moof_len(runs: &[Run<'_>]) -> usize {
    BOX_HEAD_BYTES + MFHD_BYTES + runs.iter().map(Run::traf_len).sum::<usize>()
}

fn traf(out: &mut BytesMut, run: &Run<'_>, data_offset: usize) {
    let reordered = run.reordered();
    plain(out, b"traf", |out| {
        // default-base-is-moof, and default-sample-flags where one word does for all.
        full(out, b"tfhd", 0, 0x02_0000 | if run.all_key { 0x20 } else { 0 }, |out| {
            out.put_u32(run.track);
            if run.all_key {
                out.put_u32(FLAGS_KEY);
            }
        });
        full(out, b"tfdt", 1, 0, |out| out.put_u64(run.base_decode_time));
        // data-offset, sample-duration, sample-size; then flags and composition offsets where they say something.
        let flags = 0x301 | if run.all_key { 0 } else { 0x400 } | if reordered { 0x800 } else { 0 };
        full(out, b"trun", 1, flags, |out| {
            out.put_u32(u32::try_from(run.samples.len()).expect("limits keep the samples of a fragment few"));
            out.put_u32(u32::try_from(data_offset).expect("limits keep a fragment far below 4 GiB"));
            for sample in run.samples {
                out.put_u32(sample.duration);
                out.put_u32(u32::try_from(sample.data.len()).expect("limits keep a sample far below 4 GiB"));
                if !run.all_key {
                    out.put_u32(if sample.key { FLAGS_KEY } else { FLAGS_DELTA });
                }
                if reordered {
                    out.put_i32(sample.composition_offset);
                }
            }
        });
    });
}

/// Appends the head of a `free` box of `len` bytes in all, which must be at least [`BOX_HEAD_BYTES`]; zeros are to follow.
///
/// ```
/// use shardcast_engine::fmp4::{BOX_HEAD_BYTES, mux::free_head};
///
/// // A file of 4,000 bytes up to the end of its block.
/// let mut file = vec![0; 4000];
/// let padding = file.len().next_multiple_of(4096) - file.len();
/// file.extend_from_slice(&free_head(padding));
/// file.resize(file.len() + padding - BOX_HEAD_BYTES, 0);
/// assert_eq!((file.len(), &file[4000..4008]), (4096, &b"\0\0\0\x60free"[..]));
/// ```
pub fn free_head(len: usize) -> [u8; BOX_HEAD_BYTES] {
    let [a, b, c, d] = u32::try_from(len).expect("padding is less than two blocks").to_be_bytes();
    [a, b, c, d, b'f', b'r', b'e', b'e']
}
