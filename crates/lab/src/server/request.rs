//! As much of an HTTP request as the server looks at.

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    /// The first line, for the log, free of anything that could forge a log line.
    pub(super) line: String,
    pub(super) wants_html: bool,
    /// Length of what follows the head.
    pub(super) length: Option<u64>,
}

/// The bytes were no HTTP/1 request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotHttp;

impl Request {
    pub(super) fn parse(head: &[u8]) -> Result<Self, NotHttp> {
        let head = std::str::from_utf8(head).map_err(|_| NotHttp)?;
        let mut lines = head.lines();
        let line = lines.next().ok_or(NotHttp)?;
        let mut words = line.split(' ');
        let (Some(method), Some(path), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(NotHttp);
        };
        if !version.starts_with("HTTP/1.") || !path.starts_with('/') {
            return Err(NotHttp);
        }
        let (mut wants_html, mut length) = (false, None);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("accept") {
                wants_html |= value.contains("text/html");
            } else if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok();
            }
        }
        Ok(Self {
            method: method.to_owned(),
            path: path.to_owned(),
            line: line
                .chars()
                .map(|letter| {
                    if letter.is_control() || letter == '"' {
                        '?'
                    } else {
                        letter
                    }
                })
                .collect(),
            wants_html,
            length,
        })
    }
}
