//! Taking what a client sends, and comparing every byte.

use std::io::{self, Read};

use super::download_byte;

/// Reads a body of that length; gives the position of the first byte that is not as in a download.
pub(super) fn receive(reader: &mut impl Read, length: u64) -> io::Result<Option<u64>> {
    let mut buffer = [0; 64 * 1024];
    let (mut position, mut wrong) = (0, None);
    while position < length {
        let room =
            usize::try_from(length - position).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = reader.read(&mut buffer[..room])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = (position..).zip(buffer.iter().take(count));
        let first = bytes
            .clone()
            .find(|(place, byte)| **byte != download_byte(*place));
        wrong = wrong.or(first.map(|(place, _)| place));
        position += count as u64;
    }
    Ok(wrong)
}
