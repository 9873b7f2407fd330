//! Recording into a storage, by the public interface alone: where segments are cut, what happens when the storage fails,
//! hangs or is there from before, and what a crash leaves behind.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use shardcast_engine::{
    codec::{Codec, Parameters},
    container::{Container, raw},
    demo::{CLIP, Demo},
    flv, fmp4,
    media::{Frame, Payload, StreamName, TrackId},
    mpegts,
    storage::{Object, StorageBackend, StorageError},
    time::{MediaTime, Now},
};
use shardcast_shards::{
    host::{MediaSource, Node, StreamEvent},
    storage::{Folder, Memory, RecordingEvent, RecordingSink, RecordingSinkBuilder},
};
use shardcast_tests::clients::{Folder as TestFolder, process::run, program, wait_for};

/// How long anything here may take; far longer than it does.
const PATIENCE: Duration = Duration::from_secs(20);
const SEGMENT: Duration = Duration::from_secs(2);

fn time(millis: i64) -> MediaTime {
    MediaTime::from_millis(millis)
}

/// The clip's own parameters, so that what comes of them is a file that players read.
fn parameters(track: TrackId) -> Frame {
    let mut clip = Demo::new(CLIP).expect("it is so in this test");
    while let Some(frame) = clip.poll(Now(0)) {
        if frame.track == track && matches!(frame.payload, Payload::Parameters(_)) {
            return frame;
        }
    }
    panic!("the clip has parameters of its tracks before its frames");
}

/// A picture whose only NAL unit has its time as data.
fn picture(millis: i64, key: bool) -> Frame {
    let kind: u8 = if key { 0x65 } else { 0x41 };
    let data = Bytes::from([&[0, 0, 0, 9, kind][..], &millis.to_be_bytes()].concat());
    let payload = Payload::Video { codec: Codec::H264, key, data };
    Frame { track: TrackId::VIDEO, dts: time(millis), pts: time(millis), payload }
}

fn packet(millis: i64) -> Frame {
    let payload = Payload::Audio { codec: Codec::Opus, data: Bytes::from_static(&[0xfc, 1, 2]) };
    Frame { track: TrackId::AUDIO, dts: time(millis), pts: time(millis), payload }
}

/// A sink of raw payloads, whose objects can be read back below.
fn builder(storage: &Arc<impl StorageBackend + 'static>, spool: &TestFolder) -> RecordingSinkBuilder {
    RecordingSink::builder(storage.clone(), "rec/cam")
        .segment(SEGMENT)
        .container(&raw::CONTAINER)
        .spool(spool.path().join("spool"))
}

/// The frames of an object: track, whether a decoder can begin there, when it is decoded in milliseconds from the first.
fn frames_of(object: &[u8]) -> Vec<(u8, bool, i64)> {
    let (mut rest, mut frames) = (object, Vec::new());
    while rest.len() >= 24 {
        let len = u32::from_be_bytes(rest[4..8].try_into().expect("it is so in this test")) as usize;
        let dts = i64::from_be_bytes(rest[8..16].try_into().expect("it is so in this test"));
        if rest[0] != 0 {
            frames.push((rest[1], rest[0] == 2, dts / 1_000_000));
        }
        rest = &rest[24 + len..];
    }
    assert!(rest.is_empty(), "whole records");
    frames
}

/// When the pictures of an object were, as their data say.
fn times_of(object: &[u8]) -> Vec<i64> {
    let (mut rest, mut times) = (object, Vec::new());
    while rest.len() >= 24 {
        let len = u32::from_be_bytes(rest[4..8].try_into().expect("it is so in this test")) as usize;
        if rest[0] != 0 {
            times.push(i64::from_be_bytes(rest[24 + 5..24 + 13].try_into().expect("it is so in this test")));
        }
        rest = &rest[24 + len..];
    }
    times
}

fn keys(storage: &impl StorageBackend) -> Vec<String> {
    storage.list("rec/cam/").expect("it is so in this test").into_iter().map(|object| object.key).collect()
}

/// The objects' frames. These streams come in no time, so the names of segments that began in the same millisecond do not
/// say which was first.
fn objects(storage: &impl StorageBackend, read: impl Fn(&[u8]) -> Vec<i64>) -> Vec<Vec<i64>> {
    let mut objects: Vec<_> =
        keys(storage).iter().map(|key| read(&storage.get(key).expect("it is so in this test"))).collect();
    objects.sort();
    objects
}

