//! SCTP (RFC 9260): what its chunks do to states, as the kernel's IPVS has it (`ip_vs_proto_sctp.c`), and its checksum.

use crate::{state::State, tables::Tables};

/// Chunk type of an initiation, which asks for an association.
pub const INIT: u8 = 1;
/// Chunk type of an abort.
pub const ABORT: u8 = 6;
/// Chunk type of a returned cookie.
pub const COOKIE_ECHO: u8 = 10;
/// Chunk type of the answer to a returned cookie.
pub const COOKIE_ACK: u8 = 11;

/// Bytes of the header before the first chunk.
pub const HEADER: usize = 12;
/// Offset of the checksum in the header.
pub const CHECKSUM: usize = 8;

/// Number of the first state, [`State::SctpNone`]: rows of transitions count from it.
pub const FIRST_STATE: u8 = State::SctpNone as u8;
/// States that there are.
const STATES: usize = 14;
/// Rows of transitions: three sides with sixteen events.
pub const ROWS: usize = 48;

/// The event that a chunk type is; types that are not known are data.
#[inline(always)]
pub const fn event(kind: u8) -> u8 {
    if kind < 15 { kind } else { 0 }
}

/// Index of a row of [`transitions`]: what an event does that goes by this column (the number of a
/// [`Side`](crate::state::Side)).
#[inline(always)]
pub const fn row_index(side: u32, event: u8) -> u32 {
    side << 4 | event as u32 & 15
}

const I1: u8 = 1;
const IN: u8 = 2;
const CS: u8 = 3;
const CR: u8 = 4;
const CW: u8 = 5;
const CO: u8 = 6;
const CE: u8 = 7;
const ES: u8 = 8;
const SS: u8 = 9;
const SR: u8 = 10;
const SA: u8 = 11;
const RJ: u8 = 12;
const CL: u8 = 13;

/// What a chunk does with each of the states, four bits a state, the first lowest.
const fn row(next: [u8; STATES]) -> u64 {
    let mut packed = 0;
    let mut state = 0;
    while state < STATES {
        packed |= (next[state] as u64) << (4 * state);
        state += 1;
    }
    packed
}

/// Rows by chunk type for one side; types without a row of their own are data.
const fn side(
    data: u64,
    [init, init_ack, cookie_echo, cookie_ack]: [u64; 4],
    [shutdown, shutdown_ack, shutdown_complete]: [u64; 3],
    [error, abort]: [u64; 2],
) -> [u64; 16] {
    let mut rows = [data; 16];
    rows[1] = init;
    rows[2] = init_ack;
    rows[6] = abort;
    rows[7] = shutdown;
    rows[8] = shutdown_ack;
    rows[9] = error;
    rows[10] = cookie_echo;
    rows[11] = cookie_ack;
    rows[14] = shutdown_complete;
    rows
}

/// All transitions by side and event, see [`row_index`].
pub const fn transitions() -> [u64; ROWS] {
    //                                          NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
    let input = side(
        row([ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
        [
            row([I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN]),
            row([CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL]),
            row([CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
            row([ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL]),
        ],
        [
            row([SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL]),
            row([CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL]),
            row([CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL]),
        ],
        [
            row([CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL]),
            row([CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL]),
        ],
    );
    let output = side(
        row([ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
        [
            row([CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW]),
            row([CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
            row([CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL]),
            row([ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL]),
        ],
        [
            row([SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL]),
            row([SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL]),
            row([CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
        ],
        [
            row([CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
            row([CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL]),
        ],
    );
    let only = side(
        row([ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL]),
        [
            row([I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN]),
            row([CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL]),
            row([ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL]),
            row([ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL]),
        ],
        [
            row([SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL]),
            row([CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL]),
            row([CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL]),
        ],
        [
            row([CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
            row([CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL]),
        ],
    );
    let mut all = [0; ROWS];
    let mut event = 0;
    while event < 16 {
        all[event] = input[event];
        all[16 + event] = output[event];
        all[32 + event] = only[event];
        event += 1;
    }
    all
}

/// What the checksum (CRC32c, RFC 9260 appendix B) of a packet of `length` bytes, from the SCTP header on, changes by
/// when the ports change, which are its first four bytes: to be added (exclusive or) to the field as it lies on the wire.
///
/// The checksum is linear: the difference is that of a packet with the changed bits and zeros after them. So the payload
/// is not read, and one that was damaged stays known for it.
#[inline(always)]
pub fn checksum_difference<T: Tables>(tables: &T, old: u32, new: u32, length: u32) -> u32 {
    // In the reflected order of bits a polynomial's constant term is the highest bit: this is x^8, one byte further.
    let mut power = 1u32 << 23;
    let mut product = (old ^ new).to_le();
    let mut rest = length;
    tables.repeat(17, || {
        if rest & 1 != 0 {
            product = multiply(product, power);
        }
        power = multiply(power, power);
        rest >>= 1;
        rest == 0
    });
    product.to_le()
}

/// The Castagnoli polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Multiply two polynomials modulo that one.
#[inline(always)]
const fn multiply(a: u32, b: u32) -> u32 {
    let (mut a, mut b, mut product) = (a, b, 0u32);
    let mut bit = 0;
    while bit < 32 {
        // No branches: the verifier would follow each.
        product ^= b & 0u32.wrapping_sub(a >> 31);
        a <<= 1;
        b = b >> 1 ^ POLYNOMIAL & 0u32.wrapping_sub(b & 1);
        bit += 1;
    }
    product
}

#[cfg(test)]
mod tests;
