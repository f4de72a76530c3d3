//! What the lab starts on its machines.

use std::path::Path;

use crate::{
    certificate,
    lab::{Options, WebServer},
    node::{control_socket, node_folder},
    process::{Program, Ready},
    topology::Machine,
};

/// The daemon of a director.
pub(crate) fn director(lab: &Path, options: &Options) -> Program {
    let program = lab.join("bin/furiwake").display().to_string();
    Program {
        name: "furiwake-run".into(),
        words: vec![
            program,
            "run".into(),
            "--hook".into(),
            options.hook.to_string(),
        ],
        environment: vec![(
            "FURIWAKE_SOCKET".into(),
            control_socket(lab).display().to_string(),
        )],
        ready: Ready::Notifies,
    }
}

/// The far end of a tunnel on a real server; `words` are the arguments of `furiwake`.
pub(crate) fn decap(lab: &Path, words: Vec<String>) -> Program {
    let program = lab.join("bin/furiwake").display().to_string();
    Program {
        name: "furiwake-decap".into(),
        words: std::iter::once(program).chain(words).collect(),
        environment: Vec::new(),
        ready: Ready::Notifies,
    }
}

/// The web server of a real server.
pub(crate) fn server(lab: &Path, machine: &Machine, options: &Options) -> Option<Program> {
    let (words, ready) = match &options.server {
        WebServer::None => return None,
        WebServer::BuiltIn(words) => (words.clone(), Ready::Notifies),
        WebServer::Command(line) => (
            vec!["/bin/sh".into(), "-c".into(), line.clone()],
            Ready::Listens(80),
        ),
    };
    let address = machine
        .interfaces
        .first()
        .map(|interface| interface.address.to_string())
        .unwrap_or_default();
    let file = |path: &Path| path.display().to_string();
    Some(Program {
        name: "server".into(),
        words,
        environment: vec![
            ("SERVER_NAME".into(), machine.name.clone()),
            ("SERVER_ADDRESS".into(), address),
            ("SERVER_DIR".into(), file(&node_folder(lab, &machine.name))),
            (
                "SERVER_CERT".into(),
                file(&certificate::certificate_path(lab)),
            ),
            ("SERVER_KEY".into(), file(&certificate::key_path(lab))),
        ],
        ready,
    })
}
