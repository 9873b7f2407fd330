//! The SRT door by the system's libsrt (`[srt] library = "libsrt"`) with real clients: ffmpeg and libsrt's own tool publish and play, with
//! passphrases and keys, through a network that loses, with a packet filter.

use std::{process::Command, thread, time::Duration};

use rustix::process::Signal;
use shardcast_tests::clients::{
    Folder,
    forms::{Form, Player, follow},
    media::{Clip, Kind},
    network::{Network, Weather},
    packets::Packets,
    process::Process,
    program,
    server::{Server, Setup},
    srt::{PASSPHRASE, PATIENCE, assert_packets, free_port, publish, transmit, wait_for_viewers},
    wait_for,
};

/// A server whose SRT door is libsrt's, with these lines in `[srt]`.
fn server(srt: &str, tables: &str) -> Server {
    let mut setup = Setup::new().stream("wait_for_publisher = \"20s\"\n");
    setup.srt = format!("library = \"libsrt\"\n{srt}");
    setup.tables.push_str(tables);
    setup.start()
}

fn count(server: &Server, what: &str) -> f64 {
    server.metric(&format!("shardcast_srt_{what}_packets_total")).unwrap_or_default()
}

#[test]
fn what_ffmpeg_publishes_is_whole_by_every_door_and_viewers_are_sent_what_comes_by_any() {
    let clip = Clip::of(Kind::H264, 4);
    let mut server = server("", "");
    let forms = [Form::Ts, Form::Srt, Form::Srt];
    let players: Vec<Player> = forms.iter().map(|form| Player::of(*form, &clip)).collect();
    for by_srt in [true, false] {
        let readings = follow(&server, "live/cam", &players, || {
            wait_for_viewers(&server, players.len() as f64);
            if by_srt {
                publish(&clip, "ffmpeg9", &server.srt_url("publish", "live/cam")).succeed(PATIENCE);
            } else {
                clip.publish(&server.rtmp_url("live/cam")).succeed(PATIENCE);
            }
        });
        for reading in &readings {
            let got = reading.packets.as_ref().expect("it lists packets");
            assert_packets(got, &clip.transport(), &format!("{:?}, by SRT: {by_srt}", reading.form));
        }
    }
    let [received, sent] = ["received", "sent"].map(|what| count(&server, what));
    println!("received {received}, sent {sent}");
    assert!(received > 100.0 && sent > 4.0 * 100.0);
    assert_eq!(["lost", "given_up", "unreadable"].map(|what| count(&server, what)), [0.0; 3]);
    let gone = || server.metric("shardcast_connections").filter(|connections| *connections == 0.0);
    wait_for(PATIENCE, gone).expect("nobody is left");
    server.stop();
}

#[test]
fn who_may_not_is_refused_with_a_reason_and_a_passphrase_encrypts_both_ways() {
    let clip = Clip::of(Kind::H264, 4);
    let keys = "[auth]\npublish = [\"secret\"]\n[apps.none]\nwait_for_publisher = \"0s\"\n";
    let own = format!("[streams.\"live/cam\"]\npassphrase = {PASSPHRASE:?}\n");
    let server = server("", &format!("{own}{keys}"));
    let port = server.ports().srt;
    // The machine of our own is the caller that says which reason it was told.
    let reasons = [
        ("publish:other/cam", "not allowed"),
        ("%23!::r=other/cam,m=bidirectional", "the mode is not to be had"),
        ("%23!::m=request", "the stream id says nothing to it"),
        ("read:none/cam", "no such stream"),
        ("read:live/cam", "one side has a passphrase and the other has none"),
        ("read:live/cam&passphrase=something-else", "the passphrase is another one"),
    ];
    let pull = |(number, (stream_id, _)): (usize, &(&str, &str))| {
        format!("[streams.\"pulled/{number}\"]\npull = \"srt://127.0.0.1:{port}?streamid={stream_id}\"\n")
    };
    let caller = Setup { tables: reasons.iter().enumerate().map(pull).collect(), ..Setup::new() }.start();
    for (stream_id, reason) in reasons {
        let told = || caller.log_lines(&format!("refused there: {reason}")).first().cloned();
        wait_for(PATIENCE, told).unwrap_or_else(|| panic!("{stream_id}: {}", caller.log()));
    }
    drop(caller);
    assert!(!server.log_lines("refused: not allowed").is_empty(), "{}", server.log());
    let publishing = format!("srt://127.0.0.1:{port}?streamid=%23!::r=live/cam,m=publish,key=secret");
    let with = |url: &str, words: &str| format!("{url}&passphrase={words}&pbkeylen=24");
    for url in [publishing.clone(), with(&publishing, "something-else")] {
        assert!(!publish(&clip, "ffmpeg", &url).finish(PATIENCE).status.success());
    }
    wait_for(PATIENCE, || server.log_lines("refused by libsrt").first().cloned()).expect("the log says so");
    assert_eq!(server.metric("shardcast_publishers"), Some(0.0));
    let viewer = Player::of(Form::Srt, &clip).start(&with(&Form::Srt.url(&server, "live/cam"), PASSPHRASE));
    wait_for_viewers(&server, 1.0);
    publish(&clip, "ffmpeg", &with(&publishing, PASSPHRASE)).succeed(PATIENCE);
    let viewer = viewer.succeed(PATIENCE);
    assert_packets(&Packets::parse(&viewer.output), &clip.transport(), "SRT by libsrt, encrypted");
    assert!(!server.log().contains(PASSPHRASE), "nothing shows a passphrase");
}

