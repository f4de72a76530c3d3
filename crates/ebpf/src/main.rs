//! The kernel object: the engine on XDP and tc, over BPF maps. As thin as can be.

#![no_std]
#![no_main]

mod apart;
mod decap;
mod maps;
mod tc;
mod timer;
mod xdp;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here panics; a path that could would be refused by the verifier.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
