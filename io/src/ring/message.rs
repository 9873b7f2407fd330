//! One message of datagrams, in the memory that the kernel reads it from: where it goes, the pieces that it is gathered from, and
//! the size that the kernel cuts it at (UDP_SEGMENT), so that a run of datagrams costs about what one does.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{opcode, squeue, types};

use crate::address::RawAddress;

/// Datagrams in one message. Kernels before 6.9 take no more.
pub(super) const SEGMENTS_MAX: usize = 64;
/// Bytes of one message: what an IP packet carries, less its head and that of UDP, and some to spare.
pub(super) const MESSAGE_BYTES_MAX: usize = 65_000;

/// A message that is being made or that the kernel has.
pub(super) struct Message {
    header: libc::msghdr,
    parts: Vec<libc::iovec>,
    control: Segment,
}

/// Control data: the size of a datagram.
#[repr(C)]
struct Segment {
    head: libc::cmsghdr,
    bytes: u16,
}

/// Where the data of control data begins.
const SEGMENT_AT: usize = std::mem::offset_of!(Segment, bytes);
const _: () = assert!(SEGMENT_AT == size_of::<libc::cmsghdr>() && size_of::<Segment>() == SEGMENT_AT + 8);

impl Message {
    pub fn new() -> Message {
        // SAFETY: the structures are integers and raw pointers, for which zeros are valid.
        let header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: as above.
        let mut head: libc::cmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        head.cmsg_len = (SEGMENT_AT + size_of::<u16>()) as _;
        head.cmsg_level = libc::SOL_UDP;
        head.cmsg_type = libc::UDP_SEGMENT;
        Message { header, parts: Vec::new(), control: Segment { head, bytes: 0 } }
    }

    /// Begins a message without a piece.
    pub fn clear(&mut self) {
        self.parts.clear();
    }

    /// Puts a piece behind those that it has. The caller keeps the memory until the message has gone.
    pub fn push(&mut self, piece: &[u8]) {
        // The kernel only reads what this points to; the type says otherwise because receives have the same structure.
        let iov_base = piece.as_ptr().cast_mut().cast();
        self.parts.push(libc::iovec { iov_base, iov_len: piece.len() });
    }

    /// The entry that sends it by `socket` to `address`, cut each `segment` bytes; as one datagram where there are none. The
    /// message and the address stay where they are until the completion.
    pub fn entry(
        &mut self,
        socket: BorrowedFd<'_>,
        address: &RawAddress,
        segment: Option<u16>,
    ) -> squeue::Entry {
        let address = address.as_bytes();
        self.header.msg_name = address.as_ptr().cast_mut().cast();
        self.header.msg_namelen = address.len() as libc::socklen_t;
        self.header.msg_iov = self.parts.as_mut_ptr();
        self.header.msg_iovlen = self.parts.len() as _;
        self.control.bytes = segment.unwrap_or(0);
        let control = segment.map(|_| (&raw mut self.control).cast());
        self.header.msg_control = control.unwrap_or(std::ptr::null_mut());
        self.header.msg_controllen = if control.is_some() { size_of::<Segment>() as _ } else { 0 };
        let socket = types::Fd(socket.as_raw_fd());
        opcode::SendMsg::new(socket, &raw const self.header).flags(libc::MSG_NOSIGNAL as u32).build()
    }
}

/// What the kernel says when it, or what it sends by, cannot cut a message: EINVAL and EMSGSIZE where a datagram is larger than
/// the way there takes at once, the others where the device or the kernel knows nothing of it. Such a message is sent one datagram at a time.
pub(super) fn is_uncuttable(error: &io::Error) -> bool {
    // ENOTSUPP is the kernel's own and has no name outside.
    const ENOTSUPP: i32 = 524;
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE | libc::EOPNOTSUPP | libc::ENOPROTOOPT | ENOTSUPP)
    )
}

/// Errors that took one message with them and say nothing of the next: what is between us and the wire was full. UDP loses
/// it like any other.
pub(super) fn is_of_one_message(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}
