//! A fragmented MP4 file: its boxes, tracks and samples, as a reader of somebody's file meets them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast_engine::{
    fmp4::demux::{BoxHead, Fragment, Movie},
    limits,
};

fuzz_target!(|input: &[u8]| {
    let mut movie = None;
    let mut at = 0usize;
    while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
        let Ok(head) = BoxHead::parse(rest) else { return };
        let length = head.len.map_or(rest.len(), |length| usize::try_from(length).unwrap_or(usize::MAX));
        assert!(length >= head.head_len as usize || head.len.is_none());
        let Some(content) = rest.get(head.head_len as usize..length) else { return };
        match &head.kind.0 {
            b"moov" => movie = Movie::parse(content).ok(),
            b"moof" => {
                if let Some(movie) = &movie
                    && let Ok(fragment) = Fragment::parse(movie, content, at as u64)
                {
                    assert!(fragment.samples.len() <= limits::MP4_SAMPLES_MAX);
                }
            }
            _ => {}
        }
        at += length;
    }
});
