//! What tests with real programs stand on: the server as a process ([`server`]), programs beside it ([`process`]), clips
//! to publish ([`media`]), what came out of a player ([`packets`]), and two peers of our own for what no real program can
//! be made to do: a viewer that stops reading ([`viewer`]) and an RTMP peer of chosen timestamps and bytes ([`rtmp`]). What is
//! inside TLS goes by [`tls`], what is by HTTP/2 by [`http2`]. All forms of a stream are played and judged by [`forms`]; what is fetched by names also by
//! a player of our own ([`packaged`]), and [`sync`] measures sound against pictures. Real browsers are driven by [`browser`].
//!
//! Nothing here judges the server by the server's own code: packets are read by ffmpeg, and both peers are written anew.

pub mod browser;
pub mod flv;
pub mod forms;
pub mod http2;
pub mod lossy;
pub mod media;
pub mod network;
pub mod packaged;
pub mod packets;
pub mod process;
pub mod rtmp;
pub mod rtsp;
pub mod server;
pub mod srt;
pub mod sync;
pub mod tls;
pub mod viewer;
pub mod web;
pub mod webrtc;

use std::{
    env,
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// Cargo's target directory, where clips, ffmpeg 9 and the folders of running tests stand too.
pub fn target() -> &'static Path {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    TARGET.get_or_init(|| {
        // TARGET/PROFILE/deps/NAME-HASH is where cargo puts a test.
        let test = env::current_exe().expect("a running test has a path");
        test.ancestors().nth(3).expect("cargo runs tests from TARGET/PROFILE/deps").to_path_buf()
    })
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand one level below the root")
}

/// The path of a program that the tests need.
///
/// # Panics
/// When it is not installed: a test that could not run has not passed.
pub fn program(name: &str) -> PathBuf {
    let found = if name == "ffmpeg9" {
        Some(target().join("interop").join(name)).filter(|path| path.exists())
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
    };
    found.unwrap_or_else(|| panic!("{name} is not installed; tests/setup.sh installs it"))
}

/// Asks again and again, for at most `patience`, until `ready` has something.
pub fn wait_for<T>(patience: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    loop {
        if let Some(found) = ready() {
            return Some(found);
        }
        if begin.elapsed() >= patience {
            return None;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A folder of its own for one test, removed when the test passed and kept when it failed.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new, empty folder. It stands below cargo's target directory, because recordings want a real disk and `/tmp` may
    /// be memory.
    pub fn new(purpose: &str) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            target().join("interop").join("runs").join(format!("{purpose}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder below the target directory can be made");
        Folder { path }
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("kept for a look: {}", self.path.display());
        } else {
            // What cannot be removed (files of another user) only costs space in the target directory.
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}
