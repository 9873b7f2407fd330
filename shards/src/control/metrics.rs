//! The text that Prometheus reads (exposition format 0.0.4).

use std::fmt::{Display, Write};

use shardcast_engine::{
    codec::{Parameters, Shape},
    stats::{DoorStats, Histogram, Kind, RelayStats, StreamStats},
};

use super::link::{Phase, Report, Snapshot};
#[cfg(feature = "server")]
use crate::pull::{PullState, PullStats};

/// What a reply of [`expose`] is called in HTTP.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that `snapshot` says, and what the control thread itself knows.
pub fn expose(snapshot: &Snapshot, phase: Phase, log_lines_lost: u64) -> String {
    let mut page = Page::default();
    page.family("shardcast_build_info", "gauge", "The version that runs.");
    page.sample("shardcast_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.family("shardcast_shards", "gauge", "Shards of the node.");
    page.sample("shardcast_shards", &[], snapshot.reports.len() as u64);
    page.family("shardcast_shards_silent", "gauge", "Shards that did not answer in time.");
    page.sample(
        "shardcast_shards_silent",
        &[],
        snapshot.reports.iter().filter(|report| report.is_none()).count() as u64,
    );
    page.family("shardcast_draining", "gauge", "1 while the node goes down.");
    page.sample("shardcast_draining", &[], u64::from(phase == Phase::Draining));
    page.family("shardcast_log_lines_lost_total", "counter", "Log lines that their reader was too slow for.");
    page.sample("shardcast_log_lines_lost_total", &[], log_lines_lost);
    expose_shards(snapshot, &mut page);
    expose_loops(snapshot, &mut page);
    expose_lanes(snapshot, &mut page);
    expose_doors(snapshot, &mut page);
    expose_streams(snapshot.streams().values(), &mut page);
    expose_relays(snapshot, &mut page);
    page.text
}

/// Numbers whose names begin alike are one family, told apart by a label.
struct Kindred {
    prefix: &'static str,
    family: &'static str,
    label: &'static str,
    help: &'static str,
}

const KINDRED: [Kindred; 2] = [
    Kindred {
        prefix: "errors_",
        family: "shardcast_errors_total",
        label: "kind",
        help: "Connections closed for a fault, by kind.",
    },
    Kindred {
        prefix: "sleeps_",
        family: "shardcast_sleeps_total",
        label: "ended_by",
        help: "Sleeps of the shard's loop, by what ended them.",
    },
];

fn expose_shards(snapshot: &Snapshot, page: &mut Page) {
    let shards: Vec<_> = present(snapshot).map(|(shard, report)| (shard, report.stats.fields())).collect();
    let Some((_, fields)) = shards.first() else { return };
    let mut opened = "";
    for (index, field) in fields.iter().enumerate() {
        let kindred = KINDRED.iter().find_map(|row| Some((row, field.name.strip_prefix(row.prefix)?)));
        let family = match (&kindred, field.kind) {
            (Some((row, _)), _) => row.family.to_owned(),
            (None, Kind::Counter) => format!("shardcast_{}_total", field.name),
            (None, Kind::Gauge) => format!("shardcast_{}", field.name),
        };
        match &kindred {
            // The first of them; they stand together.
            Some((row, _)) if opened != row.family => {
                page.family(&family, "counter", row.help);
                opened = row.family;
            }
            Some(_) => {}
            None => {
                let kind = if field.kind == Kind::Counter { "counter" } else { "gauge" };
                page.family(&family, kind, field.help);
            }
        }
        for (shard, fields) in &shards {
            let Some(field) = fields.get(index) else { continue };
            match &kindred {
                Some((row, kind)) => {
                    page.sample(&family, &[("shard", shard), (row.label, kind)], field.value);
                }
                None => page.sample(&family, &[("shard", shard)], field.value),
            }
        }
    }
}

/// Nanoseconds as the seconds that Prometheus counts in.
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn expose_loops(snapshot: &Snapshot, page: &mut Page) {
    let shards: Vec<_> = present(snapshot).collect();
    page.family("shardcast_round_seconds", "histogram", "Busy time of the shard's loop between two sleeps.");
    for (shard, report) in &shards {
        page.histogram("shardcast_round_seconds", shard, &report.profile.rounds, seconds);
    }
    page.family(
        "shardcast_sends_per_enter",
        "histogram",
        "Sends that the kernel got with one system call into the ring.",
    );
    for (shard, report) in &shards {
        page.histogram("shardcast_sends_per_enter", shard, &report.profile.sends_per_enter, |sends| sends);
    }
    page.family("shardcast_send_bytes", "histogram", "Bytes that a peer's socket took with one send.");
    for (shard, report) in &shards {
        page.histogram("shardcast_send_bytes", shard, &report.profile.send_bytes, |bytes| bytes);
    }
}

fn expose_lanes(snapshot: &Snapshot, page: &mut Page) {
    page.family("shardcast_lane_depth", "gauge", "Messages that wait in the lane from one core to another.");
    for (from, report) in present(snapshot) {
        for lane in &report.lanes {
            let to = lane.core.0.to_string();
            page.sample("shardcast_lane_depth", &[("from", &from), ("to", &to)], lane.out);
        }
    }
    page.family(
        "shardcast_lane_depth_max",
        "gauge",
        "The most messages that the receiving core has found waiting since the start.",
    );
    for (to, report) in present(snapshot) {
        for lane in &report.lanes {
            let from = lane.core.0.to_string();
            page.sample("shardcast_lane_depth_max", &[("from", &from), ("to", &to)], lane.incoming_max);
        }
    }
}

/// The shards that answered, with their numbers.
fn present(snapshot: &Snapshot) -> impl Iterator<Item = (String, &Report)> {
    let shards = snapshot.reports.iter().enumerate();
    shards.filter_map(|(shard, report)| Some((shard.to_string(), report.as_ref()?)))
}

fn expose_doors(snapshot: &Snapshot, page: &mut Page) {
    type Number = fn(&DoorStats) -> u64;
    let families: [(&str, &str, &str, Number); 4] = [
        (
            "shardcast_door_connections",
            "gauge",
            "Connections that are open, by the door they came in by.",
            |door| door.connections,
        ),
        ("shardcast_door_accepted_total", "counter", "Connections that were accepted.", |door| door.accepted),
        (
            "shardcast_door_refused_total",
            "counter",
            "Connections that were closed at once because a bound was reached; over UDP, datagrams of peers that were not let in.",
            |door| door.refused,
        ),
        (
            "shardcast_door_datagrams_lost_total",
            "counter",
            "Datagrams that came and were lost here: not read in time, or no room on the lane to another core.",
            |door| door.datagrams_lost,
        ),
    ];
    for (name, kind, help, number) in families {
        page.family(name, kind, help);
        for (shard, report) in snapshot.reports.iter().enumerate() {
            for door in report.iter().flat_map(|report| &report.doors) {
                page.sample(name, &[("shard", &shard.to_string()), ("door", door.name)], number(door));
            }
        }
    }
}

fn expose_relays(snapshot: &Snapshot, page: &mut Page) {
    type Number = fn(&RelayStats) -> u64;
    let families: [(&str, &str, &str, Number); 3] = [
        (
            "shardcast_relay_connected",
            "gauge",
            "1 while a push or a pull has its connection; over UDP, while it sends.",
            |relay| relay.connected.into(),
        ),
        ("shardcast_relay_bytes_total", "counter", "Bytes that were pushed, or pulled.", |relay| relay.bytes),
        (
            "shardcast_relay_failures_total",
            "counter",
            "How often a push or a pull was refused, was not reached or was lost.",
            |relay| relay.failures,
        ),
    ];
    let relays = || snapshot.reports.iter().flatten().flat_map(|report| &report.relays);
    for (name, kind, help, number) in families {
        page.family(name, kind, help);
        for relay in relays() {
            let labels = [
                ("stream", relay.name.as_str()),
                ("way", relay.way),
                ("number", &relay.number.to_string()),
                ("url", &relay.url),
            ];
            page.sample(name, &labels, number(relay));
        }
    }
}

fn expose_streams<'a>(streams: impl Iterator<Item = &'a StreamStats> + Clone, page: &mut Page) {
    page.family("shardcast_stream_published", "gauge", "1 while the stream has its publisher.");
    for stream in streams.clone() {
        page.sample(
            "shardcast_stream_published",
            &[("stream", stream.name.as_str())],
            u64::from(stream.published),
        );
    }
    page.family("shardcast_stream_viewers", "gauge", "Viewers of the stream that play or wait.");
    for stream in streams.clone() {
        page.sample("shardcast_stream_viewers", &[("stream", stream.name.as_str())], stream.viewers);
    }
    page.family(
        "shardcast_stream_bytes_total",
        "counter",
        "Payload bytes taken from the stream's publishers.",
    );
    for stream in streams.clone() {
        page.sample("shardcast_stream_bytes_total", &[("stream", stream.name.as_str())], stream.bytes);
    }
    page.family("shardcast_stream_track_info", "gauge", "What a track of the stream holds.");
    for stream in streams {
        for (track, parameters) in stream.tracks.iter().enumerate() {
            let labels = [
                ("stream", stream.name.as_str()),
                ("track", &track.to_string()),
                ("codec", &parameters.codec_string),
                ("shape", &shape(parameters)),
            ];
            page.sample("shardcast_stream_track_info", &labels, 1);
        }
    }
}

