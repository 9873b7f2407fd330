//! MPEG-TS in datagrams that nobody announces, as broadcast gear and encoders send and take it: plain, or inside RTP (RFC 2250, 2).
//!
//! Which stream it is, the operator says: an [`Intake`] is the address that it is sent to, and a [`Session`] is its conversation,
//! in which only the other side speaks. Whoever sends is heard; a source may be demanded, and for a multicast group the kernel
//! is asked for that one alone.
//!
//! The other way an [`Outlet`] is where a stream of here is sent to, a [`Sender`] the conversation in which nobody answers, and an
//! [`Outflow`] the pace and the form of what goes.

mod outflow;
mod outlet;
mod sender;
mod session;

use std::net::{IpAddr, SocketAddr};

use crate::{
    error::Error,
    mpegts::{PACKET_BYTES, SYNC_BYTE},
};

pub use outflow::{Outflow, Portion};
pub use outlet::Outlet;
pub use sender::Sender;
pub use session::Session;

/// Where a transport stream comes in.
///
/// ```
/// use shardcast_engine::udp::Intake;
///
/// let intake = Intake::parse("udp://239.1.2.3:5000?interface=eth0&source=10.0.0.7&program=2")?;
/// assert_eq!(intake.address, "239.1.2.3:5000".parse().unwrap());
/// assert_eq!((intake.interface.as_deref(), intake.program), (Some("eth0"), Some(2)));
/// assert!(Intake::parse("udp://camera:5000").is_err());
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intake {
    /// Where it is sent to: an address of this machine, or a multicast group. The port is not 0.
    pub address: SocketAddr,
    /// Only what is inside RTP is taken (`rtp://`); otherwise both are.
    pub wrapped: bool,
    /// The interface on which the group is joined, by its name; the kernel chooses where there is none.
    pub interface: Option<String>,
    /// Only what comes from here is taken.
    pub source: Option<IpAddr>,
    /// Which program of the transport stream is taken; the first that is listed where there is none.
    pub program: Option<u16>,
}

/// Bytes of an interface's name (IFNAMSIZ of Linux, less the zero behind it).
const INTERFACE_BYTES_MAX: usize = 15;

impl Intake {
    /// Reads `udp://ADDRESS:PORT` or `rtp://ADDRESS:PORT`, with `interface=`, `source=` and `program=` in its query. An `@` before
    /// the address, as VLC and ffmpeg write it, is passed over.
    ///
    /// # Errors
    /// What is wrong with it; `at` counts from the beginning of `url`.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let read = read_url(url, "udp://, rtp:// or rtmp:// is what can be pulled")?;
        let (address, wrapped) = (read.address, read.wrapped);
        let mut intake = Intake { address, wrapped, interface: None, source: None, program: None };
        read.options(|name, value| intake.option(name, value))?;
        intake.check().map_err(|why| Error::malformed(why, 0))?;
        Ok(intake)
    }

    fn option(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        match name {
            "interface" => self.interface = Some(interface_of(value)?),
            "source" => self.source = Some(value.parse().map_err(|_| "source= wants an address")?),
            "program" => {
                let number = value.parse().ok().filter(|number| *number > 0);
                self.program = Some(number.ok_or("program= wants a number from 1 to 65535")?);
            }
            _ => return Err("interface=, source= and program= are known here"),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.interface.is_some() && !self.is_multicast() {
            return Err(
                "an interface is chosen for a multicast group; an address of one machine is on one already",
            );
        }
        if self.source.is_some_and(|source| source.is_ipv4() != self.address.is_ipv4()) {
            return Err("source= is of another family than the address");
        }
        Ok(())
    }

    /// It is a multicast group.
    pub fn is_multicast(&self) -> bool {
        self.address.ip().is_multicast()
    }
}

/// A URL of datagrams, taken apart.
struct Url<'a> {
    wrapped: bool,
    address: SocketAddr,
    query: &'a str,
    /// Where the query begins.
    at: u64,
}

/// Takes `udp://ADDRESS:PORT?QUERY` or `rtp://...` apart; `wanted` says what else is refused for.
fn read_url<'a>(url: &'a str, wanted: &'static str) -> Result<Url<'a>, Error> {
    let (wrapped, rest) = match (url.strip_prefix("udp://"), url.strip_prefix("rtp://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err(Error::unsupported(wanted, 0)),
    };
    let at = (url.len() - rest.len()) as u64;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let place = place.strip_suffix('/').unwrap_or(place);
    let address: SocketAddr = place.strip_prefix('@').unwrap_or(place).parse().map_err(|_| {
        Error::malformed("ADDRESS:PORT is wanted, the address as numbers ([...] of IPv6)", at)
    })?;
    if address.port() == 0 {
        return Err(Error::malformed("a port other than 0 is wanted", at));
    }
    Ok(Url { wrapped, address, query, at: (url.len() - query.len()) as u64 })
}

impl Url<'_> {
    /// Hands out each `name=value` of the query.
    fn options(&self, mut option: impl FnMut(&str, &str) -> Result<(), &'static str>) -> Result<(), Error> {
        let mut at = self.at;
        for pair in self.query.split('&') {
            if !pair.is_empty() {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                option(name, value).map_err(|why| Error::malformed(why, at))?;
            }
            at += pair.len() as u64 + 1;
        }
        Ok(())
    }
}

