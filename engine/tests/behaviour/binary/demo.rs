//! `tickwire demo`.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    process::{Process, TICKWIRE, command, tickwire},
    ticks::is_tick,
};

#[test]
fn the_demo_needs_no_setup_and_its_lines_can_be_pasted() {
    let demo = Process::start(tickwire(&[
        "demo",
        "--listen=127.0.0.1:0",
        "--admin=127.0.0.1:0",
        "--rate=2000",
    ]));
    let export = demo.stdout_line(|line| {
        Some(line.trim())
            .filter(|line| line.starts_with("export TICKWIRE_TOKEN="))
            .map(str::to_owned)
    });
    let subscribe = demo.stdout_line(|line| {
        Some(line.trim())
            .filter(|line| line.starts_with("tickwire subscribe "))
            .map(str::to_owned)
    });
    let said = demo.stdout().join("\n");
    assert!(said.contains("metrics: http://127.0.0.1:"), "{said}");

    // Pasted into a shell that has the binary on its path.
    let folder = Path::new(TICKWIRE).parent().expect("a folder");
    let mut shell = command("/bin/sh");
    shell
        .env("PATH", folder)
        .args(["-c", &format!("{export}\nexec {subscribe} --count 30")]);
    let lines = Process::run(shell).ok();
    let messages: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    assert_eq!(
        messages.iter().filter(|message| is_tick(message)).count(),
        30
    );

    demo.signal(Signal::TERM);
    demo.wait().ok();
}
