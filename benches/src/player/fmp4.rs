//! Fragmented MP4 as pieces of a stream bring it: fragments are taken apart as soon as they are whole.

use bytes::{Bytes, BytesMut};
use shardcast_engine::{
    codec::Codec,
    error::{Error, ErrorKind},
    fmp4::demux::{BoxHead, Fragment, Movie, Sample, Track},
    media::{Frame, Payload, TrackId},
    time::MediaTime,
};

use super::media::Found;

/// Reads pieces, one after the other.
#[derive(Debug, Default)]
pub struct Reader {
    movie: Movie,
    /// What has come and is not a whole box.
    buffer: BytesMut,
    /// Where in the piece the buffer begins.
    position: u64,
    /// What a `moof` says whose `mdat` has not come.
    fragment: Option<Fragment>,
    /// Of the piece: by which track it is measured, when that begins, and its ticks so far.
    measured: Option<Measured>,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    track: u32,
    video: bool,
    timescale: u32,
    begins: u64,
    ticks: u64,
}

/// More than any fragment of a stream has.
const BOX_BYTES_MAX: u64 = 64 << 20;
const VIDEO: [u8; 4] = *b"vide";
const SOUND: [u8; 4] = *b"soun";

impl Reader {
    /// Reads an initialisation section.
    ///
    /// # Errors
    /// It is none.
    pub fn init(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.push(bytes, &mut |_| {})?;
        self.finish()?;
        if self.movie.tracks.is_empty() {
            Err("an initialisation section without a track".to_owned())
        } else {
            Ok(())
        }
    }

