//! Chunks as any peer may write them: every header type, every id, any interleaving, any size.

use std::collections::HashMap;

use bytes::Bytes;
use proptest::{prelude::*, sample::Index};

use super::{inbox::BELIEVED, *};
use crate::rtmp::message::Control;

/// A message that a test sends.
#[derive(Clone, Debug)]
struct Sent {
    chunk_stream: u32,
    kind: u8,
    time: u32,
    stream: u32,
    payload: Vec<u8>,
}

impl Sent {
    fn is(&self, message: &Message) -> bool {
        (self.kind, self.time, self.stream) == (message.kind, message.time, message.stream)
            && self.payload == message.payload
    }
}

/// Writes chunks with the shortest header that says enough, as real encoders do. Ours never needs to.
struct Encoder {
    chunk_size: usize,
    /// Some encoders leave the extended time out of type 3 headers.
    repeats_extended: bool,
    streams: HashMap<u32, Last>,
    out: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
struct Last {
    time: u32,
    delta: u32,
    len: usize,
    kind: u8,
    stream: u32,
    extended: Option<u32>,
}

impl Encoder {
    fn new(chunk_size: usize) -> Self {
        let mut encoder = Encoder {
            chunk_size: CHUNK_SIZE_DEFAULT as usize,
            repeats_extended: true,
            streams: HashMap::new(),
            out: Vec::new(),
        };
        encoder.set_chunk_size(chunk_size);
        encoder
    }

    fn set_chunk_size(&mut self, chunk_size: usize) {
        let payload = (chunk_size as u32).to_be_bytes().into();
        self.message(&Sent { chunk_stream: 2, kind: kind::SET_CHUNK_SIZE, time: 0, stream: 0, payload });
        self.chunk_size = chunk_size;
    }

    fn basic(&mut self, format: u8, id: u32) {
        match id {
            2..=63 => self.out.push(format << 6 | id as u8),
            64..=319 => self.out.extend([format << 6, (id - 64) as u8]),
            _ => {
                self.out.push(format << 6 | 1);
                self.out.extend(((id - 64) as u16).to_le_bytes());
            }
        }
    }

    /// The first chunk of a message; what is left of its payload comes back.
    fn begin<'a>(&mut self, sent: &'a Sent) -> &'a [u8] {
        let last = self.streams.get(&sent.chunk_stream).copied();
        let len = sent.payload.len();
        let delta = last.map_or(0, |last| sent.time.wrapping_sub(last.time));
        let same_stream = last.is_some_and(|last| last.stream == sent.stream && delta < 0x8000_0000);
        let same_length = same_stream && last.is_some_and(|last| (last.len, last.kind) == (len, sent.kind));
        let same_delta = same_length && last.is_some_and(|last| last.delta == delta);
        let format = match (same_stream, same_length, same_delta) {
            (_, _, true) => 3,
            (_, true, _) => 2,
            (true, _, _) => 1,
            _ => 0,
        };
        let field = if format == 0 { sent.time } else { delta };
        let extended = match format {
            3 => last.and_then(|last| last.extended),
            _ => (field >= EXTENDED).then_some(field),
        };
        self.basic(format, sent.chunk_stream);
        if format < 3 {
            self.out.extend(&field.min(EXTENDED).to_be_bytes()[1..]);
        }
        if format < 2 {
            self.out.extend(&(len as u32).to_be_bytes()[1..]);
            self.out.push(sent.kind);
        }
        if format == 0 {
            self.out.extend(sent.stream.to_le_bytes());
        }
        if let Some(extended) = extended {
            self.out.extend(extended.to_be_bytes());
        }
        let delta = if format == 0 { sent.time } else { delta };
        let now = Last { time: sent.time, delta, len, kind: sent.kind, stream: sent.stream, extended };
        self.streams.insert(sent.chunk_stream, now);
        self.payload(&sent.payload)
    }

    fn go_on<'a>(&mut self, sent: &Sent, rest: &'a [u8]) -> &'a [u8] {
        self.basic(3, sent.chunk_stream);
        let extended = self.streams[&sent.chunk_stream].extended.filter(|_| self.repeats_extended);
        if let Some(extended) = extended {
            self.out.extend(extended.to_be_bytes());
        }
        self.payload(rest)
    }

    fn payload<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let (chunk, rest) = rest.split_at(rest.len().min(self.chunk_size));
        self.out.extend_from_slice(chunk);
        rest
    }

    fn message(&mut self, sent: &Sent) {
        let mut rest = self.begin(sent);
        while !rest.is_empty() {
            rest = self.go_on(sent, rest);
        }
    }
}

