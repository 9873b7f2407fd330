//! Files against the real file systems of the machine.

use std::time::{Duration, Instant};

use super::*;
use crate::ring::{Completion, Ring, RingConfig};

/// A directory of a test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    /// On the disk that the build is on; `/tmp` is often memory.
    fn on_disk(name: &str) -> Scratch {
        let target = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
        Scratch::below(&target, name)
    }

    fn below(parent: &Path, name: &str) -> Scratch {
        let path = parent.join(format!("shardcast-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn ring() -> Ring {
    let small =
        RingConfig { write_buffer_bytes: 256 << 10, write_heap_bytes: 1 << 20, ..RingConfig::default() };
    Ring::new(&small).unwrap()
}

fn wait(ring: &mut Ring) -> Completion {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        ring.submit().unwrap();
        if let Some(completion) = ring.next() {
            return completion;
        }
        assert!(Instant::now() < deadline, "in time");
        thread::sleep(Duration::from_micros(200));
    }
}

fn reply(helper: &mut Helper) -> Reply {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(reply) = helper.next_reply() {
            return reply;
        }
        assert!(Instant::now() < deadline, "in time");
        thread::sleep(Duration::from_micros(200));
    }
}

/// Records `fragments` of a size into a file as a shard does, ends it at `length`, and reads it back.
fn record(path: &Path, fragment_bytes: usize, fragments: usize, length: usize) -> (Vec<u8>, bool) {
    let mut ring = ring();
    let created = create(path).unwrap();
    let (block, direct) = (created.block as usize, created.direct);
    assert!(File::open(path).unwrap().try_lock().is_err(), "a file that is written is locked");
    assert_eq!(fragment_bytes % block, 0);
    let file = ring.add_file(created.file).unwrap();
    ring.allocate(file, 0, 4 << 20, 99);
    assert!(matches!(wait(&mut ring), Completion::Allocated { token: 99, result: Ok(()), .. }));
    for fragment in 0..fragments {
        let mut buffer = ring.buffer(fragment_bytes).expect("few are in flight");
        buffer[..fragment_bytes].fill(fragment as u8 + 1);
        ring.write(file, buffer, fragment_bytes, (fragment * fragment_bytes) as u64, fragment as u64);
        if fragment % 3 == 2 {
            while ring.file_operations(file) > 0 {
                assert!(matches!(wait(&mut ring), Completion::Written { result: Ok(()), .. }));
            }
        }
    }
    while ring.file_operations(file) > 0 {
        assert!(matches!(wait(&mut ring), Completion::Written { result: Ok(()), .. }));
    }
    ring.sync(file, 7);
    assert!(matches!(wait(&mut ring), Completion::Synced { token: 7, result: Ok(()), .. }));
    assert_eq!(ring.stats().write_bytes, (fragments * fragment_bytes) as u64);
    let descriptor = ring.take_file(file).unwrap();
    assert!(fs::metadata(path).unwrap().len() >= 4 << 20, "room was made ahead");
    close(descriptor, path, length as u64, true).unwrap();
    (fs::read(path).unwrap(), direct)
}

fn expected(fragment_bytes: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / fragment_bytes) as u8 + 1).collect()
}

#[test]
fn fragments_written_with_o_direct_read_back_and_end_at_their_true_length() {
    let scratch = Scratch::on_disk("direct");
    let path = scratch.0.join("live/cam/one.mp4");
    let length = 10 * 65536 - 12345;
    let (bytes, direct) = record(&path, 65536, 10, length);
    assert!(direct, "the build's disk takes O_DIRECT");
    assert!(bytes == expected(65536, length));
}

#[test]
fn a_fragment_larger_than_the_pool_is_written_from_the_heap() {
    let scratch = Scratch::on_disk("heap");
    let length = 2 * (512 << 10);
    let (bytes, _) = record(&scratch.0.join("large.mp4"), 512 << 10, 2, length);
    assert!(bytes == expected(512 << 10, length));
}

#[test]
fn memory_as_a_file_system_works_too() {
    let scratch = Scratch::below(Path::new("/dev/shm"), "memory");
    let (bytes, _) = record(&scratch.0.join("one.mp4"), 4096, 20, 70_000);
    assert!(bytes == expected(4096, 70_000));
}

#[test]
fn a_file_that_ends_empty_is_removed() {
    let scratch = Scratch::on_disk("empty");
    let path = scratch.0.join("one.mp4");
    let created = create(&path).unwrap();
    close(created.file, &path, 0, true).unwrap();
    assert!(!path.exists());
}