    /// Bytes of a piece. Gives the frames of each fragment that is whole.
    ///
    /// # Errors
    /// The boxes do not fit into each other, or name what is not there.
    pub fn push(&mut self, bytes: &[u8], emit: &mut dyn FnMut(&Frame)) -> Result<(), String> {
        self.buffer.extend_from_slice(bytes);
        loop {
            let head = match BoxHead::parse(&self.buffer) {
                Ok(head) => head,
                Err(Error { kind: ErrorKind::Truncated, .. }) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
            let length = head.len.filter(|length| *length <= BOX_BYTES_MAX);
            let length = length.ok_or_else(|| format!("a box {} without an end", head.kind))?;
            if (self.buffer.len() as u64) < length {
                return Ok(());
            }
            let whole = self.buffer.split_to(length as usize).freeze();
            let at = self.position;
            self.position += length;
            self.take(&head, whole, at, emit).map_err(|why| format!("{}: {why}", head.kind))?;
        }
    }

    /// The piece is whole: how long it is.
    ///
    /// # Errors
    /// It ends in the middle of a box or of a fragment.
    pub fn finish(&mut self) -> Result<Option<Found>, String> {
        let whole = self.buffer.is_empty() && self.fragment.is_none();
        self.buffer.clear();
        self.position = 0;
        self.fragment = None;
        let measured = self.measured.take();
        if !whole {
            return Err("a piece ends in the middle of a box".to_owned());
        }
        Ok(measured.map(|Measured { timescale, begins, ticks, .. }| {
            let tick = 1.0 / f64::from(timescale);
            Found { begins: begins as f64 * tick, lasts: Some(ticks as f64 * tick), tick }
        }))
    }

    fn take(
        &mut self,
        head: &BoxHead,
        whole: Bytes,
        at: u64,
        emit: &mut dyn FnMut(&Frame),
    ) -> Result<(), String> {
        let content = whole.get(head.head_len as usize..).unwrap_or_default();
        match &head.kind.0 {
            b"moov" => self.movie = Movie::parse(content).map_err(|error| error.to_string())?,
            b"moof" => {
                let fragment =
                    Fragment::parse(&self.movie, content, at).map_err(|error| error.to_string())?;
                if self.fragment.replace(fragment).is_some() {
                    return Err("a fragment without its media".to_owned());
                }
            }
            b"mdat" => {
                if let Some(fragment) = self.fragment.take() {
                    self.samples(&fragment, &whole, at, emit)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn samples(
        &mut self,
        fragment: &Fragment,
        mdat: &Bytes,
        at: u64,
        emit: &mut dyn FnMut(&Frame),
    ) -> Result<(), String> {
        for sample in &fragment.samples {
            let range = sample.offset.checked_sub(at).and_then(|start| {
                let end = start.checked_add(u64::from(sample.size))?;
                (end <= mdat.len() as u64).then_some(start as usize..end as usize)
            });
            let range = range.ok_or("a sample outside its fragment")?;
            let Some(track) = self.movie.track(sample.track) else { continue };
            measure(&mut self.measured, track, sample);
            if let Some(frame) = frame(track, sample, mdat.slice(range)) {
                emit(&frame);
            }
        }
        Ok(())
    }
}

/// A piece is as long as its pictures, or as its sound if it has none.
fn measure(measured: &mut Option<Measured>, track: &Track, sample: &Sample) {
    let video = track.handler.0 == VIDEO;
    let begin = Measured { track: track.id, video, timescale: track.timescale, begins: sample.dts, ticks: 0 };
    if !measured.is_some_and(|kept| kept.video || !video) {
        *measured = Some(begin);
    }
    if let Some(kept) = measured
        && kept.track == track.id
    {
        kept.ticks += u64::from(sample.duration);
    }
}

fn frame(track: &Track, sample: &Sample, data: Bytes) -> Option<Frame> {
    let time = |ticks| MediaTime { ticks, rate: track.timescale };
    let (dts, pts) = (time(i64::try_from(sample.dts).ok()?), time(sample.pts));
    let codec = track.entry.codec;
    let (track, payload) = match track.handler.0 {
        VIDEO => {
            let payload = Payload::Video { codec: codec.unwrap_or(Codec::H264), key: sample.key, data };
            (TrackId::VIDEO, payload)
        }
        SOUND => (TrackId::AUDIO, Payload::Audio { codec: codec.unwrap_or(Codec::Aac), data }),
        _ => return None,
    };
    Some(Frame { track, dts, pts, payload })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use shardcast_engine::{fmp4::mux, time::Wall};

    use crate::clip::{Clip, Playback};

    /// An initialisation section for the clip's pictures.
    pub(in crate::player) fn init() -> Vec<u8> {
        let clip = Clip::built_in();
        let parameters = clip.opening().parameters.iter().find_map(|frame| match &frame.payload {
            Payload::Parameters(parameters) if parameters.codec == Codec::H264 => Some(parameters.clone()),
            _ => None,
        });
        let parameters = parameters.expect("the clip has pictures");
        let mut out = BytesMut::new();
        mux::init(&[mux::Track { id: 1, timescale: 90_000, parameters }], Wall(0), &mut out);
        out.to_vec()
    }

    /// The next pictures of the clip as one fragment, and how long it is in seconds.
    pub(in crate::player) fn fragment(playback: &mut Playback, pictures: usize, sent: u64) -> (Vec<u8>, f64) {
        let (mut samples, mut base) = (Vec::new(), None);
        while samples.len() < pictures {
            let frame = playback.take(sent);
            let Payload::Video { data, key, .. } = &frame.payload else { continue };
            base.get_or_insert(frame.dts.ticks_at(90_000));
            let composition_offset = (frame.pts.ticks_at(90_000) - frame.dts.ticks_at(90_000)) as i32;
            samples.push(mux::Sample { duration: 3000, composition_offset, key: *key, data: data.clone() });
        }
        let base_decode_time = base.expect("there is a picture") as u64;
        let run = mux::Run { track: 1, base_decode_time, all_key: false, samples: &samples };
        let mut out = BytesMut::new();
        mux::head(1, &[run], &mut out);
        samples.iter().for_each(|sample| out.extend_from_slice(&sample.data));
        (out.to_vec(), pictures as f64 / 30.0)
    }

    #[test]
    fn fragments_give_their_frames_however_they_are_cut() {
        let mut playback = Playback::new(Clip::built_in());
        let (first, _) = fragment(&mut playback, 5, 1);
        let (second, _) = fragment(&mut playback, 4, 1);
        let piece = [first, second].concat();
        for cut in [1, 7, 100, 4096, piece.len()] {
            let mut reader = Reader::default();
            reader.init(&init()).unwrap();
            let mut frames = Vec::new();
            for bytes in piece.chunks(cut) {
                reader.push(bytes, &mut |frame| frames.push(frame.clone())).unwrap();
            }
            let found = reader.finish().unwrap().unwrap();
            assert_eq!(
                (frames.len(), frames[0].is_key(), frames[1].is_key()),
                (9, true, false),
                "cut each {cut}"
            );
            assert!((found.lasts.unwrap() - 9.0 / 30.0).abs() < 1e-9 && found.begins == 0.0, "{found:?}");
        }
    }

    #[test]
    fn a_torn_piece_and_one_without_a_beginning_are_told() {
        let mut playback = Playback::new(Clip::built_in());
        let (piece, _) = fragment(&mut playback, 3, 1);
        let mut reader = Reader::default();
        assert!(reader.push(&piece, &mut |_| {}).unwrap_err().contains("moof"), "no moov came before");
        let mut reader = Reader::default();
        reader.init(&init()).unwrap();
        reader.push(&piece[..piece.len() - 1], &mut |_| {}).unwrap();
        assert!(reader.finish().is_err());
        assert!(Reader::default().init(b"\0\0\0\x08free").is_err());
        assert!(Reader::default().push(b"\0\0\0\0mdat", &mut |_| {}).unwrap_err().contains("without an end"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>()) {
            let mut reader = Reader::default();
            reader.init(&init()).unwrap();
            let (mut piece, _) = fragment(&mut Playback::new(Clip::built_in()), 2, 1);
            let at = at.index(400);
            let end = (at + bytes.len()).min(piece.len());
            piece[at..end].copy_from_slice(&bytes[..end - at]);
            let _ = reader.push(&piece, &mut |_| {});
            let _ = reader.finish();
            let mut reader = Reader::default();
            let _ = reader.push(&bytes, &mut |_| {});
            let _ = reader.finish();
        }
    }
}
