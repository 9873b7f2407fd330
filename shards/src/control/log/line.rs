//! One line of the log, and its two ways of being written.
//!
//! A line is built from phrases of ours and from values that cannot break a line. Text from a peer has no field here:
//! what it calls its stream is a [`StreamName`], which is legal by construction. What the system or the config said is
//! escaped.

use std::{borrow::Cow, io::Write, net::SocketAddr};

use shardcast_engine::{
    hub::{Level, Notice},
    media::StreamName,
    message::CoreId,
    time::Wall,
};

use crate::config::{LogFormat, LogLevel};

/// One line. The message says what happened; the fields say to whom and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How important it is.
    pub level: LogLevel,
    /// What happened, and why: `publisher gone: closed by the peer`.
    pub message: Cow<'static, str>,
    /// On which shard.
    pub shard: Option<u16>,
    /// To whom.
    pub peer: Option<SocketAddr>,
    /// By which door.
    pub protocol: Option<&'static str>,
    /// With which stream.
    pub stream: Option<StreamName>,
    /// At which byte of what the peer sent.
    pub byte: Option<u64>,
    /// How many more like it there were.
    pub repeated: Option<u64>,
    /// What else an operator needs: a path, what the kernel said.
    pub detail: Option<Box<str>>,
}

impl LogLine {
    /// A line of `level`.
    pub const fn new(level: LogLevel, message: Cow<'static, str>) -> Self {
        LogLine {
            level,
            message,
            shard: None,
            peer: None,
            protocol: None,
            stream: None,
            byte: None,
            repeated: None,
            detail: None,
        }
    }
    /// What happens in the ordinary course.
    pub const fn info(message: &'static str) -> Self {
        LogLine::new(LogLevel::Info, Cow::Borrowed(message))
    }
    /// A peer broke its protocol, a limit was reached.
    pub const fn warn(message: &'static str) -> Self {
        LogLine::new(LogLevel::Warn, Cow::Borrowed(message))
    }
    /// Something an operator must look at.
    pub const fn error(message: &'static str) -> Self {
        LogLine::new(LogLevel::Error, Cow::Borrowed(message))
    }
    /// What the hub of `core` has to say.
    pub fn notice(core: CoreId, notice: Notice) -> Self {
        let Notice { level, peer, door, stream, text, at } = notice;
        let level = match level {
            Level::Info => LogLevel::Info,
            Level::Warning => LogLevel::Warn,
            Level::Alarm => LogLevel::Error,
        };
        LogLine {
            shard: Some(core.0),
            peer,
            protocol: Some(door).filter(|door| !door.is_empty()),
            stream,
            byte: at,
            ..LogLine::new(level, Cow::Owned(text))
        }
    }
    /// How many more like it there were.
    #[must_use]
    pub fn repeated(self, repeated: u64) -> Self {
        LogLine { repeated: Some(repeated), ..self }
    }
    /// What else an operator needs.
    #[must_use]
    pub fn detail(self, detail: impl Into<Box<str>>) -> Self {
        LogLine { detail: Some(detail.into()), ..self }
    }

    /// Appends the line as it is written at `at`, with its newline.
    pub fn write(&self, at: Wall, format: LogFormat, out: &mut Vec<u8>) {
        match format {
            LogFormat::Text => self.write_text(at, out),
            LogFormat::Json => self.write_json(at, out),
        }
    }

    fn write_text(&self, at: Wall, out: &mut Vec<u8>) {
        let level = match self.level {
            LogLevel::Info => "INFO ",
            LogLevel::Warn => "WARN ",
            LogLevel::Error => "ERROR",
        };
        put(out, format_args!("{at} {level} "));
        escape(&self.message, out);
        self.fields(|name, value| match value {
            Value::Number(number) => put(out, format_args!(" {name}={number}")),
            Value::Word(word) => put(out, format_args!(" {name}={word}")),
            Value::Text(text) => {
                put(out, format_args!(" {name}="));
                quote(text, out);
            }
        });
        out.push(b'\n');
    }

