//! AMF3, as far as RTMP peers use it (Adobe "Action Message Format -- AMF 3", 2013): reading only. All that we say is AMF0,
//! which every peer reads.
//!
//! Values come out in the shape of AMF0's. What AMF0 has no word for is refused (externalizable objects, vectors,
//! dictionaries); references to earlier *objects* come out as undefined, because a few of them nested would stand for
//! gigabytes.

use std::rc::Rc;

use crate::{
    bits::Reader,
    error::Error,
    flv::amf0::{self, Value},
    limits,
};

/// The values of a command or data message, of the AMF0 kinds and of the AMF3 kinds. These have a byte of 0 in front
/// (which no message of the AMF0 kinds has there, because the first value is a name), and each value may switch to AMF3.
///
/// # Errors
/// They are not AMF, or past the bounds of [`limits`].
pub fn message_values(payload: &[u8]) -> Result<Vec<Value>, Error> {
    let skipped = usize::from(payload.first() == Some(&0));
    let body = payload.get(skipped..).unwrap_or_default();
    let mut decoder = amf0::Decoder::new(body);
    let mut budget = Budget::default();
    let mut values = Vec::new();
    while !decoder.is_empty() {
        let start = decoder.position();
        let value = match decoder.amf3() {
            None => decoder.value(),
            Some(rest) => {
                let mut inner = Decoder::new(rest, &mut budget);
                let value = inner.value();
                decoder.skip(1 + inner.position())?;
                value.map_err(|error| error.after(start as u64 + 1))
            }
        };
        if values.len() == limits::AMF_VALUES_MAX {
            return Err(Error::too_large("an AMF message has too many values", start as u64));
        }
        values.push(value.map_err(|error| error.after(skipped as u64))?);
    }
    Ok(values)
}

/// What the AMF3 values of one message may still hold, all together.
struct Budget {
    values: usize,
    /// Bytes of text that may still come out. A reference of one byte stands for a whole string, so the bytes that go
    /// in bound nothing.
    text: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { values: limits::AMF_VALUES_MAX, text: limits::RTMP_COMMAND_BYTES_MAX }
    }
}

/// Reads one value and what it refers to.
struct Decoder<'a> {
    reader: Reader<'a>,
    budget: &'a mut Budget,
    strings: Vec<Rc<str>>,
    traits: Vec<Rc<Traits>>,
}

