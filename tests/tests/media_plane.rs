//! Streams that are not what encoders send on a good day, in every form that can carry them: real programs publish, real
//! programs read, and what was read is what was published.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use shardcast_tests::clients::{
    Folder,
    flv::{self, AUDIO, Tag, VIDEO},
    forms::{Expected, Form, Player, follow},
    media::{Clip, GROUP, Kind},
    packaged,
    packets::Packets,
    rtmp::Peer,
    server::{Server, Setup},
    web::{Web, get_when_there},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Publishes a clip and demands that it comes back in all forms.
fn comes_back(kind: Kind, seconds: u32) {
    let clip = Clip::of(kind, seconds);
    let server = Setup::new().start();
    come_back(&server, &clip, &Expected::of(&clip), || {
        clip.publish(&server.rtmp_url("live/cam")).succeed(PATIENCE);
    });
}

/// Demands that what `publish` publishes as `live/cam` comes back in all forms.
fn come_back(server: &Server, clip: &Clip, expected: &Expected, publish: impl FnOnce()) {
    let players = Form::ALL.into_iter().map(|form| Player::of(form, clip));
    let players: Vec<Player> = players.chain([Player::own(Form::Dash, clip)]).collect();
    expected.assert_all_read(&follow(server, "live/cam", &players, publish));
}

/// Publishes tags at their pace, with the times that `clock` makes of their own.
fn send(server: &Server, tags: &[Tag], clock: impl Fn(u32) -> u32) {
    let (mut peer, code) = Peer::publish(server.ports().rtmp, "live/cam").expect("the door answers");
    assert_eq!(code, "NetStream.Publish.Start");
    let begin = Instant::now();
    for tag in tags {
        let due = Duration::from_millis(u64::from(tag.time));
        thread::sleep(due.saturating_sub(begin.elapsed()));
        peer.send_tag(tag, clock(tag.time)).expect("the server takes it");
    }
}

/// The tags of a clip, without what its file says of itself.
fn media_of(clip: &Clip) -> Vec<Tag> {
    flv::tags_of(&clip.path).into_iter().filter(|tag| tag.kind != 18).collect()
}

#[test]
fn sound_alone_comes_back() {
    comes_back(Kind::Sound, 8);
}

#[test]
fn pictures_alone_come_back() {
    comes_back(Kind::H264Mute, 8);
}

#[test]
fn pictures_of_2160_lines_at_40_megabits_come_back() {
    let clip = Clip::of(Kind::H264Large, 8);
    let bytes: usize = clip.packets.video.iter().map(|picture| picture.size).sum();
    assert!(bytes * 8 > 8 * 36_000_000, "{bytes} bytes in eight seconds");
    comes_back(Kind::H264Large, 8);
}

#[test]
fn pictures_at_no_pace_come_back() {
    let clip = Clip::of(Kind::H264Irregular, 10);
    let steps = clip.packets.video.windows(2).map(|pair| pair[1].dts - pair[0].dts);
    assert!(steps.clone().max() > Some(400_000) && steps.min() <= Some(40_000), "they have a pace");
    comes_back(Kind::H264Irregular, 10);
}

#[test]
fn open_groups_come_back() {
    let clip = Clip::of(Kind::H264Open, 8);
    // Behind the key frame of the second group in the file, and before it on the screen.
    let leading = clip.packets.video.windows(2).skip(40).take(20);
    assert!(leading.clone().any(|pair| pair[1].pts < pair[0].pts - 40_000), "no picture leads");
    comes_back(Kind::H264Open, 8);
}

#[test]
fn twelve_seconds_without_a_key_frame_come_back() {
    comes_back(Kind::H264Rare, 14);
}

#[test]
fn nothing_of_the_last_second_is_lost() {
    // The last segment has one second where the others have two.
    comes_back(Kind::H264, 7);
}

#[test]
fn a_clock_of_32_bits_wraps_unseen() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().start();
    come_back(&server, &clip, &Expected::of(&clip), || {
        send(&server, &media_of(&clip), |time| time.wrapping_add(0xffff_f000));
    });
}

#[test]
fn a_clock_of_33_bits_wraps_unseen() {
    let clip = Clip::of(Kind::H264, 8);
    let server = Setup::new().start();
    // Times in MPEG-TS are 90,000 a second in 33 bits, and 0.7 s later than those published: they wrap four seconds in.
    const START: &str = "95439";
    come_back(&server, &clip, &Expected::of(&clip), || {
        clip.publish_with(&["-re", "-itsoffset", START], &server.rtmp_url("live/cam")).succeed(PATIENCE);
    });
}

#[test]
fn sound_that_begins_three_seconds_late_comes_back() {
    let clip = Clip::of(Kind::H264Late, 9);
    let server = Setup::new().start();
    late_sound_comes_back(&clip, &server, || {
        clip.publish(&server.rtmp_url("live/cam")).succeed(PATIENCE);
    });
}