#[test]
fn five_seconds_become_three_objects_of_which_two_are_there_before_the_flush() {
    let spool = TestFolder::new("storage-three");
    let storage = Arc::new(Memory::new());
    let mut sink = builder(&storage, &spool).start().unwrap();
    sink.frame(&parameters(TrackId::VIDEO));
    // What comes before the first key frame is left out.
    for millis in (-200..0).step_by(40) {
        sink.frame(&picture(millis, false));
    }
    for millis in (0..5000).step_by(40) {
        sink.frame(&picture(millis, millis % 1000 == 0));
    }
    sink.wait(PATIENCE).unwrap();
    assert_eq!(keys(&*storage).len(), 2);
    assert_eq!(sink.counters().skipped, 5);
    sink.flush(PATIENCE).unwrap();
    let found = keys(&*storage);
    assert_eq!(found.len(), 3, "{found:?}");
    sink.flush(PATIENCE).unwrap();
    assert_eq!(keys(&*storage), found, "a second flush has nothing to do");
    let bounds = |times: &Vec<i64>| (times[0], *times.last().unwrap());
    let bounds: Vec<_> = objects(&*storage, times_of).iter().map(bounds).collect();
    assert_eq!(bounds, [(0, 1960), (2000, 3960), (4000, 4960)]);
}

#[test]
fn sound_alone_is_cut_on_time() {
    let spool = TestFolder::new("storage-sound");
    let storage = Arc::new(Memory::new());
    let mut sink = builder(&storage, &spool).start().unwrap();
    let opus = Payload::Parameters(Arc::new(Parameters::of_opus(2)));
    sink.frame(&Frame { track: TrackId::AUDIO, dts: time(0), pts: time(0), payload: opus });
    (0..7000).step_by(20).for_each(|millis| sink.frame(&packet(millis)));
    sink.flush(PATIENCE).unwrap();
    let times = |object: &[u8]| frames_of(object).iter().map(|(.., millis)| *millis).collect();
    let counts: Vec<_> = objects(&*storage, times).iter().map(Vec::len).collect();
    assert_eq!(counts, [50, 100, 100, 100], "the last is the shortest");
}

#[test]
fn pictures_that_are_shown_in_another_order_do_not_disturb_a_cut() {
    let spool = TestFolder::new("storage-reordered");
    let storage = Arc::new(Memory::new());
    let mut sink = builder(&storage, &spool).start().unwrap();
    sink.frame(&parameters(TrackId::VIDEO));
    for millis in (0..5000).step_by(40) {
        let mut frame = picture(millis, millis % 1000 == 0);
        // As with two B-frames: shown up to three pictures after it is decoded.
        frame.pts = time(millis + [40, 120, 0][(millis / 40 % 3) as usize] + 40);
        sink.frame(&frame);
    }
    sink.flush(PATIENCE).unwrap();
    let firsts: Vec<_> = objects(&*storage, times_of).iter().map(|times| times[0]).collect();
    assert_eq!(firsts, [0, 2000, 4000]);
}

#[test]
fn a_clock_that_jumps_stalls_no_segment() {
    let spool = TestFolder::new("storage-jumps");
    let storage = Arc::new(Memory::new());
    let mut sink = builder(&storage, &spool).start().unwrap();
    sink.frame(&parameters(TrackId::VIDEO));
    // An hour back after three seconds, and ten hours forth after three more.
    for (from, jump) in [(0, 7_200_000), (3000, 3_600_000), (6000, 39_600_000)] {
        for millis in (from..from + 3000).step_by(40) {
            sink.frame(&picture(millis + jump, millis % 1000 == 0));
        }
    }
    sink.flush(PATIENCE).unwrap();
    let objects = keys(&*storage);
    assert!((4..=6).contains(&objects.len()), "nine seconds in segments of two: {objects:?}");
    let mut all = 0;
    for key in &objects {
        let frames = frames_of(&storage.get(key).unwrap());
        assert!(frames[0].1, "each begins with a key frame");
        all += frames.len();
    }
    assert_eq!(all, 225);
}

/// The clip, as fast as it is taken.
fn clip(seconds: u64, mut take: impl FnMut(&Frame)) {
    let mut clip = Demo::new(CLIP).expect("it is so in this test");
    let mut now = Now(0);
    while now.0 < seconds * 1_000_000_000 {
        match clip.poll(now) {
            Some(frame) => take(&frame),
            None => now = clip.deadline().expect("it is so in this test"),
        }
    }
}

