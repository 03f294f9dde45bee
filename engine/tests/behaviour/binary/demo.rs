//! `tickwire demo`.

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    process::{Process, command, tickwire},
    ticks::is_tick,
};

#[test]
fn the_demo_needs_no_setup_and_its_lines_can_be_pasted() {
    let demo = Process::start(tickwire(&[
        "demo",
        "--no-page",
        "--listen=127.0.0.1:0",
        "--admin=127.0.0.1:0",
        "--rate=2000",
    ]));
    let subscribe = demo.stdout_line(|line| {
        Some(line.trim())
            .filter(|line| line.starts_with("TICKWIRE_TOKEN="))
            .map(str::to_owned)
    });
    let flowing = demo.stdout_line(|line| {
        let (rate, tick) = line.split_once(" ticks/s  ")?;
        let tick: Value = serde_json::from_str(tick).ok()?;
        Some((rate.trim().parse::<f64>().ok()?, tick))
    });
    assert!(flowing.0 > 0.0 && is_tick(&flowing.1), "{flowing:?}");
    let said = demo.stdout().join("\n");
    for line in [
        "address: ws://127.0.0.1:",
        "metrics: http://127.0.0.1:",
        "token, for an hour: ",
    ] {
        assert!(said.contains(line), "{said}");
    }

    let mut shell = command("/bin/sh");
    shell.args(["-c", &format!("{subscribe} --count 30")]);
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
