//! FLV as a file that is written fragment by fragment.

use super::{
    carries,
    mux::{Plain, write_tag_at},
    tag,
};
use crate::{
    codec::Parameters,
    container::{Container, Muxer, Pieces, Track},
    media::{Frame, Payload},
    time::{MediaTime, Wall},
};

/// FLV. It has one track of pictures and one of sound; the first of each is kept, of the codecs that it [`carries`].
pub static CONTAINER: Container =
    Container { name: "flv", extension: "flv", open: || Box::new(File::default()) };

/// One file.
#[derive(Default)]
struct File {
    /// Of the first tracks of pictures and of sound.
    tracks: Vec<Track>,
    /// Of the first frame; all times are counted from it.
    origin: Option<MediaTime>,
    /// The time of the last tag. They never fall: players take a step back for a new stream.
    floor: i64,
}

impl Muxer for File {
    fn takes(&self, parameters: &Parameters) -> bool {
        carries(parameters.codec)
    }

    fn begin(&mut self, tracks: &[Track], _: Wall, out: &mut Pieces) {
        let first = |video| {
            let is_it = move |track: &&Track| {
                carries(track.parameters.codec) && track.parameters.codec.is_video() == video
            };
            tracks.iter().find(is_it).cloned()
        };
        let (video, audio) = (first(true), first(false));
        tag::write_file_head(audio.is_some(), video.is_some(), out.bytes());
        self.tracks = video.into_iter().chain(audio).collect();
        for track in &self.tracks {
            let zero = MediaTime::from_millis(0);
            let payload = Payload::Parameters(track.parameters.clone());
            write_tag_at::<Plain>(&Frame { track: track.id, dts: zero, pts: zero, payload }, 0, out.bytes());
        }
    }

    fn fragment(&mut self, frames: &[Frame], _: Option<&Frame>, out: &mut Pieces) {
        let kept = |frame: &&Frame| self.tracks.iter().any(|track| track.id == frame.track);
        for frame in frames.iter().filter(kept) {
            let origin = self.origin.get_or_insert(frame.dts).as_millis();
            self.floor = frame.dts.as_millis().saturating_sub(origin).max(self.floor);
            // Milliseconds modulo 2^32, as in RTMP.
            write_tag_at::<Plain>(frame, self.floor as u32, out.bytes());
        }
    }
}