#[test]
fn an_existing_file_is_never_opened() {
    let scratch = Scratch::on_disk("exists");
    let path = scratch.0.join("one.mp4");
    fs::write(&path, b"precious").unwrap();
    assert_eq!(create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn an_unaligned_direct_write_is_an_error_and_not_a_surprise() {
    let scratch = Scratch::on_disk("unaligned");
    let created = create(&scratch.0.join("one.mp4")).unwrap();
    let mut ring = ring();
    let file = ring.add_file(created.file).unwrap();
    let buffer = ring.buffer(8192).unwrap();
    ring.write(file, buffer, 4096, 100, 5);
    let Completion::Written { token: 5, result, .. } = wait(&mut ring) else {
        panic!("one write is in flight")
    };
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_full_disk_is_said_by_the_write_and_the_buffer_comes_back() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut ring =
        Ring::new(&RingConfig { write_buffer_bytes: 4096, write_heap_bytes: 0, ..RingConfig::default() })
            .unwrap();
    let file = ring.add_file(full.into()).unwrap();
    for token in 0..3 {
        let buffer = ring.buffer(4096).expect("the one before has come back");
        assert!(ring.buffer(4096).is_none(), "there is only one");
        ring.write(file, buffer, 4096, 0, token);
        let Completion::Written { result, .. } = wait(&mut ring) else { panic!("one write is in flight") };
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
    assert_eq!(ring.file_operations(file), 0);
    ring.take_file(file).unwrap();
}

#[test]
fn buffers_come_back_when_their_writes_are_done() {
    let scratch = Scratch::on_disk("pool");
    let created = create(&scratch.0.join("one.mp4")).unwrap();
    let mut ring = ring();
    let file = ring.add_file(created.file).unwrap();
    let mut written = 0u64;
    while let Some(buffer) = ring.buffer(64 << 10) {
        ring.write(file, buffer, 64 << 10, written << 16, written);
        written += 1;
    }
    assert_eq!(written, 4 + 16, "the pool and then its allowance on the heap");
    for _ in 0..written {
        assert!(matches!(wait(&mut ring), Completion::Written { result: Ok(()), .. }));
    }
    assert!(ring.buffer(1 << 20).is_some());
}

#[test]
fn dropping_a_ring_with_writes_in_flight_waits_for_them() {
    let scratch = Scratch::on_disk("drop");
    let path = scratch.0.join("one.mp4");
    let created = create(&path).unwrap();
    let mut ring = ring();
    let file = ring.add_file(created.file).unwrap();
    for fragment in 0..8u64 {
        let buffer = ring.buffer(128 << 10).unwrap();
        ring.write(file, buffer, 128 << 10, fragment << 17, fragment);
    }
    ring.sync(file, 8);
    ring.submit().unwrap();
    drop(ring);
    assert!(fs::metadata(&path).is_ok());
}

#[test]
fn the_helper_makes_and_ends_files() {
    let scratch = Scratch::on_disk("helper");
    let mut helper = Helper::start(Arc::new(Doorbell::new())).unwrap();
    let path = scratch.0.join("a/b/one.mp4");
    helper.create(1, path.clone());
    let Reply::Created { token: 1, result: Ok(created) } = reply(&mut helper) else { panic!("it was made") };
    helper.create(2, path.clone());
    let Reply::Created { token: 2, result: Err(error) } = reply(&mut helper) else { panic!("it exists") };
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    helper.close(3, created.file, path.clone(), 1000, true);
    assert!(matches!(reply(&mut helper), Reply::Closed { token: 3, result: Ok(()) }));
    assert_eq!(fs::metadata(&path).unwrap().len(), 1000);
}

#[test]
fn a_file_system_says_how_much_room_it_has() {
    let space = space(Path::new("/dev/shm")).unwrap();
    assert!(space.available > 0 && space.available <= space.total);
    assert!(super::space(Path::new("/no/such/place")).is_err());
}

#[test]
fn more_requests_than_the_lane_holds_are_all_done_in_order_even_when_the_helper_is_dropped() {
    let scratch = Scratch::on_disk("many");
    let mut helper = Helper::start(Arc::new(Doorbell::new())).unwrap();
    let count = 3 * REQUESTS_MAX as u64;
    for token in 0..count {
        helper.create(token, scratch.0.join(format!("{token}")));
    }
    for expected in 0..100 {
        let Reply::Created { token, result: Ok(_) } = reply(&mut helper) else { panic!("it was made") };
        assert_eq!(token, expected);
    }
    drop(helper);
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count() as u64, count);
}

#[test]
fn a_helper_whose_replies_nobody_takes_for_a_while_does_not_stop() {
    let scratch = Scratch::on_disk("late");
    let mut helper = Helper::start(Arc::new(Doorbell::new())).unwrap();
    let missing = scratch.0.join("file/as/a/directory");
    fs::write(scratch.0.join("file"), b"").unwrap();
    for token in 0..2 * REQUESTS_MAX as u64 {
        helper.create(token, missing.clone());
    }
    thread::sleep(Duration::from_millis(100));
    for expected in 0..2 * REQUESTS_MAX as u64 {
        let Reply::Created { token, result: Err(_) } = reply(&mut helper) else {
            panic!("it cannot be made")
        };
        assert_eq!(token, expected);
    }
}
