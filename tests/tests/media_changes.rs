//! Streams that become others midway, for viewers who stay: other pictures from one publisher, another codec from one that
//! comes back.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use shardcast_tests::clients::{
    Folder,
    flv::{self, AUDIO, Tag, VIDEO},
    forms::{Expected, Form, Player, Reading, follow, keepers},
    media::{Clip, Kind},
    packaged::{self, Kept},
    packets::{Packet, Packets},
    process::{Process, run},
    program,
    server::{Server, Setup},
    web::Web,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// ffmpeg reads other pictures in these; of DASH it reads one period.
const LISTING: [Form; 4] = [Form::Rtmp, Form::Flv, Form::Ts, Form::Hls];

/// What was read of two clips, taken apart where the second begins.
fn halves(form: Form, got: &Packets, second: &Packets) -> [Packets; 2] {
    let cut = |what: &str, got: &[Packet], second: &[Packet]| {
        let first = second.first().expect("a clip has both");
        // The last of its kind: clips of one sound begin with the same packet.
        let place = got.iter().rposition(|packet| packet.hash == first.hash);
        let place = place.unwrap_or_else(|| panic!("{form:?}: {what} of the second clip did not begin"));
        let (before, after) = got.split_at(place);
        if let (Some(last), Some(first)) = (before.last(), after.first()) {
            assert!(last.dts < first.dts, "{form:?}: time goes back from {last:?} to {first:?}");
        }
        (before.to_vec(), after.to_vec())
    };
    let (before, after) = cut("pictures", &got.video, &second.video);
    let (heard_before, heard_after) = cut("sound", &got.audio, &second.audio);
    [Packets { video: before, audio: heard_before }, Packets { video: after, audio: heard_after }]
}

fn assert_both(form: Form, got: &Packets, [first, second]: &[Expected; 2]) {
    let [before, after] = halves(form, got, second.form(form));
    first.assert_whole(form, &before);
    second.assert_whole(form, &after);
}

/// The sizes of the pictures in a file, as they are decoded, with how many have each. It may not complain.
fn decoded(path: &Path) -> BTreeMap<String, usize> {
    let mut command = Command::new(program("ffprobe"));
    command.args([
        "-v",
        "warning",
        "-select_streams",
        "v",
        "-show_entries",
        "frame=width,height",
        "-of",
        "csv=p=0",
    ]);
    let ended = run("ffprobe", command.arg(path), PATIENCE);
    assert_eq!(ended.errors, "", "{}", path.display());
    let mut sizes = BTreeMap::new();
    for line in ended.output.lines().filter(|line| !line.is_empty()) {
        *sizes.entry(line.trim_end_matches(',').to_owned()).or_default() += 1;
    }
    sizes
}

/// Follows `live/turn` in all packaged forms on connections of our own, and with `players`, while `publish` publishes it.
fn keep_all(
    server: &Server,
    players: &[Player],
    publish: impl FnOnce(),
) -> (Vec<Reading>, Vec<(Form, Kept)>) {
    thread::scope(|scope| {
        let keeping: Vec<_> = [Form::Hls, Form::Dash]
            .map(|form| {
                scope.spawn(move || {
                    let mut web = Web::connect(server);
                    (form, packaged::keep(&mut web, form, "live/turn"))
                })
            })
            .into();
        let readings = follow(server, "live/turn", players, publish);
        (readings, keeping.into_iter().map(|keeper| keeper.join().expect("it was kept to its end")).collect())
    })
}

/// The tags of a file, without what it says of itself.
fn media_of(path: &Path) -> Vec<Tag> {
    flv::tags_of(path).into_iter().filter(|tag| tag.kind != 18).collect()
}

/// Tags of both clips, one behind the other.
fn one_behind_the_other(first: &Clip, second: &Clip) -> Vec<Tag> {
    let mut tags = media_of(&first.path);
    // A packet of sound after the last.
    let pause = tags.iter().map(|tag| tag.time).max().expect("a clip has tags") + 40;
    tags.extend(media_of(&second.path).into_iter().map(|tag| Tag { time: tag.time + pause, ..tag }));
    tags
}

