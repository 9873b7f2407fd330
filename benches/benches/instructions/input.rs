//! What the machines are given: a stream of 4 Mbit/s, whose every byte is the same in each run.
//!
//! Sizes are those of an encoder at a constant rate, 30 pictures per second in groups of two seconds, and 128 kbit/s of
//! sound. The payload itself is filler: no machine looks into it further than the first NAL unit's type.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use shardcast_engine::{
    codec::{Codec, Parameters},
    flv,
    fmp4::mux::{Sample, Track},
    limits::DoorLimits,
    media::{Frame, Payload, StreamName, TrackId},
    rtmp::{
        self,
        chunk::write_message,
        client::Target,
        message::{kind, route},
    },
    session::{Answer, Event, Input, Opening, Output, Session, Wire},
    stream::{Numbered, Numbering},
    time::{MediaTime, Now},
};

/// Bytes that the ring hands over at once.
pub const RECEIVE_BYTES: usize = 16 << 10;

/// `avcC` of a picture of 1280 by 720, as x264 writes it.
pub const AVCC: &[u8] = b"\
    \x01\x64\x00\x1f\xff\xe1\x00\x1a\x67\x64\x00\x1f\xac\xd9\x40\x50\x05\xbb\x01\x10\x00\x00\x03\x00\x10\x00\
    \x00\x03\x03\xc0\xf1\x83\x19\x60\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0\xfd\xf8\xf8\x00";
/// AudioSpecificConfig of AAC-LC, 48 kHz, two channels.
const AUDIO_SPECIFIC_CONFIG: &[u8] = b"\x11\x90";

const PICTURES_PER_SECOND: u32 = 30;
const KEY_PICTURE_BYTES: usize = 80_000;
const PICTURE_BYTES: usize = 15_600;
const PACKET_BYTES: usize = 340;
const PACKET_SAMPLES: u32 = 1024;
const SAMPLE_RATE: u32 = 48_000;

/// The parameters of both tracks.
pub fn parameters() -> [Frame; 2] {
    [(TrackId::VIDEO, Codec::H264, AVCC), (TrackId::AUDIO, Codec::Aac, AUDIO_SPECIFIC_CONFIG)].map(
        |(track, codec, configuration)| {
            let parameters =
                Parameters::parse(codec, Bytes::from_static(configuration)).expect("an encoder wrote it");
            frame(track, 0, Payload::Parameters(Arc::new(parameters)))
        },
    )
}

/// What a viewer is told before the first frame.
pub fn opening() -> Opening {
    Opening { parameters: parameters().into(), ..Opening::default() }
}

/// The frames of the seconds from `first` on, in the order in which an encoder sends them.
pub fn frames(first: u32, seconds: u32) -> Vec<Frame> {
    let pictures = (first * PICTURES_PER_SECOND..(first + seconds) * PICTURES_PER_SECOND).map(picture);
    let packets_before = |second: u32| (second * SAMPLE_RATE).div_ceil(PACKET_SAMPLES);
    let packets = (packets_before(first)..packets_before(first + seconds)).map(packet);
    let mut frames: Vec<Frame> = pictures.chain(packets).collect();
    frames.sort_by_key(|frame| frame.dts.as_millis());
    frames
}

fn picture(number: u32) -> Frame {
    let key = number.is_multiple_of(2 * PICTURES_PER_SECOND);
    let mut data = vec![0x5a; if key { KEY_PICTURE_BYTES } else { PICTURE_BYTES }];
    let unit_bytes = data.len() as u32 - 4;
    data[..4].copy_from_slice(&unit_bytes.to_be_bytes());
    data[4] = if key { 0x65 } else { 0x41 };
    let millis = i64::from(number * 1000 / PICTURES_PER_SECOND);
    frame(TrackId::VIDEO, millis, Payload::Video { codec: Codec::H264, key, data: data.into() })
}

fn packet(number: u32) -> Frame {
    let millis = i64::from(number) * i64::from(PACKET_SAMPLES) * 1000 / i64::from(SAMPLE_RATE);
    let data = vec![0x5a; PACKET_BYTES].into();
    frame(TrackId::AUDIO, millis, Payload::Audio { codec: Codec::Aac, data })
}

fn frame(track: TrackId, millis: i64, payload: Payload) -> Frame {
    let time = MediaTime::from_millis(millis);
    Frame { track, dts: time, pts: time, payload }
}

