//! RTMP in, and for each stream a folder of MPEG-TS segments with a playlist that any web server can serve as HLS.
//!
//! `cargo run --release -p shardcast-shards --example hls_files -- /tmp/hls`, then publish to
//! `rtmp://127.0.0.1:1935/live/cam` and play `/tmp/hls/live/cam/index.m3u8`.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use shardcast_engine::{media::StreamName, mpegts, protocol::RTMP};
use shardcast_shards::{
    host::{Node, StreamEvent},
    storage::{Folder, RecordingEvent, RecordingSink},
};

/// A segment begins with the first key frame at or past this.
const SEGMENT: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args().nth(1).ok_or("usage: hls_files FOLDER [PORT]")?);
    let port = env::args().nth(2).map_or(Ok(RTMP.port), |port| port.parse())?;
    let node = Node::builder().door(RTMP, (Ipv4Addr::LOCALHOST, port).into()).start()?;
    let storage = Arc::new(Folder::new(&folder)?);
    println!("rtmp://127.0.0.1:{port}/APP/STREAM becomes {}/APP/STREAM/index.m3u8", folder.display());

    let mut running = BTreeMap::new();
    let mut events = node.events();
    while let Some(event) = events.next_blocking() {
        match event {
            StreamEvent::Published { name, resumed: false } => {
                let mut playlist = Playlist::new(&folder, &name);
                let sink = RecordingSink::builder(storage.clone(), name.as_str())
                    .segment(SEGMENT)
                    .container(&mpegts::CONTAINER)
                    .spool(folder.join(".spool"))
                    .on_event(move |event| match event {
                        RecordingEvent::Stored { key, duration, .. } => {
                            playlist.add(key, duration.unwrap_or(SEGMENT))
                        }
                        RecordingEvent::Over => playlist.end(),
                        trouble => eprintln!("{trouble}"),
                    })
                    .start()?;
                running.insert(name.clone(), node.feed(&name, sink)?);
            }
            // The sink has had the last frame, and is stored to the end.
            StreamEvent::Ended { name } => drop(running.remove(&name)),
            StreamEvent::Alarm { .. } => eprintln!("{event}"),
            _ => {}
        }
    }
    Ok(())
}

/// An event playlist (RFC 8216, 4.3.3.5): segments are added and none is taken away.
struct Playlist {
    path: PathBuf,
    entries: String,
    longest: Duration,
}

impl Playlist {
    fn new(folder: &Path, name: &StreamName) -> Self {
        let path = folder.join(name.as_str()).join("index.m3u8");
        Playlist { path, entries: String::new(), longest: SEGMENT }
    }

    fn add(&mut self, key: &str, duration: Duration) {
        let file = key.rsplit('/').next().unwrap_or(key);
        self.longest = self.longest.max(duration);
        // Each segment's times begin anew.
        self.entries += &format!("#EXT-X-DISCONTINUITY\n#EXTINF:{:.3},\n{file}\n", duration.as_secs_f64());
        self.write();
    }

    fn end(&mut self) {
        self.entries += "#EXT-X-ENDLIST\n";
        self.write();
    }

    fn write(&self) {
        let target = self.longest.as_secs_f64().ceil();
        let head = format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-TARGETDURATION:{target}\n"
        );
        // Under another name first: nobody reads half a playlist.
        let draft = self.path.with_extension("draft");
        let written = fs::write(&draft, head + &self.entries).and_then(|()| fs::rename(draft, &self.path));
        if let Err(error) = written {
            eprintln!("{}: {error}", self.path.display());
        }
    }
}
