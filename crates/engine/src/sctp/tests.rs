//! The tables against the reference's words; the checksum against the plain way to reckon it.

use proptest::prelude::*;

use super::*;
use crate::{host::HostTables, state::next_in};

/// The tables as the reference writes them (§3.3): side, chunk type, and what changes; a state that is not named stays.
const REFERENCE: &str = "
    in   0  NO > ES
    in   1  NO > I1 ; I1 RJ CL > IN
    in   2  NO I1 IN > CW ; CW > CO
    in  10  NO CS > CR ; I1 > IN
    in  11  NO CE > ES
    in   7  NO ES > SR
    in   8  NO SS SA > CL ; I1 > IN
    in  14  NO I1 IN SA > CL
    in   9  NO CE > CL
    in   6  CW > RJ ; NO I1 IN CS CR CO CE ES SS SR SA RJ CL > CL
    out  0  NO > ES
    out  1  NO I1 IN CS CR CW CO CE SS SR SA RJ CL > CW
    out  2  NO I1 IN > CS
    out 10  NO I1 IN CS CR CW CO > CE
    out 11  NO I1 IN CS CR CW CO CE > ES
    out  7  NO I1 IN CS CR CW CO CE ES > SS
    out  8  NO I1 IN CS CR SS SR > SA
    out 14  NO > CL
    out  9  NO I1 IN CS CR > CL
    out  6  I1 > RJ ; NO IN CS CR CW CO CE ES SS SR SA RJ CL > CL
    only  0  NO CW > ES
    only  1  NO > I1 ; I1 CS CR CW RJ CL > IN
    only  2  NO I1 IN CS CR CW > CE
    only 10  NO I1 IN CS CR CW > ES
    only 11  NO CS CR CO CE > ES
    only  7  NO ES > SR
    only  8  NO ES SS SA > CL ; I1 > IN
    only 14  NO I1 IN CS CR SR SA > CL
    only  9  NO > CL
    only  6  CW > RJ ; NO I1 IN CS CR CO CE ES SS SR SA RJ CL > CL";

#[test]
fn the_tables_are_those_of_the_reference() {
    const SHORT: [&str; STATES] = [
        "NO", "I1", "IN", "CS", "CR", "CW", "CO", "CE", "ES", "SS", "SR", "SA", "RJ", "CL",
    ];
    let rows = transitions();
    for line in REFERENCE.trim().lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let side = ["in", "out", "only"].iter().position(|s| *s == words[0]);
        let kind: u8 = words[1].parse().unwrap();
        // Data is also what has no other meaning: acknowledgements, heartbeats, congestion, and what nobody knows.
        let kinds: &[u8] = if kind == 0 {
            &[0, 3, 4, 5, 12, 13, 15, 192]
        } else {
            &[kind]
        };
        let changes = words[2..].join(" ");
        for kind in kinds {
            let row = rows[row_index(side.unwrap() as u32, event(*kind)) as usize];
            for (number, name) in SHORT.iter().enumerate() {
                let change = changes
                    .split(" ; ")
                    .filter_map(|change| change.split_once(" > "))
                    .find(|(from, _)| from.split(' ').any(|state| state == *name));
                let wanted = change.map_or(*name, |(_, to)| to);
                let next = next_in(row, number as u8);
                assert_eq!(
                    SHORT[next as usize], wanted,
                    "{line}: type {kind} from {name}"
                );
            }
        }
    }
}

/// CRC32c bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| crc >> 1 ^ if crc & 1 != 0 { POLYNOMIAL } else { 0 };
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}

#[test]
fn the_plain_way_gives_the_known_value() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

proptest! {
    #[test]
    fn a_checksum_that_follows_the_ports_is_the_one_of_the_new_packet(
        mut packet in proptest::collection::vec(any::<u8>(), 12..2000),
        ports: [u8; 4],
    ) {
        packet[CHECKSUM..HEADER].fill(0);
        let before = crc32c(&packet);
        let word = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
        let old = word(&packet[..4]);
        packet[..4].copy_from_slice(&ports);
        let difference = checksum_difference(
            &HostTables::default(),
            old,
            word(&ports),
            packet.len() as u32,
        );
        prop_assert_eq!(before.to_le() ^ difference, crc32c(&packet).to_le());
    }
}
