//! What a player asks.

use bytes::{BufMut, BytesMut};
use shardcast_engine::media::StreamName;

/// A request for something in a stream's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do with it.
    pub method: Method,
    /// Its address as a playlist has it: a file's name, perhaps with a query.
    pub address: String,
    /// Only these bytes of it, both included.
    pub range: Option<(usize, usize)>,
    /// It is asked in HTTP/1.0: no chunks, and the connection ends with the answer.
    pub old: bool,
    /// The status that the door answers by itself; `None` for what the hub has to find.
    pub status: Option<u16>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Send it.
    Get,
    /// Tell of it.
    Head,
    /// Say what could be done.
    Options,
    /// What this door does not do.
    Post,
}

impl Request {
    /// Asks for the whole of what stands at `address`.
    pub fn get(address: impl Into<String>) -> Self {
        Request { method: Method::Get, address: address.into(), range: None, old: false, status: None }
    }

    /// The file that it names, without a query.
    pub fn file(&self) -> &str {
        file_of(&self.address)
    }

    /// Whether its answer is the last on the connection.
    pub fn is_last(&self) -> bool {
        self.old
    }

    /// Writes it as it goes over the network.
    pub fn write(&self, name: &StreamName, out: &mut BytesMut) {
        let method = match self.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Options => "OPTIONS",
            Method::Post => "POST",
        };
        let version = if self.old { "1.0" } else { "1.1" };
        let address = &self.address;
        out.put_slice(format!("{method} /{name}/{address} HTTP/{version}\r\nHost: world\r\n").as_bytes());
        if let Some((first, last)) = self.range {
            out.put_slice(format!("Range: bytes={first}-{last}\r\n").as_bytes());
        }
        out.put_slice(b"\r\n");
    }
}

/// An address without its query.
pub fn file_of(address: &str) -> &str {
    address.split_once('?').map_or(address, |(file, _)| file)
}
