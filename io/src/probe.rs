//! What this kernel and this process offer, and what to do about what is missing.

use std::io;
use std::mem::MaybeUninit;

use crate::system::checked;

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
    fn the_limit_on_descriptors_can_be_raised_to_its_hard_limit() {
        let raised = raise_nofile().unwrap();
        assert_eq!(nofile_limit().unwrap(), raised);
    }
}
