//! One conversation with who is pulled from, from the connection to its end.

use std::{sync::Arc, time::Duration};

use futures_lite::StreamExt as _;
use retina::client::{
    Described, InitialSequenceNumberPolicy, InitialTimestampPolicy, PacketItem, PlayOptions, Playing,
    Session, SessionOptions, SetupOptions, TcpTransportOptions, UdpTransportOptions, UnknownRtcpSsrcPolicy,
};
use shardcast_engine::{
    rtp::{Demuxer, demux, format::Format},
    rtsp::sdp::{self, Announced},
    session::Event,
    time::Now,
};
use shardcast_io::clock;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Counters, Kind, Pull, PullState, Voice,
    failure::Failure,
    meter::{Turns, metered},
    valve::Valve,
};
use crate::{config::Transport, control::log::LogLine, host::Handle};

/// How long it may take from the name's resolution until the other server plays.
const BEGIN_TIME_MAX: Duration = Duration::from_secs(10);
/// One that sends no packet for this long is left.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How this server names itself.
const USER_AGENT: &str = concat!("shardcast/", env!("CARGO_PKG_VERSION"));

/// Pulls until it cannot go on, and says why.
pub(super) async fn run(pull: &Pull, node: &Handle, counters: &Arc<Counters>, voice: &mut Voice) -> Failure {
    let opened = match timeout(BEGIN_TIME_MAX, metered(Turns::Short, open(pull, voice))).await {
        Ok(Ok(Ok(opened))) => opened,
        Ok(Ok(Err(failure))) => return failure,
        Ok(Err(flooded)) => return flooded.into(),
        Err(_) => return Failure::Silent("it did not come to play in 10 s"),
    };
    match play(pull, node, counters, voice, opened).await {
        Ok(()) => Failure::Closed,
        Err(failure) => failure,
    }
}

/// A session that plays, and what makes frames of its packets.
struct Opened {
    session: Session<Playing>,
    demuxer: Demuxer,
}

async fn open(pull: &Pull, voice: &mut Voice) -> Result<Opened, Failure> {
    let credentials = pull.credentials.as_ref().map(|shown| retina::client::Credentials {
        username: shown.user.clone(),
        password: shown.password.clone(),
    });
    let options = SessionOptions::default().creds(credentials).user_agent(USER_AGENT.to_owned());
    let mut session = Session::describe(pull.url.clone(), options).await?;
    let demuxer = Demuxer::new(formats(&session)?);
    let left_out: Vec<String> = session
        .streams()
        .iter()
        .enumerate()
        .filter(|(track, _)| !demuxer.carries(*track))
        .map(|(_, stream)| format!("{} {}", stream.media(), stream.encoding_name()))
        .collect();
    if left_out.len() == session.streams().len() {
        return Err(Failure::Nothing(left_out.join(", ")));
    }
    if !left_out.is_empty() {
        let line = LogLine::warn("some of what is pulled cannot be carried, and is left out");
        voice.say(Kind::LeftOut, line.detail(left_out.join(", ")));
    }
    for track in (0..session.streams().len()).filter(|track| demuxer.carries(*track)) {
        let transport = match pull.transport {
            Transport::Tcp => retina::client::Transport::Tcp(TcpTransportOptions::default()),
            Transport::Udp => retina::client::Transport::Udp(UdpTransportOptions::default()),
        };
        session.setup(track, SetupOptions::default().transport(transport)).await?;
    }
    // What cameras say here of their first packets is often not so, and what is needed of it is in the packets themselves.
    let options = PlayOptions::default()
        .initial_timestamp(InitialTimestampPolicy::Permissive)
        .initial_seq(InitialSequenceNumberPolicy::Ignore)
        .unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::DropPackets);
    Ok(Opened { session: session.play(options).await?, demuxer })
}

/// How each track that retina knows comes in packets. It leaves out what it cannot read, so that its tracks are those of the
/// description in their order, with some missing.
fn formats(session: &Session<Described>) -> Result<Vec<Option<Format>>, Failure> {
    let announced = sdp::read(session.sdp()).map_err(|why| Failure::Broken(why.to_owned()))?;
    let mut rest = announced.into_iter();
    let format = |stream: &retina::client::Stream| {
        let is_it = |track: &Announced| {
            track.kind == stream.media() && track.payload_type == Some(stream.rtp_payload_type())
        };
        rest.find(is_it).and_then(|track| track.format)
    };
    Ok(session.streams().iter().map(format).collect())
}

async fn play(
    pull: &Pull,
    node: &Handle,
    counters: &Arc<Counters>,
    voice: &mut Voice,
    opened: Opened,
) -> Result<(), Failure> {
    let Opened { mut session, mut demuxer } = opened;
    let mut publisher = node.publish_trusted(&pull.name);
    timeout(BEGIN_TIME_MAX, publisher.granted())
        .await
        .map_err(|_| Failure::Silent("this server's own shard"))??;
    let mut valve = Valve::new(publisher, counters);
    let mut frames = Vec::new();
    demuxer.begin(&mut |event| frames.push(event));
    let mut left_out = demux::Counters::default();
    let mut silent_at = Instant::now() + SILENCE_MAX;
    let mut plays = false;
    loop {
        for event in frames.drain(..) {
            if let Event::Frame(frame) = event {
                valve.give(frame)?;
            }
        }
        let item = timeout_at(silent_at, metered(Turns::Whole, session.next())).await;
        let item = item.map_err(|_| Failure::Silent("no packet came for 10 s"))??;
        let now = Now(clock::monotonic());
        match item {
            None => return Ok(()),
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(PacketItem::Rtp(packet))) => {
                silent_at = Instant::now() + SILENCE_MAX;
                counters.came(packet.raw().len());
                demuxer.packet(packet.stream_id(), packet.raw(), now, &mut |event| frames.push(event));
                let all = demuxer.counters();
                counters.left_out(left_out, all);
                left_out = all;
                if !plays && !frames.is_empty() {
                    plays = true;
                    counters.set(PullState::Playing);
                    voice.say(Kind::Playing, LogLine::info("what is pulled comes"));
                }
            }
            Some(Ok(PacketItem::Rtcp(packet))) => demuxer.control(packet.stream_id(), packet.raw(), now),
            // Retina may have more of them one day.
            Some(Ok(_)) => {}
        }
    }
}