/// What a reader makes of `bytes` in pieces, the same whether it is given them or has them received into its memory.
fn read_all(bytes: &[u8], piece: usize) -> Result<Vec<Message>, Error> {
    let messages = read_given(bytes, piece);
    let received = read_received(bytes, piece);
    match (&messages, &received) {
        (Ok(messages), Ok(received)) => assert_eq!(messages, received, "both ways are one"),
        (Err(error), Err(other)) => assert_eq!(error.kind, other.kind, "{error:?} and {other:?}"),
        // A message is looked through when as many bytes are there as it should have.
        (Err(error), Ok(_)) => {
            let longer = [bytes, &[0; 4096]].concat();
            assert_eq!(read_received(&longer, piece).unwrap_err().kind, error.kind);
        }
        (Ok(_), Err(_)) => panic!("{messages:?} and {received:?}"),
    }
    messages
}

/// Reads what is received into memory of the reader's own.
fn read_received(bytes: &[u8], piece: usize) -> Result<Vec<Message>, Error> {
    let mut reader = ChunkReader::default();
    let mut messages = Vec::new();
    for mut part in bytes.chunks(piece) {
        while !part.is_empty() {
            let mut memory = reader.lend();
            let room = memory.capacity() - memory.len();
            assert!(room >= limits::RECEIVE_BYTES_MIN, "there is room");
            memory.extend_from_slice(part.split_off(..room.min(part.len())).unwrap());
            reader.give_back(memory);
            while let Some(message) = reader.read_inbox()? {
                messages.push(message);
            }
        }
    }
    let left = reader.take_inbox().len() as u64;
    assert_eq!(reader.position() + left, bytes.len() as u64, "the place in the connection is known");
    assert_eq!(reader.partial_bytes, reader.unfinished(), "the unfinished bytes are counted");
    Ok(messages)
}

fn read_given(bytes: &[u8], piece: usize) -> Result<Vec<Message>, Error> {
    let mut reader = ChunkReader::default();
    let mut messages = Vec::new();
    for mut part in bytes.chunks(piece) {
        while let Some(message) = reader.read(&mut part)? {
            messages.push(message);
        }
    }
    assert_eq!(reader.position(), bytes.len() as u64, "the place in the connection is known");
    assert_eq!(reader.partial_bytes, reader.unfinished(), "the unfinished bytes are counted");
    Ok(messages)
}

impl ChunkReader {
    fn unfinished(&self) -> usize {
        self.streams
            .iter()
            .filter_map(|stream| stream.partial.as_ref())
            .map(|partial| partial.payload.gathered())
            .sum()
    }
    fn capacity(&self) -> usize {
        self.streams
            .iter()
            .filter_map(|stream| stream.partial.as_ref())
            .map(|partial| partial.payload.capacity())
            .sum()
    }
}

fn audio(chunk_stream: u32, time: u32, len: usize) -> Sent {
    let payload = (0..len).map(|index| index as u8).collect();
    Sent { chunk_stream, kind: kind::AUDIO, time, stream: 1, payload }
}

fn assert_read(sent: &[Sent], bytes: &[u8]) {
    for piece in [1, 2, 3, 5, 17, 18, 19, 100, bytes.len()] {
        let messages = read_all(bytes, piece).unwrap();
        assert_eq!(messages.len(), sent.len(), "in pieces of {piece}");
        for (message, sent) in messages.iter().zip(sent) {
            assert!(sent.is(message), "in pieces of {piece}: {message:?} for {sent:?}");
        }
    }
}

