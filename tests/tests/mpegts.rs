//! MPEG-TS as ffmpeg reads and writes it: clips of real encoders, out of FLV and into a file, segments and the live form, with
//! every packet where and when it was; and ffmpeg's own streams as we read them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bytes::BytesMut;
use shardcast_engine::{
    container::{Pieces, Track},
    demo::CLIP,
    flv::{Demuxer, TagReader},
    media::{Frame, Payload},
    mpegts::{self, Segmenter},
    session::{Event, Opening},
    time::{MediaTime, Unwrapper, Wall},
};
use shardcast_tests::clients::{
    Folder,
    media::{Clip, Kind},
    packets::{self, Packets},
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
/// key frame on, each at its time to the `tolerance` in microseconds.
fn comes_back(
    ffmpeg: &str,
    (tracks, frames): (Vec<Track>, Vec<Frame>),
    source: &Packets,
    filters: &[&str],
    tolerance: i64,
) {
    let folder = Folder::new("mpegts");
    let path = folder.path().join("file.ts");
    let (bytes, entrances) = mux(&tracks, &frames);
    fs::write(&path, &bytes).expect("a file of an own folder can be written");
    Packets::of_filtered_file(ffmpeg, &path, filters).assert_equal(source, tolerance);
    assert_plays(ffmpeg, &path);

    let Some(&entrance) = entrances.get(1) else { return };
    let path = folder.path().join("entered.ts");
    fs::write(&path, &bytes[entrance..]).expect("a file of an own folder can be written");
    let (pictures, sounds) = Packets::of_filtered_file(ffmpeg, &path, filters).assert_run(source, tolerance);
    assert_eq!(pictures.map_or(0, |run| run.first + run.count), source.video.len());
    assert_eq!(sounds.map_or(0, |run| run.first + run.count), source.audio.len());
    assert_plays(ffmpeg, &path);
}

fn flv_comes_back(ffmpeg: &str, flv: &Path, of_flv: &[&str], of_ts: &[&str]) {
    let media = demux(&fs::read(flv).expect("a clip can be read"));
    comes_back(ffmpeg, media, &Packets::of_filtered_file(ffmpeg, flv, of_flv), of_ts, 0);
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
    comes_back(hevc.ffmpeg, (tracks.concat(), frames), &source, &HEVC_OF_TS, 0);
}

#[test]
fn pictures_that_cannot_be_said_are_left_out() {
    for kind in [Kind::Av1, Kind::Vp9] {
        let clip = Clip::of(kind, 6);
        let media = demux(&fs::read(&clip.path).expect("a clip can be read"));
        let source = Packets { video: Vec::new(), audio: clip.packets.audio };
        comes_back(clip.ffmpeg, media, &source, &[], 0);
    }
}

/// What a viewer of the live form is sent: from its first entrance, from the second, and with a jump from in front of the
/// second to the third.
fn live(tracks: &[Track], frames: &[Frame]) -> [Vec<u8>; 3] {
    let mut wire = (mpegts::FORM.open)();
    let mut opening = Opening::default();
    for track in tracks {
        let (dts, payload) = (frames[0].dts, Payload::Parameters(track.parameters.clone()));
        opening.note(&Frame { track: track.id, dts, pts: dts, payload });
    }
    let (mut out, mut entrances) = (BytesMut::new(), Vec::new());
    let has_pictures = frames.iter().any(Frame::is_video);
    for (number, frame) in frames.iter().enumerate() {
        if frame.is_key() || !has_pictures && number % 40 == 0 {
            let (mut header, mut refresh) = (BytesMut::new(), BytesMut::new());
            wire.header(&opening, frame, &mut header);
            wire.refresh(&opening, frame, &mut refresh);
            assert!(header.is_empty());
            entrances.push((out.len(), refresh));
        }
        wire.frame(frame, &mut out);
    }
    let ((_, _), (second, _), (third, refresh)) = (&entrances[0], &entrances[1], &entrances[2]);
    let jump = [&out[..*second], refresh, &out[*third..]].concat();
    [out.to_vec(), out[*second..].to_vec(), jump]
}

/// Demands that players find in the live form of a clip what was in the clip, and have nothing to say about it.
fn is_seen_live(kind: Kind, of_flv: &[&str], of_ts: &[&str]) {
    let clip = Clip::of(kind, 6);
    let (tracks, frames) = demux(&fs::read(&clip.path).expect("a clip can be read"));
    let source = Packets::of_filtered_file(clip.ffmpeg, &clip.path, of_flv);
    let folder = Folder::new("mpegts-live");
    let [whole, entered, jump] = live(&tracks, &frames).map(|bytes| {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = folder.path().join(format!("{number}.ts"));
        fs::write(&path, bytes).expect("a file of an own folder can be written");
        path
    });
    for path in [&whole, &entered, &jump] {
        is_probed_without_a_word(clip.ffmpeg, path);
        // The clip of HEVC has open groups: after a jump pictures that are shown before its key frame miss those they refer to.
        if kind != Kind::Hevc || path != &jump {
            assert_plays(clip.ffmpeg, path);
        }
    }
    Packets::of_filtered_file(clip.ffmpeg, &whole, of_ts).assert_equal(&source, 0);
    let (pictures, sounds) = Packets::of_filtered_file(clip.ffmpeg, &entered, of_ts).assert_run(&source, 0);
    assert_eq!(pictures.map_or(0, |run| run.first + run.count), source.video.len());
    assert_eq!(sounds.map_or(0, |run| run.first + run.count), source.audio.len());
    // What the jump left out is missing in one piece, and nothing else.
    let seen = Packets::of_filtered_file(clip.ffmpeg, &jump, of_ts);
    for (mine, theirs) in [(&seen.video, &source.video), (&seen.audio, &source.audio)] {
        let runs = packets::runs("after a jump", mine, theirs);
        assert!(theirs.is_empty() || runs.len() == 2, "{runs:?}");
    }
}

/// Has ffprobe look at all packets of a file; it may not say a word.
fn is_probed_without_a_word(ffmpeg: &str, path: &Path) {
    let ffprobe = if ffmpeg == "ffmpeg" { "ffprobe" } else { return };
    let mut command = Command::new(program(ffprobe));
    command.args(["-v", "warning", "-show_packets", "-of", "compact"]).arg(path);
    let ended = run(ffprobe, &mut command, Duration::from_secs(60));
    assert_eq!(ended.errors, "");
    assert!(ended.output.contains("packet|"));
}

#[test]
fn h264_is_seen_live() {
    is_seen_live(Kind::H264, &H264_OF_FLV, &[H264_OF_TS, AAC_OF_TS].concat());
}

#[test]
fn hevc_is_seen_live() {
    is_seen_live(Kind::Hevc, &HEVC_OF_FLV, &[HEVC_OF_TS, AAC_OF_TS].concat());
}

#[test]
fn mp3_is_heard_live() {
    is_seen_live(Kind::Mp3, &H264_OF_FLV, &H264_OF_TS);
}

#[test]
fn sound_alone_is_heard_live() {
    is_seen_live(Kind::Sound, &[], &AAC_OF_TS);
}

#[test]
fn each_segment_plays_alone_and_all_of_them_in_a_row() {
    let clip = Clip::of(Kind::H264, 6);
    let (tracks, frames) = demux(&fs::read(&clip.path).expect("a clip can be read"));
    let mut segmenter = Segmenter::new(&tracks, MediaTime::from_millis(0));
    let folder = Folder::new("mpegts-segments");
    let mut all = Vec::new();
    for (number, group) in frames.chunk_by(|_, next| !next.is_key()).enumerate() {
        let mut out = BytesMut::new();
        segmenter.write(group, &mut out);
        let path = folder.path().join(format!("{number}.ts"));
        fs::write(&path, &out).expect("a file of an own folder can be written");
        is_probed_without_a_word(clip.ffmpeg, &path);
        assert_plays(clip.ffmpeg, &path);
        all.extend(out);
    }
    let path = folder.path().join("all.ts");
    fs::write(&path, all).expect("a file of an own folder can be written");
    assert_plays(clip.ffmpeg, &path);
    let source = Packets::of_filtered_file(clip.ffmpeg, &clip.path, &H264_OF_FLV);
    let filters = [H264_OF_TS, AAC_OF_TS].concat();
    Packets::of_filtered_file(clip.ffmpeg, &path, &filters).assert_equal(&source, 0);
}

/// A stream that ffmpeg makes of `input` by these arguments.
fn made_by_ffmpeg(ffmpeg: &str, folder: &Folder, input: &[&str], arguments: &[&str]) -> PathBuf {
    let path = folder.path().join("theirs.ts");
    let mut command = Command::new(program(ffmpeg));
    command
        .args(["-nostdin", "-v", "error", "-y"])
        .args(input)
        .args(arguments)
        .args(["-f", "mpegts"])
        .arg(&path);
    run("ffmpeg-muxer", &mut command, Duration::from_secs(60));
    path
}

/// The tracks and frames of a transport stream that comes in datagrams.
fn demux_ts(bytes: &[u8]) -> (Vec<Track>, Vec<Frame>) {
    let (mut tracks, mut frames) = (Vec::<Track>::new(), Vec::new());
    let mut demuxer = mpegts::Demuxer::default();
    let mut take = |event| match event {
        Event::Frame(frame) if frame.is_media() => frames.push(frame),
        Event::Frame(Frame { track, dts, payload: Payload::Parameters(parameters), .. }) => {
            assert!(
                tracks.iter().all(|known| known.id != track),
                "parameters that stay the same are told once"
            );
            tracks.push(Track { id: track, parameters, rate: dts.rate });
        }
        other => panic!("{other:?}"),
    };
    for datagram in bytes.chunks(1316) {
        demuxer.push(datagram, &mut take);
    }
    demuxer.finish(&mut take);
    let counters = demuxer.counters();
    let faultless = mpegts::demux::Counters {
        packets: counters.packets,
        lost_syncs: counters.lost_syncs,
        skipped_bytes: counters.skipped_bytes,
        ..Default::default()
    };
    assert_eq!(counters, faultless);
    tracks.sort_by_key(|track| track.id);
    (tracks, frames)
}

/// Demands that what we read of ffmpeg's stream, and write again, is what ffmpeg finds in its own.
fn is_read(kind: Kind, arguments: &[&str], of_flv: &[&str], of_ts: &[&str]) {
    let clip = Clip::of(kind, 6);
    let folder = Folder::new("mpegts-theirs");
    let input = ["-i", clip.path.to_str().expect("paths of tests are ASCII"), "-c", "copy"];
    let theirs = made_by_ffmpeg(clip.ffmpeg, &folder, &input, arguments);
    let media = demux_ts(&fs::read(&theirs).expect("a file of an own folder can be read"));
    // Of sound, ffmpeg says the time of one packet in several, and FLV had rounded each to a millisecond.
    let source = Packets::of_filtered_file(clip.ffmpeg, &clip.path, of_flv);
    comes_back(clip.ffmpeg, media, &source, of_ts, 1000);
}

#[test]
fn what_ffmpeg_writes_is_read() {
    let both = [H264_OF_TS, AAC_OF_TS].concat();
    is_read(Kind::H264, &[], &H264_OF_FLV, &both);
    // With tables before each frame, with lengths of all PES packets.
    is_read(Kind::H264, &["-mpegts_flags", "+pat_pmt_at_frames+resend_headers"], &H264_OF_FLV, &both);
    is_read(Kind::H264, &["-omit_video_pes_length", "0", "-muxrate", "3M"], &H264_OF_FLV, &both);
    is_read(Kind::Hevc, &[], &HEVC_OF_FLV, &[HEVC_OF_TS, AAC_OF_TS].concat());
    is_read(Kind::Mp3, &[], &H264_OF_FLV, &H264_OF_TS);
    is_read(Kind::Sound, &[], &[], &AAC_OF_TS);
}

#[test]
fn ac3_and_opus_as_ffmpeg_writes_them_are_read() {
    for coder in ["ac3", "libopus"] {
        let folder = Folder::new("mpegts-sound");
        let input = [
            "-f",
            "lavfi",
            "-i",
            "aevalsrc=0.3*sin(2*PI*(200+20*t)*t):s=48000:d=6",
            "-ac",
            "2",
            "-c:a",
            coder,
        ];
        let theirs = made_by_ffmpeg("ffmpeg", &folder, &input, &[]);
        let source = Packets::of_file("ffmpeg", &theirs);
        let (tracks, frames) = demux_ts(&fs::read(&theirs).expect("a file of an own folder can be read"));
        assert_eq!(frames.len(), source.audio.len());
        comes_back("ffmpeg", (tracks, frames), &source, &[], 100);
    }
}

#[test]
fn vvc_goes_out_and_comes_back() {
    /// ffmpeg makes no difference between parameter sets in the configuration and in the stream.
    const VVC_OF_FLV: [&str; 2] = ["-bsf:v", "vvc_mp4toannexb,filter_units=remove_types=14-16|20|23"];
    const VVC_OF_TS: [&str; 2] = ["-bsf:v", "filter_units=remove_types=14-16|20|23"];
    clip_comes_back(Kind::Vvc, &VVC_OF_FLV, &[VVC_OF_TS, AAC_OF_TS].concat());
    is_read(Kind::Vvc, &[], &VVC_OF_FLV, &[VVC_OF_TS, AAC_OF_TS].concat());
}
