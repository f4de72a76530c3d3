//! The lab's web server alone, for the tests of this crate. Users have it as `furiwake lab serve`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match furiwake_lab::server::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("furiwake-lab-server: {error}");
            ExitCode::FAILURE
        }
    }
}