/// What the streams that are pulled say of themselves, in the same format: to stand behind [`expose`]'s. Nothing without any.
#[cfg(feature = "server")]
pub fn expose_pulls(pulls: &[PullStats]) -> String {
    type Number = fn(&PullStats) -> u64;
    let mut page = Page::default();
    if pulls.is_empty() {
        return page.text;
    }
    page.family(
        "shardcast_pull_state",
        "gauge",
        "1 for what a pull is at, of a stream that another server is asked for.",
    );
    for pull in pulls {
        for state in PullState::ALL {
            let labels = [("stream", pull.name.as_str()), ("state", state.word())];
            page.sample("shardcast_pull_state", &labels, u64::from(pull.state == state));
        }
    }
    let families: [(&str, &str, Number); 5] = [
        ("shardcast_pull_reconnects_total", "Times that the other server was tried again.", |pull| {
            pull.reconnects
        }),
        ("shardcast_pull_bytes_total", "Bytes of packets that came.", |pull| pull.bytes),
        (
            "shardcast_pull_packets_lost_total",
            "Packets that did not come, as far as their numbers tell.",
            |pull| pull.packets_lost,
        ),
        (
            "shardcast_pull_frames_broken_total",
            "Frames that were left out, because a part of them or of what they need did not come.",
            |pull| pull.frames_broken,
        ),
        (
            "shardcast_pull_frames_dropped_total",
            "Frames that were left out, because the shard of their stream was too busy to take them.",
            |pull| pull.frames_dropped,
        ),
    ];
    for (name, help, number) in families {
        page.family(name, "counter", help);
        for pull in pulls {
            page.sample(name, &[("stream", pull.name.as_str())], number(pull));
        }
    }
    page.text
}

