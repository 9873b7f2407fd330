//! Whose a datagram is that comes from an address nobody knows: the first of them ask for a binding, and name the session.

use std::net::SocketAddr;

use crate::{bits::Reader, datagram::Greeting, error::Error, limits::DoorLimits, time::Now};

/// A request for a binding, and what every message has behind its length. (RFC 8489, 5)
const BINDING_REQUEST: u16 = 0x0001;
const COOKIE: u32 = 0x2112_a442;
/// Attributes. (14.3)
const USERNAME: u16 = 0x0006;

/// Digits of a session's number in its user fragment; random ones follow.
const DIGITS: usize = 16;

/// The user fragment of the session with this number. (RFC 8445, 5.3)
pub fn fragment_of(number: u64, random: &str) -> String {
    format!("{number:016x}{random}")
}

/// Looks at a datagram: a request for a binding is for the session whose fragment stands first in its user name, anything else is
/// for whom its address is known to be. (RFC 8445, 7.2.2)
///
/// ```
/// use shardcast_engine::{datagram::Greeting, limits::DoorLimits, time::Now, webrtc::greet};
///
/// let media = [0x80, 96, 0, 1];
/// assert_eq!(greet(&media, ([192, 0, 2, 1], 9000).into(), &DoorLimits::default(), Now(0)), Greeting::Known);
/// ```
pub fn greet(datagram: &[u8], _: SocketAddr, _: &DoorLimits, _: Now) -> Greeting {
    match number(datagram) {
        Ok(Some(number)) => Greeting::For(number),
        Ok(None) => Greeting::Known,
        Err(_) => Greeting::Ignore,
    }
}

/// The number that a request for a binding names; `None` for anything else.
///
/// # Errors
/// It is a request, and names nobody.
fn number(datagram: &[u8]) -> Result<Option<u64>, Error> {
    let nobody = Error::malformed("a request for a binding that names nobody", 0);
    let mut reader = Reader::new(datagram);
    let (Ok(kind), Ok(length), Ok(cookie)) =
        (reader.u16("message type"), reader.u16("message length"), reader.u32("magic cookie"))
    else {
        return Ok(None);
    };
    if kind != BINDING_REQUEST || cookie != COOKIE {
        return Ok(None);
    }
    reader.skip(12, "transaction")?;
    let mut attributes = Reader::new(reader.take(usize::from(length), "attributes")?);
    while attributes.remaining() > 0 {
        let (kind, length) = (attributes.u16("attribute")?, attributes.u16("length of an attribute")?);
        let value = attributes.take(usize::from(length), "attribute")?;
        // Each begins at a multiple of four bytes. (14)
        let padding = value.len().next_multiple_of(4) - value.len();
        if kind == USERNAME {
            let digits =
                value.get(..DIGITS).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or(nobody)?;
            return u64::from_str_radix(digits, 16).map(Some).map_err(|_| nobody);
        }
        attributes.skip(padding.min(attributes.remaining()), "padding")?;
    }
    Err(nobody)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A request with these attributes.
    fn request(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend(kind.to_be_bytes());
            body.extend((value.len() as u16).to_be_bytes());
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut message = vec![0, 1];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(COOKIE.to_be_bytes());
        message.extend([7; 12]);
        message.extend(body);
        message
    }

    #[test]
    fn a_request_is_for_whom_its_user_name_begins_with() {
        let name = format!("{}:theirs", fragment_of(0x2a_0000_0001, "Zz9k"));
        assert_eq!(
            number(&request(&[(0x8022, b"soft"), (USERNAME, name.as_bytes())])),
            Ok(Some(0x2a_0000_0001))
        );
        for broken in [
            request(&[]),
            request(&[(USERNAME, b"short:x")]),
            request(&[(USERNAME, b"no hexadecimal d:x")]),
            request(&[(USERNAME, name.as_bytes())])[..30].to_vec(),
        ] {
            assert!(number(&broken).is_err(), "{broken:x?}");
        }
        assert_eq!(number(b"\x16\xfe\xfd"), Ok(None));
        assert_eq!(number(&[]), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(mut bytes: Vec<u8>, stun: bool) {
            if stun && bytes.len() >= 8 {
                bytes[..2].copy_from_slice(&[0, 1]);
                bytes[4..8].copy_from_slice(&COOKIE.to_be_bytes());
            }
            let _ = number(&bytes);
        }
    }
}
