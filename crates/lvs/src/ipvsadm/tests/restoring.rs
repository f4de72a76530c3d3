//! How `-R` hands its lines to a director.

use super::*;
use crate::sync::{SyncDaemon, SyncRole};

/// Counts the batches.
#[derive(Default)]
struct Batches {
    director: MemoryDirector,
    batches: Vec<usize>,
}

impl Director for Batches {
    fn view(&mut self) -> Result<View, DirectorError> {
        self.director.view()
    }
    fn connections(&mut self) -> Result<Vec<ConnectionView>, DirectorError> {
        self.director.connections()
    }
    fn apply(&mut self, operation: &Operation) -> Result<(), DirectorError> {
        self.director.apply(operation)
    }
    fn apply_all(&mut self, operations: &[Operation]) -> Vec<Result<(), DirectorError>> {
        self.batches.push(operations.len());
        operations
            .iter()
            .map(|operation| self.apply(operation))
            .collect()
    }
}

fn restored(rules: &str) -> (Output, Batches) {
    let mut director = Batches::default();
    let output = run(
        &words("ipvsadm -R"),
        &mut rules.as_bytes(),
        &NoNames,
        &mut director,
    );
    (output, director)
}

#[test]
fn operations_go_in_one_batch() {
    let (output, director) = restored("-A -t 10.0.0.1:80\n\n-a -t 10.0.0.1:80 -r 10.0.0.2 -m\n");
    assert_eq!(output, Output::default());
    assert_eq!(director.batches, [2]);
}

#[test]
fn a_list_shows_what_the_lines_before_it_did() {
    let (output, director) = restored("-A -f 1\n-S\n-A -f 2\n-A -f 3\n");
    assert_eq!(output.stdout, "-A -f 1 -s wlc\n");
    assert_eq!(director.batches, [1, 2]);
}

#[test]
fn lines_before_a_mistake_stay_and_lines_after_it_do_not_happen() {
    let (output, director) = restored("-A -f 1\n-A -f 1\n-A -f nonsense\n-A -f 2\n");
    assert_eq!(
        (output.stderr.as_str(), output.code),
        (
            "Service already exists\ninvalid fwmark value `nonsense' specified\n",
            2
        )
    );
    assert_eq!(director.director.table.services.len(), 1);
}

#[test]
fn a_script_clears_and_restores_in_one_batch() {
    let mut director = Batches::default();
    for rules in ["# c\n-A -f 1\n-A -f 2\n", "-A -f 1\n"] {
        let output = run_restore_script(&[], &mut rules.as_bytes(), &NoNames, &mut director);
        assert_eq!(output, Output::default());
    }
    assert_eq!(director.batches, [3, 2]);
    assert_eq!(director.director.table.services.len(), 1);
}

fn at_once(director: &mut MemoryDirector, rules: &str) -> (String, u8) {
    let line = words("ipvsadm -R --atomic");
    let output = run(&line, &mut rules.as_bytes(), &NoNames, director);
    (output.stderr, output.code)
}

#[test]
fn a_transaction_is_all_or_nothing_and_names_the_line() {
    let mut director = MemoryDirector::default();
    let done = at_once(
        &mut director,
        "# made by hand\n\n-A -f 1\n-a -f 1 -r 10.0.0.1\n",
    );
    assert_eq!(done, (String::new(), 0));
    let before = director.clone();

    let refused = at_once(
        &mut director,
        "-A -f 2\n# again\n  -A -f 1 -s rr\n-A -f 3\n",
    );
    let text = "line 3: -A -f 1 -s rr: Service already exists; nothing was changed\n";
    assert_eq!(refused, (text.to_owned(), 255));

    let refused = at_once(&mut director, "-A -f 2\n-A -f many\n");
    let text = "line 2: -A -f many: invalid fwmark value `many' specified; nothing was changed\n";
    assert_eq!(refused, (text.to_owned(), 2));

    let (text, code) = at_once(&mut director, "-A -f 2\n-L -n\n");
    assert!(
        text.starts_with("line 2: -L -n: a restore in one transaction"),
        "{text}"
    );
    assert_eq!(code, 2);
    assert_eq!(director, before);
}

#[test]
fn a_script_in_one_transaction_keeps_the_old_table_when_the_new_one_is_wrong() {
    let mut director = MemoryDirector::default();
    typed(&mut director, "ipvsadm -A -f 1");
    let script = words("ipvsadm-restore --atomic");
    let mut restore =
        |rules: &str| run_restore_script(&script, &mut rules.as_bytes(), &NoNames, &mut director);
    let refused = restore("-A -f 2\n-a -f 3 -r 10.0.0.1\n");
    let text = "line 2: -a -f 3 -r 10.0.0.1: Service not defined; nothing was changed\n";
    assert_eq!((refused.stderr.as_str(), refused.code), (text, 255));
    assert_eq!(restore("-A -f 2\n"), Output::default());
    assert_eq!(
        typed(&mut director, "ipvsadm -S").stdout,
        "-A -f 2 -s wlc\n"
    );
}

#[test]
fn settings_can_be_restored_and_are_refused_in_our_own_words() {
    let mut director = MemoryDirector::default();
    let rules =
        "--setting conn_lfactor=-3\n--setting sync_threshold=5 10\n--setting est_cpulist=\n";
    assert_eq!(at_once(&mut director, rules), (String::new(), 0));
    let settings = &director.table.settings;
    assert_eq!(
        (settings.conn_lfactor, settings.sync_threshold.period),
        (-3, 10)
    );
    assert_eq!(settings.est_cpulist, "");
    let refused = typed(&mut director, "ipvsadm --setting drop_entry=9");
    let text = "drop_entry cannot be \"9\": it takes a number from 0 to 3, by default 0\n";
    assert_eq!((refused.stderr.as_str(), refused.code), (text, 255));
    assert_eq!(typed(&mut director, "ipvsadm --setting drop_entry").code, 2);
}

/// Interfaces for sync daemons.
fn with_interface(table: Table) -> MemoryDirector {
    MemoryDirector {
        table,
        interfaces: vec![("eth0".into(), 1500)],
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_in_what_is_saved_with_all(table in testing::table(), backup in any::<bool>()) {
        let mut director = with_interface(table);
        if backup {
            let daemon = SyncDaemon {
                role: SyncRole::Backup,
                interface: "eth0".into(),
                sync_id: 7,
                max_length: Some(1400),
                group: Some("224.0.0.82".parse().unwrap()),
                port: Some(9000),
                ttl: None,
            };
            // Refused where a server is of another family than its service.
            let _ = director.apply(&Operation::StartSyncDaemon(daemon));
        }
        let saved = typed(&mut director, "ipvsadm -S -n --all").stdout;
        for line in ["ipvsadm -R", "ipvsadm -R --atomic"] {
            let mut other = with_interface(Table::default());
            other.table.settings.sloppy_tcp = 9;
            let restored = run(&words(line), &mut saved.as_bytes(), &NoNames, &mut other);
            prop_assert_eq!(restored, Output::default(), "{}", saved);
            prop_assert_eq!(&other, &director);
        }
        // Over what is there, too.
        for _ in 0..2 {
            let script = words("ipvsadm-restore --atomic");
            let restored = run_restore_script(&script, &mut saved.as_bytes(), &NoNames, &mut director);
            prop_assert_eq!(restored, Output::default(), "{}", saved);
            prop_assert_eq!(&typed(&mut director, "ipvsadm -S -n --all").stdout, &saved);
        }
    }
}