/// Decodes a file, and fails at any complaint. Its frames per kind.
fn decode(path: &Path) -> [usize; 2] {
    let mut command = Command::new(program("ffmpeg"));
    command.args(["-nostdin", "-v", "error", "-xerror", "-i"]).arg(path).args(["-f", "null", "-"]);
    let ended = run("ffmpeg-decode", &mut command, Duration::from_secs(60));
    assert!(ended.status.success() && ended.errors.trim().is_empty(), "{}: {}", path.display(), ended.errors);
    ["v:0", "a:0"].map(|kind| {
        let mut command = Command::new(program("ffprobe"));
        command.args(["-v", "error", "-select_streams", kind, "-count_packets", "-of", "csv=p=0"]);
        command.args(["-show_entries", "stream=nb_read_packets"]).arg(path);
        let said = run("ffprobe", &mut command, Duration::from_secs(60)).output;
        said.split(['\n', ',']).find_map(|word| word.trim().parse().ok()).unwrap_or(0)
    })
}

#[test]
fn each_object_of_each_container_plays_by_itself() {
    for container in [&fmp4::CONTAINER, &mpegts::CONTAINER, &flv::CONTAINER] as [&'static Container; 3] {
        let folder = TestFolder::new(&format!("storage-{}", container.name));
        let storage = Arc::new(Folder::new(folder.path().join("objects")).unwrap());
        let durations = Arc::new(Mutex::new(Vec::new()));
        let told = durations.clone();
        let mut sink = builder(&storage, &folder)
            .container(container)
            .on_event(move |event| match event {
                RecordingEvent::Stored { duration, .. } => told.lock().unwrap().push(duration.unwrap()),
                RecordingEvent::Over => {}
                other => panic!("{other}"),
            })
            .start()
            .unwrap();
        let mut sent = [0, 0];
        clip(7, |frame| {
            sent[0] += usize::from(frame.is_video());
            sent[1] += usize::from(frame.is_audio());
            sink.frame(frame);
        });
        sink.flush(PATIENCE).unwrap();
        let objects = keys(&*storage);
        assert!(objects.len() >= 3, "{objects:?}");
        let mut read = [0, 0];
        for key in &objects {
            assert!(key.ends_with(container.extension), "{key}");
            let [video, audio] = decode(&storage.path(key).unwrap());
            read = [read[0] + video, read[1] + audio];
        }
        assert_eq!(read, sent, "{}: nothing is lost at a cut", container.name);
        let whole: Duration = durations.lock().unwrap().iter().sum();
        assert!((Duration::from_millis(6700)..Duration::from_millis(7300)).contains(&whole), "{whole:?}");
    }
}

/// Fails the first puts, or holds them up until it is told otherwise.
struct Moody {
    kept: Memory,
    failures: AtomicUsize,
    gate: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Moody {
    fn failing(times: usize) -> Arc<Moody> {
        Arc::new(Moody { kept: Memory::new(), failures: AtomicUsize::new(times), gate: Mutex::new(None) })
    }
    fn hanging() -> (Arc<Moody>, mpsc::Sender<()>) {
        let (open, gate) = mpsc::channel();
        (
            Arc::new(Moody {
                kept: Memory::new(),
                failures: AtomicUsize::new(0),
                gate: Mutex::new(Some(gate)),
            }),
            open,
        )
    }
}

impl StorageBackend for Moody {
    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        self.kept.put(key, bytes)
    }
    fn put_file(&self, key: &str, file: &Path) -> Result<(), StorageError> {
        if let Some(gate) = self.gate.lock().expect("it is so in this test").take() {
            let _ = gate.recv();
        }
        let left = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match left {
            Ok(1) => panic!("a storage that panics"),
            Ok(_) => Err(StorageError::Failed("it is raining".to_owned())),
            Err(_) => self.kept.put_file(key, file),
        }
    }
    fn get(&self, key: &str) -> Result<Bytes, StorageError> {
        self.kept.get(key)
    }
    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.kept.delete(key)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Object>, StorageError> {
        self.kept.list(prefix)
    }
    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        self.kept.exists(key)
    }
}

