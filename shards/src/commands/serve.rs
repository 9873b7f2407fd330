//! `shardcast serve`: everything at work.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use shardcast_engine::{
    media::StreamName,
    protocol::{self, Protocol},
};
use shardcast_io::{heap::Pages, probe};

use super::{EXIT_DONE, EXIT_FAILED, refuse};
use crate::{
    cli::ServeArgs,
    config::{Config, Fault, LogFormat, parse::Document},
    control::{
        self, Control, End,
        log::{Log, LogLine},
    },
    node::{self, NodeOptions},
    status,
};

/// The stream that `--demo` publishes.
const DEMO_STREAM: &str = "live/demo";
/// How often the program's size is looked at, until its heap has large pages.
const PAGES_INTERVAL: Duration = Duration::from_secs(1);

/// Serves until it is told to end, or something fails.
pub fn run(args: &ServeArgs) -> ExitCode {
    // Before there is much of a heap. Where it cannot be set, pages are as the system has them.
    let pages = Pages::begin().ok();
    let document = match read(args) {
        Ok(document) => document,
        Err(faults) => return refuse(&faults),
    };
    let log_config = &document.config.log;
    let watched = io::stderr().is_terminal() && log_config.format == LogFormat::Text;
    let started = Log::start(log_config.format, log_config.level, watched, io::stderr());
    // The writer goes last, so that the last lines are written.
    let (log, _writer) = match started {
        Ok(started) => started,
        Err(error) => {
            eprintln!("no thread for the log: {error}");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    match serve(args, document, &log, watched, pages) {
        Ok(End::Asked) => ExitCode::from(EXIT_DONE),
        Ok(End::Failed) => ExitCode::from(EXIT_FAILED),
        Err(error) => {
            log.write(LogLine::error("cannot serve").detail(error.to_string()));
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// The config with the flags that beat it, checked.
fn read(args: &ServeArgs) -> Result<Document, Vec<Fault>> {
    let mut document = Document::load(args.config.as_deref()).map_err(|fault| vec![fault])?;
    args.beat(&mut document.config);
    let faults = document.check();
    if faults.is_empty() { Ok(document) } else { Err(faults) }
}

fn serve(
    args: &ServeArgs,
    document: Document,
    log: &Log,
    watched: bool,
    pages: Option<Pages>,
) -> io::Result<End> {
    // Each connection takes a descriptor, and the soft limit is often 1024. Less than was hoped for is no reason to stop.
    if let Err(error) = probe::raise_nofile() {
        log.write(LogLine::warn("the limit on descriptors stays as it is").detail(error.to_string()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let node = node::start(options(args, &document.config, log)?)?;
    let opened = |document: &Document| {
        if watched {
            log.text(status::doors(&document.config, args.demo.then_some(DEMO_STREAM)));
        } else {
            control::announce(log, document, args.config.as_deref());
        }
    };
    let read_again = || read(args);
    let control = Control {
        node,
        document,
        read_again: &read_again,
        opened: &opened,
        log: log.clone(),
        status: watched,
    };
    runtime.block_on(async {
        tokio::spawn(size_pages(pages));
        control.run().await
    })
}

/// Gives the heap larger pages once the program is large.
async fn size_pages(pages: Option<Pages>) {
    let Some(mut pages) = pages else { return };
    while let Ok(true) = pages.look() {
        tokio::time::sleep(PAGES_INTERVAL).await;
    }
}

fn options(args: &ServeArgs, config: &Config, log: &Log) -> io::Result<NodeOptions> {
    let demo = args.demo.then(|| -> (StreamName, Protocol) {
        (StreamName::parse(DEMO_STREAM).expect("a legal name"), protocol::DEMO)
    });
    let log = log.clone();
    Ok(NodeOptions {
        shards: u16::try_from(config.shard_count()).map_err(io::Error::other)?,
        doors: config.open_doors(&[]),
        settings: Arc::new(config.settings()),
        secured: config.secured().map_err(io::Error::other)?,
        recordings: Some(config.recordings()),
        notices: Arc::new(move |core, notice| log.write(LogLine::notice(core, notice))),
        intakes: config.intakes(),
        media_ports: config.media_ports(),
        demo,
        // What is pulled comes in as a host's frames do, and who comes by libsrt as a host's publishers.
        // Sound and pictures are made anew beside the shards, too.
        hosted: !config.pulls().is_empty()
            || config.libsrt_door().is_some()
            || config.webrtc.makes_renditions(),
    })
}
