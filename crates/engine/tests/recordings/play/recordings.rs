//! The recordings themselves.

use serde_json::Value;

/// Name and text of every file.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("schedulers", include_str!("../../golden/schedulers.jsonl")),
    ("states", include_str!("../../golden/states.jsonl")),
    ("sockets", include_str!("../../golden/sockets.jsonl")),
    ("packets", include_str!("../../golden/packets.jsonl")),
    (
        "persistence",
        include_str!("../../golden/persistence.jsonl"),
    ),
    ("icmp", include_str!("../../golden/icmp.jsonl")),
    ("quiesce", include_str!("../../golden/quiesce.jsonl")),
    ("others", include_str!("../../golden/others.jsonl")),
    ("siblings", include_str!("../../golden/siblings.jsonl")),
];

/// One scenario.
pub(crate) struct Recording {
    pub(crate) scenario: String,
    pub(crate) steps: Vec<Value>,
}

impl Recording {
    /// Every scenario of a file.
    pub(crate) fn all(file: &str) -> impl Iterator<Item = Self> {
        let (_, text) = FILES.iter().find(|(name, _)| *name == file).unwrap();
        // The first line says what made the recordings.
        text.lines().skip(1).map(|line| {
            let recording: Value = serde_json::from_str(line).unwrap();
            Self {
                scenario: recording["scenario"].as_str().unwrap().to_owned(),
                steps: recording["steps"].as_array().unwrap().clone(),
            }
        })
    }
}
