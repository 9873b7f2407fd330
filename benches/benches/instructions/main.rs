//! How many instructions each machine takes for a fixed piece of work. Unlike times, counts are the same in every run and
//! on a busy machine, so continuous integration compares them with `benches/instructions.toml` (see `docs/BENCHES.md`).
//!
//! What a bench is given is made by its `setup`, which is not counted, and what it returns is dropped uncounted.

#![forbid(unsafe_code)]
#![expect(missing_docs, reason = "the macros make public items that have none")]

mod input;

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use gungraun::{Callgrind, prelude::*};
use shardcast_bench::room::Room;
use shardcast_engine::{
    codec::{Codec, Parameters},
    flv,
    fmp4::{
        self,
        mux::{Run, Sample, Track},
    },
    http,
    limits::StreamLimits,
    media::Frame,
    record::{self, Recorder},
    rtmp::{self, chunk::ChunkReader},
    rtsp,
    session::{Event, Form, Opening, Output, Session, Wire, input_of},
    stream::{Group, Log, Next, Numbered, Placed, Publication, Viewer},
    time::{Now, Unwrapper, Wall},
};
use shardcast_io::lane::{Receiver, Sender, lane};

// --- RTMP in

// One second in messages of RTMP, in the pieces that the ring receives.
#[library_benchmark(setup = publisher_bytes)]
#[bench::of_128_bytes(128)]
#[bench::of_4096_bytes(4096)]
fn chunks(bytes: BytesMut) -> ChunkReader {
    let mut reader = ChunkReader::default();
    let mut messages = 0;
    for mut piece in bytes.chunks(input::RECEIVE_BYTES) {
        while let Some(message) = reader.read(&mut piece).expect("our own writing is sound") {
            black_box(&message);
            messages += 1;
        }
    }
    assert_eq!(messages, 2 + 77);
    reader
}

fn publisher_bytes(chunk_size: u32) -> BytesMut {
    input::rtmp_messages(chunk_size, &input::frames(0, 1))
}

// The same through a whole session: bytes in, frames out.
#[library_benchmark(setup = publisher)]
#[bench::of_4096_byte_chunks(4096)]
fn session((mut session, bytes): (rtmp::Session, BytesMut)) -> rtmp::Session {
    let mut frames = 0;
    for piece in bytes.chunks(input::RECEIVE_BYTES) {
        let input = input_of(&mut session, piece);
        session.handle(input, Now(2)).expect("our own writing is sound");
        while let Some(output) = session.poll() {
            frames += u32::from(matches!(black_box(output), Output::Event(Event::Frame(_))));
        }
    }
    assert_eq!(frames, 2 + 77);
    session
}

fn publisher(chunk_size: u32) -> (rtmp::Session, BytesMut) {
    (input::rtmp_publisher(), publisher_bytes(chunk_size))
}

library_benchmark_group!(name = rtmp_in, benchmarks = [chunks, session]);

// --- Containers

// An FLV file of one second to frames, in the pieces that the ring receives.
#[library_benchmark(setup = flv_file)]
#[bench::one_second()]
fn demux(file: BytesMut) -> flv::Demuxer {
    let (mut reader, mut demuxer, mut clock) =
        (flv::TagReader::default(), flv::Demuxer::default(), Unwrapper::new(32));
    let mut frames = 0;
    for mut piece in file.chunks(input::RECEIVE_BYTES) {
        while let Some(tag) = reader.read(&mut piece).expect("our own writing is sound") {
            let mut emit = |event| frames += u32::from(matches!(black_box(event), Event::Frame(_)));
            demuxer.tag(&tag, &mut clock, &mut emit).expect("our own writing is sound");
        }
    }
    assert_eq!(frames, 2 + 77);
    demuxer
}

fn flv_file() -> BytesMut {
    input::flv_file(&input::frames(0, 1))
}

// The frames of one second to the bytes of a wire form: a viewer's header, then each frame.
#[library_benchmark(setup = muxer)]
#[bench::flv(&flv::FORM)]
#[bench::flv_chunked(&http::wire::FLV_CHUNKED)]
#[bench::flv_websocket(&http::wire::FLV_WEBSOCKET)]
#[bench::rtmp(&rtmp::FORM)]
#[bench::rtsp(&rtsp::FORMS[2])]
fn mux((mut wire, opening, frames, mut out): Muxer) -> Muxer {
    wire.header(&opening, &frames[0], &mut out);
    for frame in &frames {
        wire.frame(black_box(frame), &mut out);
    }
    (wire, opening, frames, out)
}

type Muxer = (Box<dyn Wire>, Opening, Vec<Frame>, BytesMut);

/// With room for all: how memory grows is the log's to say.
fn muxer(form: &'static Form) -> Muxer {
    ((form.open)(), input::opening(), input::frames(0, 1), BytesMut::with_capacity(1 << 20))
}

