//! RTP (RFC 3550): what a packet of it holds, packets in the order in which they were sent, and frames to packets and back.

#[cfg(feature = "rtsp")]
pub mod demux;
#[cfg(feature = "rtsp")]
pub mod format;
#[cfg(feature = "rtsp")]
pub mod mux;
pub mod order;
#[cfg(feature = "rtsp")]
mod reorder;
#[cfg(feature = "rtsp")]
pub mod rtcp;
#[cfg(feature = "rtsp")]
mod timeline;

use crate::{bits::Reader, error::Error};

#[cfg(feature = "rtsp")]
pub use demux::Demuxer;
#[cfg(feature = "rtsp")]
pub use mux::PACKET_BYTES_MAX;
pub use order::Order;

/// A packet, as it lies in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What the payload is, as the session's description or a profile says (RFC 3551).
    pub payload_type: u8,
    /// What it means is the payload format's to say; in most, that a frame ends here.
    pub marker: bool,
    /// Counts packets, and wraps.
    pub sequence: u16,
    /// When the payload's first sample was taken, on the payload format's clock. Wraps.
    pub timestamp: u32,
    /// The source.
    pub ssrc: u32,
    /// What it carries, without extension and padding. May be empty.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a datagram. (RFC 3550, 5.1 and 5.3.1)
    ///
    /// ```
    /// use shardcast_engine::rtp::Packet;
    ///
    /// let datagram = [0x80, 33, 0, 7, 0, 0, 0, 90, 1, 2, 3, 4, b'h', b'i'];
    /// let packet = Packet::parse(&datagram)?;
    /// assert_eq!((packet.payload_type, packet.sequence, packet.payload), (33, 7, &b"hi"[..]));
    /// # Ok::<(), shardcast_engine::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is of another version, or ends before what its head says is in it.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(datagram);
        let first = reader.u8("head of an RTP packet")?;
        if first >> 6 != 2 {
            return Err(Error::malformed("not RTP of version 2", 0));
        }
        let second = reader.u8("head of an RTP packet")?;
        let sequence = reader.u16("sequence number")?;
        let timestamp = reader.u32("timestamp")?;
        let ssrc = reader.u32("source")?;
        reader.skip(4 * usize::from(first & 0x0f), "contributing sources")?;
        if first & 0x10 != 0 {
            reader.skip(2, "profile of an extension")?;
            let words = reader.u16("length of an extension")?;
            reader.skip(4 * usize::from(words), "extension")?;
        }
        let at = reader.position() as u64;
        let mut payload = reader.rest();
        if first & 0x20 != 0 {
            // Its last byte counts itself.
            let padding = payload.last().map_or(0, |last| usize::from(*last));
            let kept = payload.len().checked_sub(padding).filter(|_| padding > 0);
            let kept = kept.ok_or(Error::malformed("padding is longer than the payload", at))?;
            payload = payload.split_at(kept).0;
        }
        let (payload_type, marker) = (second & 0x7f, second & 0x80 != 0);
        Ok(Packet { payload_type, marker, sequence, timestamp, ssrc, payload })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    /// A head with this first byte, and what follows it.
    fn datagram(first: u8, rest: &[u8]) -> Vec<u8> {
        [&[first, 0x80 | 33, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 8][..], rest].concat()
    }

    #[test]
    fn sources_extension_and_padding_are_no_payload() {
        let plain = datagram(0x80, b"payload");
        let packet = Packet::parse(&plain).unwrap();
        assert_eq!((packet.marker, packet.payload_type, packet.sequence), (true, 33, 0x1234));
        assert_eq!((packet.timestamp, packet.ssrc, packet.payload), (9, 8, &b"payload"[..]));
        for (first, rest) in [
            (0x82, &b"onetwo##payload"[..]),
            (0x90, b"\xbe\xde\0\x01wordpayload"),
            (0xa0, b"payload\0\0\x03"),
            (0xb1, b"csrc\0\0\0\x02two wordpayload\x01"),
        ] {
            assert_eq!(Packet::parse(&datagram(first, rest)).unwrap().payload, b"payload", "{first:x}");
        }
        assert_eq!(Packet::parse(&datagram(0xa0, &[1])).unwrap().payload, b"");
    }

    #[test]
    fn what_is_cut_short_or_of_another_version_is_refused_and_says_where() {
        for (bytes, kind, at) in [
            (vec![], ErrorKind::Truncated, 0),
            (datagram(0x40, b"x"), ErrorKind::Malformed, 0),
            (datagram(0x80, b"").split_at(11).0.to_vec(), ErrorKind::Truncated, 8),
            (datagram(0x81, b"csr"), ErrorKind::Truncated, 12),
            (datagram(0x90, b"\xbe\xde\0\x02word"), ErrorKind::Truncated, 16),
            (datagram(0xa0, b""), ErrorKind::Malformed, 12),
            (datagram(0xa0, b"ab\0"), ErrorKind::Malformed, 12),
            (datagram(0xa0, b"ab\x04"), ErrorKind::Malformed, 12),
        ] {
            let error = Packet::parse(&bytes).unwrap_err();
            assert_eq!((error.kind, error.at), (kind, at), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert!(packet.payload.len() + 12 <= bytes.len());
            }
        }
    }
}