fn shape(parameters: &Parameters) -> String {
    match parameters.shape {
        Shape::Video { width: 0, .. } | Shape::Video { height: 0, .. } => String::new(),
        Shape::Video { width, height } => format!("{width}x{height}"),
        Shape::Audio { sample_rate, channels, .. } => format!("{sample_rate}Hz x{channels}"),
    }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.text,
            "# HELP {name} {}\n# TYPE {name} {kind}",
            help.replace('\\', "\\\\").replace('\n', " ")
        );
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{label}=\"{text}\"", if index == 0 { '{' } else { ',' });
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    fn histogram<const N: usize, T: Display>(
        &mut self,
        name: &str,
        shard: &str,
        histogram: &Histogram<N>,
        unit: fn(u64) -> T,
    ) {
        let buckets = format!("{name}_bucket");
        for (bound, count) in histogram.cumulative() {
            let bound = unit(bound).to_string();
            self.sample(&buckets, &[("shard", shard), ("le", &bound)], count);
        }
        self.sample(&buckets, &[("shard", shard), ("le", "+Inf")], histogram.count());
        self.sample(&format!("{name}_sum"), &[("shard", shard)], unit(histogram.sum()));
        self.sample(&format!("{name}_count"), &[("shard", shard)], histogram.count());
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc, time::Duration};

    use bytes::Bytes;
    use shardcast_engine::{codec::Codec, media::StreamName, message::CoreId, stats::ShardStats};

    use super::*;
    use crate::{mesh::LaneDepth, profile::LoopStats};

    fn snapshot() -> Snapshot {
        let stream = StreamStats {
            name: StreamName::parse("live/cam").unwrap(),
            published: true,
            viewers: 3,
            bytes: 1000,
            tracks: vec![Arc::new(Parameters {
                codec: Codec::H264,
                configuration: Bytes::new(),
                shape: Shape::Video { width: 1920, height: 1080 },
                codec_string: "avc1.640028".into(),
            })],
        };
        let replica =
            StreamStats { published: false, viewers: 4, bytes: 0, tracks: vec![], ..stream.clone() };
        let stats = ShardStats { viewers: 3, sent_bytes: 7, errors_malformed: 2, ..ShardStats::default() };
        let door = DoorStats { name: "rtmp", connections: 5, accepted: 9, refused: 4, datagrams_lost: 3 };
        let relay = RelayStats {
            name: StreamName::parse("live/cam").unwrap(),
            way: "push",
            number: 1,
            url: "udp://127.0.0.1:5000".to_owned(),
            connected: true,
            bytes: 8,
            failures: 2,
        };
        let other = ShardStats { viewers: 4, sleeps_bell: 6, ..ShardStats::default() };
        let mut profile = LoopStats::default();
        for busy in [40, 60, 600, 300_000] {
            profile.round(Duration::from_micros(busy));
        }
        profile.sends_per_enter.record(0);
        profile.sends_per_enter.record(128);
        profile.send_bytes.record(16 << 10);
        let lane = |core, out, incoming_max| LaneDepth { core: CoreId(core), out, incoming_max };
        Snapshot {
            reports: vec![
                Some(Report {
                    stats,
                    profile,
                    doors: vec![door],
                    relays: vec![relay],
                    lanes: vec![lane(1, 2, 9)],
                    streams: vec![stream],
                }),
                Some(Report {
                    stats: other,
                    lanes: vec![lane(0, 0, 7)],
                    streams: vec![replica],
                    ..Report::default()
                }),
                None,
            ],
        }
    }

    #[test]
    fn every_number_of_every_shard_is_exposed() {
        let text = expose(&snapshot(), Phase::Serving, 5);
        for line in [
            "shardcast_shards 3",
            "shardcast_shards_silent 1",
            "shardcast_draining 0",
            "shardcast_log_lines_lost_total 5",
            "shardcast_viewers{shard=\"0\"} 3",
            "shardcast_viewers{shard=\"1\"} 4",
            "shardcast_sent_bytes_total{shard=\"0\"} 7",
            "shardcast_errors_total{shard=\"0\",kind=\"malformed\"} 2",
            "shardcast_sleeps_total{shard=\"1\",ended_by=\"bell\"} 6",
            "shardcast_round_seconds_bucket{shard=\"0\",le=\"0.00005\"} 1",
            "shardcast_round_seconds_bucket{shard=\"0\",le=\"0.0001\"} 2",
            "shardcast_round_seconds_bucket{shard=\"0\",le=\"0.25\"} 3",
            "shardcast_round_seconds_bucket{shard=\"0\",le=\"+Inf\"} 4",
            "shardcast_round_seconds_sum{shard=\"0\"} 0.3007",
            "shardcast_round_seconds_count{shard=\"0\"} 4",
            "shardcast_sends_per_enter_bucket{shard=\"0\",le=\"0\"} 1",
            "shardcast_send_bytes_bucket{shard=\"0\",le=\"8192\"} 0",
            "shardcast_send_bytes_bucket{shard=\"0\",le=\"16384\"} 1",
            "shardcast_send_bytes_sum{shard=\"0\"} 16384",
            "shardcast_lane_depth{from=\"0\",to=\"1\"} 2",
            "shardcast_lane_depth_max{from=\"0\",to=\"1\"} 7",
            "shardcast_lane_depth_max{from=\"1\",to=\"0\"} 9",
            "shardcast_door_connections{shard=\"0\",door=\"rtmp\"} 5",
            "shardcast_door_refused_total{shard=\"0\",door=\"rtmp\"} 4",
            "# TYPE shardcast_sent_bytes_total counter",
            "shardcast_stream_viewers{stream=\"live/cam\"} 7",
            "shardcast_relay_connected{stream=\"live/cam\",way=\"push\",number=\"1\",url=\"udp://127.0.0.1:5000\"} 1",
            "shardcast_relay_failures_total{stream=\"live/cam\",way=\"push\",number=\"1\",url=\"udp://127.0.0.1:5000\"} 2",
            "shardcast_stream_bytes_total{stream=\"live/cam\"} 1000",
            "shardcast_stream_track_info{stream=\"live/cam\",track=\"0\",codec=\"avc1.640028\",shape=\"1920x1080\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn each_pull_says_what_it_is_at_and_what_it_has_counted() {
        assert_eq!(expose_pulls(&[]), "");
        let pull = PullStats {
            name: StreamName::parse("cam/yard").unwrap(),
            state: PullState::Playing,
            reconnects: 2,
            bytes: 5000,
            packets_lost: 3,
            frames_broken: 1,
            frames_dropped: 4,
        };
        let text = expose_pulls(&[pull]);
        for line in [
            "# TYPE shardcast_pull_state gauge",
            "shardcast_pull_state{stream=\"cam/yard\",state=\"playing\"} 1",
            "shardcast_pull_state{stream=\"cam/yard\",state=\"waiting\"} 0",
            "shardcast_pull_reconnects_total{stream=\"cam/yard\"} 2",
            "shardcast_pull_bytes_total{stream=\"cam/yard\"} 5000",
            "shardcast_pull_packets_lost_total{stream=\"cam/yard\"} 3",
            "shardcast_pull_frames_broken_total{stream=\"cam/yard\"} 1",
            "shardcast_pull_frames_dropped_total{stream=\"cam/yard\"} 4",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }

    #[test]
    fn each_family_is_opened_once_and_before_its_samples() {
        let text = expose(&snapshot(), Phase::Draining, 0);
        let mut opened = BTreeSet::new();
        let (mut current, mut kind) = ("", "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                (current, kind) = rest.split_once(' ').unwrap();
                assert!(opened.insert(current), "{current} twice");
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let suffix = name.strip_prefix(current).unwrap_or_else(|| panic!("{line} in {current}"));
                let allowed: &[&str] =
                    if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(allowed.contains(&suffix), "{line} in {current}");
                assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(opened.len() > 30, "{opened:?}");
    }

    #[test]
    fn buckets_rise_and_the_last_holds_the_count() {
        let text = expose(&snapshot(), Phase::Serving, 0);
        let number = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        let mut histograms = 0;
        for (shard, family) in ["0", "1"].into_iter().flat_map(|shard| {
            ["round_seconds", "sends_per_enter", "send_bytes"].map(|family| (shard, family))
        }) {
            let start = format!("shardcast_{family}_bucket{{shard=\"{shard}\",le=\"");
            let buckets: Vec<(f64, f64)> = text
                .lines()
                .filter_map(|line| {
                    let bound = line.strip_prefix(&start)?.split('"').next()?;
                    Some((bound.parse().unwrap(), number(line)))
                })
                .collect();
            assert!(buckets.len() > 9, "{family}: {buckets:?}");
            assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{family}: {buckets:?}");
            let count = format!("shardcast_{family}_count{{shard=\"{shard}\"}} ");
            let count = text.lines().find(|line| line.starts_with(&count)).unwrap();
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, number(count))), "{family}");
            histograms += 1;
        }
        assert_eq!(histograms, 6);
    }
}