/// An FLV file of these tags.
fn write_flv(path: &Path, tags: &[Tag]) {
    let mut bytes = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
    for tag in tags {
        let length = u32::try_from(tag.body.len()).expect("24 bits");
        let [_, l2, l1, l0] = length.to_be_bytes();
        let [t3, t2, t1, t0] = tag.time.to_be_bytes();
        bytes.extend([tag.kind, l2, l1, l0, t2, t1, t0, t3, 0, 0, 0]);
        bytes.extend(&tag.body);
        bytes.extend((length + 11).to_be_bytes());
    }
    fs::write(path, bytes).expect("an own folder can be written");
}

#[test]
fn pictures_become_larger_midway() {
    becomes(Kind::H264Wide);
}

#[test]
fn pictures_become_larger_and_the_sound_changes_its_rate_midway() {
    becomes(Kind::H264Other);
}

/// Publishes two clips as one stream, and demands that both come back.
fn becomes(kind: Kind) {
    let clips = [Clip::of(Kind::H264, 6), Clip::of(kind, 6)];
    let expected = clips.each_ref().map(Expected::of);
    let folder = Folder::new("larger");
    let path = folder.path().join("both.flv");
    write_flv(&path, &one_behind_the_other(&clips[0], &clips[1]));

    let server = Setup::new().start();
    let kept = keepers(folder.path(), &[Form::Rtmp, Form::Flv, Form::Ts]);
    // ffmpeg takes the second initialisation segment of HLS for the first once more, and so keeps the clock of the first sound.
    let listing = LISTING.into_iter().filter(|form| *form != Form::Hls || kind != Kind::H264Other);
    let mut players: Vec<Player> = listing.map(|form| Player::of(form, &clips[0])).collect();
    players.extend(kept.iter().map(|(player, _)| player.clone()));
    let (readings, packaged) = keep_all(&server, &players, || {
        // ffmpeg says the second clip's parameters where they begin to hold: those of the sound with its first packet, a
        // little after the first picture.
        let mut command = Command::new(program("ffmpeg"));
        command.args(["-nostdin", "-v", "warning", "-re", "-i"]).arg(&path).args(["-c", "copy", "-f", "flv"]);
        command.args(["-flvflags", "no_duration_filesize", &server.rtmp_url("live/turn")]);
        Process::start("ffmpeg-publisher", &mut command).succeed(PATIENCE);
    });
    for reading in readings {
        assert!(reading.complaints.is_empty(), "{:?}: {:?}", reading.form, reading.complaints);
        if let Some(packets) = &reading.packets {
            assert_both(reading.form, packets, &expected);
        }
    }
    let pictures = clips.each_ref().map(|clip| clip.packets.video.len());
    let wanted = BTreeMap::from([("320,180".to_owned(), pictures[0]), ("640,360".to_owned(), pictures[1])]);
    for (player, path) in kept {
        assert_eq!(decoded(&path), wanted, "{:?}", player.form);
    }
    for (form, kept) in packaged {
        let filters = if form.is_transport() { clips[0].kind.of_transport() } else { Vec::new() };
        assert_both(form, &kept.packets("ffmpeg", &filters), &expected);
        let mut sizes = BTreeMap::new();
        for (size, count) in kept.pieces.iter().flat_map(|piece| decoded(&piece.path)) {
            *sizes.entry(size).or_default() += count;
        }
        assert_eq!(sizes, wanted, "{form:?}");
    }
}

