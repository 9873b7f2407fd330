//! What this kernel and this process offer, as far as only a try can tell, and the sentence for what is missing.

use std::io;
use std::mem::MaybeUninit;

use io_uring::{Probe, Submitter, opcode};

use crate::system::checked;

/// The oldest kernel whose io_uring has all that a shard stands on (Debian 12's).
pub const KERNEL_MIN: (u32, u32) = (6, 1);

/// The kernel's version as (major, minor); (0, 0) if its name cannot be read, which takes every feature for missing.
pub fn kernel_version() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    parse_version(&release).unwrap_or((0, 0))
}

/// How many descriptors this process may have open (the soft RLIMIT_NOFILE).
pub fn nofile_limit() -> io::Result<u64> {
    read_limit(libc::RLIMIT_NOFILE).map(|limit| limit.rlim_cur)
}

/// Raises the limit on open descriptors as far as this process may without privilege, and says how far that is. Each
/// connection takes one.
pub fn raise_nofile() -> io::Result<u64> {
    let mut limit = read_limit(libc::RLIMIT_NOFILE)?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer is to an initialised structure that outlives the call; the kernel only reads it.
    checked(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(limit.rlim_cur)
}

/// How many descriptors this process may still open, as things stand.
///
/// # Errors
/// There is no `/proc`.
pub fn nofile_left() -> io::Result<u64> {
    let limit = read_limit(libc::RLIMIT_NOFILE)?.rlim_cur;
    let open = std::fs::read_dir("/proc/self/fd")?.count() as u64;
    Ok(limit.saturating_sub(open))
}

/// How much of this process is in memory (RSS), bytes; the kernel counts it in pages and may be some of them late.
///
/// # Errors
/// There is no `/proc`.
pub fn resident_bytes() -> io::Result<u64> {
    let sizes = std::fs::read_to_string("/proc/self/statm")?;
    // SAFETY: the call reads a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let pages = sizes.split_whitespace().nth(1).and_then(|field| field.parse::<u64>().ok());
    pages
        .zip(u64::try_from(page).ok())
        .map(|(pages, page)| pages * page)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Fails when the kernel lacks an operation that a ring uses, and says which.
pub(crate) fn require_operations(submitter: &Submitter<'_>) -> io::Result<()> {
    let mut probe = Probe::new();
    submitter.register_probe(&mut probe)?;
    match OPERATIONS.iter().find(|(_, code)| !probe.is_supported(*code)) {
        None => Ok(()),
        Some((name, _)) => {
            let text = format!("this kernel's io_uring cannot {name}; {}", kernel_sentence(kernel_version()));
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
    }
}

/// Why a ring could not be made, in words that say what to do. The kind stays that of the kernel's error.
pub(crate) fn explain(error: io::Error) -> io::Error {
    explain_on(error, kernel_version())
}

fn explain_on(error: io::Error, version: (u32, u32)) -> io::Error {
    let reason = match error.raw_os_error() {
        // A kernel that is too old refuses our flags; nothing else about it matters then.
        _ if version < KERNEL_MIN => kernel_sentence(version),
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is forbidden to this process: see the sysctl kernel.io_uring_disabled, and in a container its \
             seccomp profile"
                .into()
        }
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring (CONFIG_IO_URING), or a sandbox hides it".into()
        }
        Some(libc::ENOMEM) => {
            "no memory for the ring: raise the limit on locked memory (ulimit -l, LimitMEMLOCK in the unit)".into()
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            "no descriptor left for the ring: raise the limit on open files (ulimit -n, LimitNOFILE in the unit)".into()
        }
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{reason} ({error})"))
}

fn kernel_sentence((major, minor): (u32, u32)) -> String {
    let (major_min, minor_min) = KERNEL_MIN;
    format!("Linux {major_min}.{minor_min} or later is needed, and this is {major}.{minor}")
}

/// What a ring does, in the words of the sentence above.
const OPERATIONS: [(&str, u8); 12] = [
    ("accept", opcode::AcceptMulti::CODE),
    ("receive", opcode::RecvMulti::CODE),
    ("send", opcode::Send::CODE),
    ("receive datagrams", opcode::RecvMsgMulti::CODE),
    ("send datagrams", opcode::SendMsg::CODE),
    ("cancel", opcode::AsyncCancel::CODE),
    ("write files", opcode::Write::CODE),
    ("write files from registered memory", opcode::WriteFixed::CODE),
    ("sync files", opcode::Fsync::CODE),
    ("allocate files", opcode::Fallocate::CODE),
    // These two are of the executor, whose own ring sleeps with them.
    ("poll", opcode::PollAdd::CODE),
    ("wait for a time", opcode::Timeout::CODE),
];

fn read_limit(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the pointer is to writable memory of the right type, which outlives the call.
    checked(unsafe { libc::getrlimit(resource, limit.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it has filled the whole structure.
    Ok(unsafe { limit.assume_init() })
}

fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_names_that_distributions_give() {
        assert_eq!(parse_version("6.1.0-28-amd64\n"), Some((6, 1)));
        assert_eq!(parse_version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(parse_version("7.0-rc1"), Some((7, 0)));
        assert_eq!(parse_version("weird"), None);
        assert!(kernel_version() >= (6, 1));
    }

    #[test]
    fn a_ring_that_cannot_be_made_says_what_to_do() {
        let said = |code, version| {
            let error = explain_on(io::Error::from_raw_os_error(code), version);
            assert_eq!(error.kind(), io::Error::from_raw_os_error(code).kind());
            error.to_string()
        };
        assert!(said(libc::EINVAL, (5, 15)).contains("Linux 6.1 or later is needed, and this is 5.15"));
        assert!(said(libc::EPERM, (6, 1)).contains("kernel.io_uring_disabled"));
        assert!(said(libc::ENOSYS, (6, 8)).contains("no io_uring"));
        assert!(said(libc::ENOMEM, (6, 8)).contains("locked memory"));
        assert!(said(libc::EMFILE, (6, 8)).contains("open files"));
        assert_eq!(said(libc::EBUSY, (6, 8)), io::Error::from_raw_os_error(libc::EBUSY).to_string());
    }

    #[test]
    fn this_kernel_has_every_operation() {
        let ring = io_uring::IoUring::new(2).unwrap();
        require_operations(&ring.submitter()).unwrap();
    }

    #[test]
    fn the_limit_on_descriptors_can_be_raised_to_its_hard_limit() {
        let raised = raise_nofile().unwrap();
        assert_eq!(nofile_limit().unwrap(), raised);
    }
}
