//! What two sides say to set a connection up: a first round in which the listener gives out a cookie, and a second that
//! settles everything. (draft-sharabayko-srt-01, 3.2.1 and 4.3.1)

use bytes::{BufMut, BytesMut};

use super::{packet::block, sequence::Sequence};
use crate::{bits::Reader, error::Error};

/// A handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// 4 in a caller's first word, 5 from then on.
    pub version: u32,
    /// How long the sender's keys are: 0 for what the other side says, else an eighth of the bytes' number.
    pub key_length: u16,
    /// In the first answer a magic number, then which extensions follow.
    pub extension: u16,
    /// The number of the first packet of data.
    pub first: u32,
    /// Bytes of a packet with everything around it.
    pub mtu: u32,
    /// Packets that may be under way.
    pub window: u32,
    /// The round, or why not.
    pub kind: u32,
    /// The sender's socket.
    pub socket: u32,
    pub cookie: u32,
    pub address: [u8; 16],
    /// What the two sides can do; in the second round only.
    pub hello: Option<Hello>,
    /// A message of keys, or the answer to it.
    pub keys: Option<Vec<u8>>,
    /// What a caller wants, as the words have it.
    pub stream_id: Option<Vec<u8>>,
    /// How the caller wants congestion to be looked after.
    pub congestion: Option<Vec<u8>>,
}

/// What a side can do. (3.2.1.1)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Of its program, a byte each.
    pub version: u32,
    pub flags: u32,
    /// Milliseconds that it holds back what it receives, and that it wants the other side to hold back what it is sent.
    pub receiver_latency: u16,
    pub sender_latency: u16,
}

/// The rounds.
pub mod kind {
    pub const INDUCTION: u32 = 1;
    pub const CONCLUSION: u32 = 0xffff_ffff;
    /// A refusal is its reason and this.
    pub const REFUSED: u32 = 1000;
}

/// What stands in the first answer in place of extensions, and says that version 5 is spoken.
pub const MAGIC: u16 = 0x4a17;

/// Which extensions follow.
pub mod extension {
    pub const HELLO: u16 = 1;
    pub const KEYS: u16 = 2;
    pub const MORE: u16 = 4;
}

/// What a side can do. (3.2.1.1.1)
pub mod flag {
    /// Packets have the time at which they are to be handed on, both ways.
    pub const TIMES: u32 = 3;
    pub const ENCRYPTS: u32 = 4;
    pub const DROPS: u32 = 8;
    pub const REPORTS_AGAIN: u32 = 0x10;
    pub const MARKS_AGAIN: u32 = 0x20;
    /// Bytes without bounds of messages, as files go.
    pub const BYTES: u32 = 0x40;
}

/// Why a caller is refused. (Table 7; from 1000 on those of libsrt's access control, which are HTTP's)
pub mod reason {
    pub const ROGUE: u32 = 4;
    pub const VERSION: u32 = 8;
    pub const BAD_SECRET: u32 = 10;
    pub const UNSECURE: u32 = 11;
    pub const MESSAGES: u32 = 12;
    pub const CONGESTION: u32 = 13;
    pub const BAD_REQUEST: u32 = 1400;
    pub const FORBIDDEN: u32 = 1403;
    pub const NOT_FOUND: u32 = 1404;
    pub const BAD_MODE: u32 = 1405;
    pub const CONFLICT: u32 = 1409;
    pub const OVERLOAD: u32 = 1402;
    pub const UNAVAILABLE: u32 = 1503;
}

/// Bytes of a handshake without extensions.
const BODY_BYTES: usize = 48;
/// Bytes of a stream id. (3.2.1.3)
pub const STREAM_ID_BYTES_MAX: usize = 512;
/// Bytes of a message of keys: two keys of 32 bytes, wrapped, and what stands before them.
const KEYS_BYTES_MAX: usize = 104;

impl Handshake {
    /// Reads what follows the header of a handshake packet.
    ///
    /// # Errors
    /// It is too short, or an extension is longer than what it says may be.
    pub fn read(body: &[u8]) -> Result<Handshake, Error> {
        let mut reader = Reader::new(body);
        let mut handshake = Handshake::read_fixed(&mut reader)?;
        while handshake.kind == kind::CONCLUSION && handshake.version >= 5 && !reader.is_empty() {
            let kind = reader.u16("handshake's extension")?;
            let words = reader.u16("handshake's extension")?;
            let content = reader.take(4 * usize::from(words), "handshake's extension")?;
            handshake.take_extension(kind, content).map_err(|error| error.after(reader.position() as u64))?;
        }
        Ok(handshake)
    }

    fn read_fixed(reader: &mut Reader<'_>) -> Result<Handshake, Error> {
        const WHAT: &str = "handshake";
        Ok(Handshake {
            version: reader.u32(WHAT)?,
            key_length: reader.u16(WHAT)?,
            extension: reader.u16(WHAT)?,
            first: reader.u32(WHAT)?,
            mtu: reader.u32(WHAT)?,
            window: reader.u32(WHAT)?,
            kind: reader.u32(WHAT)?,
            socket: reader.u32(WHAT)?,
            cookie: reader.u32(WHAT)?,
            address: reader.array(WHAT)?,
            ..Handshake::default()
        })
    }