// What stands before the samples of a fragment of one second.
#[library_benchmark(setup = fragment_samples)]
#[bench::one_second()]
fn fmp4_fragment((tracks, samples, mut out): Fragment) -> Fragment {
    let runs = [0, 1].map(|at| Run {
        track: tracks[at].id,
        base_decode_time: 90_000,
        all_key: at == 1,
        samples: &samples[at],
    });
    fmp4::mux::head(7, black_box(&runs), &mut out);
    (tracks, samples, out)
}

type Fragment = ([Track; 2], [Vec<Sample>; 2], BytesMut);

fn fragment_samples() -> Fragment {
    let (tracks, samples) = input::samples(&input::frames(0, 1));
    (tracks, samples, BytesMut::with_capacity(64 << 10))
}

library_benchmark_group!(name = containers, benchmarks = [demux, mux, fmp4_fragment]);

// --- Parsers

// A request's head.
#[library_benchmark]
#[bench::of_mpv(
    b"GET /live/cam.flv HTTP/1.1\r\nUser-Agent: libmpv\r\nAccept: */*\r\nRange: bytes=0-\r\n\
      Connection: close\r\nHost: 127.0.0.1:8080\r\nIcy-MetaData: 1\r\n\r\n"
)]
#[bench::of_a_browsers_websocket(
    b"GET /live/cam.flv?token=0123456789abcdef HTTP/1.1\r\nHost: media.example.com\r\nConnection: Upgrade\r\n\
      Pragma: no-cache\r\nCache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) \
      AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\n\
      Origin: https://www.example.com\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br\r\n\
      Accept-Language: en-GB,en;q=0.9\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
      Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)]
fn http_request(head: &[u8]) -> (http::request::Request, usize) {
    http::request::parse(black_box(head)).expect("a browser wrote it").expect("it is whole")
}

// A decoder configuration of H.264.
#[library_benchmark]
#[bench::of_1280_by_720(Bytes::from_static(input::AVCC))]
fn h264_parameters(configuration: Bytes) -> Parameters {
    Parameters::parse(Codec::H264, black_box(configuration)).expect("x264 wrote it")
}

library_benchmark_group!(name = parsers, benchmarks = [http_request, h264_parameters]);

// --- Streams

// Each frame of four seconds, two groups, gets its place and is kept.
#[library_benchmark(setup = published)]
#[bench::four_seconds()]
fn group((mut publication, mut group, limits, frames): Published) -> (Publication<u32>, Group) {
    for frame in frames {
        let now = Now(frame.dts.as_nanos() as u64);
        let (mark, Placed::Numbered(numbered)) = publication.number(frame, now) else {
            panic!("the first picture is a key frame");
        };
        assert!(mark.is_none(), "the clock does not jump");
        let outgrown = group.push(&numbered, &limits, now);
        assert!(!outgrown, "a group of two seconds fits");
    }
    (publication, group)
}

type Published = (Publication<u32>, Group, StreamLimits, Vec<Frame>);

fn published() -> Published {
    let mut publication = Publication::new(Now(0));
    publication.begin(1, Now(0));
    for parameters in input::parameters() {
        publication.number(parameters, Now(0));
    }
    (publication, Group::new(), StreamLimits::default(), input::frames(0, 4))
}

// The frames of four seconds to blocks, with a flush before each picture.
#[library_benchmark(setup = numbered)]
#[bench::four_seconds()]
fn blocks((opening, numbered, limits): (Opening, Vec<Numbered>, StreamLimits)) -> Log {
    write_log(&opening, &numbered, &limits)
}

fn numbered() -> (Opening, Vec<Numbered>, StreamLimits) {
    (input::opening(), input::numbered(&input::frames(0, 4)), StreamLimits::default())
}

fn write_log(opening: &Opening, numbered: &[Numbered], limits: &StreamLimits) -> Log {
    let mut log = Log::new(&flv::FORM, &Group::new(), limits, Now(0));
    for numbered in numbered {
        let now = Now(numbered.frame.dts.as_nanos() as u64);
        if numbered.frame.is_video() {
            log.flush(limits, now);
        }
        log.push(numbered, opening, now);
    }
    log.flush(limits, Now(4_000_000_000));
    log
}

// A hundred viewers, each sent the two seconds of a group block by block.
#[library_benchmark(setup = viewers)]
#[bench::a_hundred_of_two_seconds()]
fn cursors((log, limits, mut viewers): (Log, StreamLimits, Vec<Viewer>)) -> (Log, Vec<Viewer>) {
    let mut sends = 0;
    for viewer in &mut viewers {
        loop {
            match viewer.next(&log, &limits, Now(4_000_000_000)) {
                Next::Stream(bytes) => viewer.advance(black_box(bytes).len()),
                Next::Ahead(bytes) => drop(black_box(bytes)),
                Next::Jumped(_) => panic!("nobody lags"),
                Next::Nothing => break,
            }
            sends += 1;
        }
    }
    assert_eq!(sends, 100 * (1 + 60));
    (log, viewers)
}

