//! What containers cost, each as a ratio in the same run: packets of MPEG-TS beside those that another crate writes, a part
//! of a packaged stream beside a copy of its payload. `cargo bench -p shardcast-bench --bench containers` runs it for half a
//! minute. CPU of this thread, median of some rounds, the two sides in turn.

use std::{hint::black_box, ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use mpeg2ts::ts::{
    ReadTsPacket, TsPacket, TsPacketReader, TsPacketWriter, TsPayload, WriteTsPacket, payload::Pes,
};
use shardcast_engine::{
    codec::{Codec, Parameters},
    media::{Frame, Payload, TrackId},
    mpegts,
    segment::{Cut, Numbering, Packager, Settings},
    session::Opening,
    time::{MediaTime, Wall},
};
use shardcast_io::clock;

const ROUNDS: usize = 15;
/// Seconds of the stream that a round of packets writes.
const ROUND_SECONDS: usize = 20;
/// Pictures of a stream of 4 Mbit/s, ten seconds of it.
const PICTURES: i64 = 300;
const PICTURE_BYTES: usize = 13_000;
const KEY_BYTES: usize = 90_000;
/// `avcC` of a stream of 1280x720.
const AVCC: &[u8] = &[
    0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05,
    0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
    0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
];

fn main() {
    let (opening, frames) = stream();
    packets(&opening, &frames);
    parts(&opening, &frames);
}

/// Pictures with a key frame each two seconds, each one NAL unit.
fn stream() -> (Opening, Vec<Frame>) {
    let parameters =
        Parameters::parse(Codec::H264, Bytes::from_static(AVCC)).expect("a configuration of x264");
    let frame = |millis, payload| {
        let time = MediaTime::from_millis(millis);
        Frame { track: TrackId::VIDEO, dts: time, pts: time, payload }
    };
    let mut opening = Opening::default();
    opening.note(&frame(0, Payload::Parameters(Arc::new(parameters))));
    let picture = |number: i64| {
        let key = number % 60 == 0;
        let len = if key { KEY_BYTES } else { PICTURE_BYTES };
        let mut data = Vec::with_capacity(len);
        data.extend_from_slice(&u32::try_from(len - 4).expect("a small picture").to_be_bytes());
        data.push(if key { 0x65 } else { 0x41 });
        data.resize(len, 0x5a);
        frame(number * 1000 / 30, Payload::Video { codec: Codec::H264, key, data: data.into() })
    };
    (opening, (0..PICTURES).map(picture).collect())
}

/// What `work` takes, CPU seconds of this thread, each round; `other` in turn.
fn in_turn(mut work: impl FnMut(), mut other: impl FnMut()) -> (f64, f64, f64, f64, f64) {
    let timed = |work: &mut dyn FnMut()| {
        let before = clock::thread_cpu();
        work();
        (clock::thread_cpu() - before) as f64 / 1e9
    };
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (mine, yours) = (timed(&mut work), timed(&mut other));
        // The first warms caches and heap.
        if round > 0 {
            ours.push(mine);
            theirs.push(yours);
            ratios.push(mine / yours);
        }
    }
    for figures in [&mut ours, &mut theirs, &mut ratios] {
        figures.sort_by(f64::total_cmp);
    }
    (ours[ROUNDS / 2], theirs[ROUNDS / 2], ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1])
}

type Writer<'a> = TsPacketWriter<&'a mut Vec<u8>>;

/// What mpeg2ts is told of a packet before it can write it: all that is decided, without the bytes that it carries.
struct Told {
    packet: TsPacket,
    /// Where its bytes lie in what was muxed; none: it carries a table, or nothing.
    bytes: Option<Range<usize>>,
}

impl Told {
    fn of(packet: TsPacket, at: usize) -> Self {
        let len = match &packet.payload {
            Some(TsPayload::PesStart(start)) => Some(start.data.len()),
            Some(TsPayload::PesContinuation(bytes)) => Some(bytes.len()),
            _ => None,
        };
        // A packet's bytes are its last ones.
        let end = at + TsPacket::SIZE;
        Self { packet, bytes: len.map(|len| end - len..end) }
    }

    /// The packet as one who has a frame must make it: its payload is a value of the crate's, which owns its bytes.
    fn with_bytes(&self, all: &[u8]) -> TsPacket {
        let carried = |range: &Range<usize>| {
            mpeg2ts::ts::payload::Bytes::new(&all[range.clone()]).expect("no longer than a packet")
        };
        let payload = match (&self.packet.payload, &self.bytes) {
            (Some(TsPayload::PesStart(start)), Some(range)) => Some(TsPayload::PesStart(Pes {
                header: start.header.clone(),
                pes_packet_len: start.pes_packet_len,
                data: carried(range),
            })),
            (Some(TsPayload::PesContinuation(_)), Some(range)) => {
                Some(TsPayload::PesContinuation(carried(range)))
            }
            (payload, _) => payload.clone(),
        };
        TsPacket {
            header: self.packet.header.clone(),
            adaptation_field: self.packet.adaptation_field.clone(),
            payload,
        }
    }
}