#[test]
fn a_storage_that_fails_is_tried_again_and_nothing_is_lost() {
    let spool = TestFolder::new("storage-fails");
    let storage = Moody::failing(2);
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = events.clone();
    let mut sink = builder(&storage, &spool)
        .on_event(move |event| told.lock().unwrap().push(event.clone()))
        .start()
        .unwrap();
    sink.frame(&parameters(TrackId::VIDEO));
    (0..5000).step_by(40).for_each(|millis| sink.frame(&picture(millis, millis % 1000 == 0)));
    sink.flush(PATIENCE).unwrap();
    let all: usize = keys(&*storage).iter().map(|key| frames_of(&storage.get(key).unwrap()).len()).sum();
    assert_eq!(all, 125);
    assert_eq!(sink.counters().lost, 0);
    let events = events.lock().unwrap();
    let failing = events.iter().filter(|event| matches!(event, RecordingEvent::Failing { .. })).count();
    assert_eq!(failing, 1, "told once: {events:?}");
    assert!(matches!(&events[0], RecordingEvent::Failing { why, .. } if why == "it is raining"));
    assert_eq!(events.iter().filter(|event| matches!(event, RecordingEvent::Stored { .. })).count(), 3);
}

#[test]
fn a_storage_that_hangs_holds_up_nobody_and_what_it_costs_is_told() {
    let spool = TestFolder::new("storage-hangs");
    let (storage, open) = Moody::hanging();
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = events.clone();
    let mut sink = builder(&storage, &spool)
        .waiting_max(2, 1 << 30)
        .on_event(move |event| told.lock().unwrap().push(event.clone()))
        .start()
        .unwrap();
    sink.frame(&parameters(TrackId::VIDEO));
    (0..20_000).step_by(40).for_each(|millis| sink.frame(&picture(millis, millis % 1000 == 0)));
    assert!(sink.wait(Duration::from_millis(50)).is_err());
    let lost = sink.counters().lost;
    assert!(lost > 0, "more waits than may: the rest is left out, and counted");
    open.send(()).unwrap();
    sink.wait(PATIENCE).unwrap();
    // The pause after the failure is over when the next frame comes that a segment can begin at.
    thread::sleep(Duration::from_millis(1200));
    (20_000..23_000).step_by(40).for_each(|millis| sink.frame(&picture(millis, millis % 1000 == 0)));
    sink.flush(PATIENCE).unwrap();
    let kept: usize = keys(&*storage).iter().map(|key| frames_of(&storage.get(key).unwrap()).len()).sum();
    let lost = sink.counters().lost;
    assert_eq!(kept as u64 + lost, 575, "every frame is kept or counted");
    let events = events.lock().unwrap();
    let gaps: u64 = events
        .iter()
        .map(|event| if let RecordingEvent::Gap { frames, .. } = event { *frames } else { 0 })
        .sum();
    assert_eq!(gaps, lost, "{events:?}");
}

#[test]
fn a_new_recorder_on_an_old_prefix_overwrites_nothing() {
    let spool = TestFolder::new("storage-again");
    let storage = Arc::new(Memory::new());
    let mut expected = 0;
    for round in 0..3 {
        let mut sink = builder(&storage, &spool).start().unwrap();
        sink.frame(&parameters(TrackId::VIDEO));
        (0..1000).step_by(40).for_each(|millis| sink.frame(&picture(millis + round, millis == 0)));
        sink.flush(PATIENCE).unwrap();
        expected += 1;
        assert_eq!(keys(&*storage).len(), expected);
    }
    // Two at once, in the same millisecond as often as not.
    let mut sinks = [0, 1].map(|_| builder(&storage, &spool).start().unwrap());
    for sink in &mut sinks {
        sink.frame(&parameters(TrackId::VIDEO));
        sink.frame(&picture(0, true));
    }
    for sink in &mut sinks {
        sink.flush(PATIENCE).unwrap();
    }
    assert_eq!(keys(&*storage).len(), expected + 2);
}

/// Which folder the process that is to crash uses.
const CRASHING: &str = "SHARDCAST_TEST_CRASHES_IN";

/// Not a test by itself: what the one below starts as a process of its own.
#[test]
fn a_process_that_crashes() {
    let Some(folder) = env::var_os(CRASHING).map(PathBuf::from) else { return };
    let storage = Arc::new(Folder::new(folder.join("objects")).unwrap());
    let mut sink = RecordingSink::builder(storage, "rec/cam").spool(folder.join("spool")).start().unwrap();
    clip(7, |frame| sink.frame(frame));
    std::process::abort();
}

