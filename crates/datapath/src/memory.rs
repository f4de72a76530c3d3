//! Map memory: an array map seen as a slice.

use std::{fs, ops::Deref, os::fd::AsFd, path::Path, ptr::NonNull};

use aya::maps::{MapData, MapInfo};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::Error;

/// All values of an array map, shared with the kernel.
///
/// The engine's layouts hold only [`shared`](furiwake_engine::shared) cells, for which concurrent change is
/// what they are made for.
#[derive(Debug)]
pub(crate) struct Mapped<T> {
    start: NonNull<T>,
    len: usize,
    bytes: usize,
}

// SAFETY: the memory is shared cells, reached by `&` only, and stays mapped while this lives.
unsafe impl<T> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Mapped<T> {}

impl<T> Mapped<T> {
    /// Map the array that is pinned at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Map {
            path: path.to_path_buf(),
            source,
        };
        let aya = |e| Error::Aya {
            what: "open map",
            path: path.to_path_buf(),
            source: Box::new(e),
        };
        let info = MapInfo::from_pin(path).map_err(aya)?;
        let len = info.max_entries() as usize;
        let stride = size_of::<T>().next_multiple_of(8);
        if info.value_size() as usize != size_of::<T>() || stride != size_of::<T>() {
            return Err(Error::Layout {
                path: path.to_path_buf(),
            });
        }
        let data = MapData::from_pin(path).map_err(aya)?;
        let bytes = (len * stride).next_multiple_of(page_size());
        let length = bytes.try_into().map_err(|_| Error::Layout {
            path: path.to_path_buf(),
        })?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping of a map that the kernel sized; nothing else is placed there.
        let start = unsafe {
            mmap(
                None,
                length,
                protection,
                MapFlags::MAP_SHARED,
                data.fd().as_fd(),
                0,
            )
        }
        .map_err(|e| io(e.into()))?;
        Ok(Self {
            start: start.cast(),
            len,
            bytes,
        })
    }
}

impl<T> Deref for Mapped<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `len` values of the checked size; every bit pattern is valid for cells.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `open` with this length and no reference outlives `self`.
        let _ = unsafe { munmap(self.start.cast(), self.bytes) };
    }
}

/// Bytes in a page of memory.
pub(crate) fn page_size() -> usize {
    // SAFETY: sysconf takes a number and gives one.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// A number that nobody else knows.
pub(crate) fn secret() -> Result<u64, Error> {
    let path = Path::new("/dev/urandom");
    let io = |source| Error::Map {
        path: path.to_path_buf(),
        source,
    };
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut fs::File::open(path).map_err(io)?, &mut bytes).map_err(io)?;
    Ok(u64::from_ne_bytes(bytes))
}