#[test]
fn the_example_of_the_specification_is_read() {
    // 5.3.2.1: four audio messages of 32 bytes on chunk stream 3, 20 ms apart, with headers of type 0, 2, 3 and 3.
    let mut bytes = vec![0x03, 0, 0x03, 0xe8, 0, 0, 0x20, 8, 0x39, 0x30, 0, 0];
    bytes.extend([7; 32]);
    bytes.extend([0x83, 0, 0, 0x14]);
    bytes.extend([7; 32]);
    for _ in 0..2 {
        bytes.push(0xc3);
        bytes.extend([7; 32]);
    }
    let messages = read_all(&bytes, 13).unwrap();
    let times: Vec<_> = messages.iter().map(|message| (message.time, message.stream, message.at)).collect();
    assert_eq!(times, [(1000, 12345, 0), (1020, 12345, 44), (1040, 12345, 80), (1060, 12345, 113)]);
    // 5.3.2.2: a video message of 307 bytes in chunks of 128.
    let mut bytes = vec![0x04, 0, 0x03, 0xe8, 0, 0x01, 0x33, 9, 0x3a, 0x30, 0, 0];
    for part in [128, 128, 51] {
        bytes.extend(vec![5; part]);
        if part == 128 {
            bytes.push(0xc4);
        }
    }
    let [message] = &read_all(&bytes, 7).unwrap()[..] else { panic!("not one message") };
    assert_eq!((message.payload.len(), message.stream), (307, 12346));
}

#[test]
fn ids_of_one_two_and_three_bytes_are_told_apart() {
    let mut encoder = Encoder::new(10);
    let sent: Vec<_> = [2, 3, 63, 64, 319, 320, 65_599].map(|id| audio(id, id, 25)).into();
    sent.iter().for_each(|sent| encoder.message(sent));
    assert_read(&sent, &encoder.out);
}

#[test]
fn extended_times_are_read_whether_type_3_headers_repeat_them_or_not() {
    for repeats_extended in [true, false] {
        let mut encoder = Encoder::new(4);
        encoder.repeats_extended = repeats_extended;
        let sent = [
            audio(4, 0xff_fffe, 9),
            audio(4, 0x1ff_fffd, 9),
            audio(5, 0xff_ffff, 10),
            audio(6, u32::MAX, 1),
            audio(5, 0x200_0000, 3),
            audio(6, 10, 3),
            audio(4, 0x1ff_fffe, 21),
        ];
        sent.iter().for_each(|sent| encoder.message(sent));
        assert_read(&sent, &encoder.out);
    }
}

#[test]
fn a_payload_may_end_as_an_extended_time_begins() {
    let mut encoder = Encoder::new(10);
    encoder.repeats_extended = false;
    let mut ending = audio(4, 0x0203_0409, 13);
    ending.payload[10..].copy_from_slice(&[2, 3, 4]);
    let sent = [ending, audio(5, 7, 12)];
    sent.iter().for_each(|sent| encoder.message(sent));
    assert_read(&sent, &encoder.out);
}

#[test]
fn full_headers_inside_a_message_say_the_same_again() {
    for header in [
        &[4, 0, 0, 40, 0, 0, 30, kind::AUDIO, 1, 0, 0, 0][..],
        &[0x44, 0, 0, 0, 0, 0, 30, 8],
        &[0x84, 0, 0, 0],
    ] {
        let mut encoder = Encoder::new(10);
        let sent = audio(4, 40, 30);
        let mut rest = encoder.begin(&sent);
        while !rest.is_empty() {
            encoder.out.extend_from_slice(header);
            rest = encoder.payload(rest);
        }
        let next = audio(4, 60, 12);
        encoder.message(&next);
        assert_read(&[sent, next], &encoder.out);
    }
}

#[test]
fn times_pass_2_to_the_32_milliseconds() {
    let mut encoder = Encoder::new(100);
    let sent = [0xffff_fff0, 4, 24, 44].map(|time| audio(4, time, 12));
    sent.iter().for_each(|sent| encoder.message(sent));
    assert_read(&sent, &encoder.out);
}

#[test]
fn an_empty_message_is_a_message() {
    let mut encoder = Encoder::new(100);
    let sent = [audio(4, 0, 0), audio(4, 20, 0), audio(4, 40, 5)];
    sent.iter().for_each(|sent| encoder.message(sent));
    assert_read(&sent, &encoder.out);
}

