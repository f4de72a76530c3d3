//! Any command line and any standard input end in text and an exit code, never in a panic.
//!
//! The first line of the input is the command line, the rest is what `ipvsadm -R` reads.

#![no_main]

use furiwake_lvs::ipvsadm::{self, Director, DirectorError, NoNames};
use furiwake_lvs::operation::Operation;
use furiwake_lvs::view::{ConnectionView, View};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let (command, mut rules) = match text.split_once('\n') {
        Some((command, rules)) => (command, rules.as_bytes()),
        None => (&*text, &b""[..]),
    };
    let arguments: Vec<String> = std::iter::once("ipvsadm")
        .chain(command.split(' '))
        .map(String::from)
        .collect();
    ipvsadm::run(&arguments, &mut rules, &NoNames, &mut Agreeable);
});

/// A director without services that says yes to everything.
struct Agreeable;

impl Director for Agreeable {
    fn view(&mut self) -> Result<View, DirectorError> {
        Ok(View::default())
    }

    fn connections(&mut self) -> Result<Vec<ConnectionView>, DirectorError> {
        Ok(Vec::new())
    }

    fn apply(&mut self, _operation: &Operation) -> Result<(), DirectorError> {
        Ok(())
    }
}
