//! A server under measurement: the TOML file that says how it is started and where its doors are, and the process.

mod doors;

use std::{
    collections::BTreeMap,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use serde::Deserialize;

pub use doors::Doors;

use crate::scenario::stream_name;

/// A server file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServerFile {
    /// Its name, for reports.
    pub name: String,
    /// One line: version, origin, what was chosen; `{name}` stands for variables as in the command.
    pub about: String,
    /// A command that is run once before anything is measured: builds or installs what is missing.
    #[serde(default)]
    pub prepare: Vec<String>,
    /// The server, in the foreground.
    pub command: Vec<String>,
    /// Values for `{name}` in the command and the files; a scenario or the command line puts others in their place.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Files that are written into `{dir}` before the start: name and text.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// What is added to a file for each stream where all have ports of their own: `{stream}` and `{port}` are the stream's.
    #[serde(default)]
    pub each_stream: BTreeMap<String, String>,
    /// Where the server is reached.
    pub doors: Doors,
    /// What is special about a floor.
    #[serde(default)]
    pub floor: Floor,
    /// The folder of the file.
    #[serde(skip)]
    pub here: PathBuf,
}

/// What is special about a floor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Floor {
    /// It makes its bytes itself: nothing is published.
    pub feeds_itself: bool,
    /// What it sends is no stream: nobody parses it.
    pub unparsed: bool,
    /// It takes viewers only before the publisher comes.
    pub viewers_first: bool,
    /// It has files of any size and knows no stream: its viewers repeat what one of another server asked for.
    pub replays: bool,
}

/// Where and how a server is started.
#[derive(Clone, Debug)]
pub struct Place {
    /// Cores that it may use.
    pub cores: Vec<usize>,
    /// The address that it is to listen on.
    pub address: String,
    /// Words that stand before its command, for instance to enter a network namespace.
    pub wrapper: Vec<String>,
}

/// A server that runs. Dropping it ends it, unless somebody else started it.
#[derive(Debug)]
pub struct Server {
    process: Process,
    /// What its file says of it, filled in.
    pub about: String,
    /// Its doors, with everything but `{stream}` filled in.
    pub doors: Doors,
    /// The variables that it was started with.
    pub variables: BTreeMap<String, String>,
}

#[derive(Debug)]
enum Process {
    /// Started here, in a folder of its own.
    Own { child: Child, directory: PathBuf },
    /// It ran before, and goes on running.
    Attached { pid: u32 },
}

/// The variable with the port of the first stream, where each has one; 0 where none has.
const UDP_PORT: &str = "udp_port";
/// How long a server may take from its start until its doors are open.
const START_MAX: Duration = Duration::from_secs(20);
/// How long it may take to end after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(10);

impl ServerFile {
    /// Reads a server file.
    ///
    /// # Errors
    /// There is no such file, or what is wrong in it and where.
    pub fn load(path: &Path) -> Result<ServerFile, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut file: ServerFile =
            toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        if file.command.is_empty() {
            return Err(format!("{}: the command is empty", path.display()));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        file.here = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(file)
    }

    /// Runs its `prepare`, if it has one.
    ///
    /// # Errors
    /// It could not be run, or failed.
    pub fn prepare(&self, place: &Place) -> Result<(), String> {
        let Some(values) = (!self.prepare.is_empty()).then(|| self.values(&BTreeMap::new(), place, &cache()))
        else {
            return Ok(());
        };
        fs::create_dir_all(cache()).map_err(|error| format!("{}: {error}", cache().display()))?;
        let words = fill_all(&self.prepare, &values)?;
        let status = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .status()
            .map_err(|error| format!("{}: {error}", words[0]))?;
        if status.success() { Ok(()) } else { Err(format!("{} cannot be prepared: {status}", self.name)) }
    }

