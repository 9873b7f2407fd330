//! A program beside the server: started by a test, bounded in time, ended by its own process id and no other.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Folder, wait_for};

/// A program that runs. It is killed when this is dropped.
pub struct Process {
    name: String,
    child: Child,
    folder: Folder,
    output: PathBuf,
    errors: PathBuf,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

impl Process {
    /// Starts `command`; `name` stands in what a failing test prints.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let folder = Folder::new(name);
        let (output, errors) = (folder.path().join("stdout"), folder.path().join("stderr"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&output).expect("a new file in an own folder"))
            .stderr(File::create(&errors).expect("a new file in an own folder"))
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Process { name: name.to_owned(), child, folder, output, errors }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A folder of its own, removed with it.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// What it wrote to standard error so far.
    pub fn errors(&self) -> String {
        lossy(&self.errors)
    }

    /// What it wrote so far to standard output and then to standard error.
    pub fn said(&self) -> String {
        lossy(&self.output) + &self.errors()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours can be asked")
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            // It may end between the question and the signal; it is not yet waited for, so its id is still its own.
            let _ = kill_process(id.expect("a process id is a positive number"), signal);
        }
    }

    /// Ends it with no chance to say goodbye (SIGKILL).
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it takes longer than `patience`, with what it said.
    pub fn finish(mut self, patience: Duration) -> Ended {
        let begin = Instant::now();
        let Some(status) = wait_for(patience, || self.ended()) else {
            self.kill();
            panic!("{} did not end within {:?}; it said:\n{}", self.name, begin.elapsed(), self.errors());
        };
        Ended { status, output: lossy(&self.output), errors: self.errors() }
    }

    /// Waits until it ends by itself, and well.
    ///
    /// # Panics
    /// When it takes longer than `patience` or ends with another code than 0, with what it said.
    pub fn succeed(self, patience: Duration) -> Ended {
        let name = self.name.clone();
        let ended = self.finish(patience);
        assert!(ended.status.success(), "{name} ended with {}; it said:\n{}", ended.status, ended.errors);
        ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill();
        }
        if thread::panicking() {
            // Not its standard output, which is a list of packets or the media itself.
            eprintln!("--- {} said:\n{}", self.name, tail(&self.errors()));
        }
    }
}

/// Runs `command` to its good end.
///
/// # Panics
/// As [`Process::succeed`].
pub fn run(name: &str, command: &mut Command, patience: Duration) -> Ended {
    Process::start(name, command).succeed(patience)
}

/// The last lines of a long text.
pub fn tail(text: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
}

fn lossy(path: &PathBuf) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
