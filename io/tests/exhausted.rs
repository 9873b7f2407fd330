//! A process whose descriptors are used up. Alone in its file, because the limit is that of the whole process.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use shardcast_io::ring::{Completion, Ring, RingConfig};
use shardcast_io::{clock, tcp};

/// The completions of a quarter of a second.
fn completions(ring: &mut Ring) -> Vec<Completion> {
    let deadline = Instant::now() + Duration::from_millis(250);
    let mut completions = Vec::new();
    while Instant::now() < deadline {
        ring.submit().unwrap();
        completions.extend(std::iter::from_fn(|| ring.next()));
        std::thread::sleep(Duration::from_millis(1));
    }
    completions
}

fn limit_descriptors(limit: u64) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: shardcast_io::probe::nofile_limit().unwrap() };
    // SAFETY: the pointer is to an initialised structure that outlives the call; the kernel only reads it.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(result, 0);
}

#[test]
fn accept_stops_when_descriptors_run_out_does_not_spin_and_goes_on_when_told() {
    let mut ring = Ring::new(&RingConfig::default()).unwrap();
    let listener = tcp::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = listener.local_addr().unwrap();
    // They wait in the listener's queue, connected as far as they know.
    let clients: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
    let lowest_free = File::open("/dev/null").unwrap().as_raw_fd() as u64;
    limit_descriptors(lowest_free + 4);

    ring.listen(listener, 7);
    let first = completions(&mut ring);
    let (accepted, stops): (Vec<_>, Vec<_>) =
        first.into_iter().partition(|completion| matches!(completion, Completion::Accepted { token: 7, .. }));
    assert_eq!(accepted.len(), 4);
    let [Completion::AcceptStopped { token: 7, error: Some(error) }] = &stops[..] else {
        panic!("{stops:?}")
    };
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));

    let (before, enters) = (clock::thread_cpu(), ring.stats().enters);
    assert!(completions(&mut ring).is_empty(), "nothing happens until it is told to go on");
    assert_eq!(ring.stats().enters, enters);
    assert!(clock::thread_cpu() - before < 100_000_000);

    ring.resume_accept(7);
    let again = completions(&mut ring);
    assert!(
        matches!(&again[..], [Completion::AcceptStopped { error: Some(_), .. }]),
        "once per attempt: {again:?}"
    );

    drop(accepted);
    ring.resume_accept(7);
    let later = completions(&mut ring);
    let accepted =
        later.iter().filter(|completion| matches!(completion, Completion::Accepted { .. })).count();
    assert_eq!(accepted, 4);
    drop(clients);
}
