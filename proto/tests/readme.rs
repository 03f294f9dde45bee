//! `README.md` is the contract in prose: it names every code, type and layout there is, and its
//! examples are what the codec takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use tickwire_proto::{
    close::{AfterClose, CloseReason},
    code::ErrorCode,
    json::{Message, PublishParser},
    reply::{GapReason, Reply},
    request::Request,
    sbe::layout,
    upgrade::{Endpoint, Subprotocol},
};

const README: &str = include_str!("../README.md");
const SCHEMA: &str = include_str!("../schema/tickwire.xml");

/// The lines of the code blocks that are marked with `info`.
fn examples(info: &str) -> Vec<&'static str> {
    let fence = format!("```{info}");
    let mut lines = Vec::new();
    let mut inside = false;
    for line in README.lines() {
        match inside {
            false => inside = line == fence,
            true if line == "```" => inside = false,
            true => lines.push(line),
        }
    }
    assert!(!lines.is_empty(), "no block is marked {info}");
    lines
}

/// The table rows under a heading, without their outer bars.
fn rows(heading: &str) -> Vec<&'static str> {
    let heading = format!("## {heading}");
    let rows: Vec<_> = README
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .collect();
    assert!(!rows.is_empty(), "no table under {heading}");
    rows
}

fn cells(row: &str) -> Vec<&str> {
    row.split('|').map(str::trim).collect()
}

/// The `type` of every golden message.
fn golden_types() -> BTreeSet<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/json/replies");
    let mut types = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        for line in fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            types.insert(reply_type(line));
        }
    }
    types
}

fn reply_type(line: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    value["type"].as_str().unwrap().to_owned()
}

#[test]
fn every_reply_type_has_an_example_and_a_row() {
    let shown: BTreeSet<_> = examples("json reply").into_iter().map(reply_type).collect();
    assert_eq!(shown, golden_types());
    let described: BTreeSet<_> = rows("Replies")
        .into_iter()
        .flat_map(|row| cells(row)[0].split(", ").collect::<Vec<_>>())
        .filter_map(|cell| cell.strip_prefix('`')?.strip_suffix('`'))
        .map(str::to_owned)
        .collect();
    assert_eq!(described, shown);
}

#[test]
fn examples_are_what_the_codec_reads_and_writes() {
    for line in examples("json reply") {
        let reply = Reply::from_json(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let mut written = Vec::new();
        reply.write_json(&mut written);
        assert_eq!(String::from_utf8(written).unwrap(), line);
    }
    for line in examples("json request") {
        let read = [Endpoint::Subscribe, Endpoint::Publish]
            .into_iter()
            .find_map(|endpoint| Request::from_json(line, endpoint).ok());
        assert!(read.is_some(), "{line}");
    }
    for line in examples("json publish") {
        let message = PublishParser::default().parse(line.as_bytes(), |_, tick| {
            assert!(tick.is_ok(), "{tick:?}: {line}");
        });
        assert!(
            matches!(message, Ok(Message::Ticks { count: 1.. })),
            "{line}"
        );
    }
}

#[test]
fn every_op_has_an_example() {
    let shown: BTreeSet<_> = examples("json request")
        .into_iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|value| value["op"].as_str().unwrap().to_owned())
        .collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/json/requests");
    let golden: BTreeSet<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(shown, golden);
}

#[test]
fn the_table_of_close_codes_is_the_codes() {
    let told: BTreeMap<u16, Vec<&str>> = rows("Close codes")
        .into_iter()
        .map(cells)
        .filter_map(|cells| Some((cells[0].parse().ok()?, cells[1..4].to_vec())))
        .collect();
    assert_eq!(told.len(), CloseReason::ALL.len());
    for reason in CloseReason::ALL {
        let label = format!("`{}`", reason.label());
        let client = match AfterClose::of(reason.code()) {
            AfterClose::Reconnect => "reconnects",
            AfterClose::ReconnectWithFreshToken => "reconnects with a fresh token",
            AfterClose::StayAway => "stays away",
        };
        assert_eq!(told[&reason.code()], [&label, reason.text(), client]);
    }
}

