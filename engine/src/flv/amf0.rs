//! AMF0, the values that FLV script tags and RTMP commands are made of (Adobe "Action Message Format -- AMF 0", 2007).
//!
//! Here are the value, its bounded decoder and its encoder. AMF3, which a value may switch to, is `rtmp::amf3`; a decoder
//! of AMF0 alone refuses the switch.

use bytes::{BufMut, BytesMut};

use crate::{bits::Reader, error::Error, limits};

/// One AMF value. AMF3 values are read into the same shape.
///
/// ```
/// use shardcast_engine::flv::amf0::{Decoder, Value};
///
/// let metadata = Value::object([
///     ("encoder", Value::string("a camera")),
///     ("width", Value::Number(1280.0)),
///     ("stereo", Value::Boolean(true)),
/// ]);
/// let mut bytes = bytes::BytesMut::new();
/// metadata.encode(&mut bytes);
///
/// let read = Decoder::new(&bytes).value()?;
/// assert_eq!(read, metadata);
/// assert_eq!(read.get("encoder").and_then(Value::as_str), Some("a camera"));
/// assert_eq!(read.get("width").and_then(Value::as_number), Some(1280.0));
/// assert_eq!(read.get("stereo").and_then(Value::as_bool), Some(true));
/// assert_eq!(read.get("height"), None);
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An IEEE 754 double; AMF0 has no integers.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// A string, short or long. Bytes that are not UTF-8 are replaced when it is read.
    String(String),
    /// An anonymous object: its properties in the order they came.
    Object(Vec<(String, Value)>),
    /// An associative array. Its count field is only a hint and is not kept.
    EcmaArray(Vec<(String, Value)>),
    /// An array by position.
    StrictArray(Vec<Value>),
    /// Milliseconds since 1970. The time zone that follows it is reserved and not kept.
    Date(f64),
    /// Null.
    Null,
    /// Undefined. Also stands for what cannot be carried: the "unsupported" marker, and references to earlier objects,
    /// which no encoder of media sends and which would let a few bytes stand for gigabytes.
    Undefined,
}

impl Value {
    /// A string.
    pub fn string(text: impl Into<String>) -> Value {
        Value::String(text.into())
    }
    /// An object with these properties.
    pub fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
        Value::Object(properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
    /// The property of that name, if this is an object or an associative array that has it.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(properties) | Value::EcmaArray(properties) => {
                properties.iter().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }
    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
    /// The number, if this is one.
    pub const fn as_number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }
    /// The truth value, if this is one.
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// Appends this value in AMF0.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Value::Number(number) => {
                out.put_u8(marker::NUMBER);
                out.put_f64(*number);
            }
            Value::Boolean(value) => out.put_slice(&[marker::BOOLEAN, u8::from(*value)]),
            Value::String(text) => encode_string(text, out),
            Value::Object(properties) => {
                out.put_u8(marker::OBJECT);
                encode_properties(properties, out);
            }
            Value::EcmaArray(properties) => {
                out.put_u8(marker::ECMA_ARRAY);
                out.put_u32(u32::try_from(properties.len()).unwrap_or(u32::MAX));
                encode_properties(properties, out);
            }
            Value::StrictArray(values) => {
                out.put_u8(marker::STRICT_ARRAY);
                out.put_u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
                values.iter().for_each(|value| value.encode(out));
            }
            Value::Date(millis) => {
                out.put_u8(marker::DATE);
                out.put_f64(*millis);
                out.put_i16(0);
            }
            Value::Null => out.put_u8(marker::NULL),
            Value::Undefined => out.put_u8(marker::UNDEFINED),
        }
    }
}

/// Appends a string, short or long as its length asks for.
pub fn encode_string(text: &str, out: &mut BytesMut) {
    match u16::try_from(text.len()) {
        Ok(len) => {
            out.put_u8(marker::STRING);
            out.put_u16(len);
        }
        Err(_) => {
            out.put_u8(marker::LONG_STRING);
            out.put_u32(u32::try_from(text.len()).expect("a string of a command is far below 4 GiB"));
        }
    }
    out.put_slice(text.as_bytes());
}

/// Property names have 16-bit lengths. Ours are short; a longer one could only come from an AMF3 peer and is left out
/// with its value.
fn encode_properties(properties: &[(String, Value)], out: &mut BytesMut) {
    for (name, value) in properties {
        let Ok(len) = u16::try_from(name.len()) else { continue };
        out.put_u16(len);
        out.put_slice(name.as_bytes());
        value.encode(out);
    }
    out.put_slice(&[0, 0, marker::OBJECT_END]);
}

