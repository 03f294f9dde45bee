//! Clients and decoders that others wrote, unmodified.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tickwire_proto::sbe::Decoder;

use crate::{
    harness::eventually,
    process::{Process, Serve, command, token},
};

const JSON: &str = "tickwire.v1.json";
const SBE: &str = "tickwire.v1.sbe";

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn script(name: &str) -> PathBuf {
    repository("engine/tests/foreign").join(name)
}

/// A Python script, with the packages that `make deps` installs.
pub fn python(name: &str) -> Command {
    let python = repository(".deps/python/bin/python");
    assert!(python.exists(), "no {}: run `make deps`", python.display());
    let mut command = command(python);
    command.arg(script(name));
    command
}

fn node(name: &str) -> Command {
    let packages = repository(".deps/npm/node_modules/ws");
    assert!(
        packages.exists(),
        "no {}: run `make deps`",
        packages.display()
    );
    let mut command = command("node");
    command.arg(script(name));
    command
}

/// Starts a client that has been welcomed.
fn client(serve: &Serve, mut command: Command, subprotocol: &str, capture: &str) -> Process {
    let url = format!("{}/v1/ws", serve.url());
    command
        .args([&url, subprotocol, &serve.path(capture)])
        .env("TICKWIRE_TOKEN", &serve.token);
    let client = Process::start(command);
    client.stdout_line(|line| kind(line, "welcome"));
    client
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// The message of a line, if it is of this kind.
fn kind(line: &str, kind: &str) -> Option<Value> {
    Some(parse(line)).filter(|message| message["type"] == kind)
}

fn quote(symbol: &str) -> Value {
    json!({"type": "quote", "symbol": symbol, "bid": "0.10", "bid_size": "3", "ask": "0.125"})
}

/// Subscribe, snapshot, live, a fresh token, close.
fn lead_through(command: Command) {
    let serve = Serve::start();
    let mut publisher = serve.connect("/v1/publish", None);
    publisher.publish(&quote("AAPL"));
    let mut client = client(&serve, command, JSON, "nothing");

    client.say(r#"{"op":"subscribe","id":1,"symbols":["AAPL"]}"#);
    let ack = client.stdout_line(|line| kind(line, "ack"));
    assert_eq!((&ack["id"], &ack["symbols"]), (&json!(1), &json!(["AAPL"])));
    let snapshot = client.stdout_line(|line| kind(line, "quote"));
    assert_eq!(
        (&snapshot["snapshot"], &snapshot["seq"]),
        (&json!(true), &json!(1)),
        "{snapshot}"
    );

    publisher.publish(&json!([quote("AAPL"), quote("AAPL")]));
    client.stdout_line(|line| kind(line, "quote").filter(|tick| tick["seq"] == 3));

    let fresh = token(&serve.path("secret"), &["--symbols=A*"]);
    client.say(&json!({"op": "auth", "id": 7, "token": fresh}).to_string());
    let ack = client.stdout_line(|line| kind(line, "ack").filter(|ack| ack["id"] == 7));
    assert_eq!(ack["op"], "auth", "{ack}");
    assert!(ack["token_exp"].is_u64(), "{ack}");
    publisher.publish(&quote("AAPL"));
    client.stdout_line(|line| kind(line, "quote").filter(|tick| tick["seq"] == 4));

    client.say("close");
    client.stdout_line(|line| Some(parse(line)).filter(|message| message["closed"] == 1000));
    let lines = client.wait().ok();
    let kinds: Vec<_> = lines
        .iter()
        .map(|line| parse(line)["type"].as_str().unwrap_or("closed").to_owned())
        .filter(|kind| kind != "cursor" && kind != "feed" && kind != "heartbeat")
        .collect();
    let expected = [
        "welcome", "ack", "start", "quote", "quote", "quote", "ack", "quote", "closed",
    ];
    assert_eq!(kinds, expected, "{lines:?}");
}

#[test]
fn the_websockets_package_of_python_is_served() {
    lead_through(python("client.py"));
}

#[test]
fn the_ws_package_of_node_is_served_with_its_token_as_a_subprotocol() {
    lead_through(node("client.mjs"));
}

/// Decodes captured messages by the published schema.
fn decode(messages: &Path) -> Vec<Value> {
    let mut command = python("sbe_decode.py");
    command
        .arg(repository("proto/schema/tickwire.xml"))
        .arg(messages);
    Process::run(command)
        .ok()
        .iter()
        .map(|line| parse(line))
        .collect()
}

/// Turns what the foreign decoder read into the objects of the JSON subprotocol; `symbolId`s are
/// resolved by the definitions among them.
fn as_json(decoded: &[Value]) -> Vec<Value> {
    let mut names = HashMap::new();
    let mut objects = Vec::new();
    for block in decoded {
        let id = block["symbolId"].as_u64();
        if block["template"] == "SymbolDefinition" {
            names.insert(id, (block["name"].clone(), block["epoch"].clone()));
        }
        let named = names.get(&id).cloned();
        let (symbol, epoch) = named.unwrap_or_default();
        objects.push(object(block, &symbol, &epoch));
    }
    objects
}

fn object(block: &Value, symbol: &Value, epoch: &Value) -> Value {
    let replay = &block["replay"];
    let object = match block["template"].as_str().expect("a name") {
        "SymbolDefinition" => {
            json!({"type": "start", "symbol": symbol, "epoch": epoch, "trade": block["trade"], "quote": block["quote"], "replay": replay})
        }
        "Trade" => json!({"type": "trade", "symbol": symbol, "epoch": epoch, "seq": block["seq"],
            "ts": us(block), "price": block["price"], "size": block["size"],
            "side": snake(&block["side"]), "snapshot": snapshot(block), "replay": replay, "skipped": skipped(block)}),
        "Quote" => json!({"type": "quote", "symbol": symbol, "epoch": epoch, "seq": block["seq"],
            "ts": us(block), "bid": block["bid"], "bid_size": block["bidSize"], "ask": block["ask"],
            "ask_size": block["askSize"], "snapshot": snapshot(block), "replay": replay, "skipped": skipped(block)}),
        // The one object in which null has a meaning of its own.
        "Gap" => {
            let mut gap = json!({"type": "gap", "symbol": symbol, "channel": snake(&block["channel"]),
                "epoch": block["epoch"], "from": block["from"], "to": block["to"], "reason": snake(&block["reason"])});
            if !replay.is_null() {
                gap["replay"] = replay.clone();
            }
            return gap;
        }
        "Feed" => json!({"type": "feed", "symbol": symbol, "state": snake(&block["state"])}),
        "Heartbeat" => json!({"type": "heartbeat", "ts": us(block)}),
        "Cursor" => json!({"type": "cursor", "cursor": block["cursor"]}),
        other => panic!("{other} is no template"),
    };
    let Value::Object(fields) = object else {
        unreachable!("an object was made")
    };
    fields
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect()
}

fn us(block: &Value) -> Option<u64> {
    block["ts"].as_u64().map(|ns| ns / 1_000)
}

fn snapshot(block: &Value) -> Option<bool> {
    let flags = block["flags"].as_array().expect("a set of flags");
    flags.contains(&json!("Snapshot")).then_some(true)
}

fn skipped(block: &Value) -> Option<u64> {
    block["skipped"].as_u64().filter(|skipped| *skipped > 0)
}

/// `SlowConsumer` as `slow_consumer`.
fn snake(name: &Value) -> Option<String> {
    let mut out = String::new();
    for letter in name.as_str()?.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    Some(out)
}

/// Cursors and heartbeats come by each connection's own clock.
fn is_shared(message: &Value) -> bool {
    ["start", "trade", "quote", "gap", "feed"]
        .iter()
        .any(|kind| message["type"] == *kind)
}

#[test]
fn a_foreign_decoder_reads_from_sbe_what_json_says() {
    let serve = Serve::start();
    let mut publisher = serve.connect("/v1/publish", None);
    publisher.publish(&quote("BEFORE"));
    let mut clients: Vec<_> = [JSON, SBE]
        .into_iter()
        .map(|subprotocol| {
            let mut client = client(&serve, python("client.py"), subprotocol, "captured");
            client.say(r#"{"op":"subscribe","id":1,"symbols":["*"]}"#);
            client.stdout_line(|line| kind(line, "ack"));
            client
        })
        .collect();

    publisher.publish(&json!([
        {"type": "trade", "symbol": "BTC-USDT", "price": "39432.480", "size": "0.000263", "side": "sell", "ts": 1_610_064_000_278_000_u64},
        {"type": "trade", "symbol": "CL.F", "price": "-37.63"},
        {"type": "quote", "symbol": "CL.F", "bid": "0.000000000000000001", "ask": "9", "ask_size": "9223372036854775807"},
        {"type": "trade", "symbol": "OWN", "epoch": 7, "seq": 41, "price": "1", "size": "5", "side": "buy"},
        {"type": "trade", "symbol": "OWN", "epoch": 7, "seq": 44, "price": "2"},
        {"type": "trade", "symbol": "OWN", "epoch": 8, "seq": 1, "price": "3"},
    ]));
    serve.publish(&crate::ticks::fixture(), &[]);
    // The source goes, so that the feeds become stale; then one last tick.
    drop(publisher);
    let (binary, text) = (clients.pop().expect("two"), clients.pop().expect("two"));
    text.stdout_line(|line| {
        kind(line, "feed").filter(|feed| feed["symbol"] == "OWN" && feed["state"] == "stale")
    });
    let mut publisher = serve.connect("/v1/publish", None);
    publisher.publish(&quote("LAST"));
    text.stdout_line(|line| kind(line, "quote").filter(|tick| tick["symbol"] == "LAST"));
    let ended = [(text, "json"), (binary, "sbe")].map(|(mut client, name)| {
        // A ping's answer overtakes ticks, so the last tick is waited for in the file.
        if name == "sbe" {
            eventually("the last tick in the capture", || {
                as_json(&decode(serve.path("captured").as_ref()))
                    .iter()
                    .any(|message| message["symbol"] == "LAST" && message["type"] == "quote")
            });
        }
        client.say("close");
        client.wait().ok()
    });
    let in_json: Vec<Value> = ended[0]
        .iter()
        .map(|line| parse(line))
        .filter(is_shared)
        .collect();
    let in_sbe: Vec<Value> = as_json(&decode(serve.path("captured").as_ref()))
        .into_iter()
        .filter(is_shared)
        .collect();
    let gaps = in_json.iter().filter(|message| message["type"] == "gap");
    assert_eq!(gaps.count(), 1);
    assert!(in_json.len() > 80, "{}", in_json.len());
    for (json, sbe) in in_json.iter().zip(&in_sbe) {
        assert_eq!(json, sbe);
    }
    assert_eq!(in_json.len(), in_sbe.len());
    // Nothing that SBE has a template for came as text.
    assert!(!ended[1].iter().any(|line| is_shared(&parse(line))));
}

/// The bytes of a golden vector: hex, with comments behind `#`.
fn vector(path: &Path) -> Vec<u8> {
    let text = fs::read_to_string(path).expect("the vector");
    let digits: String = text
        .lines()
        .flat_map(|line| {
            line.split('#')
                .next()
                .expect("a first part")
                .split_whitespace()
        })
        .collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex"))
        .collect()
}

fn decode_foreign(message: &[u8]) -> Vec<Value> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let length = (message.len() as u32).to_le_bytes();
    fs::write(file.path(), [&length[..], message].concat()).expect("a file");
    decode(file.path())
}

#[test]
fn a_foreign_decoder_reads_the_golden_vectors_as_ours_does() {
    let folder = repository("proto/vectors/sbe");
    let mut seen = 0;
    for entry in fs::read_dir(folder).expect("the vectors") {
        let path = entry.expect("an entry").path();
        // What publishers send names no symbols, and is below.
        if path.ends_with("published.hex") {
            continue;
        }
        let message = vector(&path);
        let mut ours = Vec::new();
        Decoder::new()
            .decode(&message, |reply| {
                let mut text = Vec::new();
                reply.write_json(&mut text);
                ours.push(serde_json::from_slice::<Value>(&text).expect("JSON"));
            })
            .expect("our decoder reads it");
        assert_eq!(
            as_json(&decode_foreign(&message)),
            ours,
            "{}",
            path.display()
        );
        seen += 1;
    }
    assert_eq!(seen, 8);
}

#[test]
fn a_foreign_decoder_reads_what_publishers_send() {
    let message = vector(&repository("proto/vectors/sbe/published.hex"));
    let expected = [
        json!({"template": "Trade", "symbolId": 5, "flags": [], "side": "Sell", "seq": 42, "ts": 1_763_776_800_000_123_000_u64, "price": "187.23", "size": "100", "skipped": 0, "replay": null}),
        json!({"template": "Quote", "symbolId": 6, "flags": [], "seq": null, "ts": null, "bid": "60430.12000000", "bidSize": "1.50000000", "ask": "60430.13000000", "askSize": "0.25000000", "skipped": 0, "replay": null}),
        json!({"template": "Trade", "symbolId": 6, "flags": [], "side": null, "seq": null, "ts": null, "price": "0.0001", "size": null, "skipped": 0, "replay": null}),
    ];
    assert_eq!(decode_foreign(&message), expected);
}