#[test]
fn sound_that_begins_three_seconds_late_and_unannounced_comes_back() {
    let clip = Clip::of(Kind::H264Late, 9);
    let server = Setup::new().start();
    let mut tags = media_of(&clip);
    let first = tags.iter().position(|tag| tag.kind == AUDIO && tag.is_media()).expect("there is sound");
    let announced =
        tags.iter().position(|tag| tag.kind == AUDIO && !tag.is_media()).expect("it has parameters");
    assert!(announced < first && tags[first].time > 2_900);
    let time = tags[first].time;
    let parameters = tags.remove(announced);
    tags.insert(first - 1, Tag { time, ..parameters });
    late_sound_comes_back(&clip, &server, || send(&server, &tags, |time| time));
}

#[test]
fn sound_and_pictures_that_pause_come_back_when_they_were() {
    let clip = Clip::of(Kind::H264, 12);
    let server = Setup::new().start();
    let mut tags = media_of(&clip);
    // Sound is missing over the border of two segments and more than one of them, pictures up to a key frame.
    let keys = tags.iter().filter(|tag| tag.kind == VIDEO && tag.body[0] >> 4 == 1 && tag.is_media());
    let key = keys.map(|tag| tag.time).find(|time| *time > 2500).expect("groups are of two seconds");
    let (pictures, sound) = (key - 700..key, 5300..9700);
    let missing = |tag: &Tag| match tag.kind {
        VIDEO => tag.is_media() && pictures.contains(&tag.time),
        AUDIO => tag.is_media() && sound.contains(&tag.time),
        _ => false,
    };
    let before = tags.len();
    tags.retain(|tag| !missing(tag));
    assert!(before - tags.len() > 150, "they are missing");
    let micros = |times: &std::ops::Range<u32>| i64::from(times.start) * 1000..i64::from(times.end) * 1000;
    let expected = Expected::of(&clip).without(&micros(&pictures), &micros(&sound));
    // Not ffmpeg's reader of DASH, which loses pictures behind a hole of several segments in the sound.
    let players = [Player::of(Form::Hls, &clip), Player::own(Form::Dash, &clip)];
    let readings = follow(&server, "live/cam", &players, || send(&server, &tags, |time| time));
    expected.assert_all_read(&readings);
}

/// Who comes before the sound does may have to do without it, where a player is told at the beginning what there is; who comes
/// after it has it from its beginning on.
fn late_sound_comes_back(clip: &Clip, server: &Server, publish: impl FnOnce()) {
    let expected = Expected::of(clip);
    let early = [Player::of(Form::Hls, clip)];
    let late = Form::ALL.map(|form| match form {
        Form::Hls => Player::of(form, clip).when("TYPE=AUDIO"),
        Form::Rtmp | Form::Flv | Form::Ts | Form::Dash | Form::Srt => Player::of(form, clip),
    });
    let early_count = early.len();
    let players: Vec<Player> = early.into_iter().chain([Player::own(Form::Dash, clip)]).chain(late).collect();
    let mut readings = follow(server, "live/cam", &players, publish);
    let rest = readings.split_off(early_count);
    // ffmpeg begins all tracks of HLS with one segment: the first that all have, or one before that.
    let with_sound = expected.clone().behind(4_000_000);
    let without = expected.pictures();
    for reading in readings {
        let heard = reading.packets.as_ref().is_some_and(|packets| !packets.audio.is_empty());
        if heard { &with_sound } else { &without }.assert_read(&reading);
    }
    with_sound.assert_all_read(&rest);
}

#[test]
fn without_a_timeline_whoever_reckons_from_the_clock_gets_all() {
    const ROUNDING: i64 = 2_000;
    for kind in [Kind::H264, Kind::H264Irregular] {
        let clip = Clip::of(kind, 9);
        let server = Setup::new().start();
        let publisher = clip.publish(&server.rtmp_url("live/cam"));
        let live = get_when_there(&server, "/live/cam/manifest.mpd?timeline=no").text().to_owned();
        let manifest = packaged::manifest(&live);
        let (folder, mut web) = (Folder::new("slots"), Web::connect(&server));
        let mut all = Packets::default();
        for set in &manifest.periods[0].adaptations {
            let template = packaged::template_of(set);
            assert!(template.SegmentTimeline.is_none() && template.duration.is_some(), "{live}");
            let [initialization, media] = [&template.initialization, &template.media]
                .map(|name| format!("/live/cam/{}", name.as_deref().expect("a template of names")));
            let mut bytes = web.get(&initialization).body;
            for slot in template.startNumber.expect("it is said").. {
                let page = web.get(&media.replace("$Number$", &slot.to_string()));
                if page.status == 404 {
                    break;
                }
                assert_eq!(page.status, 200, "slot {slot}: {}", page.head);
                bytes.extend(page.body);
            }
            let path = folder.path().join("track.mp4");
            fs::write(&path, &bytes).expect("an own folder");
            let got = Packets::of_file(clip.ffmpeg, &path);
            all.video.extend(got.video);
            all.audio.extend(got.audio);
        }
        publisher.succeed(PATIENCE);
        let (video, audio) = all.assert_run(&clip.packets, ROUNDING);
        let (video, audio) = (video.expect("pictures"), audio.expect("sound"));
        assert!(video.first <= GROUP && video.first + video.count == clip.packets.video.len(), "{video:?}");
        assert_eq!(audio.first + audio.count, clip.packets.audio.len(), "{audio:?}");
    }
}
