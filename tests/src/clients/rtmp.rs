//! An RTMP peer by hand (Adobe's RTMP specification 1.0): it publishes tags with the times it is told, and sends bytes
//! that no real program would.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::flv::Tag;

/// One end of a connection after its handshake.
pub struct Peer {
    stream: TcpStream,
    chunk_out: usize,
    chunk_in: usize,
    partial: HashMap<u32, Partial>,
    slowly: bool,
}

/// A message that came.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its type: 20 is an AMF0 command.
    pub kind: u8,
    /// Its bytes.
    pub body: Vec<u8>,
}

#[derive(Clone, Default)]
struct Partial {
    kind: u8,
    length: usize,
    extended: bool,
    body: Vec<u8>,
}

/// An AMF0 value of a command.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A number.
    Number(f64),
    /// A string.
    Text(&'a str),
    /// An object of strings.
    Object(&'a [(&'a str, &'a str)]),
    /// null.
    Null,
}

/// The type of a command in AMF0.
const COMMAND: u8 = 20;

impl Peer {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// The socket's own.
    pub fn connect(port: u16) -> io::Result<Self> {
        Self::connect_as(port, false)
    }

    /// Connects and shakes hands, and sends every byte by itself from the first on.
    ///
    /// # Errors
    /// The socket's own.
    pub fn connect_slowly(port: u16) -> io::Result<Self> {
        Self::connect_as(port, true)
    }

    fn connect_as(port: u16, slowly: bool) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        let mut peer = Peer { stream, chunk_out: 128, chunk_in: 128, partial: HashMap::new(), slowly };
        // C0 and C1 of the simple handshake: version 3, a time, four zeros, 1528 bytes of anything (5.2.3).
        let mut hello = vec![3, 0, 0, 0, 0, 0, 0, 0, 0];
        hello.extend((0..1528_u32).map(|number| number.to_le_bytes()[0]));
        peer.send_raw(&hello)?;
        let mut answer = vec![0; 1 + 1536 + 1536];
        peer.stream.read_exact(&mut answer)?;
        // C2 repeats S1.
        peer.send_raw(answer.get(1..1537).unwrap_or_default())?;
        Ok(peer)
    }

    /// Connects and publishes `APP/STREAM`; says with which code the server answered.
    ///
    /// # Errors
    /// The socket's own, and `InvalidData` when the conversation takes another course.
    pub fn publish(port: u16, name: &str) -> io::Result<(Self, String)> {
        let mut peer = Self::connect(port)?;
        let code = peer.say_publish(name)?;
        Ok((peer, code))
    }

    /// Says `connect`, `createStream` and `publish` for `APP/STREAM`; says with which code the server answered the last,
    /// or refused the first.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn say_publish(&mut self, name: &str) -> io::Result<String> {
        let (app, stream) = name.split_once('/').unwrap_or((name, ""));
        let object = [("app", app), ("type", "nonprivate"), ("tcUrl", "rtmp://127.0.0.1/app")];
        let connect = [Value::Text("connect"), Value::Number(1.0), Value::Object(&object)];
        self.send(3, COMMAND, 0, 0, &amf0(&connect))?;
        let error = amf0(&[Value::Text("_error")]);
        let body = self.await_command(|body| {
            body.starts_with(&amf0(&[Value::Text("_result"), Value::Number(1.0)])) || body.starts_with(&error)
        })?;
        if body.starts_with(&error) {
            return Ok(code_of(&body));
        }
        self.send(3, COMMAND, 0, 0, &amf0(&[Value::Text("createStream"), Value::Number(2.0), Value::Null]))?;
        self.await_command(|body| body.starts_with(&amf0(&[Value::Text("_result"), Value::Number(2.0)])))?;
        let publish = [
            Value::Text("publish"),
            Value::Number(3.0),
            Value::Null,
            Value::Text(stream),
            Value::Text("live"),
        ];
        self.send(4, COMMAND, 0, 1, &amf0(&publish))?;
        let body = self.await_command(|body| body.starts_with(&amf0(&[Value::Text("onStatus")])))?;
        Ok(code_of(&body))
    }

    /// Sends an FLV tag as the message it is, at `time`.
    ///
    /// # Errors
    /// The socket's own.
    pub fn send_tag(&mut self, tag: &Tag, time: u32) -> io::Result<()> {
        self.send(u32::from(tag.kind), tag.kind, time, 1, &tag.body)
    }

    /// Sends a message in chunks, with a full header (5.3.1.2.1).
    ///
    /// # Errors
    /// The socket's own.
    pub fn send(
        &mut self,
        chunk_stream: u32,
        kind: u8,
        time: u32,
        stream: u32,
        body: &[u8],
    ) -> io::Result<()> {
        let mut out = message_header(chunk_stream, kind, time, stream, body.len());
        for (number, piece) in body.chunks(self.chunk_out).enumerate() {
            if number > 0 {
                basic_header(&mut out, 3, chunk_stream);
                if time >= 0xff_ffff {
                    out.extend(time.to_be_bytes());
                }
            }
            out.extend(piece);
        }
        self.send_raw(&out)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The socket's own.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.slowly {
            return bytes.iter().try_for_each(|byte| self.stream.write_all(&[*byte]));
        }
        self.stream.write_all(bytes)
    }

    /// The next message that comes.
    ///
    /// # Errors
    /// The socket's own; `UnexpectedEof` when the server has closed.
    pub fn receive(&mut self) -> io::Result<Message> {
        loop {
            let [first] = self.read()?;
            let chunk_stream = match first & 0x3f {
                0 => 64 + u32::from(u8::from_be_bytes(self.read()?)),
                1 => 64 + u32::from(u16::from_le_bytes(self.read()?)),
                small => u32::from(small),
            };
            let mut partial = self.partial.remove(&chunk_stream).unwrap_or_default();
            let format = first >> 6;
            if format < 3 {
                let [t2, t1, t0] = self.read()?;
                partial.extended = [t2, t1, t0] == [0xff; 3];
            }
            if format < 2 {
                let [l2, l1, l0, kind] = self.read()?;
                partial.length = usize::try_from(u32::from_be_bytes([0, l2, l1, l0])).expect("24 bits");
                partial.kind = kind;
            }
            if format == 0 {
                let _stream: [u8; 4] = self.read()?;
            }
            if partial.extended {
                let _time: [u8; 4] = self.read()?;
            }
            let count = (partial.length - partial.body.len()).min(self.chunk_in);
            let mut piece = vec![0; count];
            self.stream.read_exact(&mut piece)?;
            partial.body.extend(piece);
            if partial.body.len() < partial.length {
                self.partial.insert(chunk_stream, partial);
                continue;
            }
            let message = Message { kind: partial.kind, body: std::mem::take(&mut partial.body) };
            self.partial.insert(chunk_stream, partial);
            if let (1, [a, b, c, d, ..]) = (message.kind, message.body.as_slice()) {
                self.chunk_in = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).expect("32 bits");
                continue;
            }
            return Ok(message);
        }
    }

    /// Reads until the server closes; says how many bytes came.
    ///
    /// # Errors
    /// `WouldBlock` or `TimedOut` when it does not close within `patience`.
    pub fn read_until_closed(&mut self, patience: Duration) -> io::Result<usize> {
        read_until_closed(&mut self.stream, patience)
    }

    fn await_command(&mut self, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
        loop {
            let message = self.receive()?;
            if message.kind == COMMAND && wanted(&message.body) {
                return Ok(message.body);
            }
        }
    }

    fn read<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads until the other end closes or resets; says how many bytes came.
