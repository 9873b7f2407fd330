//! AMF0 and AMF3 values, the words of RTMP's commands and metadata. The first byte says which.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    flv::amf0::{Decoder, Value},
    limits,
    rtmp::amf3,
};

fuzz_target!(|input: &[u8]| {
    let Some((selector, bytes)) = input.split_first() else { return };
    let values = match selector {
        0 => Decoder::new(bytes).values(),
        _ => amf3::message_values(bytes),
    };
    match values {
        Err(error) => assert!(error.at <= bytes.len() as u64, "{error}"),
        Ok(values) => {
            assert!(values.iter().map(count).sum::<usize>() <= 2 * limits::AMF_VALUES_MAX);
            again(&values);
        }
    }
});

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Object(properties) | Value::EcmaArray(properties) => {
            properties.iter().map(|(_, value)| count(value)).sum()
        }
        Value::StrictArray(values) => values.iter().map(count).sum(),
        _ => 0,
    }
}

/// What was read can be written, and reads and writes the same from then on. (Compared as bytes: a number that is none
/// is not equal to itself.)
fn again(values: &[Value]) {
    let write = |values: &[Value]| {
        let mut out = BytesMut::new();
        values.iter().for_each(|value| value.encode(&mut out));
        out
    };
    let first = write(values);
    let Ok(reread) = Decoder::new(&first).values() else {
        panic!("what was written cannot be read: {values:?}");
    };
    let second = write(&reread);
    assert_eq!(first, second);
}
