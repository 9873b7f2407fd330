//! What is sent to this node unasked: a socket for each stream that comes so, on the core that owns the stream. Who sends is no
//! peer of a door, and nothing is said to it; its session is one without a peer, and hears what comes by the socket.

use std::{io, net::UdpSocket, time::Duration};

use shardcast_engine::{
    hub::{ConnectionId, Input, Level, Notice},
    media::StreamName,
    stats::DoorStats,
    time::Now,
    udp::{Intake, Session},
};
use shardcast_io::ring::{Datagram, Ring};

use super::Shard;

/// The name of the door in log lines and metrics.
const DOOR: &str = "udp";
/// Tokens of the ring from here on are those of intakes.
const FIRST_TOKEN: u64 = 1 << 32;
/// How often a line says that datagrams were lost.
const ALARM_INTERVAL: Duration = Duration::from_secs(60);

/// The intakes of one shard.
#[derive(Default)]
pub(super) struct Intakes {
    rows: Vec<Row>,
    /// Sessions that were begun.
    accepted: u64,
    /// Datagrams from other sources than the one that is wanted.
    refused: u64,
}

struct Row {
    name: StreamName,
    intake: Intake,
    /// Who hears what comes, if something has come lately.
    connection: Option<ConnectionId>,
    /// Datagrams that came and were not read in time, and how many of them a line has told of.
    lost: u64,
    told: u64,
    alarmed: Option<Now>,
}

impl Intakes {
    /// Receives by these sockets from now on.
    pub(super) fn open(
        sockets: Vec<(StreamName, Intake, UdpSocket)>,
        ring: &mut Ring,
    ) -> io::Result<Intakes> {
        let mut rows = Vec::new();
        for (number, (name, intake, socket)) in sockets.into_iter().enumerate() {
            ring.receive_datagrams(socket, FIRST_TOKEN + number as u64)?;
            rows.push(Row { name, intake, connection: None, lost: 0, told: 0, alarmed: None });
        }
        Ok(Intakes { rows, ..Intakes::default() })
    }

    /// Receives nothing more.
    pub(super) fn stop(&self, ring: &mut Ring) {
        (0..self.rows.len()).for_each(|number| ring.stop_datagrams(FIRST_TOKEN + number as u64));
    }

    /// What the metrics show of all of them; `is_open` tells whether a connection is still there.
    pub(super) fn stats(&self, is_open: impl Fn(ConnectionId) -> bool) -> Option<DoorStats> {
        let open = self.rows.iter().filter_map(|row| row.connection).filter(|held| is_open(*held));
        (!self.rows.is_empty()).then(|| DoorStats {
            name: DOOR,
            connections: open.count() as u64,
            accepted: self.accepted,
            refused: self.refused,
            datagrams_lost: self.rows.iter().map(|row| row.lost).sum(),
        })
    }
}

/// Which intake a token is of.
pub(super) fn number_of(token: u64) -> Option<usize> {
    usize::try_from(token.checked_sub(FIRST_TOKEN)?).ok()
}

impl Shard {
    /// A datagram has come to an intake, and `lost` before it that the kernel had no room for.
    pub(super) fn taken_in(&mut self, number: usize, datagram: &Datagram, lost: u32, now: Now) {
        self.datagrams_taken += 1;
        let Some(row) = self.intakes.rows.get_mut(number) else { return };
        row.lost += u64::from(lost);
        if row.intake.source.is_some_and(|source| source != datagram.from.ip()) {
            self.intakes.refused += 1;
            return;
        }
        if row.lost > row.told && row.alarmed.is_none_or(|alarmed| now.since(alarmed) >= ALARM_INTERVAL) {
            (row.alarmed, row.told) = (Some(now), row.lost);
            let text =
                format!("{} datagrams were lost so far: they come faster than this core reads", row.lost);
            let (stream, peer) = (Some(row.name.clone()), Some(datagram.from));
            self.notice(Notice { level: Level::Alarm, peer, door: DOOR, stream, text, at: None });
        }
        if datagram.is_empty() || self.draining {
            return;
        }
        if let Some(connection) = self.hears(number, datagram, now) {
            self.hub.handle(Input::Received { connection, bytes: datagram }, now);
        }
    }

    /// Nothing more comes by the socket of an intake, which is tried again.
    pub(super) fn intake_failed(&mut self, number: usize, error: &io::Error, now: Now) {
        self.rest(FIRST_TOKEN as usize + number, now);
        let Some(row) = self.intakes.rows.get_mut(number) else { return };
        if row.alarmed.is_some_and(|alarmed| now.since(alarmed) < ALARM_INTERVAL) {
            return;
        }
        row.alarmed = Some(now);
        let (stream, text) = (Some(row.name.clone()), format!("cannot receive, and tries again: {error}"));
        self.notice(Notice { level: Level::Alarm, peer: None, door: DOOR, stream, text, at: None });
    }

    /// Who hears what comes to an intake: with the first datagram, and with the first after a silence, somebody new.
    fn hears(&mut self, number: usize, datagram: &Datagram, now: Now) -> Option<ConnectionId> {
        let known = self.intakes.rows.get(number)?.connection;
        if let Some(connection) = known.filter(|connection| self.is_here(*connection)) {
            return Some(connection);
        }
        let row = self.intakes.rows.get(number)?;
        let session = Session::new(row.name.clone(), &row.intake, &self.settings.doors, now);
        let connection = self.seat(Box::new(session), DOOR, datagram.from, now);
        if let Some(connection) = connection {
            self.hub.trust(connection);
            self.intakes.accepted += 1;
        }
        self.intakes.rows.get_mut(number)?.connection = connection;
        connection
    }
}