#[test]
fn a_message_that_is_aborted_is_dropped_and_its_stream_goes_on() {
    let mut encoder = Encoder::new(10);
    let aborted = audio(4, 0, 30);
    let other = audio(5, 0, 30);
    encoder.begin(&aborted);
    let rest = encoder.begin(&other);
    encoder.message(&Sent {
        chunk_stream: 2,
        kind: kind::ABORT,
        time: 0,
        stream: 0,
        payload: vec![0, 0, 0, 4],
    });
    let rest = encoder.go_on(&other, rest);
    encoder.go_on(&other, rest);
    let next = audio(4, 40, 12);
    encoder.message(&next);
    // Aborts of streams that have nothing unfinished, or do not exist, mean nothing.
    for id in [4, 77] {
        encoder.message(&Sent {
            chunk_stream: 2,
            kind: kind::ABORT,
            time: 0,
            stream: 0,
            payload: vec![0, 0, 0, id],
        });
    }
    assert_read(&[other, next], &encoder.out);
}

#[test]
fn a_length_of_16_mib_that_never_comes_takes_no_memory() {
    let mut reader = ChunkReader::default();
    let mut header: &[u8] = &[4, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0];
    assert_eq!(reader.read(&mut header), Ok(None));
    assert!(reader.capacity() <= 4096);
    let mut encoder = Encoder::new(1 << 20);
    let long = Sent { payload: vec![0; 300_000], ..audio(4, 0, 0) };
    encoder.begin(&long);
    let mut reader = ChunkReader::default();
    let bytes =
        [&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff][..], header, &encoder.out].concat();
    for mut part in bytes.chunks(1000) {
        let _ = reader.read(&mut part);
    }
    assert!(reader.capacity() <= 2 * bytes.len());
}

#[test]
fn the_bytes_of_unfinished_messages_are_bounded() {
    let mut encoder = Encoder::new(1 << 20);
    for chunk_stream in 3..32 {
        encoder.begin(&Sent { payload: vec![0; (1 << 20) + 1], ..audio(chunk_stream, 0, 0) });
    }
    let error = read_all(&encoder.out, 65_536).unwrap_err();
    assert_eq!((error.kind, error.why), (ErrorKind::TooLarge, "too many bytes in unfinished messages"));
    assert!(error.at > limits::RTMP_PARTIAL_BYTES_MAX as u64);
}

#[test]
fn the_number_of_chunk_streams_is_bounded() {
    let mut encoder = Encoder::new(128);
    (2..=65_599).for_each(|id| encoder.message(&audio(id, 0, 1)));
    let error = read_all(&encoder.out, 4096).unwrap_err();
    assert_eq!((error.kind, error.why), (ErrorKind::TooLarge, "too many chunk streams"));
    let mut encoder = Encoder::new(128);
    // Chunk stream 2 is in use by Set Chunk Size.
    (2..2 + limits::RTMP_CHUNK_STREAMS_MAX as u32).for_each(|id| encoder.message(&audio(id, 0, 1)));
    assert_eq!(read_all(&encoder.out, 4096).unwrap().len(), limits::RTMP_CHUNK_STREAMS_MAX);
}

#[test]
fn what_breaks_the_format_is_refused_with_its_place() {
    let control =
        |kind, payload: &[u8]| Sent { chunk_stream: 2, kind, time: 0, stream: 0, payload: payload.into() };
    let after = |sent: Sent| {
        let mut encoder = Encoder::new(128);
        encoder.message(&sent);
        read_all(&encoder.out, 5).unwrap_err()
    };
    for (error, why) in [
        (after(control(kind::SET_CHUNK_SIZE, &[0, 0, 0, 0])), "a chunk size of 0"),
        (after(control(kind::SET_CHUNK_SIZE, &[0x80, 0, 0, 1])), "a chunk size above 2^31 - 1"),
        (after(control(kind::SET_CHUNK_SIZE, &[1, 2])), "chunk size"),
        (after(control(kind::ABORT, &[])), "chunk stream of an abort"),
        (after(control(kind::USER_CONTROL, &[0; 65])), "a protocol control message is too long"),
        (
            after(control(kind::COMMAND_AMF0, &vec![0; limits::RTMP_COMMAND_BYTES_MAX + 1])),
            "a command or data message is too long",
        ),
    ] {
        assert_eq!((error.why, error.at), (why, 16), "{error}");
    }
    for format in [2, 3] {
        let error = read_all(&[format << 6 | 9, 0, 0, 0, 0], 5).unwrap_err();
        assert_eq!(error.why, "a chunk stream begins with a header that names no length");
    }
    let mut encoder = Encoder::new(10);
    encoder.begin(&audio(4, 0, 30));
    let at = encoder.out.len() as u64;
    encoder.begin(&audio(4, 20, 31));
    let error = read_all(&encoder.out, 5).unwrap_err();
    assert_eq!(error, Error::malformed("a message begins inside another of its chunk stream", at));
}

