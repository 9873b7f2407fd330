//! Records a fragmented MP4 (ffmpeg: `-movflags frag_keyframe+empty_moov+default_base_moof`) as a live stream would be:
//! its samples go through a [`Recorder`] and the driver here writes what that says. For looking at our files with other
//! programs.
//!
//! `cargo run -p shardcast-engine --example remux -- IN.mp4 OUT_DIR [millis|wobble]`; `millis` puts the times on
//! RTMP's clock, `wobble` also makes each seventh frame's as wrong as real encoders do.
#![allow(clippy::unwrap_used, reason = "a tool for developers: a panic is its report")]

use std::{collections::HashMap, fs, io::Write, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use shardcast_engine::{
    codec::Parameters,
    fmp4::demux::{BoxHead, Fragment, Movie, Sample},
    media::{Frame, Payload, StreamName, TrackId},
    record::{Fault, Output, Recorder, Settings},
    time::{MediaTime, Now, Wall},
};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, source, target, rest @ ..] = &args[..] else {
        panic!("usage: remux IN.mp4 OUT_DIR [millis|wobble]")
    };
    let wobble = rest.first().is_some_and(|word| word == "wobble");
    let millis = wobble || rest.first().is_some_and(|word| word == "millis");
    let file = Bytes::from(fs::read(source).unwrap());
    let (movie, mut samples) = read(&file);

    // In the order in which a publisher would send them.
    samples.sort_by_key(|sample| time(&movie, sample, sample.dts as i64).as_nanos());
    let name = StreamName::parse("live/remux").unwrap();
    let mut recorder = Recorder::new(name, &Settings { segment: Duration::from_secs(3600) });
    let mut driver = Driver { dir: Path::new(target), files: HashMap::new() };
    let shape_of = |index: usize| movie.tracks[index].entry.shape.unwrap();
    for (index, track) in movie.tracks.iter().enumerate() {
        let codec = track.entry.codec.expect("a codec that the engine carries");
        let parameters =
            Parameters::parse(codec, track.entry.configuration.clone()).unwrap_or_else(|_| Parameters {
                codec,
                configuration: track.entry.configuration.clone(),
                shape: shape_of(index),
                codec_string: String::new(),
            });
        let payload = Payload::Parameters(Arc::new(parameters));
        let zero = MediaTime::from_millis(0);
        let frame = Frame { track: TrackId(index as u8), dts: zero, pts: zero, payload };
        recorder.frame(&frame, Now(0), Wall(0));
    }
    for (index, sample) in samples.iter().enumerate() {
        let track = movie.tracks.iter().position(|track| track.id == sample.track).unwrap();
        let codec = movie.tracks[track].entry.codec.unwrap();
        let data = file.slice(sample.offset as usize..sample.offset as usize + sample.size as usize);
        let payload = match codec.is_video() {
            true => Payload::Video { codec, key: sample.key, data },
            false => Payload::Audio { codec, data },
        };
        let (mut dts, mut pts) = (time(&movie, sample, sample.dts as i64), time(&movie, sample, sample.pts));
        let now = Now(dts.as_nanos() as u64);
        if millis {
            (dts, pts) = (MediaTime::from_millis(dts.as_millis()), MediaTime::from_millis(pts.as_millis()));
        }
        if wobble && index % 7 == 6 {
            dts = dts.plus_nanos(if index % 2 == 0 { 50_000_000 } else { -50_000_000 });
        }
        let wall = Wall(1_795_333_500_123_000_000 + now.0);
        recorder.frame(&Frame { track: TrackId(track as u8), dts, pts, payload }, now, wall);
        driver.drain(&mut recorder, now);
    }
    recorder.finish(Now(0));
    driver.drain(&mut recorder, Now(0));
    assert!(recorder.is_done());
    println!("{} samples: {:?}", samples.len(), recorder.counters());
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
