//! What is arranged for the next stream: which of its tracks, and how each goes.

use rtsp_types::{Request, StatusCode, headers};

use super::{
    super::{
        address::Address,
        sdp,
        transport::{self, Transport},
        wire::{channel_of, ssrc_of},
    },
    Reply, SESSION_TIME, Session, State, WRONG_STATE,
};
use crate::{
    media::{StreamName, TrackId},
    session::{Ports, Start},
};

/// What has been arranged for the next stream.
#[derive(Debug, Default)]
pub(super) struct Setup {
    pub stream: Option<Stream>,
    pub channels: Vec<Channel>,
}

/// The stream that is arranged.
#[derive(Debug)]
pub(super) enum Stream {
    /// Its description was given, with these tracks.
    Described(StreamName, Vec<TrackId>),
    Announced(StreamName, String, Vec<sdp::Announced>),
}

/// A track that was set up: its place in the description, and the channels of its media and of control information.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub track: usize,
    /// What the peer calls it.
    pub url: String,
    pub media: u8,
    pub control: u8,
    /// The peer's ports for them, where they go beside the connection.
    pub ports: Option<(u16, u16)>,
}

impl Setup {
    /// The peer's ports, if its media goes beside the connection.
    pub fn ports(&self) -> Option<Ports> {
        let pairs = self.channels.iter().filter_map(|channel| Some((channel, channel.ports?)));
        let ports: Vec<(u8, u16)> = pairs
            .flat_map(|(channel, (media, control))| [(channel.media, media), (channel.control, control)])
            .collect();
        (!ports.is_empty()).then_some(Ports(ports))
    }

    /// What `RTP-Info` says: the first packets of the tracks, by the URLs that they were set up by. `None` where a track has none, or a
    /// URL a character that stands between them. (RFC 2326, 12.33)
    pub fn places(&self, starts: &[Start]) -> Option<String> {
        let places = self.channels.iter().map(|channel| {
            let start = starts.iter().find(|start| usize::from(start.track.0) == channel.track)?;
            let url = Some(&channel.url).filter(|url| !url.contains([',', ';', ' ', '"']))?;
            Some(format!("url={url};seq={};rtptime={}", start.sequence, start.timestamp))
        });
        let places: Option<Vec<String>> = places.collect();
        places.filter(|places| !places.is_empty()).map(|places| places.join(","))
    }

    /// Whether a track can go so beside those that are set up: all of them go the same way.
    fn agrees(&self, track: usize, offer: &Transport) -> bool {
        let others = self.channels.iter().filter(|held| held.track != track);
        others.into_iter().all(|held| held.ports.is_none() == offer.tcp)
    }

    /// Whether these ports are another track's.
    fn has_ports(&self, track: usize, (media, control): (u16, u16)) -> bool {
        let others = self.channels.iter().filter(|held| held.track != track);
        others.filter_map(|held| held.ports).any(|held| held.0 == media || held.1 == control)
    }
}

/// Whether pictures are set up, and sound.
pub(super) fn tracks(channels: &[Channel]) -> [bool; 2] {
    [TrackId::VIDEO, TrackId::AUDIO]
        .map(|track| channels.iter().any(|channel| channel.track == usize::from(track.0)))
}

impl Session {
    pub(super) fn set_up(&mut self, request: &Request<Vec<u8>>, reply: Reply) {
        let State::Talking(_) = self.state else { return self.say(reply.status(WRONG_STATE)) };
        let url = request.request_uri().map_or("", |url| url.as_str()).to_owned();
        let header = request.header(&headers::TRANSPORT).map_or("", |header| header.as_str());
        let offers = transport::read(header);
        let ports = self.offer;
        // Some players set a stream up that they have not asked about.
        let State::Talking(setup) = &mut self.state else { return };
        let suits = |offer: &&Transport| {
            offer.unicast && (offer.tcp || ports.is_some() && offer.client_port.is_some())
        };
        if !offers.iter().any(|offer| suits(&offer)) {
            return self.say(reply.status(StatusCode::UnsupportedTransport));
        }
        let (track, mode, server) = match &setup.stream {
            None => return self.say(reply.status(WRONG_STATE)),
            Some(Stream::Described(name, tracks)) => {
                let address = Address::read(&url).ok().filter(|address| address.name == *name);
                let number = address.and_then(|address| match (address.track, &tracks[..]) {
                    (None, [only]) => Some(usize::from(only.0)),
                    (number, _) => number,
                });
                let Some(track) = tracks.iter().find(|track| Some(usize::from(track.0)) == number) else {
                    return self.say(reply.status(StatusCode::NotFound).reason("no such track"));
                };
                (usize::from(track.0), "", ports.map(|ports| ports.here()))
            }
            Some(Stream::Announced(name, _, medias)) => {
                let named =
                    |media: &sdp::Announced| !media.control.is_empty() && url.ends_with(&media.control);
                let Some(track) = medias
                    .iter()
                    .position(named)
                    .or((setup.channels.len() < medias.len()).then_some(setup.channels.len()))
                else {
                    return self.say(reply.status(StatusCode::NotFound).reason("no such track"));
                };
                // The connection goes to the core that owns the stream, and its datagrams shall come there.
                (track, ";mode=record", ports.map(|ports| ports.of_owner(name)))
            }
        };
        let Some(offer) = offers.iter().find(|offer| suits(offer) && setup.agrees(track, offer)) else {
            return self.say(reply.status(StatusCode::UnsupportedTransport));
        };
        let place = u8::try_from(2 * track).unwrap_or(0);
        // Of what is announced no place is told.
        let url = if mode.is_empty() { url } else { String::new() };
        let mut channel = Channel { track, url, media: place, control: place + 1, ports: None };
        let mut text = match (offer.tcp, offer.client_port, server) {
            (false, Some(theirs), Some(server)) => {
                if setup.has_ports(track, theirs) {
                    return self.say(reply.status(StatusCode::BadRequest).reason("these ports are taken"));
                }
                channel.ports = Some(theirs);
                let ((media, control), last) = (theirs, server.saturating_add(1));
                format!("RTP/AVP;unicast;client_port={media}-{control};server_port={server}-{last}")
            }
            _ => {
                let free = |channel: u8| {
                    setup.channels.iter().all(|held| held.media != channel && held.control != channel)
                };
                let chosen = offer.interleaved.filter(|(media, control)| {
                    !mode.is_empty() && media != control && free(*media) && free(*control)
                });
                (channel.media, channel.control) = chosen.unwrap_or((channel.media, channel.control));
                if !mode.is_empty() && (!free(channel.media) || !free(channel.control)) {
                    return self.say(reply.status(StatusCode::BadRequest).reason("these channels are taken"));
                }
                format!("RTP/AVP/TCP;unicast;interleaved={}-{}", channel.media, channel.control)
            }
        };
        if mode.is_empty() {
            debug_assert_eq!(channel.media, channel_of(TrackId(track as u8)), "viewers share their channels");
            text.push_str(&format!(";ssrc={:08X}", ssrc_of(TrackId(track as u8))));
        }
        text.push_str(mode);
        setup.channels.retain(|held| held.track != channel.track);
        setup.channels.push(channel);
        let reply = reply.header(headers::TRANSPORT, &text).session(&self.id, SESSION_TIME);
        self.say(reply);
    }
}
