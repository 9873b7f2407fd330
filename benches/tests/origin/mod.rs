//! Small HTTP servers for viewers that ask: one that has files, and one that makes a stream with low latency by itself. A thread
//! for each connection, and nothing that a viewer could not be sent by any other server.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use bytes::BytesMut;
use shardcast_bench::clip::{Clip, Playback};
use shardcast_engine::{
    codec::{Parameters, Shape},
    fmp4::mux,
    media::{Frame, Payload},
    time::Wall,
};
use shardcast_io::clock;

/// What is answered to a path; `None` is a 404.
type Answers = dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync;

/// Serves until the process ends.
fn serve(answers: Arc<Answers>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let address = listener.local_addr().expect("a listener has an address");
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let answers = answers.clone();
            thread::spawn(move || {
                // A viewer that goes is no fault of ours.
                let _ = converse(connection, &*answers);
            });
        }
    });
    address
}

fn converse(connection: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut out = connection.try_clone()?;
    out.set_nodelay(true)?;
    let mut lines = BufReader::new(connection).lines();
    while let Some(request) = lines.next() {
        let request = request?;
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
        let (status, body) = match answers(&path) {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", Vec::new()),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        out.write_all(&[head.as_bytes(), &body].concat())?;
    }
    Ok(())
}

/// The files of a folder.
pub fn files(folder: PathBuf) -> SocketAddr {
    serve(Arc::new(move |path: &str| {
        let name = path.split('?').next().unwrap_or_default().trim_start_matches('/');
        fs::read(folder.join(name)).ok()
    }))
}

/// Pictures of a part: 200 ms.
const PART_PICTURES: usize = 6;
/// Parts of a segment: as long as the clip's groups.
const SEGMENT_PARTS: usize = 10;
/// Segments that are listed.
const LISTED: usize = 4;
const PICTURES_RATE: u32 = 90_000;
const SOUND_RATE: u32 = 1000;

/// A stream as it has been made so far.
#[derive(Default)]
struct Stream {
    /// By rendition and place: bytes, and seconds.
    parts: BTreeMap<(&'static str, usize), (Vec<u8>, f64)>,
    /// Parts of both.
    count: usize,
}

struct Shared {
    stream: Mutex<Stream>,
    grown: Condvar,
    inits: BTreeMap<&'static str, Vec<u8>>,
}

/// A stream of the clip by HLS with low latency, in two renditions, that begins now.
pub fn low_latency() -> SocketAddr {
    let clip = Clip::built_in();
    let inits = clip.opening().parameters.iter().filter_map(|frame| match &frame.payload {
        Payload::Parameters(parameters) => Some(init(parameters)),
        _ => None,
    });
    let shared = Arc::new(Shared { stream: Mutex::default(), grown: Condvar::new(), inits: inits.collect() });
    let maker = shared.clone();
    // The clip is not `Send`.
    thread::spawn(move || make(&maker));
    serve(Arc::new(move |path: &str| answer(&shared, path)))
}

fn init(parameters: &Arc<Parameters>) -> (&'static str, Vec<u8>) {
    let (name, timescale) = match parameters.shape {
        Shape::Video { .. } => ("v", PICTURES_RATE),
        Shape::Audio { .. } => ("a", SOUND_RATE),
    };
    let mut out = BytesMut::new();
    mux::init(&[mux::Track { id: 1, timescale, parameters: parameters.clone() }], Wall(0), &mut out);
    (name, out.to_vec())
}

/// Takes the clip's frames at their pace and cuts them into parts.
fn make(shared: &Shared) {
    let mut playback = Playback::new(Clip::built_in());
    let began = clock::monotonic();
    let mut frames: Vec<Frame> = Vec::new();
    let mut pictures = 0;
    loop {
        let due = began + playback.due();
        thread::sleep(Duration::from_nanos(due.saturating_sub(clock::monotonic())));
        let frame = playback.take(clock::monotonic());
        if frame.is_video() && pictures == PART_PICTURES {
            cut(shared, &frames, frame.dts.as_millis());
            frames.clear();
            pictures = 0;
        }
        pictures += usize::from(frame.is_video());
        frames.push(frame);
    }
}

/// Makes a part of each rendition; what follows begins at `end` milliseconds.
fn cut(shared: &Shared, frames: &[Frame], end: i64) {
    let pictures = rendition(frames.iter().filter(|frame| frame.is_video()), PICTURES_RATE, end);
    // Sound ends where its own next packet would begin, which is about there.
    let sound: Vec<&Frame> = frames.iter().filter(|frame| frame.is_audio()).collect();
    let last = sound.last().map_or(end, |frame| frame.dts.as_millis() + 21);
    let sound = rendition(sound.into_iter(), SOUND_RATE, last);
    let mut stream = shared.stream.lock().unwrap_or_else(PoisonError::into_inner);
    let place = stream.count;
    stream.parts.insert(("v", place), pictures);
    stream.parts.insert(("a", place), sound);
    stream.count += 1;
    shared.grown.notify_all();
}

fn rendition<'a>(frames: impl Iterator<Item = &'a Frame>, rate: u32, end: i64) -> (Vec<u8>, f64) {
    let frames: Vec<&Frame> = frames.collect();
    let times: Vec<i64> = frames.iter().map(|frame| frame.dts.ticks_at(rate)).collect();
    let end = end * i64::from(rate) / 1000;
    let samples: Vec<mux::Sample> = frames
        .iter()
        .enumerate()
        .filter_map(|(index, frame)| {
            let (data, key) = match &frame.payload {
                Payload::Video { data, key, .. } => (data.clone(), *key),
                Payload::Audio { data, .. } => (data.clone(), true),
                _ => return None,
            };
            let next = times.get(index + 1).copied().unwrap_or(end);
            let composition_offset = (frame.pts.ticks_at(rate) - times[index]) as i32;
            Some(mux::Sample { duration: (next - times[index]) as u32, composition_offset, key, data })
        })
        .collect();
    let base_decode_time = times.first().copied().unwrap_or(0) as u64;
    let run = mux::Run { track: 1, base_decode_time, all_key: false, samples: &samples };
    let mut out = BytesMut::new();
    mux::head(1, &[run], &mut out);
    samples.iter().for_each(|sample| out.extend_from_slice(&sample.data));
    let ticks: u64 = samples.iter().map(|sample| u64::from(sample.duration)).sum();
    (out.to_vec(), ticks as f64 / f64::from(rate))
}

fn answer(shared: &Shared, path: &str) -> Option<Vec<u8>> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let name = path.trim_start_matches("/live/cam/");
    if name == "index.m3u8" {
        return Some(
            b"#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\",DEFAULT=YES,URI=\"a.m3u8\"\n\
              #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\nv.m3u8\n"
                .to_vec(),
        );
    }
    let (rendition, rest) = name.split_at_checked(1)?;
    let rendition = ["v", "a"].into_iter().find(|known| *known == rendition)?;
    if rest == ".mp4" {
        return shared.inits.get(rendition).cloned();
    }
    let number = |name: &str| {
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse::<usize>().ok())
    };
    // A playlist has a segment at least; one that is asked for has what it was asked for.
    let part = number("_HLS_part").unwrap_or(0);
    let asked = number("_HLS_msn").map(|segment| segment * SEGMENT_PARTS + part + 1);
    let wanted = asked.unwrap_or(SEGMENT_PARTS + 1);
    let stream = shared.stream.lock().unwrap_or_else(PoisonError::into_inner);
    let stream = shared.grown.wait_while(stream, |stream| stream.count < wanted && rest == ".m3u8");
    let stream = stream.unwrap_or_else(PoisonError::into_inner);
    if rest == ".m3u8" {
        return Some(playlist(&stream, rendition).into_bytes());
    }
    let mut places = rest.strip_suffix(".m4s")?.split('.');
    let first = places.next()?.parse::<usize>().ok()? * SEGMENT_PARTS;
    let wanted = match places.next() {
        Some(part) => {
            let place = first + part.parse::<usize>().ok()?;
            place..place + 1
        }
        None => first..first + SEGMENT_PARTS,
    };
    let parts = wanted.map(|place| Some(stream.parts.get(&(rendition, place))?.0.clone()));
    Some(parts.collect::<Option<Vec<_>>>()?.concat())
}

