//! Payloads as they are, with their times: for whoever wants the frames of a file back and no container in between.
//!
//! A file is a sequence of records, all numbers big-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | 0 for the parameters of a track, 1 for a frame, 2 for a frame that a decoder can begin at |
//! | 1 | the track |
//! | 2 | bytes of the codec's name; 0 but for parameters |
//! | 4 | bytes of what follows the two times, the name included |
//! | 8 | when it is decoded, nanoseconds from the file's first frame; may be negative |
//! | 8 | when it is shown, likewise |
//! | | the codec's name (`h264`), then its configuration; or the frame as [`Payload`] says |

use bytes::BufMut as _;

use super::{Container, Muxer, Pieces, Track};
use crate::{
    media::{Frame, Payload},
    time::{MediaTime, Wall},
};

/// Payloads with their times.
pub static CONTAINER: Container =
    Container { name: "raw", extension: "raw", open: || Box::new(Raw::default()) };

const PARAMETERS: u8 = 0;
const FRAME: u8 = 1;
const KEY_FRAME: u8 = 2;

/// One file.
#[derive(Default)]
struct Raw {
    origin: Option<MediaTime>,
}

impl Muxer for Raw {
    fn begin(&mut self, tracks: &[Track], _: Wall, out: &mut Pieces) {
        for track in tracks {
            let (name, data) = (track.parameters.codec.name(), track.parameters.configuration.clone());
            write_head(PARAMETERS, track.id.0, name.len(), name.len() + data.len(), [0, 0], out);
            out.bytes().put_slice(name.as_bytes());
            out.share(data);
        }
    }

    fn fragment(&mut self, frames: &[Frame], _: Option<&Frame>, out: &mut Pieces) {
        for frame in frames {
            let (kind, data) = match &frame.payload {
                Payload::Video { key: true, data, .. } | Payload::Audio { data, .. } => (KEY_FRAME, data),
                Payload::Video { data, .. } => (FRAME, data),
                _ => continue,
            };
            let origin = self.origin.get_or_insert(frame.dts).as_nanos();
            let times = [frame.dts, frame.pts].map(|time| time.as_nanos().saturating_sub(origin));
            write_head(kind, frame.track.0, 0, data.len(), times, out);
            out.share(data.clone());
        }
    }
}

fn write_head(kind: u8, track: u8, name: usize, len: usize, times: [i64; 2], out: &mut Pieces) {
    let out = out.bytes();
    out.put_u8(kind);
    out.put_u8(track);
    out.put_u16(u16::try_from(name).unwrap_or(0));
    out.put_u32(u32::try_from(len).expect("limits keep a frame far below 4 GiB"));
    times.into_iter().for_each(|time| out.put_i64(time));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::{Buf as _, Bytes};

    use super::*;
    use crate::{
        codec::{Codec, Parameters},
        media::TrackId,
    };

    #[test]
    fn a_file_gives_back_what_went_in() {
        let parameters = Arc::new(Parameters::of_opus(2));
        let tracks = [Track { id: TrackId::AUDIO, parameters: parameters.clone(), rate: 1000 }];
        let mut muxer = (CONTAINER.open)();
        let mut out = Pieces::new();
        muxer.begin(&tracks, Wall(0), &mut out);
        let frame = |millis: i64, data: &'static [u8]| Frame {
            track: TrackId::AUDIO,
            dts: MediaTime::from_millis(millis),
            pts: MediaTime::from_millis(millis + 5),
            payload: Payload::Audio { codec: Codec::Opus, data: Bytes::from_static(data) },
        };
        muxer.fragment(&[frame(100, b"one"), frame(80, b"")], None, &mut out);
        let mut file: Bytes = out.finish().concat().into();
        let mut record = || {
            let head = (file.get_u8(), file.get_u8(), file.get_u16(), file.get_u32());
            let times = (file.get_i64(), file.get_i64());
            (head, times, file.split_to(head.3 as usize))
        };
        let (head, _, mut data) = record();
        assert_eq!((head.0, head.1, data.split_to(usize::from(head.2))), (0, 1, Bytes::from_static(b"opus")));
        assert_eq!(data, parameters.configuration);
        assert_eq!(record(), ((2, 1, 0, 3), (0, 5_000_000), Bytes::from_static(b"one")));
        assert_eq!(record(), ((2, 1, 0, 0), (-20_000_000, -15_000_000), Bytes::new()));
        assert!(file.is_empty());
    }
}