fn viewers() -> (Log, StreamLimits, Vec<Viewer>) {
    let (opening, numbered, limits) = numbered();
    let log = write_log(&opening, &numbered, &limits);
    let viewers = (0..100).map(|_| Viewer::new(Now(4_000_000_000))).collect();
    (log, limits, viewers)
}

library_benchmark_group!(name = streams, benchmarks = [group, blocks, cursors]);

// --- Between cores

// A lane of 1024 slots, half filled and emptied.
#[library_benchmark(setup = open_lane)]
#[bench::push_and_pop_512()]
fn messages((mut sender, mut receiver, payload): Lane) -> Lane {
    for _ in 0..512 {
        assert!(sender.push(payload.clone()).is_ok());
    }
    let mut popped = 0;
    while let Some(message) = receiver.pop() {
        popped += u32::from(!black_box(message).is_empty());
    }
    assert_eq!(popped, 512);
    (sender, receiver, payload)
}

type Lane = (Sender<Bytes>, Receiver<Bytes>, Bytes);

fn open_lane() -> Lane {
    let (sender, receiver) = lane(1024);
    (sender, receiver, Bytes::from(vec![0x5a; 16 << 10]))
}

library_benchmark_group!(name = lanes, benchmarks = messages);

// --- The hub

// Thirty frames of a publisher, each to all viewers at its flush.
#[library_benchmark(setup = room)]
#[bench::to_100_viewers(100)]
fn hub(mut room: Room) -> Room {
    for _ in 0..30 {
        room.frame();
    }
    room
}

/// All viewers have had their first key frame.
fn room(viewers: u32) -> Room {
    let mut room = Room::new(viewers);
    for _ in 0..10 {
        room.frame();
    }
    assert!(room.sent_bytes > 80_000 * u64::from(viewers));
    room
}

library_benchmark_group!(name = hubs, benchmarks = hub);

// --- Recording

// Two seconds to a file whose disk is never late: fragments are cut and copied into the buffer that would be written.
#[library_benchmark(setup = recorder)]
#[bench::two_seconds()]
fn recording((mut recorder, frames, mut disk): Recording) -> Recording {
    for frame in &frames {
        let at = frame.dts.as_nanos() as u64;
        recorder.frame(black_box(frame), Now(at), Wall(at));
        serve_disk(&mut recorder, &mut disk, Now(at));
    }
    (recorder, frames, disk)
}

type Recording = (Recorder, Vec<Frame>, Vec<u8>);

/// The file is open and its first fragments are written.
fn recorder() -> Recording {
    let mut recorder = Recorder::new("live/cam", &record::Settings::default());
    for parameters in input::parameters() {
        recorder.frame(&parameters, Now(0), Wall(0));
    }
    let mut recording = (recorder, input::frames(0, 4), vec![0; 2 << 20]);
    let (recorder, frames, disk) = &mut recording;
    for frame in frames {
        let at = frame.dts.as_nanos() as u64;
        recorder.frame(frame, Now(at), Wall(at));
        serve_disk(recorder, disk, Now(at));
    }
    assert!(recorder.counters().fragments >= 2);
    recording.1 = input::frames(4, 2);
    recording
}

fn serve_disk(recorder: &mut Recorder, disk: &mut [u8], now: Now) {
    while let Some(output) = recorder.poll() {
        match output {
            record::Output::Open { segment, .. } => recorder.opened(segment, Ok(4096), now),
            record::Output::Append { segment, fragment, .. } => {
                fragment.write_into(&mut disk[..fragment.len()]);
                recorder.appended(segment, Ok(()), now);
            }
            other => panic!("a disk that is never late hears nothing else: {other:?}"),
        }
    }
}

library_benchmark_group!(name = recorders, benchmarks = recording);

/// Keeps the memory around a machine out of its count.
///
/// For long copies glibc takes an instruction that moves a byte at a time and is counted for each, though a processor
/// takes it for all at once: copies would hide all else, and weigh ten times what they cost. And a large buffer that
/// grows is copied or not, as whatever happens to lie behind it allows: by a mapping of its own it never is.
const TUNABLES: &str = "glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824:\
    glibc.cpu.x86_non_temporal_threshold=1073741824:glibc.malloc.mmap_threshold=4096";

// Caches are not simulated: what they would miss is not compared.
main!(
    config = LibraryBenchmarkConfig::default()
        .env("GLIBC_TUNABLES", TUNABLES)
        .tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = [rtmp_in, containers, parsers, streams, lanes, hubs, recorders]
);
