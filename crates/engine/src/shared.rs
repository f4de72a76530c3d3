//! Numbers that several processors, and the daemon through mapped memory, read and write at once.
//!
//! In the kernel these are plain accesses and the BPF atomic instructions; on the host they are the
//! standard atomics. The BPF target has no `core::sync::atomic` read-modify-write operations, only the
//! compiler intrinsics behind them.

macro_rules! shared {
    ($name:ident, $int:ty) => {
        #[doc = concat!("A shared `", stringify!($int), "`, laid out as one.")]
        #[repr(transparent)]
        #[derive(Default)]
        pub struct $name(Cell<$int>);

        impl $name {
            /// A cell that holds `value`.
            pub const fn new(value: $int) -> Self {
                Self(Cell::<$int>::new(value))
            }

            /// The value now.
            #[inline(always)]
            pub fn get(&self) -> $int {
                self.0.get()
            }

            /// Replace the value.
            #[inline(always)]
            pub fn set(&self, value: $int) {
                self.0.set(value)
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Debug::fmt(&self.get(), f)
            }
        }

        impl Clone for $name {
            fn clone(&self) -> Self {
                Self::new(self.get())
            }
        }
    };
}

macro_rules! read_modify_write {
    ($name:ident, $int:ty) => {
        impl $name {
            /// Add, wrapping, as one step; gives the value before.
            #[inline(always)]
            pub fn add(&self, value: $int) -> $int {
                self.0.add(value)
            }

            /// Put `new` in place of `old` as one step; false when something else was there.
            #[inline(always)]
            pub fn replace(&self, old: $int, new: $int) -> bool {
                self.0.replace(old, new)
            }
        }
    };
}

shared!(Shared16, u16);
shared!(Shared32, u32);
shared!(Shared64, u64);
read_modify_write!(Shared32, u32);
read_modify_write!(Shared64, u64);

#[cfg(not(target_arch = "bpf"))]
use host::Cell;
#[cfg(target_arch = "bpf")]
use kernel::Cell;

#[cfg(not(target_arch = "bpf"))]
mod host {
    use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

    /// A number that the standard library has an atomic for.
    pub(super) trait Number {
        type Atomic: Default;
    }

    #[repr(transparent)]
    #[derive(Default)]
    pub(super) struct Cell<I: Number>(I::Atomic);

    macro_rules! cell {
        ($int:ty, $atomic:ty) => {
            impl Number for $int {
                type Atomic = $atomic;
            }

            impl Cell<$int> {
                pub(super) const fn new(value: $int) -> Self {
                    Self(<$atomic>::new(value))
                }
                pub(super) fn get(&self) -> $int {
                    self.0.load(Ordering::Acquire)
                }
                pub(super) fn set(&self, value: $int) {
                    self.0.store(value, Ordering::Release)
                }
                #[allow(dead_code, reason = "not every width is modified in place")]
                pub(super) fn add(&self, value: $int) -> $int {
                    self.0.fetch_add(value, Ordering::SeqCst)
                }
                #[allow(dead_code, reason = "not every width is modified in place")]
                pub(super) fn replace(&self, old: $int, new: $int) -> bool {
                    self.0
                        .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
                        .is_ok()
                }
            }
        };
    }
    cell!(u16, AtomicU16);
    cell!(u32, AtomicU32);
    cell!(u64, AtomicU64);
}

#[cfg(target_arch = "bpf")]
mod kernel {
    use core::{
        cell::UnsafeCell,
        intrinsics::{self, AtomicOrdering::SeqCst},
    };

    #[repr(transparent)]
    #[derive(Default)]
    pub(super) struct Cell<I>(UnsafeCell<I>);

    // SAFETY: all access goes through volatile or atomic operations on the whole value.
    unsafe impl<I> Sync for Cell<I> {}

    impl<I: Copy> Cell<I> {
        pub(super) const fn new(value: I) -> Self {
            Self(UnsafeCell::new(value))
        }
        #[inline(always)]
        pub(super) fn get(&self) -> I {
            // SAFETY: the pointer comes from a reference; the access is one aligned load.
            unsafe { self.0.get().read_volatile() }
        }
        #[inline(always)]
        pub(super) fn set(&self, value: I) {
            // SAFETY: the pointer comes from a reference; the access is one aligned store.
            unsafe { self.0.get().write_volatile(value) }
        }
        #[inline(always)]
        pub(super) fn add(&self, value: I) -> I {
            // SAFETY: the pointer comes from a reference to a 32 or 64 bit number.
            unsafe { intrinsics::atomic_xadd::<I, I, { SeqCst }>(self.0.get(), value) }
        }
        #[inline(always)]
        pub(super) fn replace(&self, old: I, new: I) -> bool {
            // SAFETY: the pointer comes from a reference to a 32 or 64 bit number.
            unsafe {
                intrinsics::atomic_cxchg::<I, { SeqCst }, { SeqCst }>(self.0.get(), old, new).1
            }
        }
    }
}
