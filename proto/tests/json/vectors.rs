//! `vectors/json`: every line is read and written again, to the same bytes.

use std::{fs, path::PathBuf};

use tickwire_proto::{
    json::{Message, PublishParser},
    reply::Reply,
    request::Request,
    upgrade::Endpoint,
};

/// The lines of every file of a folder that ends in `ending`, with the file's name.
fn lines(folder: &str, ending: &str) -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("vectors/json")
        .join(folder);
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with(ending) {
            let text = fs::read_to_string(path).unwrap();
            lines.extend(text.lines().map(|line| (name.clone(), line.to_owned())));
        }
    }
    assert!(!lines.is_empty());
    lines
}

fn endpoint(file: &str) -> Endpoint {
    match file {
        "flush.jsonl" | "declare.jsonl" => Endpoint::Publish,
        _ => Endpoint::Subscribe,
    }
}

#[test]
fn replies_come_back_byte_for_byte() {
    for (file, line) in lines("replies", ".jsonl") {
        let reply =
            Reply::from_json(&line).unwrap_or_else(|error| panic!("{file}: {error}: {line}"));
        let mut out = Vec::new();
        reply.write_json(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), line, "{file}");
    }
}

#[test]
fn requests_come_back_byte_for_byte() {
    for (file, line) in lines("requests", ".jsonl") {
        let request = Request::from_json(&line, endpoint(&file))
            .unwrap_or_else(|error| panic!("{file}: {error}: {line}"));
        assert_eq!(request.to_json(), line, "{file}");
        assert_eq!(file, format!("{}.jsonl", request.op.name()));
    }
}

#[test]
fn refused_requests_get_their_code_and_id() {
    for (_, line) in lines("requests", "refused.txt") {
        let mut columns = line.splitn(4, ' ');
        let mut column = || columns.next().unwrap();
        let endpoint = match column() {
            "publish" => Endpoint::Publish,
            _ => Endpoint::Subscribe,
        };
        let (code, id, text) = (column(), column().parse().ok(), column());
        let error = Request::from_json(text, endpoint).expect_err(text);
        assert_eq!(
            (error.code.as_str(), error.id),
            (code, id),
            "{text}: {error}"
        );
    }
}

#[test]
fn published_ticks_come_back_byte_for_byte() {
    let mut parser = PublishParser::default();
    for (file, line) in lines("published", ".jsonl") {
        let mut out = Vec::new();
        let message = parser.parse(line.as_bytes(), |_, tick| {
            tick.unwrap().write_json(&mut out);
        });
        assert_eq!(message, Ok(Message::Ticks { count: 1 }), "{file}");
        assert_eq!(String::from_utf8(out).unwrap(), line, "{file}");
    }
}

#[test]
fn refused_ticks_get_their_code() {
    let mut parser = PublishParser::default();
    for (_, line) in lines("published", "refused.txt") {
        let (code, text) = line.split_once(' ').unwrap();
        let mut refused = None;
        let whole = parser.parse(text.as_bytes(), |_, tick| refused = tick.err());
        let error = whole.err().or(refused).expect(text);
        assert_eq!(error.code.as_str(), code, "{text}: {error}");
    }
}
