//! Records a file as a live stream would be: its frames go through a [`Recorder`] and the driver here writes what that
//! says. For looking at our files with other programs.
//!
//! `cargo run -p shardcast-engine --example remux -- IN OUT_DIR [wobble]`. IN is an FLV, or a fragmented MP4 (ffmpeg:
//! `-movflags frag_keyframe+empty_moov+default_base_moof`) whose times then stay on its own clocks. `wobble` makes each
//! seventh frame's time as wrong as real encoders do.
#![allow(clippy::unwrap_used, reason = "a tool for developers: a panic is its report")]

use std::{collections::HashMap, fs, io::Write, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use shardcast_engine::{
    codec::Parameters,
    flv::{Demuxer, TagReader},
    fmp4::demux::{BoxHead, Fragment, Movie, Sample},
    media::{Frame, Payload, TrackId},
    record::{Fault, Output, Recorder, Settings},
    session::Event,
    time::{MediaTime, Now, Unwrapper, Wall},
};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, source, target, rest @ ..] = &args[..] else { panic!("usage: remux IN OUT_DIR [wobble]") };
    let wobble = rest.first().is_some_and(|word| word == "wobble");
    let file = Bytes::from(fs::read(source).unwrap());
    let frames = if file.starts_with(b"FLV") { frames_of_flv(&file) } else { frames_of_mp4(&file) };

    let settings = Settings { segment: Duration::from_secs(3600), ..Settings::default() };
    let mut recorder = Recorder::new("live/remux", &settings);
    let mut driver = Driver { dir: Path::new(target), files: HashMap::new() };
    let mut now = Now(0);
    for (mut frame, index) in frames.into_iter().zip(0u64..) {
        now = now.max(Now(frame.dts.as_nanos().max(0) as u64));
        while let Some(deadline) = recorder.deadline().filter(|deadline| *deadline <= now) {
            recorder.timeout(deadline);
            driver.drain(&mut recorder, deadline);
        }
        if wobble && index % 7 == 6 {
            frame.dts = frame.dts.plus_nanos(if index % 2 == 0 { 50_000_000 } else { -50_000_000 });
        }
        recorder.frame(&frame, now, Wall(1_795_333_500_123_000_000 + now.0));
        driver.drain(&mut recorder, now);
    }
    recorder.finish(now);
    driver.drain(&mut recorder, now);
    assert!(recorder.is_done());
    println!("{:?}", recorder.counters());
}

fn frames_of_flv(file: &[u8]) -> Vec<Frame> {
    let (mut reader, mut demuxer, mut clock) = (TagReader::default(), Demuxer::default(), Unwrapper::new(32));
    let (mut rest, mut frames) = (file, Vec::new());
    while let Some(tag) = reader.read(&mut rest).unwrap() {
        let mut emit = |event| {
            if let Event::Frame(frame) = event {
                frames.push(frame);
            }
        };
        demuxer.tag(&tag, &mut clock, &mut emit).unwrap();
    }
    frames
}

fn frames_of_mp4(file: &Bytes) -> Vec<Frame> {
    let (movie, mut samples) = read(file);
    // In the order in which a publisher would send them.
    samples.sort_by_key(|sample| time(&movie, sample, sample.dts as i64).as_nanos());
    let place = |sample: &Sample| movie.tracks.iter().position(|track| track.id == sample.track).unwrap();
    let parameters = movie.tracks.iter().enumerate().map(|(index, track)| {
        let codec = track.entry.codec.expect("a codec that the engine carries");
        let first = samples.iter().find(|sample| sample.track == track.id).unwrap();
        let parameters = Parameters::parse(codec, track.entry.configuration.clone())
            .or_else(|_| Parameters::from_mp3_frame(&file[first.offset as usize..]));
        let zero = MediaTime::from_millis(0);
        let payload = Payload::Parameters(Arc::new(parameters.unwrap()));
        Frame { track: TrackId(index as u8), dts: zero, pts: zero, payload }
    });
    let media = samples.iter().map(|sample| {
        let codec = movie.tracks[place(sample)].entry.codec.unwrap();
        let data = file.slice(sample.offset as usize..sample.offset as usize + sample.size as usize);
        Frame {
            track: TrackId(place(sample) as u8),
            dts: time(&movie, sample, sample.dts as i64),
            pts: time(&movie, sample, sample.pts),
            payload: match codec.is_video() {
                true => Payload::Video { codec, key: sample.key, data },
                false => Payload::Audio { codec, data },
            },
        }
    });
    parameters.chain(media).collect()
}

fn time(movie: &Movie, sample: &Sample, ticks: i64) -> MediaTime {
    MediaTime { ticks, rate: movie.track(sample.track).unwrap().timescale }
}

fn read(file: &Bytes) -> (Movie, Vec<Sample>) {
    let (mut at, mut movie, mut samples) = (0, Movie::default(), Vec::new());
    while at < file.len() {
        let head = BoxHead::parse(&file[at..]).unwrap();
        let end = head.len.map_or(file.len(), |len| at + len as usize);
        let content = &file[at + head.head_len as usize..end];
        match &head.kind.0 {
            b"moov" => movie = Movie::parse(content).unwrap(),
            b"moof" => samples.extend(Fragment::parse(&movie, content, at as u64).unwrap().samples),
            _ => {}
        }
        at = end;
    }
    (movie, samples)
}

struct Driver<'a> {
    dir: &'a Path,
    files: HashMap<u64, fs::File>,
}

impl Driver<'_> {
    fn drain(&mut self, recorder: &mut Recorder, now: Now) {
        while let Some(output) = recorder.poll() {
            match output {
                Output::Open { segment, path, .. } => {
                    let path = self.dir.join(path);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    match fs::File::create_new(&path) {
                        Ok(file) => {
                            println!("{}", path.display());
                            self.files.insert(segment.0, file);
                            recorder.opened(segment, Ok(4096), now);
                        }
                        Err(_) => recorder.opened(segment, Err(Fault::Exists), now),
                    }
                }
                Output::Append { segment, fragment, .. } => {
                    let mut buffer = vec![0xee; fragment.len()];
                    fragment.write_into(&mut buffer);
                    self.files.get_mut(&segment.0).unwrap().write_all(&buffer).unwrap();
                    recorder.appended(segment, Ok(()), now);
                }
                Output::Finish { segment, length, .. } => {
                    self.files.remove(&segment.0).unwrap().set_len(length).unwrap();
                    recorder.finished(segment, Ok(()));
                }
                output => println!("{output:?}"),
            }
        }
    }
}
