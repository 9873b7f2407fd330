//! Datagrams that go with one call: those of a frame are all of a size, but for the last. (Linux, udp(7): UDP_SEGMENT)

use std::collections::VecDeque;

use bytes::{BufMut as _, BytesMut};

use crate::session::Output;

/// Datagrams behind one another, the first of which gives the size. Each has so many bytes, but for the last, which may have less.
#[derive(Debug, Default)]
pub struct Runs {
    bytes: BytesMut,
    size: usize,
    /// One that is shorter has come: nothing may follow it.
    full: bool,
}

impl Runs {
    /// Adds a datagram; what it does not fit behind goes out.
    pub fn push(&mut self, datagram: &[u8], out: &mut VecDeque<Output>) {
        let follows = !self.full && datagram.len() <= self.size;
        if !follows {
            self.finish(out);
            self.size = datagram.len();
        }
        self.full = datagram.len() < self.size;
        self.bytes.put_slice(datagram);
    }

    /// All goes out.
    pub fn finish(&mut self, out: &mut VecDeque<Output>) {
        if !self.bytes.is_empty()
            && let Ok(size) = u16::try_from(self.size)
        {
            out.push_back(Output::Datagrams { bytes: self.bytes.split().freeze(), size });
        }
        self.bytes.clear();
        (self.size, self.full) = (0, false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_comes_out_is_what_went_in(sizes in prop::collection::vec(prop_oneof![Just(1200_usize), 1..1400_usize], 0..60)) {
            let (mut runs, mut out) = (Runs::default(), VecDeque::new());
            let datagrams: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(number, size)| vec![number as u8; *size]).collect();
            datagrams.iter().for_each(|datagram| runs.push(datagram, &mut out));
            runs.finish(&mut out);
            let back: Vec<Vec<u8>> = out
                .iter()
                .flat_map(|output| match output {
                    Output::Datagrams { bytes, size } => bytes.chunks(usize::from(*size)).map(<[u8]>::to_vec),
                    other => panic!("{other:?}"),
                })
                .collect();
            prop_assert_eq!(back, datagrams);
        }
    }

    #[test]
    fn the_packets_of_a_frame_go_with_one_call() {
        let (mut runs, mut out) = (Runs::default(), VecDeque::new());
        for size in [1200, 1200, 1200, 300, 1200] {
            runs.push(&vec![7; size], &mut out);
        }
        runs.finish(&mut out);
        assert_eq!(out.len(), 2);
    }
}
