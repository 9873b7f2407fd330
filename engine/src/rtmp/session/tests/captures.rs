//! What real programs sent, replayed (see `captures/README.md`).

use super::*;

/// One packet as ffmpeg's `framecrc` sees it.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    /// Which track of a frame's is which of ffmpeg's depends on the file, so it is a picture or it is not.
    picture: bool,
    dts: i64,
    pts: i64,
    bytes: usize,
    adler32: u32,
}

/// Adler-32 that begins with 0, as `framecrc` has it.
fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((0u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (a + b) % 65_521)
    });
    b << 16 | a
}

fn listed(text: &str, picture_track: &str) -> Vec<Packet> {
    text.lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            Packet {
                picture: fields[0] == picture_track,
                dts: fields[1].parse().unwrap(),
                pts: fields[2].parse().unwrap(),
                bytes: fields[4].parse().unwrap(),
                adler32: u32::from_str_radix(fields[5].trim_start_matches("0x"), 16).unwrap(),
            }
        })
        .collect()
}

fn heard(events: &[Event]) -> Vec<Packet> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Frame(frame) => Some(frame),
            _ => None,
        })
        .filter_map(|frame| {
            let (Payload::Video { data, .. } | Payload::Audio { data, .. }) = &frame.payload else {
                return None;
            };
            Some(Packet {
                picture: frame.is_video(),
                dts: frame.dts.as_millis(),
                pts: frame.pts.as_millis(),
                bytes: data.len(),
                adler32: adler32(data),
            })
        })
        .collect()
}

#[test]
fn every_packet_of_real_encoders_comes_through_as_it_was() {
    for (name, capture, list, picture_track, codecs) in [
        (
            "ffmpeg 5",
            include_bytes!("../../captures/ffmpeg5_publish") as &[u8],
            include_str!("../../captures/ffmpeg5_publish.framecrc"),
            "0",
            [Codec::H264, Codec::Aac],
        ),
        (
            "ffmpeg 9",
            include_bytes!("../../captures/ffmpeg9_publish"),
            include_str!("../../captures/ffmpeg9_publish.framecrc"),
            "0",
            [Codec::H265, Codec::Opus],
        ),
        (
            "GStreamer",
            include_bytes!("../../captures/gstreamer_publish"),
            include_str!("../../captures/gstreamer_publish.framecrc"),
            "0",
            [Codec::H264, Codec::Aac],
        ),
    ] {
        let want = listed(list, picture_track);
        assert!(want.iter().any(|packet| packet.pts > packet.dts), "{name}: a clip with B-frames");
        for piece in [1, 1000, capture.len()] {
            let (events, error) = hostile::feed(capture, piece);
            assert_eq!(error, None, "{name}");
            assert_eq!(heard(&events), want, "{name}");
            let configured: Vec<_> = events
                .iter()
                .filter_map(|event| match event {
                    Event::Frame(Frame { payload: Payload::Parameters(parameters), .. }) => {
                        Some(parameters.codec)
                    }
                    _ => None,
                })
                .collect();
            assert!(codecs.iter().all(|codec| configured.contains(codec)), "{name}: {configured:?}");
            assert!(matches!(events.last(), Some(Event::Unpublish)), "{name}");
        }
    }
}

#[test]
fn real_players_ask_for_their_stream() {
    for capture in [
        include_bytes!("../../captures/ffmpeg5_play") as &[u8],
        include_bytes!("../../captures/gstreamer_play"),
        include_bytes!("../../captures/rtmpdump_play"),
    ] {
        for piece in [1, 1000] {
            let (events, error) = hostile::feed(capture, piece);
            assert_eq!(error, None);
            assert!(
                matches!(&events[0], Event::Play { name, .. } if name.as_str() == "live/cam1"),
                "{events:?}"
            );
        }
    }
}
