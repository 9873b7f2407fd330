//! Streams made of streams by somebody else's encoder.

use std::{
    ffi::OsString,
    io::{self, Read as _, Write as _},
    path::PathBuf,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use shardcast_engine::{
    flv::{Demuxer, FORM, TagReader},
    media::StreamName,
    session::Event,
    time::Unwrapper,
};
use shardcast_io::clock;

use super::{
    Handle, Publisher,
    attach::{HostError, Stop},
};

/// Makes a second stream of a stream.
///
/// ```
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use shardcast_shards::host::{Handle, HostError, Stop, Transcoder};
///
/// # struct Copy;
/// // The same stream under another name: an encoder would stand between the two.
/// impl Transcoder for Copy {
///     fn run(&mut self, node: &Handle, from: &StreamName, to: &StreamName, stop: &Stop) -> Result<(), HostError> {
///         let (mut from, mut to) = (node.subscribe(from), node.publish(to));
///         while let Some(Ok(frame)) = stop.until(from.next()) {
///             stop.until(to.send(frame)).unwrap_or(Ok(()))?;
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Transcoder: Send {
    /// Runs until the stream `from` ends, or `stop` says so, and publishes what it makes as `to`. Called on a thread that has
    /// nothing else to do.
    ///
    /// # Errors
    /// It cannot go on; the node's observers are told.
    fn run(
        &mut self,
        node: &Handle,
        from: &StreamName,
        to: &StreamName,
        stop: &Stop,
    ) -> Result<(), HostError>;
}

/// Pipes a stream through a child process of ffmpeg: FLV in, FLV out.
///
/// What waits between node and child is bounded by the two pipes (64 KiB each) and by what the node keeps anyway: a child
/// that is too slow for its stream is given it from the newest key frame on. A child that dies, or takes nothing for ten
/// seconds, is started again, later each time, and the second stream goes on; the node's observers are told.
///
/// ```no_run
/// # use shardcast_engine::{codec::Codec, media::{Frame, Payload, StreamName, TrackId}, time::MediaTime};
/// use shardcast_shards::host::{Ffmpeg, Node};
///
/// # fn main() -> Result<(), shardcast_shards::host::HostError> {
/// # let node = Node::builder().start()?;
/// # let name = StreamName::parse("live/cam1")?;
/// let arguments = ["-c:v", "libx264", "-preset", "veryfast", "-s", "640x360", "-c:a", "copy"];
/// let small = StreamName::parse("live/cam1-small")?;
/// // Without `program` it is the one that the path finds.
/// let ffmpeg = Ffmpeg::new(arguments).program("/opt/ffmpeg/bin/ffmpeg");
/// let transcoder = node.transcode(&name, &small, ffmpeg)?;
/// transcoder.wait()?;
/// # node.stop()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Ffmpeg {
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// A child that takes nothing for so long is started anew.
const STALL: Duration = Duration::from_secs(10);
/// What a child has for writing the rest when its input has ended.
const FAREWELL: Duration = Duration::from_secs(10);
/// How often the child is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// The pause before the first new start; each further one doubles it, up to the last.
const RESTART_MIN: Duration = Duration::from_millis(500);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// Bytes of the child's complaints that are kept, from the last ones.
const COMPLAINT_BYTES: usize = 400;

impl Ffmpeg {
    /// `ffmpeg`, as the path finds it, with `arguments` between input and output: `["-c:v", "libx264", "-c:a", "copy"]`.
    pub fn new(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Ffmpeg { program: "ffmpeg".into(), arguments: arguments.into_iter().map(Into::into).collect() }
    }

    /// Another program in its place: one that takes FLV by its input, and writes FLV to its output.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    fn start(&self) -> io::Result<Child> {
        Command::new(&self.program)
            .args(["-hide_banner", "-loglevel", "error", "-f", "flv", "-i", "pipe:0"])
            .args(&self.arguments)
            .args(["-f", "flv", "pipe:1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }
}

impl Transcoder for Ffmpeg {
    fn run(
        &mut self,
        node: &Handle,
        from: &StreamName,
        to: &StreamName,
        stop: &Stop,
    ) -> Result<(), HostError> {
        let mut pause = RESTART_MIN;
        loop {
            let began = Instant::now();
            let child = self.start().map_err(|error| format!("{}: {error}", self.program.display()))?;
            match Running::new(child, node, from, to, stop)?.supervise(stop) {
                End::Over => return Ok(()),
                End::Refused(why) => return Err(why),
                End::Died(how) => {
                    node.alarm(Some(to), &format!("the transcoder is started anew: {how}"));
                }
            }
            if began.elapsed() > RESTART_MAX {
                pause = RESTART_MIN;
            }
            let until = Instant::now() + pause;
            while Instant::now() < until {
                if stop.is_set() {
                    return Ok(());
                }
                thread::sleep(LOOK.min(pause));
            }
            pause = (pause * 2).min(RESTART_MAX);
        }
    }
}

/// How a child came to its end.
enum End {
    /// The stream is over, or nobody wants it.
    Over,
    /// The second stream is not to be had.
    Refused(HostError),
    /// The child is to blame.
    Died(String),
}

/// A child, and the threads at its three pipes.
struct Running {
    child: Child,
    progress: Arc<Progress>,
    feeder: JoinHandle<()>,
    reader: JoinHandle<Result<(), HostError>>,
    complaints: JoinHandle<String>,
}

/// What the threads let each other know.
#[derive(Default)]
struct Progress {
    /// The stream has ended: nothing more is written to the child.
    input_over: AtomicBool,
    /// When the write began that is under way, monotonic nanoseconds; 0 while none is.
    writing_since: AtomicU64,
}

impl Running {
    fn new(
        mut child: Child,
        node: &Handle,
        from: &StreamName,
        to: &StreamName,
        stop: &Stop,
    ) -> io::Result<Running> {
        let (Some(input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("a child without its pipes"));
        };
        let progress = Arc::new(Progress::default());
        let (handle, from, seen, told) = (node.clone(), from.clone(), progress.clone(), stop.clone());
        // Joined by `supervise`, which ends the child first: then none of them waits for anything but this node.
        let feeder = thread::Builder::new()
            .name("to-encoder".into())
            .spawn(move || write_stream(input, &handle, &from, &seen, &told))?;
        let (publisher, told) = (node.publish(to), stop.clone());
        let reader = thread::Builder::new()
            .name("of-encoder".into())
            .spawn(move || read_stream(output, publisher, &told))?;
        let complaints =
            thread::Builder::new().name("encoder-errors".into()).spawn(move || read_complaints(errors))?;
        Ok(Running { child, progress, feeder, reader, complaints })
    }

    /// Waits for the child's end, or brings it about.
    fn supervise(mut self, stop: &Stop) -> End {
        let mut over_since = None;
        let verdict = loop {
            if stop.is_set() {
                break Some(End::Over);
            }
            match self.child.try_wait() {
                Ok(None) => {}
                Ok(Some(_)) if self.progress.input_over.load(Ordering::Acquire) => break Some(End::Over),
                Ok(Some(status)) => break Some(End::Died(format!("it ended with {status}"))),
                Err(error) => break Some(End::Died(error.to_string())),
            }
            // The publisher was refused, or what the child writes is no FLV.
            if self.reader.is_finished() {
                break None;
            }
            let since = self.progress.writing_since.load(Ordering::Acquire);
            if since > 0 && clock::monotonic().saturating_sub(since) > STALL.as_nanos() as u64 {
                break Some(End::Died("it took nothing for ten seconds".to_owned()));
            }
            if self.progress.input_over.load(Ordering::Acquire)
                && over_since.get_or_insert_with(Instant::now).elapsed() > FAREWELL
            {
                break Some(End::Over);
            }
            thread::sleep(LOOK);
        };
        // It may have ended by itself; then there is nothing to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.feeder.join();
        let read = self.reader.join().unwrap_or_else(|_| Err("its reader panicked".into()));
        let complaint = self.complaints.join().unwrap_or_default();
        let input_over = self.progress.input_over.load(Ordering::Acquire);
        match (verdict, read) {
            (Some(End::Died(how)), _) if !complaint.is_empty() => End::Died(format!("{how}: {complaint}")),
            (Some(end), _) => end,
            (None, Ok(())) if input_over => End::Over,
            (None, Ok(())) => End::Died("it closed its output".to_owned()),
            (None, Err(error)) => End::Refused(error),
        }
    }
}

/// Writes the stream to the child, until one of them ends.
fn write_stream(mut input: ChildStdin, node: &Handle, from: &StreamName, progress: &Progress, stop: &Stop) {
    let mut wire = node.subscribe_wire(from, &FORM);
    loop {
        let bytes = match stop.until(wire.next()) {
            Some(Ok(bytes)) => bytes,
            Some(Err(_)) => {
                progress.input_over.store(true, Ordering::Release);
                return;
            }
            None => return,
        };
        progress.writing_since.store(clock::monotonic(), Ordering::Release);
        let written = input.write_all(&bytes);
        progress.writing_since.store(0, Ordering::Release);
        if written.is_err() {
            // The child has gone; the supervisor sees how.
            return;
        }
    }
}

/// Publishes what the child writes, until there is no more.
fn read_stream(mut output: ChildStdout, mut publisher: Publisher, stop: &Stop) -> Result<(), HostError> {
    let (mut tags, mut demuxer, mut clock) = (TagReader::default(), Demuxer::default(), Unwrapper::new(32));
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = output.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let mut input = &buffer[..count];
        while let Some(tag) = tags.read(&mut input)? {
            let mut frames = Vec::new();
            demuxer.tag(&tag, &mut clock, &mut |event| {
                if let Event::Frame(frame) = event {
                    frames.push(frame);
                }
            })?;
            for frame in frames {
                match stop.until(publisher.send(frame)) {
                    Some(sent) => sent?,
                    None => return Ok(()),
                }
            }
        }
    }
}

/// The last of what the child complains about.
fn read_complaints(mut errors: ChildStderr) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = errors.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        kept.drain(..kept.len().saturating_sub(COMPLAINT_BYTES));
    }
    String::from_utf8_lossy(&kept).trim().replace('\n', "; ")
}