fn playlist(stream: &Stream, rendition: &'static str) -> String {
    let (open, parts) = (stream.count / SEGMENT_PARTS, stream.count % SEGMENT_PARTS);
    let first = open.saturating_sub(LISTED);
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.25\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.75\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
         #EXT-X-MAP:URI=\"{rendition}.mp4\"\n"
    );
    for segment in first..=open {
        let count = if segment == open { parts } else { SEGMENT_PARTS };
        let places = (0..count).map(|index| (index, segment * SEGMENT_PARTS + index));
        let lengths: Vec<_> =
            places.map(|(index, place)| (index, stream.parts[&(rendition, place)].1)).collect();
        if segment + 2 > open {
            for (index, length) in &lengths {
                let entrance = if *index == 0 { ",INDEPENDENT=YES" } else { "" };
                text += &format!(
                    "#EXT-X-PART:DURATION={length:.5},URI=\"{rendition}{segment}.{index}.m4s\"{entrance}\n"
                );
            }
        }
        if segment < open {
            let sum: f64 = lengths.iter().map(|(_, length)| length).sum();
            text += &format!("#EXTINF:{sum:.5},\n{rendition}{segment}.m4s\n");
        }
    }
    text + &format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{rendition}{open}.{parts}.m4s\"\n")
}
