//! Viewers that ask for one piece after the other: HLS with and without its low latency, DASH, and the repetition of what one
//! of them asked for. Each is a machine without sockets and without a clock; [`load`](crate::load) drives it.
//!
//! A [`Player`] says what it wants ([`poll`](Player::poll)), is given the answer ([`answered`](Player::answered)), and tells
//! when it wants something though nothing came ([`deadline`](Player::deadline)). It has a connection for each rendition and
//! asks for one thing at a time by each, as a browser's player over HTTP/1.1 does.
//!
//! - [`hls`] and [`dash`] are the players, `fetch` what both do with a rendition's pieces, [`replay`] the third.
//! - [`m3u8`] and [`mpd`] read what they are told to fetch, and [`shelf`] keeps that, so that a thousand viewers of one stream
//!   read each text once. [`uri`] is where an address leads.
//! - [`http`] is requests and answers. [`media`] takes pieces apart, by [`fmp4`] and [`ts`].
//!
//! A player that does not parse makes the same requests and has the bodies of pieces counted only. What a server does wrong
//! that a player would feel is counted in [`Checks`]; what makes going on impossible is an error.

pub mod dash;
mod fetch;
pub mod fmp4;
pub mod hls;
pub mod http;
pub mod m3u8;
pub mod media;
pub mod mpd;
pub mod replay;
pub mod shelf;
pub mod ts;
pub mod uri;

use std::{borrow::Cow, rc::Rc};

use shardcast_engine::{media::Frame, time::Now};

use crate::{outcome::Checks, url::Url};

/// A viewer that asks.
#[derive(Debug)]
pub enum Player {
    /// HLS, with or without low latency.
    Hls(hls::Player),
    /// DASH.
    Dash(dash::Player),
    /// What another viewer asked for.
    Replay(replay::Player),
}

/// One thing to be asked for now.
#[derive(Clone, Debug)]
pub struct Ask {
    /// By which of the player's connections, from 0.
    pub connection: usize,
    /// What.
    pub request: Request,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where it is.
    pub url: Rc<Url>,
    /// The first and the last byte, where it is not all of it.
    pub range: Option<(u64, u64)>,
    /// What kind of thing it is.
    pub what: What,
    /// What is to be done with the body.
    pub body: Body,
    /// The server is to answer once there is something new.
    pub held: bool,
}

/// Kinds of things that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A playlist or a manifest.
    Playlist,
    /// What a decoder needs first.
    Init,
    /// A segment or a part of one.
    Media,
}

/// What is to be done with the body of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It is wanted, whole.
    Keep,
    /// It is wanted as it comes, because it is made while it is sent.
    Pass,
    /// How long it is is all that counts.
    Count,
}

/// An answer that is whole.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// What the server calls it.
    pub reason: &'a str,
    /// Where it came from in the end.
    pub url: &'a Rc<Url>,
    /// The body, of a request that wanted it whole.
    pub body: &'a [u8],
    /// It is packed.
    pub gzip: bool,
}

/// What all players of a load share.
pub struct Desk<'a> {
    /// Texts that were read.
    pub shelves: &'a mut shelf::Shelves,
    /// What was wrong.
    pub checks: &'a mut Checks,
    /// Is given each frame that is there whole.
    pub emit: &'a mut dyn FnMut(&Frame),
}

/// Something that a playlist or a manifest lists.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its place among those of its rendition, which rises.
    pub place: Place,
    /// Where it is.
    pub resource: Resource,
    /// What a decoder needs before it, if it is not all in there.
    pub init: Option<Rc<Resource>>,
    /// When it begins and how long it is, in seconds.
    pub begins: f64,
    /// How long it is, in seconds.
    pub duration: f64,
    /// A decoder can begin here.
    pub entrance: bool,
    /// There is nothing to be fetched.
    pub gap: bool,
    /// It does not continue the one before it.
    pub discontinuity: bool,
}

/// The place of an item. In HLS the segment's number and the part's; in DASH the beginning of the period in microseconds and
/// the segment's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub u64, pub u64);

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its address.
    pub url: Rc<Url>,
    /// The first and the last byte, where it is not all of it.
    pub range: Option<(u64, u64)>,
}

impl Player {
    /// The next thing to be asked for, or `None` when there is nothing for now.
    pub fn poll(&mut self, now: Now) -> Option<Ask> {
        match self {
            Player::Hls(player) => player.poll(now),
            Player::Dash(player) => player.poll(now),
            Player::Replay(player) => player.poll(now),
        }
    }

    /// When it wants to be polled again if no answer comes before.
    pub fn deadline(&self) -> Option<Now> {
        match self {
            Player::Hls(player) => player.deadline(),
            Player::Dash(player) => player.deadline(),
            Player::Replay(player) => player.deadline(),
        }
    }

    /// What was asked for by this connection has been answered, and is there whole at `now`.
    ///
    /// # Errors
    /// The viewer cannot go on: the server refused, ended the stream, or sent what is none.
    pub fn answered(
        &mut self,
        connection: usize,
        answer: &Answer<'_>,
        now: Now,
        desk: &mut Desk<'_>,
    ) -> Result<(), String> {
        match self {
            Player::Hls(player) => player.answered(connection, answer, now, desk),
            Player::Dash(player) => player.answered(connection, answer, now, desk),
            Player::Replay(player) => player.answered(connection, answer),
        }
    }

    /// Bytes of a body that was wanted as it comes.
    ///
    /// # Errors
    /// As [`answered`](Self::answered).
    pub fn passed(&mut self, connection: usize, bytes: &[u8], desk: &mut Desk<'_>) -> Result<(), String> {
        match self {
            Player::Dash(player) => player.passed(connection, bytes, desk),
            Player::Hls(_) | Player::Replay(_) => Ok(()),
        }
    }

    /// From here on pieces are not looked into.
    pub fn stop_parsing(&mut self) {
        match self {
            Player::Hls(player) => player.stop_parsing(),
            Player::Dash(player) => player.stop_parsing(),
            Player::Replay(_) => {}
        }
    }
}

impl Answer<'_> {
    /// True for the status codes of success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The text that the body is.
    fn text(&self) -> Result<Cow<'_, [u8]>, String> {
        if self.gzip {
            http::unpack(self.body, TEXT_BYTES_MAX).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(self.body))
        }
    }

    /// What a refusal is called.
    fn refusal(&self, what: &str) -> String {
        format!("the server answers {} {} to {what}", self.status, self.reason).replace("  ", " ")
    }
}

impl Request {
    /// For a text that tells what there is.
    fn playlist(url: Rc<Url>, held: bool) -> Request {
        Request { url, range: None, what: What::Playlist, body: Body::Keep, held }
    }
}

/// More than any playlist or manifest has.
const TEXT_BYTES_MAX: u64 = 4 << 20;
/// How long a viewer waits before it asks again for something that is not there yet.
const RETRY_NANOS: u64 = 500_000_000;
/// How often it does so: as long as a player would show a wheel.
const TRIES_MAX: u32 = 24;