///
/// # Errors
/// `WouldBlock` or `TimedOut` when it stays open for `patience` without a byte.
pub fn read_until_closed(stream: &mut TcpStream, patience: Duration) -> io::Result<usize> {
    stream.set_read_timeout(Some(patience))?;
    let mut buffer = [0; 4096];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => total += count,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(total),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The head of a message's first chunk, full form.
pub fn message_header(chunk_stream: u32, kind: u8, time: u32, stream: u32, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(18);
    basic_header(&mut out, 0, chunk_stream);
    let [_, t2, t1, t0] = time.min(0xff_ffff).to_be_bytes();
    let [_, l2, l1, l0] = u32::try_from(length).expect("24 bits").to_be_bytes();
    out.extend([t2, t1, t0, l2, l1, l0, kind]);
    out.extend(stream.to_le_bytes());
    if time >= 0xff_ffff {
        out.extend(time.to_be_bytes());
    }
    out
}

fn basic_header(out: &mut Vec<u8>, format: u8, chunk_stream: u32) {
    let low = |value: u32| u8::try_from(value).expect("below 256");
    match chunk_stream {
        2..=63 => out.push(format << 6 | low(chunk_stream)),
        64..=319 => out.extend([format << 6, low(chunk_stream - 64)]),
        320..=65_599 => {
            out.extend([format << 6 | 1, low((chunk_stream - 64) & 0xff), low((chunk_stream - 64) >> 8)]);
        }
        _ => panic!("RTMP has no chunk stream {chunk_stream}"),
    }
}

/// Values in AMF0.
pub fn amf0(values: &[Value<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend(u16::try_from(text.len()).expect("a short string").to_be_bytes());
        out.extend(text.as_bytes());
    };
    for value in values {
        match value {
            Value::Number(number) => {
                out.push(0);
                out.extend(number.to_be_bytes());
            }
            Value::Text(string) => {
                out.push(2);
                text(&mut out, string);
            }
            Value::Object(pairs) => {
                out.push(3);
                for (key, string) in *pairs {
                    text(&mut out, key);
                    out.push(2);
                    text(&mut out, string);
                }
                out.extend([0, 0, 9]);
            }
            Value::Null => out.push(5),
        }
    }
    out
}

/// The `code` of an onStatus or _error message.
pub fn code_of(body: &[u8]) -> String {
    let key = b"\0\x04code\x02";
    let place = body.windows(key.len()).position(|window| window == key);
    let rest = place.and_then(|place| body.get(place + key.len()..)).unwrap_or_default();
    let (length, text) = rest
        .split_first_chunk::<2>()
        .map_or((0, rest), |(length, text)| (usize::from(u16::from_be_bytes(*length)), text));
    String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned()
}
