//! Commands (Adobe RTMP 1.0, section 7.2): what a peer calls, and the words in which it is answered.

use bytes::BytesMut;

use super::{amf3, message::Message};
use crate::{
    codec::Codec,
    error::Error,
    flv::{
        self,
        amf0::{self, Value},
    },
    media::StreamName,
};

/// A call: a name, the number under which an answer is expected (0 for none), and values, the first of which is the
/// "command object".
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Command {
    /// What is called.
    pub(crate) name: String,
    /// The number of the call.
    pub(crate) transaction: f64,
    /// The command object and the arguments after it.
    values: Vec<Value>,
}

impl Command {
    /// Reads a command message.
    ///
    /// # Errors
    /// It is not AMF, past the bounds, or does not begin with a name.
    pub(crate) fn parse(message: &Message) -> Result<Self, Error> {
        let values = amf3::message_values(&message.payload).map_err(|error| error.after(message.at))?;
        let mut values = values.into_iter();
        let Some(Value::String(name)) = values.next() else {
            return Err(Error::malformed("a command does not begin with its name", message.at));
        };
        let transaction = values.next().as_ref().and_then(Value::as_number).unwrap_or_default();
        Ok(Command { name, transaction, values: values.collect() })
    }

    /// Appends a command.
    pub(crate) fn encode(name: &str, transaction: f64, values: &[Value], out: &mut BytesMut) {
        amf0::encode_string(name, out);
        Value::Number(transaction).encode(out);
        values.iter().for_each(|value| value.encode(out));
    }

    /// The command object.
    pub(crate) fn object(&self) -> &Value {
        self.values.first().unwrap_or(&Value::Null)
    }

    /// The argument at `index`, after the command object.
    pub(crate) fn argument(&self, index: usize) -> &Value {
        self.values.get(index + 1).unwrap_or(&Value::Null)
    }
}

/// The outcomes that are said by `onStatus` and in answer to `connect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    ConnectSuccess,
    ConnectRejected,
    ConnectShutdown,
    CallFailed,
    PublishStart,
    PublishBadName,
    UnpublishSuccess,
    PlayReset,
    PlayStart,
    PlayNotFound,
    PlayFailed,
    PlayStop,
    PlayTransition,
    PlayUnpublished,
    PauseNotify,
    UnpauseNotify,
    SeekNotify,
    SeekFailed,
    Failed,
}

impl Status {
    const fn level_and_code(self) -> (&'static str, &'static str) {
        match self {
            Status::ConnectSuccess => ("status", "NetConnection.Connect.Success"),
            Status::ConnectRejected => ("error", "NetConnection.Connect.Rejected"),
            Status::ConnectShutdown => ("error", "NetConnection.Connect.AppShutdown"),
            Status::CallFailed => ("error", "NetConnection.Call.Failed"),
            Status::PublishStart => ("status", "NetStream.Publish.Start"),
            Status::PublishBadName => ("error", "NetStream.Publish.BadName"),
            Status::UnpublishSuccess => ("status", "NetStream.Unpublish.Success"),
            Status::PlayReset => ("status", "NetStream.Play.Reset"),
            Status::PlayStart => ("status", "NetStream.Play.Start"),
            Status::PlayNotFound => ("error", "NetStream.Play.StreamNotFound"),
            Status::PlayFailed => ("error", "NetStream.Play.Failed"),
            Status::PlayStop => ("status", "NetStream.Play.Stop"),
            Status::PlayTransition => ("status", "NetStream.Play.Transition"),
            Status::PlayUnpublished => ("status", "NetStream.Play.UnpublishNotify"),
            Status::PauseNotify => ("status", "NetStream.Pause.Notify"),
            Status::UnpauseNotify => ("status", "NetStream.Unpause.Notify"),
            Status::SeekNotify => ("status", "NetStream.Seek.Notify"),
            // Of level "status", though it failed: at "error" ffmpeg gives up playing.
            Status::SeekFailed => ("status", "NetStream.Seek.Failed"),
            Status::Failed => ("error", "NetStream.Failed"),
        }
    }

    /// The code, `NetStream.Play.Start`.
    pub(crate) const fn code(self) -> &'static str {
        self.level_and_code().1
    }

    /// The information object.
    pub(crate) fn info(self, description: &str) -> Value {
        Value::Object(self.properties(description))
    }

    fn properties(self, description: &str) -> Vec<(String, Value)> {
        let (level, code) = self.level_and_code();
        [("level", level), ("code", code), ("description", description)]
            .map(|(name, text)| (name.to_owned(), Value::string(text)))
            .into()
    }
}

/// What the peer said in `connect`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Connect {
    /// The application, without a query.
    app: String,
    /// The query that stood after it.
    query: String,
    /// How it writes AMF: 0, or 3 for Flash's newer one. Echoed; ours is 0 anyway.
    pub(crate) object_encoding: f64,
}

/// `capsEx` of enhanced RTMP: we read past modifiers of packet types, and the nanoseconds among them.
const CAPABILITIES: u32 = CAN_MOD_EX | CAN_NANO_OFFSET;
const CAN_MOD_EX: u32 = 4;
const CAN_NANO_OFFSET: u32 = 8;
/// `FourCcInfoMask` of enhanced RTMP: we pass a codec on, and neither decode nor encode it.
const CAN_FORWARD: f64 = 4.0;

