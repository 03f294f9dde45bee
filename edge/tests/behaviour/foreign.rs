//! Clients that others wrote, unmodified: Chromium, its `EventSource`, and Python's httpx.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    account::Account,
    harness::{PATIENCE, Site, token},
    processes::{Process, edge, free_address, lines, tickwire},
};

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn script(name: &str) -> PathBuf {
    repository("edge/tests/foreign").join(name)
}

/// A Node script, with the packages and the browser that `make deps` installs.
fn node(name: &str) -> Command {
    let packages = repository(".deps/npm/node_modules/playwright-core");
    let browser = std::env::var("CHROMIUM").unwrap_or("/usr/bin/chromium".to_owned());
    for needed in [packages, browser.into()] {
        assert!(needed.exists(), "no {}: run `make deps`", needed.display());
    }
    let mut command = Command::new("node");
    command.arg(script(name));
    command
}

#[test]
fn the_page_runs_in_chromium_over_each_transport() {
    let page = free_address();
    let mut demo = tickwire();
    demo.args([
        "demo",
        "--listen=127.0.0.1:0",
        "--admin=127.0.0.1:0",
        "--rate=500",
    ])
    .arg(format!("--page={page}"))
    .arg("--page-admin=127.0.0.1:0")
    .stdout(Stdio::null());
    let _demo = Process::listening(demo, page);
    let folder = std::env::var("TICKWIRE_SCREENSHOTS")
        .map_or_else(|_| repository("target/screenshots"), PathBuf::from);
    let output = node("page.mjs")
        .arg(format!("http://{page}/"))
        .arg(&folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("done"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    print!("{said}");
}

#[test]
fn event_source_resumes_with_its_cookie_when_the_edge_is_killed() {
    let site = Site::start();
    let mut publisher = site.publisher();
    publisher.trades("A", 1..=10);
    let listen = free_address();
    let mut running = edge(&site, listen);
    let source = node("event_source.mjs")
        .arg(format!("http://{listen}"))
        .args([&token(), "symbols=A&channels=trade"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut source = Process::of(source.unwrap());
    let told = lines(&mut source);
    let mut account = Account::default();
    let mut opens = 0;
    let mut seq = 10;
    // Each time the edge is killed while ticks flow, and they go on while there is none.
    for killed in 0..3 {
        let until = seq + 500;
        while account.at < until {
            if seq < until {
                seq += 1;
                publisher.trade("A", 1, seq);
                std::thread::sleep(Duration::from_millis(2));
            }
            // Only what is there, so that ticks go on coming.
            let patience = if seq < until {
                Duration::ZERO
            } else {
                PATIENCE
            };
            match told.recv_timeout(patience) {
                Ok(line) if line == "open" => opens += 1,
                Ok(line) => {
                    account.take(&serde_json::from_str::<Value>(&line).unwrap());
                }
                Err(error) => assert!(patience.is_zero(), "{error} behind {account:?}"),
            }
        }
        // `id:` blocks come once a second.
        std::thread::sleep(Duration::from_millis(1_200));
        if killed < 2 {
            drop(running);
            for _ in 0..100 {
                seq += 1;
                publisher.trade("A", 1, seq);
            }
            running = edge(&site, listen);
        }
    }
    drop(running);
    assert_eq!((account.gapped, opens), (0, 3), "{account:?}");
    println!("{account:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn httpx_reads_a_hundred_streams_over_one_connection() {
    let site = Site::start();
    let mut publisher = site.publisher();
    publisher.trades("A", 1..=1);
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str| site.files.path().join(name);
    std::fs::write(file("cert.pem"), certified.cert.pem()).unwrap();
    std::fs::write(file("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    let edge = site
        .edge_with(|config| {
            config.tls_cert_file = Some(file("cert.pem"));
            config.tls_key_file = Some(file("key.pem"));
        })
        .await;
    let python = repository(".deps/python/bin/python");
    assert!(python.exists(), "no {}: run `make deps`", python.display());
    let origin = format!("https://localhost:{}", edge.edge.listen_addr().port());
    let reader = Command::new(python)
        .arg(script("http2.py"))
        .arg(origin)
        .arg(file("cert.pem"))
        .args([&token(), "100", "50"])
        .stdout(Stdio::piped())
        .spawn();
    let mut reader = Process::of(reader.unwrap());
    let told = lines(&mut reader);
    edge.reaches("tickwire_edge_streams", 100).await;
    assert_eq!(edge.metric("tickwire_edge_sockets", "").await, 1);
    for seq in 2..=60 {
        publisher.trade("A", 1, seq);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let told = told.recv_timeout(PATIENCE).expect("it ends");
    assert_eq!(told, r#"{"streams": 100, "versions": ["HTTP/2"]}"#);
}