    /// Starts the server on its cores and waits until its doors are open.
    ///
    /// # Errors
    /// It could not be started, ended at once, or opened no door in time. What it printed last is part of the message.
    pub fn start(&self, variables: &BTreeMap<String, String>, place: &Place) -> Result<Server, String> {
        let directory = std::env::temp_dir().join(format!(
            "shardcast-bench-{}-{}",
            std::process::id(),
            shardcast_io::clock::monotonic()
        ));
        fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let values = self.values(variables, place, &directory);
        let about = fill(&self.about, &values)?;
        for (name, text) in &self.files {
            let path = directory.join(name);
            let text = fill(text, &values)? + &self.of_each_stream(name, &values)?;
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let doors = self.doors.filled(&values)?;
        // Another server on the same port would be measured in its place.
        let answered = |address: &String| TcpStream::connect(address).is_ok();
        let taken = doors.addresses().into_iter().find(answered).or_else(|| doors.taken_by_another());
        if let Some(address) = taken {
            return Err(format!("something already listens on {address}, where {} is to", self.name));
        }
        let mut words = place.wrapper.clone();
        // It must not outlive us, however we end.
        if has_setpriv() {
            words.extend(["setpriv", "--pdeathsig", "TERM"].map(str::to_owned));
        }
        words.extend(fill_all(&self.command, &values)?);
        let log = directory.join("output");
        let output = fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = output.try_clone().map_err(|error| error.to_string())?;
        let child = on_cores(&place.cores, || {
            Command::new(&words[0])
                .args(&words[1..])
                .current_dir(&directory)
                .stdin(Stdio::null())
                .stdout(output)
                .stderr(errors)
                .spawn()
        })?
        .map_err(|error| format!("{}: {error}", words[0]))?;
        let process = Process::Own { child, directory };
        let mut server = Server { process, about, doors, variables: values };
        server.wait_until_open().map_err(|why| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            format!("{} {why}. It said:\n{}", self.name, last_lines(&said))
        })?;
        Ok(server)
    }

    /// Takes a server that runs already as it is: its doors must be where the file says, and it is never ended.
    ///
    /// # Errors
    /// There is no such process, or nothing listens where a door should be.
    pub fn attach(
        &self,
        variables: &BTreeMap<String, String>,
        place: &Place,
        pid: u32,
    ) -> Result<Server, String> {
        if !is_alive(pid) {
            return Err(format!("there is no process {pid}"));
        }
        // What it was started in is not known: recordings are found only where the caller names their folder.
        let values = self.values(variables, place, Path::new(""));
        let doors = self.doors.filled(&values)?;
        for address in doors.addresses() {
            TcpStream::connect(&address)
                .map_err(|error| format!("{address}, where {} should have a door: {error}", self.name))?;
        }
        let about = format!("{}; process {pid}, which ran before", fill(&self.about, &values)?);
        Ok(Server { process: Process::Attached { pid }, about, doors, variables: values })
    }

    /// What it says of itself when nothing is changed.
    ///
    /// # Errors
    /// It names a variable that has no value.
    pub fn describe(&self, place: &Place) -> Result<String, String> {
        fill(&self.about, &self.values(&BTreeMap::new(), place, Path::new("")))
    }

    /// What this file has for each stream, where they have ports.
    fn of_each_stream(&self, file: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
        let number = |name| values.get(name).map_or(Ok(0), |value| value.parse::<u16>());
        let (Ok(first), Ok(streams)) = (number(UDP_PORT), number("streams")) else {
            return Err(format!("{UDP_PORT} is no port"));
        };
        let Some(text) = self.each_stream.get(file).filter(|_| first > 0) else { return Ok(String::new()) };
        let mut values = values.clone();
        let text_of = |index: u16| {
            let port = first.checked_add(index).ok_or("there are not as many ports as streams")?;
            values.insert("stream".to_owned(), stream_name(index.into()));
            values.insert("port".to_owned(), port.to_string());
            fill(text, &values)
        };
        (0..streams).map(text_of).collect()
    }

    fn values(
        &self,
        variables: &BTreeMap<String, String>,
        place: &Place,
        directory: &Path,
    ) -> BTreeMap<String, String> {
        let mut values = self.variables.clone();
        values.extend([
            ("here".to_owned(), self.here.display().to_string()),
            ("dir".to_owned(), directory.display().to_string()),
            ("cache".to_owned(), cache().display().to_string()),
            ("address".to_owned(), place.address.clone()),
            ("bin".to_owned(), own_folder().display().to_string()),
        ]);
        values.entry("shards".to_owned()).or_insert_with(|| "1".to_owned());
        values.extend(variables.iter().map(|(name, value)| (name.clone(), value.clone())));
        // A variable may lean on those that are given, as in `{dir}/recordings`.
        let known = values.clone();
        for value in values.values_mut() {
            if let Ok(filled) = fill(value, &known) {
                *value = filled;
            }
        }
        values
    }
}

impl Server {
    /// The process that was started; the server may have children.
    pub fn pid(&self) -> u32 {
        match &self.process {
            Process::Own { child, .. } => child.id(),
            Process::Attached { pid } => *pid,
        }
    }

