//! The `Transport` header: how a client wants a track. (RFC 2326, 12.39)
//!
//! `rtsp-types` has a reader of it, which panics on a lone quotation mark.

/// One way that a client can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Inside the connection.
    pub tcp: bool,
    /// To one receiver.
    pub unicast: bool,
    /// The channels of media and of control information.
    pub interleaved: Option<(u8, u8)>,
    /// The client's ports for media and for control information.
    pub client_port: Option<(u16, u16)>,
}

/// Reads the header: the ways that RTP can go and that are understood, as the client prefers them.
pub fn read(header: &str) -> Vec<Transport> {
    header.split(',').filter_map(read_one).collect()
}

fn read_one(text: &str) -> Option<Transport> {
    let mut parts = text.split(';').map(str::trim);
    let mut profile = parts.next()?.split('/');
    if (profile.next()?, profile.next()?) != ("RTP", "AVP") {
        return None;
    }
    let tcp = match profile.next() {
        Some("TCP") => true,
        Some("UDP") | None => false,
        Some(_) => return None,
    };
    let mut transport = Transport { tcp, unicast: true, ..Transport::default() };
    for part in parts {
        match part.split_once('=') {
            None if part.eq_ignore_ascii_case("multicast") => transport.unicast = false,
            Some((key, value)) if key.eq_ignore_ascii_case("interleaved") => {
                let (first, second) = pair(value)?;
                transport.interleaved = Some((u8::try_from(first).ok()?, u8::try_from(second).ok()?));
            }
            Some((key, value)) if key.eq_ignore_ascii_case("client_port") => {
                transport.client_port =
                    Some(pair(value).filter(|(first, second)| *first > 0 && *second > 0)?);
            }
            _ => {}
        }
    }
    Some(transport)
}

/// `5000-5001`, or the first of two that follow each other.
fn pair(value: &str) -> Option<(u16, u16)> {
    let (first, second) = value.split_once('-').unwrap_or((value, ""));
    let first: u16 = first.trim().parse().ok()?;
    let second = second.trim().parse().ok().or_else(|| first.checked_add(1))?;
    Some((first, second))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_clients_offer_is_read_in_their_order() {
        let offer = "RTP/AVP/UDP;unicast;client_port=5000-5001;mode=record, RTP/AVP/TCP;unicast;interleaved=2-3;mode=\"";
        let [udp, tcp] = &read(offer)[..] else { panic!("{:?}", read(offer)) };
        let rest = Transport { unicast: true, ..Transport::default() };
        assert_eq!(*udp, Transport { client_port: Some((5000, 5001)), ..rest.clone() });
        assert_eq!(*tcp, Transport { tcp: true, interleaved: Some((2, 3)), ..rest });
        assert_eq!(read("RTP/AVP;unicast;client_port=5002")[0].client_port, Some((5002, 5003)));
        assert_eq!(read("RTP/AVP/TCP;interleaved=4")[0].interleaved, Some((4, 5)));
        assert!(!read("RTP/AVP;multicast")[0].unicast);
        for bad in [
            "",
            ";;;",
            "RTP/SAVP/TCP;interleaved=0-1",
            "RTP/AVP/TCP;interleaved=x",
            "RTP/AVP/TCP;interleaved=255",
            "RTP/AVP/TCP;interleaved=7-256",
            "RTP/AVP;client_port=0-1",
            "RTP/AVP;client_port=65535",
            "RTP/AVP;client_port=70000-70001",
            "RAW/RAW/UDP",
        ] {
            assert_eq!(read(bad), [], "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(RTP/AVP/TCP;)?.{0,80}") {
            prop_assert!(read(&text).len() <= text.len());
        }
    }
}