#[test]
fn the_largest_chunk_size_is_accepted() {
    let mut encoder = Encoder::new(i32::MAX as usize);
    let sent = audio(4, 0, 100_000);
    encoder.message(&sent);
    assert_read(&[sent], &encoder.out);
}

#[test]
fn a_payload_is_copied_once_into_a_buffer_of_its_own_length() {
    let mut encoder = Encoder::new(65_536);
    encoder.message(&audio(4, 0, 50_000));
    let [message] = &mut read_all(&encoder.out, 65_536).unwrap()[..] else { panic!("not one message") };
    // A buffer with room to spare could not be taken back without a copy.
    let place = message.payload.as_ptr();
    let payload = Vec::from(std::mem::replace(&mut message.payload, Bytes::new()));
    assert_eq!((payload.as_ptr(), payload.capacity()), (place, 50_000));
}

fn any_message() -> impl Strategy<Value = (usize, u8, u32, u32, Vec<u8>)> {
    let step = prop_oneof![4 => 0u32..3000, 1 => Just(20), 1 => 0xff_fff0u32..0x100_0010, 1 => any::<u32>()];
    let kind = prop_oneof![Just(kind::AUDIO), Just(kind::VIDEO), Just(kind::DATA_AMF0)];
    (0usize..7, kind, step, 0u32..2, proptest::collection::vec(any::<u8>(), 0..600))
}