/// The name of an interface, if it can be one.
fn interface_of(value: &str) -> Result<String, &'static str> {
    let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    if value.is_empty() || value.len() > INTERFACE_BYTES_MAX || !value.bytes().all(legal) {
        return Err("interface= wants the name of one, as `ip link` shows it");
    }
    Ok(value.to_owned())
}

/// What a datagram holds: whole packets of a transport stream, as they are or inside RTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Datagram<'a> {
    /// Packets.
    Plain(&'a [u8]),
    /// Packets, and which of its source's datagrams this is.
    Numbered(u16, &'a [u8]),
}

impl<'a> Datagram<'a> {
    /// Reads one. `None` when it is neither.
    pub(crate) fn read(bytes: &'a [u8], wrapped: bool) -> Option<Self> {
        if !wrapped && is_packets(bytes) {
            return Some(Datagram::Plain(bytes));
        }
        let packet = crate::rtp::Packet::parse(bytes).ok()?;
        is_packets(packet.payload).then_some(Datagram::Numbered(packet.sequence, packet.payload))
    }
}

/// A first packet is there. What follows it is the demuxer's to judge: some senders fill their last datagram up.
fn is_packets(bytes: &[u8]) -> bool {
    bytes.len() >= PACKET_BYTES && bytes.first() == Some(&SYNC_BYTE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn why(url: &str) -> (&'static str, u64) {
        let error = Intake::parse(url).unwrap_err();
        (error.why, error.at)
    }

    #[test]
    fn an_address_is_read_in_the_ways_in_which_people_write_it() {
        let plain = Intake::parse("udp://127.0.0.1:5000").unwrap();
        assert_eq!(plain.address, "127.0.0.1:5000".parse().unwrap());
        assert!(!plain.wrapped && !plain.is_multicast() && plain.source.is_none() && plain.program.is_none());
        assert_eq!(
            Intake::parse("udp://@239.0.0.1:5000/?").unwrap().address,
            "239.0.0.1:5000".parse().unwrap()
        );
        let six = Intake::parse("rtp://[ff02::17]:6000?interface=lo&source=fe80::1").unwrap();
        assert!(six.wrapped && six.is_multicast());
        assert_eq!(six.source, Some("fe80::1".parse().unwrap()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        assert_eq!(why("srt://127.0.0.1:1").1, 0);
        assert_eq!(why("udp://localhost:5000").1, 6);
        assert_eq!(why("udp://127.0.0.1").1, 6);
        assert_eq!(why("udp://127.0.0.1:0").0, "a port other than 0 is wanted");
        assert_eq!(why("udp://127.0.0.1:5000?program=1&program=0").1, 31);
        assert_eq!(why("udp://127.0.0.1:5000?fifo_size=7").1, 21);
        assert!(why("udp://127.0.0.1:5000?interface=lo").0.contains("multicast group"));
        assert!(why("udp://239.0.0.1:5000?interface=").0.contains("ip link"));
        assert!(why("udp://239.0.0.1:5000?interface=a-name-too-long1").0.contains("ip link"));
        assert!(why("udp://127.0.0.1:5000?source=::1").0.contains("family"));
    }

    #[test]
    fn a_datagram_is_taken_for_what_it_is() {
        let packets = [[SYNC_BYTE; 1].as_slice(), &[0; 187]].concat();
        let head = [0x80, 33, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0];
        let numbered = [&head[..], &packets].concat();
        assert_eq!(Datagram::read(&packets, false), Some(Datagram::Plain(&packets)));
        assert_eq!(Datagram::read(&packets, true), None);
        for wrapped in [false, true] {
            assert_eq!(Datagram::read(&numbered, wrapped), Some(Datagram::Numbered(9, &packets)));
        }
        for other in [&b""[..], b"hello", &packets[..187], &numbered[..199], &[0; 188]] {
            assert_eq!(Datagram::read(other, false), None);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_intake_or_says_why_not(text in "(udp|rtp)://.{0,60}") {
            if let Err(error) = Intake::parse(&text) {
                prop_assert!(error.at <= text.len() as u64 + 1);
            }
        }
    }
}
