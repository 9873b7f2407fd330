//! Files of a ring, as far as a recording is written: writes, syncs, room ahead. Opening, truncating and closing can
//! block, so they are not here; [`crate::file`] has a helper thread do them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use io_uring::{opcode, types};

use super::Ring;
use super::completion::{Completion, Kind, Operation};
use crate::buffer::AlignedBuffer;
use crate::slots::Key;

/// Names a file of one ring, from `add_file` until `take_file`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileId(Key);

impl FileId {
    /// The file's place in the ring's table, for tables of the caller's beside it. Used again by a later file.
    pub fn index(self) -> usize {
        self.0.index as usize
    }
}

/// A file, and how many operations the kernel has on it.
pub(super) struct OpenFile {
    descriptor: OwnedFd,
    operations: u32,
}

/// One operation on a file, with all that the kernel needs to stay where it is.
pub(super) struct FileOperation {
    file: Key,
    token: u64,
    what: What,
}

enum What {
    Write { buffer: AlignedBuffer, length: usize, offset: u64, done: usize },
    Sync,
    Allocate { offset: u64, length: u64 },
}

impl Ring {
    /// Takes a file into the ring, or gives it back when the ring is full.
    pub fn add_file(&mut self, file: OwnedFd) -> Result<FileId, (OwnedFd, io::Error)> {
        let descriptor = file.as_raw_fd();
        let key = match self.files.insert(OpenFile { descriptor: file, operations: 0 }) {
            Ok(key) => key,
            Err(file) => {
                let error =
                    io::Error::new(io::ErrorKind::QuotaExceeded, "this shard's table of files is full");
                return Err((file.descriptor, error));
            }
        };
        if let Err(error) = self.register(self.file_place(key), descriptor) {
            let file = self.files.remove(key).expect("it was inserted above");
            return Err((file.descriptor, error));
        }
        Ok(FileId(key))
    }

    /// Writes the first `length` bytes of a buffer at an offset, and reports [`Completion::Written`] with the token. For a
    /// file opened with O_DIRECT both numbers are multiples of its alignment. Several writes to one file may be in
    /// flight and end in any order.
    pub fn write(&mut self, file: FileId, buffer: AlignedBuffer, length: usize, offset: u64, token: u64) {
        assert!(0 < length && length <= buffer.len(), "a write takes its bytes from its buffer");
        self.begin(file, token, What::Write { buffer, length, offset, done: 0 });
    }

    /// Makes what was written before durable (fdatasync), and reports [`Completion::Synced`]. Writes in flight may or
    /// may not be part of it.
    pub fn sync(&mut self, file: FileId, token: u64) {
        self.begin(file, token, What::Sync);
    }

    /// Makes room for `length` bytes from `offset` on, which read as zeros (fallocate), and reports
    /// [`Completion::Allocated`]. An O_DIRECT write into such room completes without a kernel thread, which one that
    /// extends the file needs.
    pub fn allocate(&mut self, file: FileId, offset: u64, length: u64, token: u64) {
        self.begin(file, token, What::Allocate { offset, length });
    }

    /// Operations on a file that have not completed.
    pub fn file_operations(&self, file: FileId) -> u32 {
        self.files.get(file.0).map_or(0, |file| file.operations)
    }

    /// Hands the file out, to have it truncated and closed. Nothing may be in flight. `None` when the id names nothing.
    pub fn take_file(&mut self, file: FileId) -> Option<OwnedFd> {
        let operations = self.files.get(file.0)?.operations;
        assert!(operations == 0, "a file is handed out when the kernel has let go of it");
        self.unregister(self.file_place(file.0));
        self.files.remove(file.0).map(|file| file.descriptor)
    }

    fn begin(&mut self, file: FileId, token: u64, what: What) {
        let open =
            self.files.get_mut(file.0).expect("a recording writes to a file that it has not given away");
        open.operations += 1;
        let operation = FileOperation { file: file.0, token, what };
        // Bounded by the buffers for writes, and by what the caller begins per file for the others.
        let Ok(key) = self.file_operations.insert(operation) else {
            unreachable!("the table holds 2^32 operations")
        };
        self.push_file_operation(key);
    }

    fn push_file_operation(&mut self, key: Key) {
        let operation = self.file_operations.get(key).expect("the caller has just stored it");
        let file = self.files.get(operation.file).expect("a file stays while it has operations");
        let (target, flags) = self.address(self.file_place(operation.file), file.descriptor.as_fd());
        let entry = match &operation.what {
            What::Write { buffer, length, offset, done } => {
                let rest = &buffer[*done..*length];
                let offset = offset + *done as u64;
                let length = u32::try_from(rest.len()).unwrap_or(WRITE_BYTES_MAX);
                match buffer.is_registered() {
                    true => opcode::WriteFixed::new(target, rest.as_ptr(), length, WRITE_REGION)
                        .offset(offset)
                        .build(),
                    false => opcode::Write::new(target, rest.as_ptr(), length).offset(offset).build(),
                }
            }
            What::Sync => opcode::Fsync::new(target).flags(types::FsyncFlags::DATASYNC).build(),
            What::Allocate { offset, length } => {
                opcode::Fallocate::new(target, *length).offset(*offset).build()
            }
        };
        self.push(entry.flags(flags), Operation { kind: Kind::File, key });
    }

    pub(super) fn file_done(&mut self, key: Key, result: io::Result<usize>) -> Option<Completion> {
        let operation = self.file_operations.get_mut(key).expect("an operation stays until its completion");
        let result = match (&mut operation.what, result) {
            (_, Err(error)) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {
                self.push_file_operation(key);
                return None;
            }
            (_, Err(error)) => Err(error),
            (What::Write { .. }, Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
            (What::Write { length, done, .. }, Ok(written)) => {
                *done += written;
                self.stats.write_bytes += written as u64;
                if *done < *length {
                    // A disk that fills up takes a part first; the rest then brings the error.
                    self.push_file_operation(key);
                    return None;
                }
                self.stats.writes += 1;
                Ok(())
            }
            (What::Sync | What::Allocate { .. }, Ok(_)) => Ok(()),
        };
        let FileOperation { file: place, token, what } =
            self.file_operations.remove(key).expect("it was there a moment ago");
        self.files.get_mut(place).expect("a file stays while it has operations").operations -= 1;
        let file = FileId(place);
        Some(match what {
            What::Write { .. } => Completion::Written { file, token, result },
            What::Sync => Completion::Synced { file, token, result },
            What::Allocate { .. } => Completion::Allocated { file, token, result },
        })
    }

    fn file_place(&self, key: Key) -> u32 {
        self.registered_files_from.unwrap_or(0) + key.index
    }
}

/// The registered region of [`crate::buffer`]; a ring has one.
const WRITE_REGION: u16 = 0;
/// What one write may take: the kernel's own limit (2 GiB less a page), rounded down to any alignment.
const WRITE_BYTES_MAX: u32 = 1 << 30;