proptest! {
    #[test]
    fn messages_come_back_at_any_chunk_size_and_interleaving(
        drafts in proptest::collection::vec(any_message(), 1..30),
        sizes in proptest::collection::vec(1usize..700, 1..30),
        order in proptest::collection::vec(any::<Index>(), 200),
        piece in 1usize..300,
        repeats_extended: bool,
    ) {
        // Per chunk stream its messages in order; times go on from the last.
        let ids = [2, 3, 63, 64, 319, 320, 65_599];
        let mut queues: Vec<Vec<Sent>> = vec![Vec::new(); ids.len()];
        let mut times = [0u32; 7];
        for (stream, kind, step, message_stream, payload) in drafts {
            times[stream] = times[stream].wrapping_add(step);
            queues[stream].insert(
                0,
                Sent { chunk_stream: ids[stream], kind, time: times[stream], stream: message_stream, payload },
            );
        }
        let mut encoder = Encoder::new(sizes[0]);
        encoder.repeats_extended = repeats_extended;
        let mut open: Vec<(Sent, Vec<u8>)> = Vec::new();
        let mut finished = Vec::new();
        for step in 0.. {
            // The chunk size may change between any two chunks.
            if let Some(size) = sizes.get(step) {
                encoder.set_chunk_size(*size);
            }
            let busy = |id: u32, open: &[(Sent, Vec<u8>)]| open.iter().any(|(sent, _)| sent.chunk_stream == id);
            let idle: Vec<usize> = (0..ids.len())
                .filter(|stream| !queues[*stream].is_empty() && !busy(ids[*stream], &open))
                // Chunk stream 2 carries Set Chunk Size too, so its messages are sent in one go.
                .collect();
            if idle.is_empty() && open.is_empty() {
                break;
            }
            let choice = order[step % order.len()].index(idle.len() + open.len());
            if let Some(stream) = idle.get(choice) {
                let sent = queues[*stream].pop().unwrap();
                if sent.chunk_stream == 2 {
                    encoder.message(&sent);
                    finished.push(sent);
                    continue;
                }
                let rest = encoder.begin(&sent).to_vec();
                if rest.is_empty() {
                    finished.push(sent);
                } else {
                    open.push((sent, rest));
                }
            } else {
                let (sent, rest) = open.swap_remove(choice - idle.len());
                let rest = encoder.go_on(&sent, &rest).to_vec();
                if rest.is_empty() {
                    finished.push(sent);
                } else {
                    open.push((sent, rest));
                }
            }
        }
        // The last bytes of a payload may be the first of an extended time; what follows tells.
        let last = audio(3, times[1], 5);
        encoder.message(&last);
        finished.push(last);
        encoder.set_chunk_size(100);
        let messages = read_all(&encoder.out, piece).unwrap();
        prop_assert_eq!(messages.len(), finished.len());
        for (message, sent) in messages.iter().zip(&finished) {
            prop_assert!(sent.is(message), "{:?} for {:?}", message, sent);
        }
    }

    #[test]
    fn what_we_write_is_read_back(
        time: u32, first: Vec<u8>, second: Vec<u8>, chunk_size in 1u32..300, piece in 1usize..300,
    ) {
        let route = Route { chunk_stream: 6, kind: kind::VIDEO, message_stream: 1 };
        let mut out = BytesMut::new();
        Control::SetChunkSize(chunk_size).write(&mut out);
        write_message(route, time, [&first, &second], chunk_size, &mut out);
        write_message(route, time.wrapping_add(1), [&second, &first], chunk_size, &mut out);
        let messages = read_all(&out, piece).unwrap();
        prop_assert_eq!(messages.len(), 2);
        prop_assert_eq!(&messages[0].payload[..], [first.clone(), second.clone()].concat());
        prop_assert_eq!(&messages[1].payload[..], [second, first].concat());
        prop_assert_eq!((messages[0].time, messages[1].time), (time, time.wrapping_add(1)));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, piece in 1usize..40) {
        let mut reader = ChunkReader::default();
        for mut part in bytes.chunks(piece) {
            while let Ok(Some(_)) = reader.read(&mut part) {}
        }
    }

    #[test]
    fn arbitrary_bytes_fail_at_the_same_place_however_they_are_cut(bytes: Vec<u8>, piece in 1usize..40) {
        let read = |piece: usize| {
            let mut reader = ChunkReader::default();
            let mut messages = Vec::new();
            for mut part in bytes.chunks(piece.max(1)) {
                loop {
                    match reader.read(&mut part) {
                        Ok(Some(message)) => messages.push(message),
                        Ok(None) => break,
                        Err(error) => return (messages, Some((error.kind, error.why, error.at))),
                    }
                }
            }
            (messages, None)
        };
        prop_assert_eq!(read(piece), read(bytes.len()));
    }
}

#[test]
fn messages_received_into_memory_of_the_reader_stay_where_they_are() {
    for chunk_size in [4096, 65_536] {
        let mut encoder = Encoder::new(chunk_size);
        let sent: Vec<_> = (0..20).map(|number| audio(4, number * 20, 9000)).collect();
        sent.iter().for_each(|sent| encoder.message(sent));
        let mut reader = ChunkReader::default();
        let mut memory = reader.lend();
        let start = memory.as_ptr().addr();
        memory.extend_from_slice(&encoder.out[..100_000]);
        reader.give_back(memory);
        let mut count = 0;
        while let Some(message) = reader.read_inbox().unwrap() {
            assert!((start..start + limits::SLAB_BYTES).contains(&message.payload.as_ptr().addr()));
            count += 1;
        }
        assert_eq!(count, 11);
    }
}

#[test]
fn a_peer_that_names_a_length_is_lent_a_slab_and_four_times_what_it_sent() {
    let mut reader = ChunkReader::default();
    let mut header = vec![2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff];
    header.extend([4, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0]);
    let mut came = 0;
    while came < 1 << 20 {
        let mut memory = reader.lend();
        let most = limits::SLAB_BYTES.max(BELIEVED * (came + limits::RECEIVE_BYTES_MIN));
        assert!(memory.capacity() <= most, "{} of {came}", memory.capacity());
        let piece = if came == 0 { header.clone() } else { vec![7; 5000] };
        came += piece.len();
        memory.extend_from_slice(&piece);
        reader.give_back(memory);
        assert_eq!(reader.read_inbox(), Ok(None));
    }
}
