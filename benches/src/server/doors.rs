//! Where a server is reached, and by which protocol.

use std::{collections::BTreeMap, net::UdpSocket};

use serde::Deserialize;

use super::fill;
use crate::{
    scenario::{Door, Entrance},
    url::Url,
};

/// Where a server is reached; `{stream}` stands for the stream's name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Doors {
    /// `rtmp://` or, for floors, `flv://`: FLV by plain TCP.
    pub publish: Option<String>,
    /// `rtsp://`, for publishers.
    pub publish_rtsp: Option<String>,
    /// `srt://`, for publishers.
    pub publish_srt: Option<String>,
    /// `udp://`, MPEG-TS for the first stream; each other has the next port.
    pub publish_udp: Option<String>,
    /// `http://`, where publishers bring their offers by WHIP.
    pub publish_webrtc: Option<String>,
    /// `rtmp://`
    pub rtmp: Option<String>,
    /// `rtsp://`
    pub rtsp: Option<String>,
    /// `rtsp://` again, for viewers by UDP; or `udp://`, for floors: whoever sends something there is sent datagrams.
    pub rtsp_udp: Option<String>,
    /// `srt://`, for viewers.
    pub srt: Option<String>,
    /// `http://`, FLV without an end.
    pub http_flv: Option<String>,
    /// `http://`, a transport stream without an end.
    pub http_ts: Option<String>,
    /// `http://`, a playlist of HLS for players without low latency.
    pub hls: Option<String>,
    /// `http://`, a playlist of HLS for players with it.
    pub ll_hls: Option<String>,
    /// `http://`, a manifest of DASH.
    pub dash: Option<String>,
    /// `http://`, where viewers bring their offers by WHEP.
    pub webrtc: Option<String>,
    /// Metrics for Prometheus, if it has them.
    pub metrics: Option<String>,
}

/// Doors over UDP: whether they are open cannot be asked.
const DATAGRAM_SCHEMES: [&str; 2] = ["srt", "udp"];

impl Doors {
    pub(super) fn filled(&self, values: &BTreeMap<String, String>) -> Result<Doors, String> {
        let door = |door: &Option<String>| {
            door.as_ref()
                .map(|url| {
                    let mut values = values.clone();
                    values.insert("stream".to_owned(), "{stream}".to_owned());
                    fill(url, &values)
                })
                .transpose()
        };
        Ok(Doors {
            publish: door(&self.publish)?,
            publish_rtsp: door(&self.publish_rtsp)?,
            publish_srt: door(&self.publish_srt)?,
            publish_udp: door(&self.publish_udp)?,
            publish_webrtc: door(&self.publish_webrtc)?,
            rtmp: door(&self.rtmp)?,
            rtsp: door(&self.rtsp)?,
            rtsp_udp: door(&self.rtsp_udp)?,
            srt: door(&self.srt)?,
            http_flv: door(&self.http_flv)?,
            http_ts: door(&self.http_ts)?,
            hls: door(&self.hls)?,
            ll_hls: door(&self.ll_hls)?,
            dash: door(&self.dash)?,
            webrtc: door(&self.webrtc)?,
            metrics: door(&self.metrics)?,
        })
    }

    /// Where publishers come by `entrance`, if it has that.
    pub fn for_publishers(&self, entrance: Entrance) -> Option<&str> {
        match entrance {
            Entrance::Rtmp => self.publish.as_deref(),
            Entrance::Rtsp => self.publish_rtsp.as_deref(),
            Entrance::Srt => self.publish_srt.as_deref(),
            Entrance::Udp => self.publish_udp.as_deref(),
            Entrance::Webrtc => self.publish_webrtc.as_deref(),
        }
    }

    /// Where viewers come by `door`, if it has that.
    pub fn for_viewers(&self, door: Door) -> Option<&str> {
        let door = match door {
            Door::Rtmp => &self.rtmp,
            Door::Rtsp => &self.rtsp,
            Door::RtspUdp => &self.rtsp_udp,
            Door::Srt => &self.srt,
            Door::HttpFlv => &self.http_flv,
            Door::HttpTs => &self.http_ts,
            Door::Hls => &self.hls,
            Door::LlHls => &self.ll_hls,
            Door::Dash => &self.dash,
            Door::Webrtc => &self.webrtc,
        };
        door.as_deref()
    }

    /// Host and port of each door over TCP, each once.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.addresses_of(|scheme| !DATAGRAM_SCHEMES.contains(&scheme))
    }

    fn addresses_of(&self, is_one: impl Fn(&str) -> bool) -> Vec<String> {
        let others = [
            &self.publish,
            &self.publish_rtsp,
            &self.publish_srt,
            &self.publish_udp,
            &self.publish_webrtc,
            &self.metrics,
        ]
        .map(Option::as_deref);
        let urls = Door::ALL.map(|door| self.for_viewers(door)).into_iter().chain(others);
        let urls = urls.flatten().filter_map(Url::parse).filter(|url| is_one(&url.scheme));
        let mut addresses: Vec<String> = urls.map(|url| url.address).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }

    /// Another program that has a door over UDP, if one is seen to: where the server is in a network of its own, none is.
    pub(super) fn taken_by_another(&self) -> Option<String> {
        let taken = |address: &String| {
            let bound = UdpSocket::bind(address);
            bound.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
        };
        self.addresses_of(|scheme| DATAGRAM_SCHEMES.contains(&scheme)).into_iter().find(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_at_one_address_are_asked_for_once() {
        let doors =
            Doors { hls: Some("http://h:1/a".into()), dash: Some("http://h:1/b".into()), ..Doors::default() };
        assert_eq!((doors.addresses(), doors.for_viewers(Door::LlHls)), (vec!["h:1".to_owned()], None));
    }

    #[test]
    fn a_door_over_udp_is_not_asked_for_by_tcp_and_seen_when_it_is_taken() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let place = socket.local_addr().unwrap();
        let doors = Doors {
            publish: Some("rtmp://h:1/x".into()),
            publish_srt: Some(format!("srt://{place}/?streamid=publish:live/{{stream}}")),
            srt: Some(format!("srt://{place}/?streamid=read:live/{{stream}}")),
            rtsp_udp: Some("rtsp://h:2/x".into()),
            ..Doors::default()
        };
        assert_eq!(doors.addresses(), ["h:1", "h:2"]);
        assert_eq!(doors.taken_by_another(), Some(place.to_string()));
        drop(socket);
        assert_eq!(doors.taken_by_another(), None);
        assert!(doors.for_publishers(Entrance::Srt).is_some_and(|url| url.starts_with("srt://")));
    }
}
