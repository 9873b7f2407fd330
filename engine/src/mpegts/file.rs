//! A file while it is written, in fragments.

use super::{clock::Clock, program::Program, segment::Segmenter};
use crate::{
    codec::Parameters,
    container::{Container, Muxer, Pieces, Track},
    media::Frame,
    time::Wall,
};

/// MPEG-TS. It carries H.264, HEVC, VVC, AAC, MP3, Opus and AC-3; tracks of other codecs are left out. A frame is copied
/// once, since a packet's head stands between each 184 bytes of it.
pub static CONTAINER: Container =
    Container { name: "ts", extension: "ts", open: || Box::new(File(Program::new(Clock::of_file()))) };

/// One file. Its times count from its first frame.
struct File(Program);

impl Muxer for File {
    fn takes(&self, parameters: &Parameters) -> bool {
        Segmenter::takes(parameters)
    }

    fn begin(&mut self, tracks: &[Track], _: Wall, out: &mut Pieces) {
        for track in tracks {
            self.0.learn(track.id, &track.parameters);
        }
        self.0.write_tables(out.bytes());
    }

    fn fragment(&mut self, frames: &[Frame], _: Option<&Frame>, out: &mut Pieces) {
        self.0.run(frames, out.bytes());
    }
}