#[test]
fn a_crash_loses_at_most_the_fragment_that_was_not_written() {
    let folder = TestFolder::new("storage-crash");
    let test = env::current_exe().unwrap();
    let ended = Command::new(test)
        .args(["--exact", "a_process_that_crashes"])
        .env(CRASHING, folder.path())
        .output()
        .unwrap();
    assert!(!ended.status.success(), "it has crashed");
    let storage = Arc::new(Folder::new(folder.path().join("objects")).unwrap());
    assert!(keys(&*storage).is_empty(), "its one segment of ten minutes was not whole");
    let sink = RecordingSink::builder(storage.clone(), "rec/cam").spool(folder.path().join("spool"));
    let sink = sink.start().unwrap();
    sink.wait(PATIENCE).unwrap();
    let objects = keys(&*storage);
    assert_eq!(objects.len(), 1, "{objects:?}");
    let [video, _] = decode(&storage.path(&objects[0]).unwrap());
    let mut sent = 0;
    clip(7, |frame| sent += usize::from(frame.is_video()));
    assert!(video + 30 >= sent, "{video} of {sent} pictures: all but the last second");
    assert!(
        fs::read_dir(folder.path().join("spool/rec:cam/0")).unwrap().count() <= 1,
        "only the lock is left"
    );
}

#[test]
fn both_backends_keep_the_same_promises() {
    let folder = TestFolder::new("storage-backends");
    let on_disk = Folder::new(folder.path().join("objects")).unwrap();
    let in_memory = Memory::new();
    let file = folder.path().join("file");
    for storage in [&on_disk, &in_memory] as [&dyn StorageBackend; 2] {
        storage.put("a/b", b"one").unwrap();
        assert_eq!(storage.put("a/b", b"two"), Err(StorageError::Exists));
        fs::write(&file, b"three").unwrap();
        assert_eq!(storage.put_file("a/b", &file), Err(StorageError::Exists));
        assert!(file.exists(), "what was refused is still there");
        storage.put_file("a/c", &file).unwrap();
        storage.put("ab", b"").unwrap();
        assert_eq!(storage.get("a/b").unwrap(), "one");
        assert_eq!(storage.get("a/c").unwrap(), "three");
        assert_eq!(storage.get("a/d"), Err(StorageError::NotFound));
        let found = |prefix| storage.list(prefix).unwrap().into_iter().map(|object| object.key);
        assert!(found("a/").eq(["a/b", "a/c"]));
        assert!(found("a").eq(["a/b", "a/c", "ab"]));
        assert!(found("x/y").eq([""; 0]));
        assert_eq!(storage.list("ab").unwrap(), [Object { key: "ab".to_owned(), bytes: 0 }]);
        assert!(storage.exists("a/c").unwrap());
        storage.delete("a/c").unwrap();
        storage.delete("a/c").unwrap();
        assert!(!storage.exists("a/c").unwrap());
        for bad in ["../x", "/x", "a/.x", ""] {
            assert!(matches!(storage.put(bad, b""), Err(StorageError::IllegalKey(_))), "{bad}");
        }
    }
    assert!(!folder.path().join("x").exists());
}

/// Gives the frames of the clip as fast as it is asked.
struct ClipSource(Demo, Now);

impl MediaSource for ClipSource {
    fn next(&mut self) -> Result<Option<Frame>, Box<dyn std::error::Error + Send + Sync>> {
        loop {
            if self.1.0 >= 7_000_000_000 {
                return Ok(None);
            }
            match self.0.poll(self.1) {
                Some(frame) => return Ok(Some(frame)),
                None => self.1 = self.0.deadline().ok_or("a clip goes on")?,
            }
        }
    }
}

#[test]
fn a_stream_of_a_node_is_recorded_into_a_storage() {
    let folder = TestFolder::new("storage-node");
    let storage = Arc::new(Folder::new(folder.path().join("objects")).unwrap());
    let node = Node::builder().start().unwrap();
    let mut events = node.events();
    let name = StreamName::parse("live/clip").unwrap();
    let sink = builder(&storage, &folder).container(&fmp4::CONTAINER).start().unwrap();
    let sink = node.feed(&name, sink).unwrap();
    node.pull(&name, ClipSource(Demo::new(CLIP).unwrap(), Now(0))).unwrap().wait().unwrap();
    let began = Instant::now();
    while !matches!(events.next_blocking(), Some(StreamEvent::Ended { .. })) {
        assert!(began.elapsed() < PATIENCE);
    }
    sink.wait().unwrap();
    let mut sent = 0;
    clip(7, |frame| sent += usize::from(frame.is_video()));
    // The tail is stored by a thread that nobody waits for.
    let pictures = || keys(&*storage).iter().map(|key| decode(&storage.path(key).unwrap())[0]).sum::<usize>();
    let whole = wait_for(PATIENCE, || (pictures() == sent).then_some(()));
    assert!(whole.is_some(), "{} of {sent} pictures", pictures());
}
