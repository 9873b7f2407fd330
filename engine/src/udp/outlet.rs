//! Where a transport stream is sent to that goes out by datagrams.

use std::net::SocketAddr;

use super::{interface_of, read_url};
use crate::error::Error;

/// Where a transport stream is sent to.
///
/// ```
/// use shardcast_engine::udp::Outlet;
///
/// let outlet = Outlet::parse("rtp://239.1.2.3:5000?interface=eth0&ttl=4")?;
/// assert_eq!(outlet.address, "239.1.2.3:5000".parse().unwrap());
/// assert!(outlet.wrapped && outlet.interface.as_deref() == Some("eth0") && outlet.ttl == Some(4));
/// assert!(Outlet::parse("udp://0.0.0.0:5000").is_err());
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outlet {
    /// A machine, or a multicast group. The port is not 0.
    pub address: SocketAddr,
    /// Packets go inside RTP (`rtp://`).
    pub wrapped: bool,
    /// The interface by which a group is sent to, by its name; the kernel chooses where there is none.
    pub interface: Option<String>,
    /// How many routers it may pass. Where nothing is said a group's datagrams pass none (1), and others as many as the system
    /// has them pass.
    pub ttl: Option<u8>,
}

impl Outlet {
    /// Reads `udp://ADDRESS:PORT` or `rtp://ADDRESS:PORT`, with `interface=` and `ttl=` in its query.
    ///
    /// # Errors
    /// What is wrong with it; `at` counts from the beginning of `url`.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let read = read_url(url, "udp:// or rtp:// is what datagrams go to")?;
        let mut outlet = Outlet { address: read.address, wrapped: read.wrapped, interface: None, ttl: None };
        read.options(|name, value| match name {
            "interface" => {
                outlet.interface = Some(interface_of(value)?);
                Ok(())
            }
            "ttl" => {
                outlet.ttl = Some(value.parse().map_err(|_| "ttl= wants a number from 0 to 255")?);
                Ok(())
            }
            _ => Err("interface= and ttl= are known here"),
        })?;
        outlet.check().map_err(|why| Error::malformed(why, 0))?;
        Ok(outlet)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.address.ip().is_unspecified() {
            return Err("nobody has this address: say which machine or group it is sent to");
        }
        if self.is_multicast() {
            return Ok(());
        }
        if self.interface.is_some() {
            return Err(
                "an interface is chosen for a multicast group; the way to one machine is the system's to choose",
            );
        }
        if self.ttl == Some(0) {
            return Err("ttl=0 reaches no other machine; it is for multicast groups on this one");
        }
        Ok(())
    }

    /// It is a multicast group.
    pub fn is_multicast(&self) -> bool {
        self.address.ip().is_multicast()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn why(url: &str) -> (&'static str, u64) {
        let error = Outlet::parse(url).unwrap_err();
        (error.why, error.at)
    }

    #[test]
    fn an_address_is_read_with_what_stands_behind_it() {
        let plain = Outlet::parse("udp://127.0.0.1:5000").unwrap();
        assert_eq!(plain.address, "127.0.0.1:5000".parse().unwrap());
        assert!(!plain.wrapped && !plain.is_multicast() && plain.ttl.is_none());
        let group = Outlet::parse("udp://239.0.0.1:5000?ttl=0&interface=lo").unwrap();
        assert!(group.is_multicast() && group.ttl == Some(0) && group.interface.as_deref() == Some("lo"));
        assert!(Outlet::parse("rtp://[ff02::17]:6000?interface=lo").unwrap().wrapped);
    }

    #[test]
    fn what_could_never_arrive_is_refused_with_its_place() {
        assert_eq!(why("srt://127.0.0.1:1").1, 0);
        assert_eq!(why("udp://camera:5000").1, 6);
        assert_eq!(why("udp://127.0.0.1:0").0, "a port other than 0 is wanted");
        assert!(why("udp://0.0.0.0:5000").0.contains("nobody has this address"));
        assert!(why("udp://[::]:5000").0.contains("nobody has this address"));
        assert!(why("udp://127.0.0.1:5000?interface=lo").0.contains("multicast group"));
        assert!(why("udp://127.0.0.1:5000?ttl=0").0.contains("ttl=0"));
        assert_eq!(why("udp://127.0.0.1:5000?ttl=256"), ("ttl= wants a number from 0 to 255", 21));
        assert_eq!(why("udp://127.0.0.1:5000?ttl=1&pkt_size=1316").1, 27);
    }

    proptest! {
        #[test]
        fn any_text_is_an_outlet_or_says_why_not(text in "(udp|rtp)://.{0,60}") {
            if let Err(error) = Outlet::parse(&text) {
                prop_assert!(error.at <= text.len() as u64 + 1);
            }
        }
    }
}
