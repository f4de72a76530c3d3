//! Tests of the whole language: what the recordings cannot show, and what must hold for every input.

use proptest::prelude::*;

use super::*;
use crate::{
    model::{ServerKey, Table},
    testing,
    view::{Counters, Rates},
};

mod listing;
mod restoring;

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn typed(director: &mut dyn Director, line: &str) -> Output {
    run(&words(line), &mut &b""[..], &NoNames, director)
}

/// Words that mean something to the parser, so that random command lines get somewhere.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(options::OPTIONS).prop_map(|spec| format!("--{}", spec.long)),
        proptest::sample::select(options::OPTIONS).prop_map(|spec| format!("-{}", spec.shorts)),
        proptest::sample::select(vec![
            "-Lnc",
            "-at",
            "-w=4",
            "--weight=3",
            "-p",
            "--",
            "-",
            "10.0.0.1:80",
            "[fd00::1]:80",
            "fd00::1",
            "1",
            "0",
            "-1",
            "4294967296",
            "rr",
            "sh-port,flag-3",
            "master",
            "gue",
            "255.255.255.0",
            "",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
        "-{1,2}[a-zA-Z0-9=:.\\[\\]]{0,8}",
    ]
}

proptest! {
    #[test]
    fn no_command_line_makes_it_panic(args in prop::collection::vec(word(), 0..8)) {
        let _ = parse(&args, &NoNames);
        let mut args = args;
        args.insert(0, "ipvsadm".to_owned());
        let mut director = MemoryDirector::default();
        let output = run(&args, &mut &b""[..], &NoNames, &mut director);
        prop_assert!(output.code == 0 || !output.stderr.is_empty());
    }

    #[test]
    fn no_rules_make_a_restore_panic(rules in any::<Vec<u8>>(), lines in prop::collection::vec(word(), 0..20)) {
        let mut director = MemoryDirector::default();
        run_restore_script(&[], &mut &rules[..], &NoNames, &mut director);
        let rules = lines.join(" ").replace("--list", "\n--list");
        run_restore_script(&["ipvsadm-restore".into(), "--atomic".into()], &mut rules.as_bytes(), &NoNames, &mut director);
    }

    #[test]
    fn what_was_saved_is_restored(table in testing::table()) {
        let mut director = MemoryDirector { table, ..MemoryDirector::default() };
        let saved = typed(&mut director, "ipvsadm -S -n");

        let mut other = MemoryDirector::default();
        let restored = run(&words("ipvsadm -R"), &mut saved.stdout.as_bytes(), &NoNames, &mut other);
        prop_assert_eq!(restored, Output::default());
        prop_assert_eq!(typed(&mut other, "ipvsadm -S -n").stdout, saved.stdout);

        // ipvsadm does not save thresholds and timeouts, nor the order.
        testing::forget_what_is_not_saved(&mut director.table);
        testing::forget_what_is_not_saved(&mut other.table);
        prop_assert_eq!(other.table, director.table);
    }
}

#[test]
fn a_director_that_cannot_be_asked_says_so_once() {
    struct Absent;
    impl Director for Absent {
        fn view(&mut self) -> Result<View, DirectorError> {
            Err(DirectorError::Unavailable(
                "no furiwake director runs here".into(),
            ))
        }
        fn connections(&mut self) -> Result<Vec<ConnectionView>, DirectorError> {
            Err(DirectorError::Unavailable(
                "no furiwake director runs here".into(),
            ))
        }
        fn apply(&mut self, _: &Operation) -> Result<(), DirectorError> {
            Err(DirectorError::Unavailable(
                "no furiwake director runs here".into(),
            ))
        }
    }

    let answer = Output {
        stdout: String::new(),
        stderr: "no furiwake director runs here\n".into(),
        code: 2,
    };
    assert_eq!(typed(&mut Absent, "ipvsadm -Ln"), answer);
    assert_eq!(typed(&mut Absent, "ipvsadm -C"), answer);
    let rules = b"-A -t 10.0.0.1:80\n-A -t 10.0.0.2:80\n-L\n";
    assert_eq!(
        run(&words("ipvsadm -R"), &mut &rules[..], &NoNames, &mut Absent),
        answer
    );
    assert_eq!(typed(&mut Absent, "ipvsadm -v").code, 0);
}

#[test]
fn what_this_build_cannot_do_is_refused_in_one_line() {
    struct Today;
    impl Director for Today {
        fn view(&mut self) -> Result<View, DirectorError> {
            Ok(View::default())
        }
        fn connections(&mut self) -> Result<Vec<ConnectionView>, DirectorError> {
            Ok(Vec::new())
        }
        fn apply(&mut self, operation: &Operation) -> Result<(), DirectorError> {
            Ok(crate::operation::supported(operation)?)
        }
    }

    let refused = typed(&mut Today, "ipvsadm -A -f 1");
    assert_eq!(
        refused.stderr,
        "This build of furiwake cannot do this yet: services by firewall mark (-f)\n"
    );
    assert_eq!(refused.code, 255);
}