    fn write_json(&self, at: Wall, out: &mut Vec<u8>) {
        let level = match self.level {
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        };
        put(out, format_args!("{{\"time\":\"{at}\",\"level\":\"{level}\",\"message\":"));
        quote(&self.message, out);
        self.fields(|name, value| {
            put(out, format_args!(",\"{name}\":"));
            match value {
                Value::Number(number) => put(out, format_args!("{number}")),
                Value::Word(word) => put(out, format_args!("\"{word}\"")),
                Value::Text(text) => quote(text, out),
            }
        });
        out.extend_from_slice(b"}\n");
    }

    fn fields(&self, mut field: impl FnMut(&'static str, Value<'_>)) {
        let mut optional =
            |name, value: Option<Value<'_>>| value.into_iter().for_each(|value| field(name, value));
        let (peer, stream) =
            (self.peer.map(|peer| peer.to_string()), self.stream.as_ref().map(StreamName::as_str));
        optional("shard", self.shard.map(|shard| Value::Number(shard.into())));
        optional("peer", peer.as_deref().map(Value::Word));
        optional("protocol", self.protocol.map(Value::Word));
        optional("stream", stream.map(Value::Word));
        optional("byte", self.byte.map(Value::Number));
        optional("repeated", self.repeated.map(Value::Number));
        optional("detail", self.detail.as_deref().map(Value::Text));
    }
}

enum Value<'a> {
    Number(u64),
    /// Needs no quotes and no escapes.
    Word(&'a str),
    Text(&'a str),
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(text, out);
    out.push(b'"');
}

/// Escapes as JSON does (RFC 8259, section 7). What a terminal would take for a command of its own is escaped too.
fn escape(text: &str, out: &mut Vec<u8>) {
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            character if character.is_control() => put(out, format_args!("\\u{:04x}", u32::from(character))),
            character => put(out, format_args!("{character}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended() -> LogLine {
        LogLine::notice(
            CoreId(1),
            Notice {
                level: Level::Warning,
                peer: Some(([192, 0, 2, 1], 50_000).into()),
                door: "rtmp",
                stream: Some(StreamName::parse("live/cam1").unwrap()),
                text: "malformed: chunk header without its message".into(),
                at: Some(1537),
            },
        )
    }

    fn written(line: &LogLine, format: LogFormat) -> String {
        let mut out = Vec::new();
        line.write(Wall(1_795_333_500_123_000_000), format, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_for_people() {
        assert_eq!(
            written(&ended(), LogFormat::Text),
            "2026-11-22T07:45:00.123Z WARN  malformed: chunk header without its message shard=1 peer=192.0.2.1:50000 \
             protocol=rtmp stream=live/cam1 byte=1537\n"
        );
    }

    #[test]
    fn a_line_for_machines() {
        assert_eq!(
            written(&ended().repeated(3), LogFormat::Json),
            "{\"time\":\"2026-11-22T07:45:00.123Z\",\"level\":\"warn\",\"message\":\"malformed: chunk header without its \
             message\",\"shard\":1,\"peer\":\"192.0.2.1:50000\",\"protocol\":\"rtmp\",\"stream\":\"live/cam1\",\
             \"byte\":1537,\"repeated\":3}\n"
        );
    }

    #[test]
    fn no_text_can_break_the_line_or_command_a_terminal() {
        let nasty = "/a\"b\\c\nd\u{1b}[2J\u{9b}e";
        let escaped = "/a\\\"b\\\\c\\u000ad\\u001b[2J\\u009be";
        let line = LogLine::error("disk").detail(nasty);
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = written(&line, format);
            assert!(text.contains(escaped) && text.lines().count() == 1, "{text:?}");
        }
        let line = LogLine::new(LogLevel::Info, nasty.to_owned().into());
        assert!(written(&line, LogFormat::Json).contains(escaped));
        let text = written(&line, LogFormat::Text);
        assert!(!text.contains('\u{1b}') && text.lines().count() == 1, "{text:?}");
    }
}