/// Reads the values of one AMF0 message, within the bounds of depth and number.
///
/// ```
/// use shardcast_engine::flv::amf0::{Decoder, Value, encode_string};
///
/// let mut script = bytes::BytesMut::new();
/// encode_string("onTextData", &mut script);
/// Value::Null.encode(&mut script);
///
/// let mut decoder = Decoder::new(&script);
/// assert_eq!(decoder.value()?.as_str(), Some("onTextData"));
/// // Behind a marker, a length and ten letters.
/// assert_eq!(decoder.position(), 13);
/// assert_eq!(decoder.values()?, [Value::Null]);
/// assert!(decoder.is_empty());
///
/// // A value that switches to AMF3 is for another decoder, and an error of this one.
/// let mut decoder = Decoder::new(&[0x11, 0x04, 0x07]);
/// assert_eq!(decoder.amf3(), Some(&[0x04, 0x07][..]));
/// assert!(decoder.value().is_err());
/// # Ok::<(), shardcast_engine::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    reader: Reader<'a>,
    values_left: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder at the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Decoder { reader: Reader::new(bytes), values_left: limits::AMF_VALUES_MAX }
    }
    /// Bytes read so far.
    pub const fn position(&self) -> usize {
        self.reader.position()
    }
    /// True when nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }
    /// What is left, when the next value begins with the marker that switches to AMF3. The marker is not part of it.
    pub fn amf3(&self) -> Option<&'a [u8]> {
        self.reader
            .peek()
            .split_first()
            .filter(|(first, _)| **first == marker::AVM_PLUS)
            .map(|(_, rest)| rest)
    }
    /// Leaves out `len` bytes that another decoder has read.
    #[cfg(feature = "rtmp")]
    pub(crate) fn skip(&mut self, len: usize) -> Result<(), Error> {
        self.reader.skip(len, "AMF value")
    }

    /// The next value.
    ///
    /// # Errors
    /// The bytes end inside it, have a marker that AMF0 does not have, or nest deeper or hold more values than
    /// [`limits`] allows.
    pub fn value(&mut self) -> Result<Value, Error> {
        self.nested(limits::AMF_DEPTH_MAX)
    }

    /// All values that are left.
    ///
    /// # Errors
    /// As [`value`](Self::value).
    pub fn values(&mut self) -> Result<Vec<Value>, Error> {
        let mut values = Vec::new();
        while !self.is_empty() {
            values.push(self.value()?);
        }
        Ok(values)
    }

    fn nested(&mut self, depth_left: usize) -> Result<Value, Error> {
        let at = self.reader.position() as u64;
        let depth_left =
            depth_left.checked_sub(1).ok_or(Error::too_large("AMF values nest too deeply", at))?;
        self.values_left = self
            .values_left
            .checked_sub(1)
            .ok_or(Error::too_large("an AMF message has too many values", at))?;
        Ok(match self.reader.u8("AMF0 marker")? {
            marker::NUMBER => Value::Number(self.reader.f64("AMF0 number")?),
            marker::BOOLEAN => Value::Boolean(self.reader.u8("AMF0 boolean")? != 0),
            marker::STRING => Value::String(self.short_string()?),
            marker::OBJECT => Value::Object(self.properties(depth_left)?),
            marker::NULL => Value::Null,
            marker::UNDEFINED | marker::UNSUPPORTED => Value::Undefined,
            marker::REFERENCE => {
                self.reader.skip(2, "AMF0 reference")?;
                Value::Undefined
            }
            marker::ECMA_ARRAY => {
                // The count is a hint that encoders set to 0 or wrong; the end marker rules.
                self.reader.skip(4, "AMF0 array count")?;
                Value::EcmaArray(self.properties(depth_left)?)
            }
            marker::STRICT_ARRAY => {
                let count = self.reader.u32("AMF0 array count")?;
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.nested(depth_left)?);
                }
                Value::StrictArray(values)
            }
            marker::DATE => {
                let millis = self.reader.f64("AMF0 date")?;
                self.reader.skip(2, "AMF0 time zone")?;
                Value::Date(millis)
            }
            marker::LONG_STRING | marker::XML => {
                let len = self.reader.u32("AMF0 long string length")? as usize;
                Value::String(text(self.reader.take(len, "AMF0 long string")?))
            }
            marker::TYPED_OBJECT => {
                self.short_string()?;
                Value::Object(self.properties(depth_left)?)
            }
            marker::AVM_PLUS => return Err(Error::unsupported("AMF3 inside an AMF0 message", at)),
            _ => return Err(Error::malformed("an AMF0 value has an unknown marker", at)),
        })
    }

    fn properties(&mut self, depth_left: usize) -> Result<Vec<(String, Value)>, Error> {
        let mut properties = Vec::new();
        loop {
            let name = self.short_string()?;
            if name.is_empty() && self.reader.peek().first() == Some(&marker::OBJECT_END) {
                self.reader.skip(1, "AMF0 object end")?;
                return Ok(properties);
            }
            properties.push((name, self.nested(depth_left)?));
        }
    }

    fn short_string(&mut self) -> Result<String, Error> {
        let len = usize::from(self.reader.u16("AMF0 string length")?);
        self.reader.take(len, "AMF0 string").map(text)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The markers of AMF0, section 2.1.
pub(crate) mod marker {
    pub const NUMBER: u8 = 0x00;
    pub const BOOLEAN: u8 = 0x01;
    pub const STRING: u8 = 0x02;
    pub const OBJECT: u8 = 0x03;
    pub const NULL: u8 = 0x05;
    pub const UNDEFINED: u8 = 0x06;
    pub const REFERENCE: u8 = 0x07;
    pub const ECMA_ARRAY: u8 = 0x08;
    pub const OBJECT_END: u8 = 0x09;
    pub const STRICT_ARRAY: u8 = 0x0a;
    pub const DATE: u8 = 0x0b;
    pub const LONG_STRING: u8 = 0x0c;
    pub const UNSUPPORTED: u8 = 0x0d;
    pub const XML: u8 = 0x0f;
    pub const TYPED_OBJECT: u8 = 0x10;
    pub const AVM_PLUS: u8 = 0x11;
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn a_connect_command_reads_as_the_specification_writes_it() {
        let bytes = b"\x02\x00\x07connect\x00\x3f\xf0\0\0\0\0\0\0\x03\x00\x03app\x02\x00\x04live\x00\x00\x09";
        let values = Decoder::new(bytes).values().unwrap();
        assert_eq!(
            values,
            [Value::string("connect"), Value::Number(1.0), Value::object([("app", Value::string("live"))])]
        );
        let mut out = BytesMut::new();
        values.iter().for_each(|value| value.encode(&mut out));
        assert_eq!(&out[..], bytes);
    }

    #[test]
    fn a_string_of_65_536_bytes_is_written_as_a_long_string() {
        let long = Value::string("x".repeat(65_536));
        let mut out = BytesMut::new();
        long.encode(&mut out);
        assert_eq!(out.first(), Some(&marker::LONG_STRING));
        assert_eq!(Decoder::new(&out).value(), Ok(long));
    }

    #[test]
    fn values_that_nest_without_end_are_refused() {
        let arrays: Vec<u8> = b"\x0a\0\0\0\x01".repeat(100_000);
        assert_eq!(Decoder::new(&arrays).value().unwrap_err().kind, ErrorKind::TooLarge);
        let objects: Vec<u8> = b"\x03\0\x01a".iter().copied().cycle().take(400_000).collect();
        assert_eq!(Decoder::new(&objects).value().unwrap_err().kind, ErrorKind::TooLarge);
        let ends: Vec<u8> = [[0x03].repeat(100), [0, 0, 9].repeat(100)].concat();
        assert!(Decoder::new(&ends).value().is_err());
    }

    #[test]
    fn an_array_that_claims_four_billion_values_takes_no_memory() {
        assert_eq!(Decoder::new(b"\x0a\xff\xff\xff\xff\x05").value().unwrap_err().kind, ErrorKind::Truncated);
        let nulls = [b"\x0a\xff\xff\xff\xff".to_vec(), vec![5; 10_000]].concat();
        assert_eq!(Decoder::new(&nulls).value().unwrap_err().kind, ErrorKind::TooLarge);
    }

    /// Any value within the bounds that AMF0 can carry.
    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let name = "[a-z]{0,8}";
        let leaf = prop_oneof![
            any::<i32>().prop_map(|number| Value::Number(f64::from(number))),
            any::<bool>().prop_map(Value::Boolean),
            "\\PC{0,20}".prop_map(Value::String),
            any::<u32>().prop_map(|millis| Value::Date(f64::from(millis))),
            Just(Value::Null),
            Just(Value::Undefined),
        ];
        leaf.prop_recursive(6, 64, 8, move |inner| {
            let properties = proptest::collection::vec((name, inner.clone()), 0..8);
            prop_oneof![
                properties.clone().prop_map(Value::Object),
                properties.prop_map(Value::EcmaArray),
                proptest::collection::vec(inner, 0..8).prop_map(Value::StrictArray),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any_value()) {
            let mut out = BytesMut::new();
            value.encode(&mut out);
            let mut decoder = Decoder::new(&out);
            prop_assert_eq!(decoder.value(), Ok(value));
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Decoder::new(&bytes).values();
        }

        #[test]
        fn a_value_cut_anywhere_or_with_a_byte_changed_never_panics(
            value in any_value(), at: prop::sample::Index, byte: u8,
        ) {
            let mut out = BytesMut::new();
            value.encode(&mut out);
            let cut = at.index(out.len());
            let _ = Decoder::new(out.get(..cut).unwrap_or_default()).values();
            if let Some(place) = out.get_mut(cut) {
                *place = byte;
            }
            let _ = Decoder::new(&out).values();
        }
    }
}
