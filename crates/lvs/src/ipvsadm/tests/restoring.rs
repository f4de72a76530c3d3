//! How `-R` hands its lines to a director.

use super::*;

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
