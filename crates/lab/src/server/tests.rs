//! The server on a pair of buffers instead of a socket.

use super::*;

/// What a client sent, and what it was sent.
struct Wire {
    question: io::Cursor<Vec<u8>>,
    answer: Vec<u8>,
}

impl Read for &mut Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.question.read(buffer)
    }
}

impl Write for &mut Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Asks a server called rs1 and returns its whole answer and its log.
fn ask(question: &[u8]) -> (String, String) {
    let log_path = std::env::temp_dir().join(format!(
        "furiwake-lab-{}-{:?}.log",
        std::process::id(),
        thread::current().id()
    ));
    let log = AccessLog::open(&log_path).unwrap();
    let settings = Settings {
        name: "rs1".into(),
        folder: PathBuf::new(),
        tls: None,
    };
    let mut wire = Wire {
        question: io::Cursor::new(question.to_vec()),
        answer: Vec::new(),
    };
    serve(
        &mut wire,
        "192.168.56.1:50000".parse().unwrap(),
        &settings,
        &log,
    )
    .unwrap();
    let logged = fs::read_to_string(&log_path).unwrap();
    fs::remove_file(&log_path).unwrap();
    (String::from_utf8(wire.answer).unwrap(), logged)
}

#[test]
fn a_program_gets_the_name_as_one_line() {
    let (answer, log) = ask(b"GET / HTTP/1.1\r\nHost: 192.168.56.50\r\nAccept: */*\r\n\r\n");
    assert_eq!(
        answer,
        "HTTP/1.1 200 OK\r\nServer: furiwake-lab\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 4\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\nrs1\n"
    );
    assert!(log.starts_with("192.168.56.1 - - ["), "{log}");
    assert!(log.ends_with("] \"GET / HTTP/1.1\" 200 4\n"), "{log}");
}

#[test]
fn a_browser_gets_a_page_that_needs_no_second_request() {
    let (answer, _) = ask(b"GET / HTTP/1.1\r\nAccept: text/html,*/*\r\n\r\n");
    assert!(answer.contains("<h1>rs1</h1>"));
    assert!(answer.contains("href=\"data:,\""));
}

#[test]
fn a_download_has_the_length_and_bytes_asked_for() {
    let (answer, log) = ask(b"GET /bytes/100 HTTP/1.0\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Length: 100"));
    assert_eq!(
        body.as_bytes(),
        (0..100).map(download_byte).collect::<Vec<u8>>()
    );
    assert!(log.ends_with(" 200 100\n"));
}

#[test]
fn an_upload_is_taken_whole_and_compared() {
    let post = |body: &[u8]| {
        let head = format!(
            "POST /bytes HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        ask(&[head.as_bytes(), body].concat()).0
    };
    let mut body: Vec<u8> = (0..100_000).map(download_byte).collect();
    assert!(post(&body).ends_with("\r\n\r\nrs1\n"));
    body[70_000] ^= 1;
    let refused = post(&body);
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
    assert!(
        refused.ends_with("byte 70000 is not what was sent\n"),
        "{refused}"
    );
}

#[test]
fn what_is_not_http_is_refused_and_never_panics() {
    let long = vec![b'x'; 100_000];
    for question in [&b"\xff\xfe\r\n\r\n"[..], b"GET\r\n\r\n", b"\r\n", &long] {
        assert!(ask(question).0.starts_with("HTTP/1.1 400 "));
    }
    assert_eq!(ask(b"").0, "");
    assert!(
        ask(b"POST / HTTP/1.1\r\n\r\n")
            .0
            .starts_with("HTTP/1.1 405 ")
    );
    assert!(
        ask(b"GET /bytes/many HTTP/1.1\r\n\r\n")
            .0
            .starts_with("HTTP/1.1 404 ")
    );
}