#[test]
fn a_packet_filter_makes_what_is_lost_of_what_came_and_nothing_is_sent_again() {
    let clip = Clip::of(Kind::H264, 6);
    let server = server("latency = \"1s\"\n", "");
    let weather =
        Weather { seed: 11, lost: 45, doubled: 0, delay: Duration::from_millis(5), jitter: Duration::ZERO };
    let network = Network::new(server.ports().srt, weather);
    let source = free_port();
    let url = format!(
        "srt://127.0.0.1:{}?streamid=#!::r=live/cam,m=publish&packetfilter=fec,cols:5,rows:5,arq:never&conntimeo=20000",
        network.port()
    );
    let readings = follow(&server, "live/cam", &[Player::of(Form::Ts, &clip)], || {
        wait_for_viewers(&server, 1.0);
        let mut carrier = transmit(&format!("udp://127.0.0.1:{source}"), &url);
        let connected = || server.metric("shardcast_publishers").filter(|count| *count >= 1.0);
        wait_for(PATIENCE, connected).expect("it publishes");
        let mut command = Command::new(program(clip.ffmpeg));
        command.args(["-nostdin", "-v", "warning", "-re", "-i"]).arg(&clip.path);
        command.args(["-c", "copy", "-f", "mpegts", &format!("udp://127.0.0.1:{source}?pkt_size=1316")]);
        Process::start("ffmpeg-sender", &mut command).succeed(PATIENCE);
        thread::sleep(Duration::from_secs(2));
        carrier.terminate();
        carrier.finish(PATIENCE);
    });
    let [missing, recovered, lost] = ["missing", "recovered", "lost"].map(|what| count(&server, what));
    println!("dropped {}, missing {missing}, recovered {recovered}, lost {lost}", network.dropped());
    assert!(network.dropped() >= 3 && recovered >= 3.0, "{}", server.log());
    assert!(lost * 4.0 <= recovered, "most of what was lost is made of what came");
    let got = readings[0].packets.as_ref().expect("it lists packets");
    if lost == 0.0 {
        assert_packets(got, &clip.transport(), "TS, published with a packet filter");
    }
}

#[test]
fn who_stalls_or_vanishes_holds_nobody_up_and_a_publisher_comes_back_to_its_stream() {
    let clip = Clip::of(Kind::H264, 4);
    // A publisher may be gone for as long as it takes to start a program on a machine with other things to do.
    let server = server("", "[apps.live]\nwait_for_publisher = \"20s\"\nreconnect_window = \"6s\"\n");
    let url = server.srt_url("publish", "live/cam");
    let kept = Folder::new("srt-libsrt");
    let path = kept.path().join("kept.ts");
    let mut stalled = Player::of(Form::Srt, &clip).start(&Form::Srt.url(&server, "live/cam"));
    let viewer = Player::keeping(Form::Srt, &path).start(&Form::Srt.url(&server, "live/cam"));
    wait_for_viewers(&server, 2.0);
    let mut first = publish(&clip, "ffmpeg", &url);
    wait_for(PATIENCE, || Some(count(&server, "sent")).filter(|sent| *sent > 20.0)).expect("it is played");
    stalled.signal(Signal::STOP);
    thread::sleep(Duration::from_secs(1));
    // Nobody says goodbye: five seconds of silence do.
    first.kill();
    let left = || server.metric("shardcast_viewers").filter(|viewers| *viewers == 1.0);
    wait_for(PATIENCE, left).expect("whoever stalls is missed");
    let gone = || server.metric("shardcast_publishers").filter(|publishers| *publishers == 0.0);
    wait_for(PATIENCE, gone).expect("and whoever is gone");
    publish(&clip, "ffmpeg", &url).succeed(PATIENCE);
    assert!(!server.log_lines("publishing again").is_empty(), "{}", server.log());
    viewer.succeed(PATIENCE);
    stalled.kill();
    let pictures = Packets::of_filtered_file("ffmpeg", &path, &clip.kind.of_transport()).video.len();
    assert!(pictures > clip.packets.video.len() + 20, "{pictures}: of both");
}