/// Frames with the numbers that they would have in a stream.
pub fn numbered(frames: &[Frame]) -> Vec<Numbered> {
    let mut numbering = Numbering::new();
    for parameters in parameters() {
        numbering.number(&parameters);
    }
    let number = |frame: &Frame| {
        let place = numbering.number(frame).expect("the first picture is a key frame");
        Numbered { place, frame: frame.clone() }
    };
    frames.iter().map(number).collect()
}

/// An FLV file of the parameters and `frames`.
pub fn flv_file(frames: &[Frame]) -> BytesMut {
    let mut file = BytesMut::new();
    let mut wire = flv::FlvWire::<flv::mux::Plain>::default();
    wire.header(&opening(), &frames[0], &mut file);
    frames.iter().for_each(|frame| wire.frame(frame, &mut file));
    file
}

/// What a publisher sends by RTMP once its stream was granted: the size of its chunks, the parameters, then `frames`.
pub fn rtmp_messages(chunk_size: u32, frames: &[Frame]) -> BytesMut {
    let mut bytes = BytesMut::new();
    let size = chunk_size.to_be_bytes();
    write_message(route::control(kind::SET_CHUNK_SIZE), 0, [&size, &[]], 128, &mut bytes);
    for frame in parameters().iter().chain(frames) {
        let body = flv::mux::Body::of(frame).expect("FLV can say these");
        let route = if frame.track == TrackId::VIDEO { route::VIDEO } else { route::AUDIO };
        write_message(route, flv::mux::millis(frame), body.parts(), chunk_size, &mut bytes);
    }
    bytes
}

/// A session of RTMP whose publisher has been granted its stream.
pub fn rtmp_publisher() -> rtmp::Session {
    let name = StreamName::new("live", "cam").expect("a legal name");
    let target = Target { tc_url: "rtmp://127.0.0.1/live".into(), app: "live".into(), stream: "cam".into() };
    let mut client = rtmp::Client::push(target, name, &DoorLimits::default(), Now(1));
    let mut server = rtmp::Session::new(&DoorLimits::default(), Now(1));
    loop {
        let (asked, _) = drain(&mut client);
        if asked.is_empty() {
            break;
        }
        server.handle(Input::Received(&asked), Now(1)).expect("our own client keeps to the protocol");
        let (answered, wishes) = drain(&mut server);
        if wishes.iter().any(|wish| matches!(wish, Event::Publish { .. })) {
            server.handle(Input::Answer(Answer::Publishing), Now(1)).expect("it asked");
            drain(&mut server);
            return server;
        }
        client.handle(Input::Received(&answered), Now(1)).expect("our own server keeps to the protocol");
    }
    panic!("the client never wished to publish");
}

fn drain(session: &mut dyn Session) -> (Vec<u8>, Vec<Event>) {
    let (mut bytes, mut events) = (Vec::new(), Vec::new());
    while let Some(output) = session.poll() {
        match output {
            Output::Send(piece) | Output::Share(piece) | Output::Datagrams { bytes: piece, .. } => {
                bytes.extend_from_slice(&piece)
            }
            Output::Event(event) => events.push(event),
            Output::Ports(_) | Output::Packets(_) | Output::Datagram { .. } | Output::Address(_) => {
                panic!("nothing goes beside its connection")
            }
            Output::Close => panic!("nobody has a reason to close"),
        }
    }
    (bytes, events)
}

/// A file's tracks, and the samples of each in the second of `frames`.
pub fn samples(frames: &[Frame]) -> ([Track; 2], [Vec<Sample>; 2]) {
    let [video, audio] = parameters().map(|frame| match frame.payload {
        Payload::Parameters(parameters) => parameters,
        _ => unreachable!("these are parameters"),
    });
    let tracks = [
        Track { id: 1, timescale: 1000, parameters: video },
        Track { id: 2, timescale: 1000, parameters: audio },
    ];
    let samples = [TrackId::VIDEO, TrackId::AUDIO].map(|track| {
        let of_track = frames.iter().filter(|frame| frame.track == track);
        of_track
            .filter_map(|frame| match &frame.payload {
                Payload::Video { key, data, .. } => Some((*key, data)),
                Payload::Audio { data, .. } => Some((true, data)),
                _ => None,
            })
            .map(|(key, data)| Sample { duration: 33, composition_offset: 0, key, data: data.clone() })
            .collect()
    });
    (tracks, samples)
}
