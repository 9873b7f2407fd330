//! MPEG-TS files as ffmpeg reads them: clips of real encoders, out of FLV and into a file, with every packet where and when it
//! was.

use std::{fs, path::Path, process::Command, time::Duration};

use shardcast_engine::{
    container::{Pieces, Track},
    demo::CLIP,
    flv::{Demuxer, TagReader},
    media::{Frame, Payload},
    mpegts,
    session::Event,
    time::{Unwrapper, Wall},
};
use shardcast_tests::clients::{
    Folder,
    media::{Clip, Kind},
    packets::Packets,
    process::run,
    program,
};

/// Without what the two forms of a picture differ in: FLV has parameter sets in its configuration and no delimiters.
const H264_OF_FLV: [&str; 2] = ["-bsf:v", "h264_mp4toannexb,filter_units=remove_types=7-9"];
const H264_OF_TS: [&str; 2] = ["-bsf:v", "filter_units=remove_types=7-9"];
/// And without what x265 says of itself in its configuration, which is not written.
const HEVC_OF_FLV: [&str; 2] = ["-bsf:v", "hevc_mp4toannexb,filter_units=remove_types=32-35|39"];
const HEVC_OF_TS: [&str; 2] = ["-bsf:v", "filter_units=remove_types=32-35|39"];
/// Without the headers that AAC has here.
const AAC_OF_TS: [&str; 2] = ["-bsf:a", "aac_adtstoasc"];

/// The tracks of an FLV file, and its frames in order.
fn demux(flv: &[u8]) -> (Vec<Track>, Vec<Frame>) {
    let (mut tracks, mut frames) = (Vec::<Track>::new(), Vec::new());
    let (mut reader, mut demuxer, mut clock) = (TagReader::default(), Demuxer::default(), Unwrapper::new(32));
    let mut rest = flv;
    while let Some(tag) = reader.read(&mut rest).expect("the clip is whole") {
        let mut take = |event| match event {
            Event::Frame(frame) if frame.is_media() => frames.push(frame),
            Event::Frame(Frame { track, dts, payload: Payload::Parameters(parameters), .. })
                if tracks.iter().all(|known| known.id != track) =>
            {
                tracks.push(Track { id: track, parameters, rate: dts.rate });
            }
            _ => {}
        };
        demuxer.tag(&tag, &mut clock, &mut take).expect("the clip is whole");
    }
    tracks.sort_by_key(|track| track.id);
    (tracks, frames)
}

/// The file of these frames, in fragments that begin with key frames where they can, as a recorder cuts them; and where those
/// begin.
fn mux(tracks: &[Track], frames: &[Frame]) -> (Vec<u8>, Vec<usize>) {
    const FRAMES: usize = 40;
    let mut muxer = (mpegts::CONTAINER.open)();
    let mut out = Pieces::new();
    muxer.begin(tracks, Wall(0), &mut out);
    let mut entrances = Vec::new();
    for group in frames.chunk_by(|_, next| !next.is_key()) {
        for (place, fragment) in group.chunks(FRAMES).enumerate() {
            if place == 0 && fragment[0].is_key() {
                entrances.push(out.len());
            }
            muxer.fragment(fragment, None, &mut out);
        }
    }
    (out.finish().concat(), entrances)
}

/// Has ffmpeg decode the whole file; it may not say a word.
fn assert_plays(ffmpeg: &str, path: &Path) {
    let mut command = Command::new(program(ffmpeg));
    command.args(["-nostdin", "-v", "warning", "-xerror", "-i"]).arg(path).args(["-f", "null", "-"]);
    let ended = run("ffmpeg-decoder", &mut command, Duration::from_secs(120));
    assert_eq!(ended.errors, "");
}

