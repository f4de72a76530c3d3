//! The API as a stranger sees it: raw HTTP, and the document that describes it.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use serde_json::{Value, json};

use super::*;
use crate::daemon::{fake::FakePlane, rig::Rig};

mod conformance;

/// Send bytes, read everything, and split the answer into head and body.
fn exchange(socket: &Path, method: &str, path: &str, body: &str) -> (String, Value) {
    let mut stream = UnixStream::connect(socket).expect("connects");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("reads");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (
        head.to_lowercase(),
        serde_json::from_str(body).expect("JSON"),
    )
}

fn document() -> Value {
    let (_, document) = described().split_for_parts();
    serde_json::to_value(document).expect("is JSON")
}

#[test]
fn every_error_is_a_problem_document() {
    let rig = Rig::start(FakePlane::default());
    let cases = [
        ("GET", "/api/v1/nothing", "", 404),
        ("DELETE", "/api/v1/view", "", 405),
        ("POST", "/api/v1/operations", "no JSON", 400),
        ("POST", "/api/v1/operations", r#"[{"explode":null}]"#, 400),
        ("POST", "/api/v1/operations?atomic=perhaps", "[]", 400),
        (
            "POST",
            "/api/v1/operations?atomic=true",
            r#"[{"delete_service":{"mark":{"mark":1,"family":"v4"}}}]"#,
            409,
        ),
    ];
    for (method, path, body, status) in cases {
        let (head, problem) = exchange(&rig.socket, method, path, body);
        assert!(
            head.starts_with(&format!("http/1.1 {status} ")),
            "{method} {path}: {head}"
        );
        assert!(
            head.contains("content-type: application/problem+json"),
            "{head}"
        );
        assert_eq!(problem["status"], status);
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|detail| !detail.is_empty()),
            "{problem}"
        );
        conformance::check(&document(), "Problem", &problem);
    }
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let rig = Rig::start(FakePlane::default());
    let mut stream = UnixStream::connect(&rig.socket).expect("connects");
    write!(
        stream,
        "POST /api/v1/operations HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        LARGEST_BODY + 1
    )
    .expect("writes");
    // It is refused, and the rest not read, as soon as it is too much.
    let _ = stream.write_all(&vec![b' '; LARGEST_BODY + 1]);
    let mut answer = [0; 13];
    stream.read_exact(&mut answer).expect("reads");
    assert_eq!(&answer, b"HTTP/1.1 413 ");
}

#[test]
fn the_socket_is_for_its_owner_and_group() {
    let rig = Rig::start(FakePlane::default());
    let mode = fs::metadata(&rig.socket)
        .expect("is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn the_document_lists_every_route_and_is_served() {
    let rig = Rig::start(FakePlane::default());
    let (_, served) = exchange(&rig.socket, "GET", "/api/v1/openapi.json", "");
    assert_eq!(served, document());
    let mut routes = Vec::new();
    for (path, methods) in served["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            assert!(
                operation["summary"].is_string(),
                "{method} {path} says what it does"
            );
            assert!(
                operation["responses"]["200"].is_object(),
                "{method} {path} says what it answers"
            );
            routes.push(format!("{method} {path}"));
        }
    }
    routes.sort();
    assert_eq!(
        routes,
        [
            "get /api/v1/connections",
            "get /api/v1/settings",
            "get /api/v1/status",
            "get /api/v1/table",
            "get /api/v1/view",
            "post /api/v1/operations",
            "post /api/v1/stop",
        ]
    );
}

#[test]
fn answers_and_bodies_are_what_the_document_says() {
    let plane = FakePlane::default();
    plane.change(|state| {
        state.connections = vec![
            serde_json::from_value(json!({
                "protocol": "tcp", "state": "ESTABLISHED", "expires": 900,
                "client": "192.168.56.1", "client_port": 40000,
                "virtual_address": "192.168.56.50", "virtual_port": 80,
                "server": "10.0.0.10", "server_port": 80,
            }))
            .expect("a connection"),
        ];
        state.reasons = vec![furiwake_datapath::ReasonCount {
            name: "no_service",
            meaning: "No service matches.",
            drops: false,
            packets: 7,
        }];
    });
    let rig = Rig::start(plane);
    let document = document();
    let key = json!({"address": {"protocol": "tcp", "address": "192.168.56.50", "port": 80}});
    let operations = json!([
        {"add_service": {"key": key, "scheduler": "rr"}},
        {"add_server": {"service": key, "server": {
            "key": {"address": "10.0.0.10", "port": 80}, "forward": "masquerade", "weight": 1}}},
        {"set_timeouts": {"tcp": 900, "tcp_fin": 120, "udp": 300}},
        {"set": {"name": "sync_threshold", "value": "5 10"}},
        {"zero": null},
        {"zero": key},
        {"delete_server": {"service": key, "server": {"address": "10.0.0.99", "port": 80}}},
        "flush",
    ]);
    let body = &document["paths"]["/api/v1/operations"]["post"]["requestBody"];
    conformance::check_schema(
        &document,
        &body["content"]["application/json"]["schema"],
        &operations,
    );
    let mut rehearsal = operations.clone();
    // Without the last step there is something to look at.
    rehearsal.as_array_mut().expect("a list").pop();
    let (_, outcomes) = exchange(
        &rig.socket,
        "POST",
        "/api/v1/operations",
        &rehearsal.to_string(),
    );
    assert_eq!(outcomes[0], "done");
    assert_eq!(outcomes[6], json!({"refused": "no_such_server"}));
    check_answer(&document, "/api/v1/operations", "post", &outcomes);
    for path in [
        "/api/v1/view",
        "/api/v1/table",
        "/api/v1/settings",
        "/api/v1/status",
        "/api/v1/connections",
    ] {
        let (_, answer) = exchange(&rig.socket, "GET", path, "");
        check_answer(&document, path, "get", &answer);
    }
}

fn check_answer(document: &Value, path: &str, method: &str, answer: &Value) {
    let response = &document["paths"][path][method]["responses"]["200"];
    conformance::check_schema(
        document,
        &response["content"]["application/json"]["schema"],
        answer,
    );
}