    fn take_extension(&mut self, kind: u16, content: &[u8]) -> Result<(), Error> {
        match kind {
            block::HELLO | block::HELLO_ANSWER => self.hello = Some(Hello::read(content)?),
            block::KEYS | block::KEYS_ANSWER => {
                if content.len() > KEYS_BYTES_MAX {
                    return Err(Error::too_large("message of keys", 0));
                }
                self.keys = Some(content.to_vec());
            }
            block::STREAM_ID => {
                if content.len() > STREAM_ID_BYTES_MAX {
                    return Err(Error::too_large("stream id", 0));
                }
                self.stream_id = Some(text_of(content));
            }
            block::CONGESTION => {
                if content.len() > 64 {
                    return Err(Error::too_large("name of a congestion controller", 0));
                }
                self.congestion = Some(text_of(content));
            }
            // Filters and groups: what is not answered is not agreed on.
            _ => {}
        }
        Ok(())
    }

    /// Writes it, extensions and all; `answer` says whether it answers one.
    pub fn write(&self, answer: bool) -> BytesMut {
        let mut out = BytesMut::with_capacity(BODY_BYTES + 128);
        out.put_u32(self.version);
        out.put_u16(self.key_length);
        out.put_u16(self.extension);
        out.put_u32(self.first);
        out.put_u32(self.mtu);
        out.put_u32(self.window);
        out.put_u32(self.kind);
        out.put_u32(self.socket);
        out.put_u32(self.cookie);
        out.put_slice(&self.address);
        if let Some(hello) = &self.hello {
            out.put_u16(if answer { block::HELLO_ANSWER } else { block::HELLO });
            out.put_u16(3);
            out.put_u32(hello.version);
            out.put_u32(hello.flags);
            out.put_u16(hello.receiver_latency);
            out.put_u16(hello.sender_latency);
        }
        if let Some(keys) = &self.keys {
            out.put_u16(if answer { block::KEYS_ANSWER } else { block::KEYS });
            out.put_u16((keys.len() / 4) as u16);
            out.put_slice(keys);
        }
        if let Some(text) = &self.stream_id {
            write_text(block::STREAM_ID, text, &mut out);
        }
        if let Some(text) = &self.congestion {
            write_text(block::CONGESTION, text, &mut out);
        }
        out
    }
}

impl Hello {
    fn read(content: &[u8]) -> Result<Hello, Error> {
        const WHAT: &str = "hello";
        let mut reader = Reader::new(content);
        Ok(Hello {
            version: reader.u32(WHAT)?,
            flags: reader.u32(WHAT)?,
            receiver_latency: reader.u16(WHAT)?,
            sender_latency: reader.u16(WHAT)?,
        })
    }
}

/// Text stands in words, each the wrong way round, and is filled up with zeros.
fn text_of(content: &[u8]) -> Vec<u8> {
    let mut text: Vec<u8> = content.chunks_exact(4).flat_map(|word| word.iter().rev().copied()).collect();
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    text.truncate(end);
    text
}

fn write_text(kind: u16, text: &[u8], out: &mut BytesMut) {
    out.put_u16(kind);
    out.put_u16(text.len().div_ceil(4) as u16);
    for word in text.chunks(4) {
        let mut whole = [0; 4];
        whole.iter_mut().zip(word).for_each(|(to, from)| *to = *from);
        whole.reverse();
        out.put_slice(&whole);
    }
}

/// The first number of a stream of data.
impl Handshake {
    /// See [`first`](Self::first).
    pub const fn first_sequence(&self) -> Sequence {
        Sequence::of(self.first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn conclusion() -> Handshake {
        Handshake {
            version: 5,
            extension: extension::HELLO | extension::KEYS | extension::MORE,
            first: 77,
            mtu: 1500,
            window: 8192,
            kind: kind::CONCLUSION,
            socket: 3,
            cookie: 4,
            address: [1; 16],
            hello: Some(Hello { version: 0x10501, flags: 0xbf, receiver_latency: 120, sender_latency: 80 }),
            keys: Some(vec![9; 64]),
            stream_id: Some(b"#!::r=live/cam".to_vec()),
            congestion: Some(b"live".to_vec()),
            ..Handshake::default()
        }
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for answer in [false, true] {
            assert_eq!(Handshake::read(&conclusion().write(answer)), Ok(conclusion()));
        }
        let induction = Handshake { version: 4, extension: 2, kind: kind::INDUCTION, ..Handshake::default() };
        assert_eq!(Handshake::read(&induction.write(false)), Ok(induction));
    }

    #[test]
    fn each_length_but_the_whole_is_refused() {
        let whole = conclusion().write(false);
        let read: Vec<usize> =
            (0..=whole.len()).filter(|length| Handshake::read(&whole[..*length]).is_ok()).collect();
        // Where an extension ends, the handshake may.
        assert_eq!(read, [48, 64, 132, 152, 160]);
    }

    #[test]
    fn extensions_have_their_bounds() {
        let mut long = conclusion();
        long.stream_id = Some(vec![b'a'; 513]);
        assert!(Handshake::read(&long.write(false)).is_err());
        let mut long = conclusion();
        long.keys = Some(vec![0; 108]);
        assert!(Handshake::read(&long.write(false)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), conclusion: bool) {
            if let (true, Some(head)) = (conclusion, bytes.get_mut(..24)) {
                head[..4].copy_from_slice(&5_u32.to_be_bytes());
                head[20..].copy_from_slice(&kind::CONCLUSION.to_be_bytes());
            }
            let _ = Handshake::read(&bytes);
        }
    }
}
