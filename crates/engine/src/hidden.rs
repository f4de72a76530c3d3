//! Numbers whose bounds the compiler does not know.

/// The same number, of which the compiler knows nothing any more: a comparison that follows stays in the program,
/// where the verifier learns the bounds from it that the compiler had found by itself.
#[inline(always)]
pub(crate) fn hidden(number: u32) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut number = number as u64;
        // SAFETY: a register is given its own value. (Without any instruction the line information would be refused.)
        unsafe {
            core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack, preserves_flags));
        }
        number as usize
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        number as usize
    }
}