/// Demands that ffmpeg finds in the file of these frames what it found in their source, from the beginning and from the second
/// key frame on.
fn comes_back(ffmpeg: &str, (tracks, frames): (Vec<Track>, Vec<Frame>), source: &Packets, filters: &[&str]) {
    let folder = Folder::new("mpegts");
    let path = folder.path().join("file.ts");
    let (bytes, entrances) = mux(&tracks, &frames);
    fs::write(&path, &bytes).expect("a file of an own folder can be written");
    Packets::of_filtered_file(ffmpeg, &path, filters).assert_equal(source, 0);
    assert_plays(ffmpeg, &path);

    let Some(&entrance) = entrances.get(1) else { return };
    let path = folder.path().join("entered.ts");
    fs::write(&path, &bytes[entrance..]).expect("a file of an own folder can be written");
    let (pictures, sounds) = Packets::of_filtered_file(ffmpeg, &path, filters).assert_run(source, 0);
    assert_eq!(pictures.map_or(0, |run| run.first + run.count), source.video.len());
    assert_eq!(sounds.map_or(0, |run| run.first + run.count), source.audio.len());
    assert_plays(ffmpeg, &path);
}

fn flv_comes_back(ffmpeg: &str, flv: &Path, of_flv: &[&str], of_ts: &[&str]) {
    let media = demux(&fs::read(flv).expect("a clip can be read"));
    comes_back(ffmpeg, media, &Packets::of_filtered_file(ffmpeg, flv, of_flv), of_ts);
}

fn clip_comes_back(kind: Kind, of_flv: &[&str], of_ts: &[&str]) {
    let clip = Clip::of(kind, 6);
    flv_comes_back(clip.ffmpeg, &clip.path, of_flv, of_ts);
}

#[test]
fn the_built_in_clip_comes_back_and_plays_without_a_complaint() {
    let folder = Folder::new("mpegts-clip");
    let path = folder.path().join("clip.flv");
    fs::write(&path, CLIP).expect("a file of an own folder can be written");
    flv_comes_back("ffmpeg", &path, &H264_OF_FLV, &[H264_OF_TS, AAC_OF_TS].concat());
}

#[test]
fn h264_with_b_frames_and_aac_come_back() {
    clip_comes_back(Kind::H264, &H264_OF_FLV, &[H264_OF_TS, AAC_OF_TS].concat());
}

#[test]
fn hevc_with_b_frames_and_aac_come_back() {
    clip_comes_back(Kind::Hevc, &HEVC_OF_FLV, &[HEVC_OF_TS, AAC_OF_TS].concat());
}

#[test]
fn mp3_comes_back() {
    clip_comes_back(Kind::Mp3, &H264_OF_FLV, &H264_OF_TS);
}

#[test]
fn aac_alone_comes_back() {
    clip_comes_back(Kind::Sound, &[], &AAC_OF_TS);
}

#[test]
fn hevc_and_opus_come_back() {
    let (hevc, vp9) = (Clip::of(Kind::Hevc, 6), Clip::of(Kind::Vp9, 6));
    let [pictures, sound] =
        [&hevc, &vp9].map(|clip| demux(&fs::read(&clip.path).expect("a clip can be read")));
    let of_kind = |video: bool| move |track: &Track| track.parameters.codec.is_video() == video;
    let tracks = [
        pictures.0.into_iter().filter(of_kind(true)).collect::<Vec<_>>(),
        sound.0.into_iter().filter(of_kind(false)).collect(),
    ];
    let mut frames: Vec<Frame> = pictures.1.into_iter().filter(Frame::is_video).collect();
    frames.extend(sound.1.into_iter().filter(Frame::is_audio));
    frames.sort_by_key(|frame| frame.dts.as_nanos());
    let source = Packets {
        video: Packets::of_filtered_file(hevc.ffmpeg, &hevc.path, &HEVC_OF_FLV).video,
        audio: vp9.packets.audio,
    };
    comes_back(hevc.ffmpeg, (tracks.concat(), frames), &source, &HEVC_OF_TS);
}

#[test]
fn pictures_that_cannot_be_said_are_left_out() {
    for kind in [Kind::Av1, Kind::Vp9] {
        let clip = Clip::of(kind, 6);
        let media = demux(&fs::read(&clip.path).expect("a clip can be read"));
        let source = Packets { video: Vec::new(), audio: clip.packets.audio };
        comes_back(clip.ffmpeg, media, &source, &[]);
    }
}