#[test]
fn a_publisher_comes_back_with_another_codec() {
    let clips = [Clip::of(Kind::H264, 6), Clip::of(Kind::Hevc, 6)];
    let expected = clips.each_ref().map(Expected::of);
    let folder = Folder::new("codec");
    let server = Setup::new().stream("reconnect_window = \"4s\"\n").start();
    let kept = keepers(folder.path(), &[Form::Rtmp, Form::Flv, Form::Ts]);
    let players: Vec<Player> = kept.iter().map(|(player, _)| player.clone()).collect();
    let (readings, packaged) = keep_all(&server, &players, || {
        for clip in &clips {
            clip.publish(&server.rtmp_url("live/turn")).succeed(PATIENCE);
        }
    });
    for reading in readings {
        assert!(reading.complaints.is_empty(), "{:?}: {:?}", reading.form, reading.complaints);
    }
    let mut parts: Vec<(Form, Vec<PathBuf>)> = kept
        .into_iter()
        .map(|(player, path)| {
            let halves = ["first", "second"].map(|name| path.with_extension(name));
            if player.form.is_transport() {
                cut_ts(&path, &halves)
            } else {
                cut_flv(&path, &halves)
            }
            (player.form, halves.into())
        })
        .collect();
    for (form, kept) in &packaged {
        parts.push((*form, kept.pieces.iter().map(|piece| piece.path.clone()).collect()));
    }
    for (form, files) in parts {
        let mut got = Packets::default();
        let mut shown = 0;
        for file in &files {
            let codec = codec_of(file);
            let clip = if codec == "hevc" { &clips[1] } else { &clips[0] };
            let filters = if form.is_transport() { clip.kind.of_transport() } else { Vec::new() };
            let packets = Packets::of_filtered_file("ffmpeg9", file, &filters);
            if !packets.video.is_empty() {
                shown += shown_of(file);
            }
            got.video.extend(packets.video);
            got.audio.extend(packets.audio);
        }
        assert_both(form, &got, &expected);
        assert_eq!(shown, got.video.len(), "{form:?}: all are shown");
    }
}

/// How many pictures of a file are decoded by who knows HEVC in FLV. It may not complain.
fn shown_of(path: &Path) -> usize {
    let mut command = Command::new(program("ffmpeg9"));
    command.args(["-nostdin", "-v", "warning", "-i"]).arg(path);
    command.args(["-map", "0:v", "-fps_mode", "passthrough", "-f", "framehash", "-"]);
    let ended = run("ffmpeg-decoder", &mut command, PATIENCE);
    assert_eq!(ended.errors, "", "{}", path.display());
    ended.output.lines().filter(|line| !line.starts_with('#')).count()
}

/// The codec of the pictures in a file, or nothing.
fn codec_of(path: &Path) -> String {
    let mut command = Command::new(program("ffmpeg9"));
    command.args(["-nostdin", "-v", "info", "-i"]).arg(path).args([
        "-map",
        "0:v?",
        "-c",
        "copy",
        "-f",
        "framehash",
        "-",
    ]);
    let ended = Process::start("ffmpeg-codec", &mut command).finish(PATIENCE);
    let line = ended.output.lines().find(|line| line.starts_with("#codec_id 0: "));
    line.map(|line| line.rsplit(' ').next().unwrap_or_default().to_owned()).unwrap_or_default()
}

/// Cuts FLV where another codec begins. Parameters of the sound still hold.
fn cut_flv(path: &Path, [first, second]: &[PathBuf; 2]) {
    let tags = media_of(path);
    // Enhanced RTMP: the highest bit says that a FourCC follows.
    let enhanced = |tag: &Tag| tag.kind == VIDEO && tag.body.first().is_some_and(|first| first & 0x80 != 0);
    let cut = tags.iter().position(enhanced).expect("the other codec begins");
    let (before, after) = tags.split_at(cut);
    write_flv(first, before);
    let parameters = before.iter().rfind(|tag| tag.kind == AUDIO && !tag.is_media());
    let after: Vec<Tag> = parameters.into_iter().chain(after).cloned().collect();
    write_flv(second, &after);
}

/// Cuts MPEG-TS where the map first names HEVC, before the tables.
fn cut_ts(path: &Path, [first, second]: &[PathBuf; 2]) {
    const PACKET: usize = 188;
    let bytes = fs::read(path).expect("an own folder can be read");
    let pid = |packet: &[u8]| u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff;
    let packets: Vec<&[u8]> = bytes.chunks_exact(PACKET).collect();
    assert!(packets.iter().all(|packet| packet[0] == 0x47), "packets follow each other");
    // The map as ffmpeg numbers it; each entry begins with its stream_type, and HEVC's is 0x24. (ISO/IEC 13818-1, table 2-34)
    let names_hevc = |packet: &[u8]| pid(packet) == 0x1000 && packet[5 + 12] == 0x24;
    let map = packets.iter().position(|packet| names_hevc(packet)).expect("the other codec begins");
    let tables = packets[..map].iter().rposition(|packet| pid(packet) == 0).expect("tables stand together");
    fs::write(first, packets[..tables].concat()).expect("an own folder can be written");
    fs::write(second, packets[tables..].concat()).expect("an own folder can be written");
}
