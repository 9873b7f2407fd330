//! Turning the C library's return values into `io::Result`, and small integers into socket options. Each call that
//! needs more than this stands beside the noun it serves.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The value of a call that says -1 for failure.
pub(crate) fn checked(value: libc::c_int) -> io::Result<libc::c_int> {
    if value == -1 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Sets a socket option whose value is a plain value of the type the kernel expects.
pub(crate) fn set_option<T: Copy>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: T,
) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives until the call returns; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    checked(result).map(drop)
}