/// Frames to packets here, and the same packets by another crate, twice: made of the frame's bytes and written, which is muxing, with
/// all that there is to decide decided before; and lying there as the crate's values, their bytes in them, to be written only.
/// Each writes a flush and begins at the same place again, as a server does whose sends are on their way: what it writes from has
/// just come, and so has what it writes to.
fn packets(opening: &Opening, frames: &[Frame]) {
    let second = &frames[..30];
    let mux = |out: &mut BytesMut, flush: &mut dyn FnMut(&mut BytesMut)| {
        let mut wire = (mpegts::FORM.open)();
        wire.header(opening, &second[0], out);
        for frame in second {
            wire.frame(frame, out);
            flush(out);
        }
    };
    let mut out = BytesMut::with_capacity(1 << 20);
    let (mut all, mut counts) = (Vec::new(), Vec::new());
    mux(&mut out, &mut |out| {
        all.extend_from_slice(out);
        counts.push(out.len() / TsPacket::SIZE);
        out.clear();
    });
    let mut reader = TsPacketReader::new(&all[..]);
    let packet = || reader.read_ts_packet().expect("what we write, others read");
    let mut told =
        std::iter::from_fn(packet).zip((0..).step_by(TsPacket::SIZE)).map(|(p, at)| Told::of(p, at));
    let flushes: Vec<Vec<Told>> = counts.iter().map(|count| told.by_ref().take(*count).collect()).collect();
    let count = flushes.iter().map(Vec::len).sum::<usize>();
    assert_eq!(count * TsPacket::SIZE, all.len(), "another reader finds as many packets");
    // Their tables are stuffed elsewhere, and bits that are reserved are not set.
    let theirs = written(&flushes, &all);
    let carried: Vec<_> = flushes.iter().flatten().filter_map(|told| told.bytes.clone()).collect();
    assert!(carried.len() * 10 > count * 9 && carried.into_iter().all(|at| theirs[at.clone()] == all[at]));
    let mut both = |what, write: &dyn Fn(&Told, &mut Writer<'_>) -> mpeg2ts::Result<()>| {
        let mut theirs = Vec::with_capacity(1 << 20);
        let (ours, other, ratio, least, most) = in_turn(
            || {
                for _ in 0..ROUND_SECONDS {
                    mux(&mut out, &mut |out| {
                        black_box(&out);
                        out.clear();
                    });
                }
            },
            || {
                for flush in flushes.iter().cycle().take(ROUND_SECONDS * flushes.len()) {
                    let mut writer = TsPacketWriter::new(&mut theirs);
                    for told in flush {
                        write(told, &mut writer).expect("memory takes all");
                    }
                    black_box(&theirs);
                    theirs.clear();
                }
            },
        );
        let rate = |seconds| (ROUND_SECONDS * count) as f64 / seconds / 1e6;
        println!(
            "MPEG-TS: {:.1} million packets/s, mpeg2ts {what} {:.1}: {:.1} times as many ({:.1} - {:.1})",
            rate(ours),
            rate(other),
            1.0 / ratio,
            1.0 / most,
            1.0 / least
        );
    };
    both("from frames", &|told, writer| writer.write_ts_packet(&told.with_bytes(&all)));
    both("from packets made before", &|told, writer| writer.write_ts_packet(&told.packet));
}

/// All that another crate makes of `flushes`, with the bytes that they carry in `all`.
fn written(flushes: &[Vec<Told>], all: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = TsPacketWriter::new(&mut out);
    for told in flushes.iter().flatten() {
        writer.write_ts_packet(&told.with_bytes(all)).expect("memory takes all");
    }
    out
}

/// Frames to parts, and a copy of their payload into memory of the same sizes.
fn parts(opening: &Opening, frames: &[Frame]) {
    let package = || {
        let group = Some(std::time::Duration::from_secs(2));
        let mut packager = Packager::new(Settings::default(), 1, group, opening, Numbering::default());
        let mut parts = Vec::new();
        for frame in frames {
            packager.frame(frame, Wall(1_795_333_500_000_000_000));
            while let Some(cut) = packager.poll() {
                if let Cut::Part(part) = cut {
                    parts.push(part);
                }
            }
        }
        parts
    };
    // As many pictures as a part has, in memory of its own.
    let copy = || {
        let copied: Vec<Bytes> = frames
            .chunks(6)
            .map(|run| {
                let len = run.iter().map(Frame::payload_bytes).sum();
                let mut out = BytesMut::with_capacity(len);
                for frame in run {
                    if let Payload::Video { data, .. } = &frame.payload {
                        out.extend_from_slice(data);
                    }
                }
                out.freeze()
            })
            .collect();
        copied
    };
    assert!(package().len() >= 49, "ten seconds of parts of a fifth");
    let (ours, other, ratio, least, most) = in_turn(
        || {
            for _ in 0..20 {
                black_box(package());
            }
        },
        || {
            for _ in 0..20 {
                black_box(copy());
            }
        },
    );
    println!(
        "fMP4: a second of 4 Mbit/s in parts {:.1} us, a copy of its payload {:.1}: {ratio:.2} ({least:.2} - {most:.2})",
        ours / 200.0 * 1e6,
        other / 200.0 * 1e6,
    );
}