/// The shape of an object: its sealed members, and whether more may follow by name.
struct Traits {
    members: Vec<Rc<str>>,
    dynamic: bool,
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8], budget: &'a mut Budget) -> Self {
        Decoder { reader: Reader::new(bytes), budget, strings: Vec::new(), traits: Vec::new() }
    }

    const fn position(&self) -> usize {
        self.reader.position()
    }

    fn value(&mut self) -> Result<Value, Error> {
        self.nested(limits::AMF_DEPTH_MAX)
    }

    fn nested(&mut self, depth_left: usize) -> Result<Value, Error> {
        let at = self.position() as u64;
        let depth_left =
            depth_left.checked_sub(1).ok_or(Error::too_large("AMF values nest too deeply", at))?;
        self.spend_value()?;
        Ok(match self.reader.u8("AMF3 marker")? {
            0x00 => Value::Undefined,
            0x01 => Value::Null,
            0x02 => Value::Boolean(false),
            0x03 => Value::Boolean(true),
            // 3.6: 29 bits, signed.
            0x04 => Value::Number(f64::from(((self.u29()? << 3) as i32) >> 3)),
            0x05 => Value::Number(self.reader.f64("AMF3 double")?),
            0x06 => Value::String(self.string()?.as_ref().to_owned()),
            0x07 | 0x0b => match self.inline_len()? {
                Some(len) => Value::String(self.text(len)?),
                None => Value::Undefined,
            },
            0x08 => match self.inline_len()? {
                Some(_) => Value::Date(self.reader.f64("AMF3 date")?),
                None => Value::Undefined,
            },
            0x09 => self.array(depth_left)?,
            0x0a => self.object(depth_left)?,
            0x0c => match self.inline_len()? {
                Some(len) => {
                    self.reader.skip(len, "AMF3 byte array")?;
                    Value::Undefined
                }
                None => Value::Undefined,
            },
            0x0d..=0x11 => return Err(Error::unsupported("an AMF3 vector or dictionary", at)),
            _ => return Err(Error::malformed("an AMF3 value has an unknown marker", at)),
        })
    }

    /// 3.11: names and values until an empty name, then values by position.
    fn array(&mut self, depth_left: usize) -> Result<Value, Error> {
        let Some(count) = self.inline_len()? else { return Ok(Value::Undefined) };
        let mut named = Vec::new();
        self.members(&mut named, depth_left)?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.nested(depth_left)?);
        }
        Ok(if named.is_empty() { Value::StrictArray(values) } else { Value::EcmaArray(named) })
    }

    /// 3.12.
    fn object(&mut self, depth_left: usize) -> Result<Value, Error> {
        let at = self.position() as u64;
        let header = self.u29()?;
        if header & 1 == 0 {
            return Ok(Value::Undefined);
        }
        let traits = if header & 2 == 0 {
            let index = (header >> 2) as usize;
            Rc::clone(self.traits.get(index).ok_or(Error::malformed("an unknown AMF3 trait", at))?)
        } else if header & 4 != 0 {
            return Err(Error::unsupported("an externalizable AMF3 object", at));
        } else {
            self.string()?;
            let mut members = Vec::new();
            for _ in 0..header >> 4 {
                self.spend_value()?;
                members.push(self.string()?);
            }
            let traits = Rc::new(Traits { members, dynamic: header & 8 != 0 });
            self.traits.push(Rc::clone(&traits));
            traits
        };
        let mut properties = Vec::new();
        for name in &traits.members {
            self.spend_text(name.len())?;
            properties.push((name.as_ref().to_owned(), self.nested(depth_left)?));
        }
        if traits.dynamic {
            self.members(&mut properties, depth_left)?;
        }
        Ok(Value::Object(properties))
    }

    fn members(&mut self, properties: &mut Vec<(String, Value)>, depth_left: usize) -> Result<(), Error> {
        loop {
            let name = self.string()?;
            if name.is_empty() {
                return Ok(());
            }
            properties.push((name.as_ref().to_owned(), self.nested(depth_left)?));
        }
    }

    /// 1.3.2: a string, or a reference to one that came before. The empty string is never referred to.
    fn string(&mut self) -> Result<Rc<str>, Error> {
        let at = self.position() as u64;
        let header = self.u29()?;
        if header & 1 == 0 {
            let index = (header >> 1) as usize;
            let string = self.strings.get(index).ok_or(Error::malformed("an unknown AMF3 string", at))?;
            let string = Rc::clone(string);
            self.spend_text(string.len())?;
            return Ok(string);
        }
        let string: Rc<str> = self.text((header >> 1) as usize)?.into();
        if !string.is_empty() {
            self.strings.push(Rc::clone(&string));
        }
        Ok(string)
    }

    fn text(&mut self, len: usize) -> Result<String, Error> {
        let bytes = self.reader.take(len, "AMF3 string")?;
        self.spend_text(len)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn spend_value(&mut self) -> Result<(), Error> {
        let at = self.position() as u64;
        self.budget.values = self
            .budget
            .values
            .checked_sub(1)
            .ok_or(Error::too_large("an AMF message has too many values", at))?;
        Ok(())
    }

    fn spend_text(&mut self, len: usize) -> Result<(), Error> {
        let at = self.position() as u64;
        self.budget.text = self
            .budget
            .text
            .checked_sub(len)
            .ok_or(Error::too_large("the strings of an AMF message are too long", at))?;
        Ok(())
    }

    /// The length of what stands here, or `None` when it is a reference to an object that came before.
    fn inline_len(&mut self) -> Result<Option<usize>, Error> {
        let header = self.u29()?;
        Ok((header & 1 == 1).then_some((header >> 1) as usize))
    }

    /// 1.3.1: seven bits a byte, and eight in the fourth.
    fn u29(&mut self) -> Result<u32, Error> {
        let mut value = 0;
        for _ in 0..3 {
            let byte = u32::from(self.reader.u8("AMF3 integer")?);
            value = value << 7 | byte & 0x7f;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Ok(value << 8 | u32::from(self.reader.u8("AMF3 integer")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    fn amf3(bytes: &[u8]) -> Result<Value, Error> {
        Decoder::new(bytes, &mut Budget::default()).value()
    }

    #[test]
    fn integers_are_29_bits_and_signed() {
        for (bytes, number) in [
            (&[4, 0][..], 0.0),
            (&[4, 0x7f], 127.0),
            (&[4, 0x81, 0x00], 128.0),
            (&[4, 0xff, 0xff, 0x7f], 2_097_151.0),
            (&[4, 0xbf, 0xff, 0xff, 0xff], 268_435_455.0),
            (&[4, 0xc0, 0x80, 0x80, 0x00], -268_435_456.0),
            (&[4, 0xff, 0xff, 0xff, 0xff], -1.0),
        ] {
            assert_eq!(amf3(bytes), Ok(Value::Number(number)), "{bytes:x?}");
        }
    }

    #[test]
    fn strings_and_shapes_are_found_again_by_reference() {
        // An array of two objects of one shape {a}, whose values are a string and a reference to it.
        let bytes = b"\x09\x05\x01\x0a\x13\x01\x03a\x06\x05hi\x0a\x01\x06\x02";
        let object = Value::object([("a", Value::string("hi"))]);
        assert_eq!(amf3(bytes), Ok(Value::StrictArray(vec![object.clone(), object])));
        // A dynamic object of no name: {app: true}.
        assert_eq!(amf3(b"\x0a\x0b\x01\x07app\x03\x01"), Ok(Value::object([("app", Value::Boolean(true))])));
    }

    #[test]
    fn a_message_of_the_amf3_kind_is_amf0_after_a_byte_and_may_switch() {
        let bytes =
            b"\x00\x02\x00\x07connect\x00\x3f\xf0\0\0\0\0\0\0\x11\x0a\x0b\x01\x07app\x06\x09live\x01\x05";
        assert_eq!(
            message_values(bytes).unwrap(),
            [
                Value::string("connect"),
                Value::Number(1.0),
                Value::object([("app", Value::string("live"))]),
                Value::Null
            ]
        );
    }

    #[test]
    fn a_string_that_is_referred_to_again_and_again_is_bounded() {
        let long = 100_000u32;
        let [_, high, middle, low] = (long << 1 | 1).to_be_bytes();
        let u29 = u32::from_be_bytes([0, high, middle, low]);
        let header = [(u29 >> 14) as u8 | 0x80, (u29 >> 7 & 0x7f) as u8 | 0x80, (u29 & 0x7f) as u8];
        let mut bytes = vec![9, 0x87, 0x69, 1, 6];
        bytes.extend(header);
        bytes.extend(vec![b'x'; long as usize]);
        bytes.extend([6, 0].repeat(999));
        assert_eq!(amf3(&bytes).unwrap_err().kind, ErrorKind::TooLarge);
    }

    #[test]
    fn values_that_nest_without_end_are_refused() {
        assert_eq!(amf3(&b"\x09\x03\x01".repeat(10_000)).unwrap_err().kind, ErrorKind::TooLarge);
        assert_eq!(message_values(&[6; 10_000]).unwrap_err().kind, ErrorKind::TooLarge);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = amf3(&bytes);
            let _ = message_values(&bytes);
            let _ = message_values(&[&[0x11][..], &bytes].concat());
        }

        #[test]
        fn arbitrary_objects_never_panic(bytes in proptest::collection::vec(prop_oneof![
            Just(0x0au8), Just(0x09), Just(0x06), Just(0x13), Just(0x0b), Just(0x01), Just(0x03), Just(0x00), any::<u8>()
        ], 0..200)) {
            let _ = amf3(&bytes);
        }
    }
}
