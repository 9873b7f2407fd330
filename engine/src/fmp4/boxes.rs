//! Writing boxes whose size is not known before their content is.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::{bits::Reader, error::Error};

/// The type of a box or sample entry.
///
/// ```
/// use shardcast_engine::fmp4::FourCc;
///
/// assert_eq!(FourCc(*b"moof").to_string(), "moof");
/// // It can stand in a log line, whatever a file has there.
/// assert_eq!(FourCc(*b"\xa9nam").to_string(), "\\xa9nam");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FourCc(pub [u8; 4]);

impl FourCc {
    pub(super) fn read(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, Error> {
        reader.array(what).map(FourCc)
    }
}

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A box (ISO/IEC 14496-12, 4.2).
pub(super) fn plain(out: &mut BytesMut, kind: &[u8; 4], body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_slice(kind);
    body(out);
    let size =
        u32::try_from(out.len() - start).expect("the bounds on configurations and samples keep boxes small");
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// A box with a version and flags (a "full box").
pub(super) fn full(
    out: &mut BytesMut,
    kind: &[u8; 4],
    version: u8,
    flags: u32,
    body: impl FnOnce(&mut BytesMut),
) {
    plain(out, kind, |out| {
        out.put_u32(u32::from(version) << 24 | flags);
        body(out);
    });
}