impl Connect {
    /// From the command object of `connect`.
    ///
    /// # Errors
    /// What is wrong with the application's name.
    pub(crate) fn parse(command: &Command) -> Result<Self, &'static str> {
        let object = command.object();
        let app = object.get("app").and_then(Value::as_str).unwrap_or_default();
        let (app, query) = split_query(app);
        let app = app.trim_matches('/');
        if app.matches('/').count() > 1 {
            return Err(TWO_PARTS);
        }
        if !app.is_empty() {
            let (first, second) = app.split_once('/').unwrap_or((app, "any"));
            StreamName::new(first, second).map_err(|error| error.why)?;
        }
        Ok(Connect {
            app: app.to_owned(),
            query: query.to_owned(),
            object_encoding: object.get("objectEncoding").and_then(Value::as_number).unwrap_or_default(),
        })
    }

    /// The stream's name and query, when `publish` or `play` names `stream`.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub(crate) fn stream(&self, stream: &str) -> Result<(StreamName, String), &'static str> {
        let (stream, stream_query) = split_query(stream);
        let stream = stream.trim_matches('/');
        // Whoever gives the whole name as the application has none left for the stream, and the other way round.
        let whole = [self.app.as_str(), stream].into_iter().filter(|part| !part.is_empty());
        let whole = whole.collect::<Vec<_>>().join("/");
        if whole.matches('/').count() > 1 {
            return Err(TWO_PARTS);
        }
        let name = StreamName::parse(&whole).map_err(|error| error.why)?;
        let queries = [self.query.as_str(), stream_query].into_iter().filter(|query| !query.is_empty());
        Ok((name, queries.collect::<Vec<_>>().join("&")))
    }

    /// The two objects of the answer: properties of the server, and the outcome. What enhanced RTMP asks for stands in
    /// both: the specification names the first, and some clients look into the second.
    pub(crate) fn answer(&self) -> [Value; 2] {
        let mut properties = vec![
            // Clients of the old days take features from the version; all know this one.
            ("fmsVer".to_owned(), Value::string("FMS/3,5,3,888")),
            ("capabilities".to_owned(), Value::Number(127.0)),
            ("mode".to_owned(), Value::Number(1.0)),
        ];
        properties.extend(enhanced_capabilities());
        let mut info = Status::ConnectSuccess.properties("Connection succeeded.");
        info.push(("objectEncoding".to_owned(), Value::Number(self.object_encoding)));
        info.extend(enhanced_capabilities());
        [Value::Object(properties), Value::Object(info)]
    }
}

/// What both sides of enhanced RTMP say they can carry.
pub(crate) fn enhanced_capabilities() -> Vec<(String, Value)> {
    let name =
        |codec: &Codec| String::from_utf8_lossy(&flv::four_cc(*codec).unwrap_or_default()).into_owned();
    let map = |video: bool| {
        let codecs = flv::CODECS.iter().filter(|codec| codec.is_video() == video);
        Value::Object(codecs.map(|codec| (name(codec), Value::Number(CAN_FORWARD))).collect())
    };
    vec![
        (
            "fourCcList".to_owned(),
            Value::StrictArray(flv::CODECS.iter().map(|codec| Value::String(name(codec))).collect()),
        ),
        ("videoFourCcInfoMap".to_owned(), map(true)),
        ("audioFourCcInfoMap".to_owned(), map(false)),
        ("capsEx".to_owned(), Value::Number(CAPABILITIES.into())),
    ]
}

const TWO_PARTS: &str = "a stream's name has two parts, APP/STREAM";

/// `cam1?token=x` as `cam1` and `token=x`.
fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(app: &str) -> Result<Connect, &'static str> {
        let values = vec![Value::object([("app", Value::string(app))])];
        Connect::parse(&Command { name: "connect".into(), transaction: 1.0, values })
    }

    #[test]
    fn a_name_is_found_wherever_its_parts_stand() {
        for (app, stream, name, query) in [
            ("live", "cam1", "live/cam1", ""),
            ("live/", "/cam1", "live/cam1", ""),
            ("live", "cam1?token=x&y=1", "live/cam1", "token=x&y=1"),
            ("live?key=a", "cam1", "live/cam1", "key=a"),
            ("live?key=a", "cam1?key=b", "live/cam1", "key=a&key=b"),
            ("live/cam1", "", "live/cam1", ""),
            ("", "live/cam1", "live/cam1", ""),
        ] {
            let (found, found_query) = connect(app).unwrap().stream(stream).unwrap();
            assert_eq!((found.as_str(), found_query.as_str()), (name, query), "{app:?} {stream:?}");
        }
    }

    #[test]
    fn names_with_more_parts_or_none_or_illegal_ones_are_refused() {
        for app in ["a/b/c", "..", "live/..", "l\0ve", "a//b"] {
            assert!(connect(app).is_err(), "{app:?}");
        }
        for (app, stream) in [
            ("live/inst", "cam1"),
            ("live", "a/b"),
            ("live", ""),
            ("", ""),
            ("live", ".."),
            ("live", "a b"),
            ("live", "mp4:cam"),
        ] {
            assert!(connect(app).unwrap().stream(stream).is_err(), "{app:?} {stream:?}");
        }
        assert_eq!(connect("live/inst").unwrap().stream("cam1"), Err(TWO_PARTS));
    }
}
