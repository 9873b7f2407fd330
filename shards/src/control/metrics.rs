//! The text that Prometheus reads (exposition format 0.0.4).

use std::fmt::Write;

use shardcast_engine::{
    codec::{Parameters, Shape},
    stats::{DoorStats, Kind, StreamStats},
};

use super::link::{Phase, Snapshot};

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
    expose_doors(snapshot, &mut page);
    expose_streams(snapshot.streams().values(), &mut page);
    page.text
}

/// Errors are one family, told apart by a label.
const ERRORS_PREFIX: &str = "errors_";

fn expose_shards(snapshot: &Snapshot, page: &mut Page) {
    let shards: Vec<_> = snapshot
        .reports
        .iter()
        .enumerate()
        .filter_map(|(shard, report)| Some((shard.to_string(), report.as_ref()?.stats.fields())))
        .collect();
    let Some((_, fields)) = shards.first() else { return };
    let mut errors_opened = false;
    for (index, field) in fields.iter().enumerate() {
        let kind = field.name.strip_prefix(ERRORS_PREFIX);
        let family = match (kind, field.kind) {
            (Some(_), _) => "shardcast_errors_total".to_owned(),
            (None, Kind::Counter) => format!("shardcast_{}_total", field.name),
            (None, Kind::Gauge) => format!("shardcast_{}", field.name),
        };
        if kind.is_none() {
            page.family(&family, if field.kind == Kind::Counter { "counter" } else { "gauge" }, field.help);
        } else if !std::mem::replace(&mut errors_opened, true) {
            page.family(&family, "counter", "Connections closed for a fault, by kind.");
        }
        for (shard, fields) in &shards {
            let Some(field) = fields.get(index) else { continue };
            match kind {
                Some(kind) => page.sample(&family, &[("shard", shard), ("kind", kind)], field.value),
                None => page.sample(&family, &[("shard", shard)], field.value),
            }
        }
    }
}

fn expose_doors(snapshot: &Snapshot, page: &mut Page) {
    type Number = fn(&DoorStats) -> u64;
    let families: [(&str, &str, &str, Number); 3] = [
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
            "Connections that were closed at once because a bound was reached.",
            |door| door.refused,
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

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{label}=\"{text}\"", if index == 0 { '{' } else { ',' });
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use bytes::Bytes;
    use shardcast_engine::{codec::Codec, media::StreamName, stats::ShardStats};

    use super::{super::link::Report, *};

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
        let door = DoorStats { name: "rtmp", connections: 5, accepted: 9, refused: 4 };
        let other = ShardStats { viewers: 4, ..ShardStats::default() };
        Snapshot {
            reports: vec![
                Some(Report { stats, doors: vec![door], streams: vec![stream] }),
                Some(Report { stats: other, doors: vec![], streams: vec![replica] }),
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
            "shardcast_door_connections{shard=\"0\",door=\"rtmp\"} 5",
            "shardcast_door_refused_total{shard=\"0\",door=\"rtmp\"} 4",
            "# TYPE shardcast_sent_bytes_total counter",
            "shardcast_stream_viewers{stream=\"live/cam\"} 7",
            "shardcast_stream_bytes_total{stream=\"live/cam\"} 1000",
            "shardcast_stream_track_info{stream=\"live/cam\",track=\"0\",codec=\"avc1.640028\",shape=\"1920x1080\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }

    #[test]
    fn each_family_is_opened_once_and_before_its_samples() {
        let text = expose(&snapshot(), Phase::Draining, 0);
        let mut opened = BTreeSet::new();
        let mut current = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                current = rest.split(' ').next().unwrap();
                assert!(opened.insert(current), "{current} twice");
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                assert_eq!(name, current, "{line}");
                assert!(line.rsplit(' ').next().unwrap().parse::<u64>().is_ok(), "{line}");
            }
        }
        assert!(opened.len() > 30, "{opened:?}");
    }
}