#[test]
fn the_table_of_error_codes_is_the_codes() {
    let told: Vec<_> = rows("Error codes")
        .into_iter()
        .filter_map(|row| cells(row)[0].strip_prefix('`')?.strip_suffix('`'))
        .collect();
    let codes: Vec<_> = ErrorCode::ALL.into_iter().map(ErrorCode::as_str).collect();
    assert_eq!(told, codes);
}

#[test]
fn every_gap_reason_and_subprotocol_is_told() {
    for reason in GapReason::ALL {
        let row = format!("| `{}` |", reason.as_str());
        assert!(README.contains(&row), "{row}");
        let number = format!("{} `{}`", reason as u8, reason.as_str());
        assert!(README.contains(&number), "{number}");
    }
    for subprotocol in Subprotocol::ALL {
        let row = format!("| `{}` |", subprotocol.as_str());
        assert!(README.contains(&row), "{row}");
    }
}

/// A template: number, name, block bytes.
type Template = (u16, &'static str, usize);

const TEMPLATES: [Template; 10] = [
    (
        layout::trade::TEMPLATE_ID,
        "Trade",
        layout::trade::BLOCK_BYTES,
    ),
    (
        layout::quote::TEMPLATE_ID,
        "Quote",
        layout::quote::BLOCK_BYTES,
    ),
    (layout::gap::TEMPLATE_ID, "Gap", layout::gap::BLOCK_BYTES),
    (layout::feed::TEMPLATE_ID, "Feed", layout::feed::BLOCK_BYTES),
    (
        layout::heartbeat::TEMPLATE_ID,
        "Heartbeat",
        layout::heartbeat::BLOCK_BYTES,
    ),
    (
        layout::definition::TEMPLATE_ID,
        "SymbolDefinition",
        layout::definition::BLOCK_BYTES,
    ),
    (
        layout::cursor::TEMPLATE_ID,
        "Cursor",
        layout::cursor::BLOCK_BYTES,
    ),
    (
        layout::host_entry::TEMPLATE_ID,
        "HostEntry",
        layout::host_entry::BLOCK_BYTES,
    ),
    (
        layout::host_symbol::TEMPLATE_ID,
        "HostSymbol",
        layout::host_symbol::BLOCK_BYTES,
    ),
    (
        layout::host_epoch::TEMPLATE_ID,
        "HostEpoch",
        layout::host_epoch::BLOCK_BYTES,
    ),
];

#[test]
fn the_sbe_table_is_the_layout() {
    let told: Vec<_> = rows("SBE")
        .into_iter()
        .map(cells)
        .filter(|cells| cells[0].parse::<u16>().is_ok())
        .collect();
    assert_eq!(told.len(), TEMPLATES.len());
    for (cells, (template, name, block_bytes)) in told.iter().zip(TEMPLATES) {
        assert_eq!(
            cells[..3],
            [
                template.to_string().as_str(),
                name,
                &block_bytes.to_string()
            ]
        );
    }
    let identity = format!(
        "schema id {}, version {}",
        layout::SCHEMA_ID,
        layout::VERSION
    );
    let text = README.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(&identity), "{identity}");
    let flags = format!(
        "{} snapshot, {} replay, {} `skipped` above 0",
        layout::FLAG_SNAPSHOT,
        layout::FLAG_REPLAY,
        layout::FLAG_SKIPPED
    );
    assert!(README.contains(&flags), "{flags}");
}

/// The value of `name="…"` in an XML tag.
fn attribute<'a>(tag: &'a str, name: &str) -> &'a str {
    let begin = format!(" {name}=\"");
    let (_, rest) = tag
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{name}: {tag}"));
    rest.split_once('"').unwrap().0
}

#[test]
fn the_fields_of_the_sbe_table_are_those_of_the_schema() {
    for message in SCHEMA.split("<sbe:message ").skip(1) {
        let template = attribute(&format!(" {message}"), "id").to_owned();
        let row = rows("SBE")
            .into_iter()
            .map(cells)
            .find(|cells| cells[0] == template)
            .unwrap();
        let told: Vec<_> = row[3]
            .split(", ")
            .map(|field| field.rsplit_once(' ').unwrap().0.to_owned())
            .collect();
        let fields: Vec<_> = message
            .lines()
            .filter(|line| line.trim_start().starts_with("<field "))
            .map(|line| format!("{} {}", attribute(line, "offset"), attribute(line, "name")))
            .collect();
        assert_eq!(told, fields, "{}", row[1]);
    }
}
