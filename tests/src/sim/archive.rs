//! What can be read of a disk after a crash, or at the end: every fragment that was acknowledged, and in it the frames of
//! its stream, whole, in order, once.

use bytes::Bytes;
use shardcast_engine::{
    codec::Codec,
    fmp4::demux::{BOX_HEAD_BYTES_MAX, BoxHead, Fragment, Movie},
    media::{Frame, Payload, StreamName, TrackId},
    record::scan::{Depth, ReadAt, Repair, Report, scan},
    time::MediaTime,
};

use super::{disk::File, judge::Judge, reel::Stamp};

/// How a file came to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Power failed in the middle of everything.
    Crash,
    /// Likewise, and the disk had failed or been slow before.
    CrashOfABadDisk,
    /// The recorder has closed it, and its disk always worked.
    End,
    /// The recorder has closed it, and its disk had failed or been slow.
    EndOnABadDisk,
}

struct Bytewise<'a>(&'a [u8]);

impl ReadAt for Bytewise<'_> {
    type Error = std::convert::Infallible;

    fn size(&self) -> Result<u64, Self::Error> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or(&[]);
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// What a file showed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Findings {
    /// Frames that were read.
    pub frames: u64,
    /// Places at which frames are missing that nothing but the disk can have lost.
    pub holes: u64,
}

/// Looks at the file of `path`.
///
/// # Errors
/// What was promised and does not hold.
pub fn check(path: &str, file: &File, occasion: Occasion, judge: &Judge) -> Result<Findings, String> {
    let fault = |what: String| format!("{path}, {occasion:?}: {what}");
    let report: Report = match scan(&Bytewise(&file.bytes), Depth::Heads) {
        Ok(report) => report,
        Err(never) => match never {},
    };
    if report.valid < file.acknowledged {
        return Err(fault(format!(
            "{} bytes were acknowledged and only {} can be read: {:?}",
            file.acknowledged, report.valid, report.findings
        )));
    }
    if occasion == Occasion::End && (!report.is_sound() || report.repair() != Repair::None) {
        return Err(fault(format!("it was closed and is not sound: {report:?}")));
    }
    let valid = usize::try_from(report.valid).unwrap_or(usize::MAX);
    let (app, rest) = path.split_once('/').unwrap_or((path, ""));
    let stream = StreamName::new(app, rest.split('/').next().unwrap_or(""))
        .map_err(|error| fault(error.to_string()))?;
    let stamps = read(&file.bytes[..valid], &stream, judge).map_err(fault)?;
    let holes = check_frames(&stream, &stamps, occasion, judge).map_err(fault)?;
    Ok(Findings { frames: stamps.len() as u64, holes })
}

/// The frames of a file of `stream`, in the order in which they were taken.
fn read(file: &[u8], stream: &StreamName, judge: &Judge) -> Result<Vec<Stamp>, String> {
    let mut fragments = fragments(file)?;
    // Tracks stand one after the other; what they hold was taken in turns.
    fragments.iter_mut().for_each(|stamps| stamps.sort_by_key(|stamp| judge.place_of(stream, *stamp)));
    Ok(fragments.concat())
}

/// The frames of a file, fragment by fragment.
///
/// # Errors
/// What is none, or is not as it was sent.
pub fn fragments(file: &[u8]) -> Result<Vec<Vec<Stamp>>, String> {
    let mut movie = Movie::default();
    let mut found = Vec::new();
    let mut at = 0;
    while at < file.len() {
        let head = &file[at..file.len().min(at + BOX_HEAD_BYTES_MAX)];
        let head = BoxHead::parse(head).map_err(|error| error.to_string())?;
        let length = head.len.map_or(file.len() - at, |length| usize::try_from(length).unwrap_or(usize::MAX));
        let content = usize::try_from(head.head_len).map_err(|error| error.to_string())?;
        let content = file.get(at + content..at + length).ok_or("a box that ends behind the valid part")?;
        match &head.kind.0 {
            b"moov" => movie = Movie::parse(content).map_err(|error| error.to_string())?,
            b"moof" => {
                let fragment =
                    Fragment::parse(&movie, content, at as u64).map_err(|error| error.to_string())?;
                found.push(fragment_stamps(&movie, &fragment, file)?);
            }
            _ => {}
        }
        at += length;
    }
    Ok(found)
}

fn fragment_stamps(movie: &Movie, fragment: &Fragment, file: &[u8]) -> Result<Vec<Stamp>, String> {
    let mut last: Option<(u32, u64)> = None;
    let mut stamps = Vec::new();
    for sample in &fragment.samples {
        let from = usize::try_from(sample.offset).map_err(|error| error.to_string())?;
        let data =
            file.get(from..from + sample.size as usize).ok_or("a sample that is not in the valid part")?;
        let data = Bytes::copy_from_slice(data);
        let codec = movie.track(sample.track).and_then(|track| track.entry.codec);
        let payload = match codec {
            Some(codec @ Codec::H264) => Payload::Video { codec, key: sample.key, data },
            Some(codec @ Codec::Aac) => Payload::Audio { codec, data },
            other => return Err(format!("a track of {other:?}")),
        };
        let time = MediaTime { ticks: 0, rate: 1 };
        let frame = Frame { track: TrackId::VIDEO, dts: time, pts: time, payload };
        stamps
            .push(Stamp::read(&frame).ok_or_else(|| format!("the sample at {from} is not as it was sent"))?);
        if let Some((track, dts)) = last
            && track == sample.track
            && sample.dts < dts
        {
            return Err(format!("the times of track {track} step back from {dts} to {}", sample.dts));
        }
        last = Some((sample.track, sample.dts));
    }
    Ok(stamps)
}

fn check_frames(
    stream: &StreamName,
    stamps: &[Stamp],
    occasion: Occasion,
    judge: &Judge,
) -> Result<u64, String> {
    let mut last: Option<usize> = None;
    let mut holes = 0;
    for stamp in stamps {
        let index = judge
            .place_of(stream, *stamp)
            .ok_or_else(|| format!("{stamp:?} was never taken for {stream}"))?;
        if let Some(last) = last {
            if index <= last {
                return Err(format!("frame {index} stands behind frame {last}"));
            }
            let healthy = matches!(occasion, Occasion::Crash | Occasion::End);
            if judge.is_hole(stream, last, index) && judge.is_smooth(stream, last, index) {
                if healthy {
                    return Err(format!("frames {} to {} are missing", last + 1, index - 1));
                }
                holes += 1;
            }
        }
        last = Some(index);
    }
    Ok(holes)
}
