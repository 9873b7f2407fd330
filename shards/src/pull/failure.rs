//! Why a pull has ended, and what is said of it.

use shardcast_engine::session::Refusal;

use super::meter::Flooded;
use crate::{control::log::LogLine, host::PublishError};

/// Characters of what another server or retina says that are written.
const TEXT_CHARS_MAX: usize = 200;

/// Why a pull has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is nobody to talk to.
    Unreachable(String),
    /// The other server does not believe that this one may.
    Credentials,
    /// It has no such stream.
    NotFound,
    /// It refuses for another reason, or does not speak RTSP as it should.
    Broken(String),
    /// It says nothing.
    Silent(&'static str),
    /// It has closed the connection.
    Closed,
    /// It sends and sends, and nothing comes of it.
    Flooded,
    /// There is nothing in the stream that can be carried.
    Nothing(String),
    /// This server does not take it.
    Refused(PublishError),
}

/// What lines are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unreachable,
    Credentials,
    NotFound,
    Broken,
    Silent,
    Closed,
    Flooded,
    Nothing,
    Refused,
}

impl Failure {
    pub fn kind(&self) -> Kind {
        match self {
            Failure::Unreachable(_) => Kind::Unreachable,
            Failure::Credentials => Kind::Credentials,
            Failure::NotFound => Kind::NotFound,
            Failure::Broken(_) => Kind::Broken,
            Failure::Silent(_) => Kind::Silent,
            Failure::Closed => Kind::Closed,
            Failure::Flooded => Kind::Flooded,
            Failure::Nothing(_) => Kind::Nothing,
            Failure::Refused(_) => Kind::Refused,
        }
    }

    /// Whether trying again soon is of little use. Some cameras shut out who shows a wrong password too often.
    pub fn is_slow(&self) -> bool {
        matches!(self, Failure::Credentials | Failure::Flooded | Failure::Nothing(_))
    }

    pub fn line(&self) -> LogLine {
        match self {
            Failure::Unreachable(why) => {
                LogLine::warn("cannot reach who is pulled from, tries again").detail(why.as_str())
            }
            Failure::Credentials => LogLine::warn(
                "who is pulled from refuses user and password, or the key: look at pull in the config",
            ),
            Failure::NotFound => LogLine::warn("who is pulled from has no such stream, tries again"),
            Failure::Broken(why) => {
                LogLine::warn("who is pulled from does not speak RTSP as it should, tries again")
                    .detail(why.as_str())
            }
            Failure::Silent(what) => LogLine::warn("who is pulled from is silent, tries again").detail(*what),
            Failure::Closed => LogLine::warn("who is pulled from has closed the connection, tries again"),
            Failure::Flooded => {
                LogLine::warn("who is pulled from sends without end, and nothing of a stream")
            }
            Failure::Nothing(what) => {
                LogLine::warn("nothing that is pulled can be carried").detail(what.as_str())
            }
            Failure::Refused(PublishError::Refused(Refusal::AlreadyLive)) => {
                LogLine::warn("what is pulled has another publisher here, tries again")
            }
            Failure::Refused(why) => LogLine::warn("what is pulled is not taken").detail(why.to_string()),
        }
    }
}

impl From<retina::Error> for Failure {
    fn from(error: retina::Error) -> Self {
        match error.status_code() {
            Some(401 | 403) => return Failure::Credentials,
            Some(404) => return Failure::NotFound,
            _ => {}
        }
        // What follows the first line is where in the conversation it was, and bytes of it.
        let text = error.to_string();
        let text: String = text.lines().next().unwrap_or_default().chars().take(TEXT_CHARS_MAX).collect();
        if text.starts_with("Error reading from RTSP peer: EOF") {
            return Failure::Closed;
        }
        match text.strip_prefix("Unable to connect to RTSP server: ") {
            Some(why) => Failure::Unreachable(why.to_owned()),
            None => Failure::Broken(text),
        }
    }
}

impl From<Flooded> for Failure {
    fn from(_: Flooded) -> Self {
        Failure::Flooded
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        Failure::Refused(error)
    }
}