    /// Whether it ran before, and goes on running.
    pub fn is_attached(&self) -> bool {
        matches!(self.process, Process::Attached { .. })
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<String> {
        match &mut self.process {
            Process::Own { child, .. } => child.try_wait().ok().flatten().map(|status| status.to_string()),
            Process::Attached { pid } => (!is_alive(*pid)).then(|| format!("process {pid} is gone")),
        }
    }

    /// The lines that it has printed; none of one that was started elsewhere.
    pub fn output(&self) -> String {
        match &self.process {
            Process::Own { directory, .. } => {
                fs::read_to_string(directory.join("output")).unwrap_or_default()
            }
            Process::Attached { .. } => String::new(),
        }
    }

    /// Ends it, if it was started here: asks first, and waits.
    pub fn stop(&mut self) {
        let Process::Own { child, .. } = &mut self.process else { return };
        let over = |child: &mut Child| matches!(child.try_wait(), Ok(Some(_)));
        if over(child) {
            return;
        }
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_MAX;
        while !over(child) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        if !over(child) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn wait_until_open(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_MAX;
        let addresses = self.doors.addresses();
        let mut closed = addresses.iter();
        let mut next = closed.next();
        while let Some(address) = next {
            if let Some(how) = self.ended() {
                return Err(format!("ended at once: {how}"));
            }
            if TcpStream::connect(address).is_ok() {
                next = closed.next();
            } else if Instant::now() > deadline {
                return Err(format!("has not opened {address} within {} s", START_MAX.as_secs()));
            } else {
                thread::sleep(Duration::from_millis(20));
            }
        }
        // A floor without a door, and one that has just opened its doors, may still be at its beginning.
        thread::sleep(Duration::from_millis(200));
        self.ended().map_or(Ok(()), |how| Err(format!("ended at once: {how}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if let Process::Own { directory, .. } = &self.process {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// The cores that a process may run on; none when there is no such process.
pub fn cores_of(pid: u32) -> Vec<usize> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let set = pid.and_then(|pid| sched_getaffinity(Some(pid)).ok());
    set.map_or_else(Vec::new, |set| (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Whether a process is there. One that has ended and that nobody has asked about yet is gone, too: it has no memory.
fn is_alive(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split_whitespace().next().is_some_and(|pages| pages != "0")
}

/// Does something with the calling thread on some cores, and puts it back where it was. What it starts stays there.
fn on_cores<T>(cores: &[usize], act: impl FnOnce() -> T) -> Result<T, String> {
    let before = sched_getaffinity(None).map_err(|error| error.to_string())?;
    pin(cores)?;
    let result = act();
    sched_setaffinity(None, &before).map_err(|error| error.to_string())?;
    Ok(result)
}

/// Lets the calling thread run on these cores alone.
///
/// # Errors
/// The system does not let it.
pub fn pin(cores: &[usize]) -> Result<(), String> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).map_err(|error| format!("running on the cores {cores:?}: {error}"))
}

/// The end of what a server has printed: enough to see why it failed.
pub fn last_lines(said: &str) -> String {
    const LINES: usize = 8;
    let lines: Vec<_> = said.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn has_setpriv() -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join("setpriv").is_file())
}

/// Where what `prepare` makes is kept between runs: beside the build.
fn cache() -> PathBuf {
    own_folder().parent().map_or_else(std::env::temp_dir, Path::to_owned).join("bench-servers")
}

fn own_folder() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().map(Path::to_owned).unwrap_or_default();
    // Tests run from a folder below the one with the binaries.
    if folder.ends_with("deps") { folder.parent().map(Path::to_owned).unwrap_or_default() } else { folder }
}

fn fill_all(words: &[String], values: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    words.iter().map(|word| fill(word, values)).collect()
}

/// Puts values in for `{name}`; `{{` and `}}` stand for braces.
fn fill(text: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if let Some(after) = from.strip_prefix("{{") {
            out.push('{');
            rest = after;
        } else if let Some(after) = from.strip_prefix("}}") {
            out.push('}');
            rest = after;
        } else {
            let (name, after) = from
                .strip_prefix('{')
                .and_then(|inside| inside.split_once('}'))
                .ok_or_else(|| format!("a brace alone at {:?}", from.chars().take(20).collect::<String>()))?;
            let value = values.get(name).ok_or_else(|| format!("there is no value for {{{name}}}"))?;
            out.push_str(value);
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Door;

    fn place() -> Place {
        Place { cores: vec![0], address: "127.0.0.1".to_owned(), wrapper: vec![] }
    }

    #[test]
    fn every_server_file_that_comes_with_the_tool_can_be_filled_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers");
        let mut count = 0;
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let file = ServerFile::load(&path).unwrap();
            assert_eq!(Some(file.name.as_str()), path.file_stem().and_then(|stem| stem.to_str()));
            let scenario = BTreeMap::from([("bitrate".to_owned(), "4Mbit".to_owned())]);
            let values = file.values(&scenario, &place(), Path::new("/tmp/x"));
            fill_all(&file.command, &values).unwrap();
            assert!(!file.describe(&place()).unwrap().contains('{'), "{path:?}");
            fill_all(&file.prepare, &values).unwrap();
            file.files.values().for_each(|text| drop(fill(text, &values).unwrap()));
            let doors = file.doors.filled(&values).unwrap();
            let watched = Door::ALL.into_iter().any(|door| doors.for_viewers(door).is_some());
            assert!(
                watched
                    || doors
                        .publish
                        .or(doors.publish_rtsp)
                        .or(doors.publish_srt)
                        .or(doors.publish_udp)
                        .or(doors.publish_webrtc)
                        .is_some()
                    || file.floor.feeds_itself,
                "{path:?}"
            );
            count += 1;
        }
        assert!(count >= 2, "only {count} server files");
    }

    #[test]
    fn the_server_file_that_the_readme_shows_can_be_filled_in() {
        let readme = include_str!("../README.md");
        let (_, from) = readme.split_once("```toml\n").unwrap();
        let file: ServerFile = toml::from_str(from.split_once("```").unwrap().0).unwrap();
        let values = file.values(&BTreeMap::new(), &place(), Path::new("/tmp/x"));
        assert_eq!(file.describe(&place()).unwrap(), "mine 1.2, 1 worker(s)");
        assert_eq!(fill(&file.files["mine.conf"], &values).unwrap(), "listen 127.0.0.1:1935; workers 1;");
        assert_eq!(file.of_each_stream("mine.conf", &values).unwrap(), "");
        assert!(fill_all(&file.command, &values).is_ok() && file.doors.filled(&values).is_ok());
    }

    #[test]
    fn each_stream_has_a_port_of_its_own_where_there_are_any() {
        let file =
            ServerFile::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/shardcast.toml")).unwrap();
        let text = |port: &str| {
            let variables =
                [("udp_port", port), ("streams", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
            file.of_each_stream(
                "shardcast.toml",
                &file.values(&variables.into(), &place(), Path::new("/tmp/x")),
            )
        };
        let tables = text("5000").unwrap();
        let tables: toml::Table = toml::from_str(&tables).unwrap();
        let pull = |name: &str| tables["streams"][name]["pull"].as_str().unwrap().to_owned();
        assert_eq!(
            [pull("live/bench0"), pull("live/bench1")],
            ["udp://127.0.0.1:5000", "udp://127.0.0.1:5001"]
        );
        assert_eq!(text("0"), Ok(String::new()));
        assert!(text("65535").is_err() && text("many").is_err());
    }

    #[test]
    fn placeholders_are_filled_in_and_unknown_ones_are_refused() {
        let values = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        assert_eq!(fill("x{a}{{a}}", &values).unwrap(), "x1{a}");
        assert!(fill("{b}", &values).unwrap_err().contains("{b}"));
        assert!(fill("{a", &values).is_err() && fill("a}", &values).is_err());
    }

    #[test]
    fn a_server_that_ends_at_once_says_what_it_printed_and_leaves_nothing_behind() {
        let file = ServerFile {
            name: "broken".into(),
            about: String::new(),
            prepare: vec![],
            command: ["sh", "-c", "echo no such luck; exit 3"].map(str::to_owned).to_vec(),
            variables: BTreeMap::new(),
            files: BTreeMap::new(),
            each_stream: BTreeMap::new(),
            doors: Doors { publish: Some("rtmp://127.0.0.1:1/x".into()), ..Doors::default() },
            floor: Floor::default(),
            here: PathBuf::from("/"),
        };
        let error = file.start(&BTreeMap::new(), &place()).unwrap_err();
        assert!(error.contains("no such luck") && error.contains('3'), "{error}");
    }
}
