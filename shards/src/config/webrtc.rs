//! `[webrtc]`: where media of WHIP and WHEP comes and goes.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use shardcast_engine::limits::WebrtcSettings;

/// WebRTC, which is asked for at the HTTP door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webrtc {
    /// UDP port of the first shard; the second has the next, and so on. 0 is none: there is no WebRTC then.
    pub port: u16,
    /// The addresses at which peers reach this machine, where they are others than its own: behind NAT, the one outside.
    pub public: Vec<IpAddr>,
    /// Sound that browsers have no decoder for (AAC, as a rule) is made Opus while somebody watches by WHEP.
    pub convert_sound: bool,
    /// A stream with B-frames that others refer to, of which browsers take none, goes through an ffmpeg without them while somebody
    /// watches it by WHEP; else they are refused.
    pub transcode: bool,
}

impl Webrtc {
    /// In the engine's terms.
    pub fn settings(&self) -> WebrtcSettings {
        WebrtcSettings {
            public: self.public.clone(),
            converts: self.converts(),
            transcodes: self.transcodes(),
        }
    }

    /// Whether sound is converted: where there is WebRTC, the operator wants it, and this build can.
    pub fn converts(&self) -> bool {
        self.port != 0 && self.convert_sound && cfg!(feature = "sound")
    }

    /// Whether pictures are coded anew.
    pub fn transcodes(&self) -> bool {
        self.port != 0 && self.transcode && cfg!(feature = "sound")
    }

    /// Whether anything is made of streams for those who watch.
    pub fn makes_renditions(&self) -> bool {
        self.converts() || self.transcodes()
    }

    /// Whether each of so many shards has a port.
    pub fn fits(&self, shards: usize) -> bool {
        self.port == 0 || usize::from(self.port) + shards <= 1 + usize::from(u16::MAX)
    }
}

impl Default for Webrtc {
    fn default() -> Self {
        Webrtc { port: 8189, public: Vec::new(), convert_sound: true, transcode: false }
    }
}
