//! A run in a few lines, for the terminal.

use std::fmt::Write as _;

use crate::run::{Point, Run};

/// The run, a line per point and per fault.
pub fn of_run(run: &Run) -> String {
    let mut text = format!("{} {} round {}", run.scenario, run.server, run.round);
    for point in &run.points {
        text.push_str("\n  ");
        text.push_str(&of_point(point));
    }
    for fault in &run.faults {
        text.push_str("\n  ! ");
        text.push_str(fault);
    }
    text
}

fn of_point(point: &Point) -> String {
    let mut text = point.label.clone();
    let mut add = |part: std::fmt::Arguments<'_>| {
        text.write_fmt(part)
            .expect("writing to a String never fails");
    };
    if let Some(cpu) = point.cpu {
        let (us, user, busy) = (cpu.us_per_tick, cpu.user_us_per_tick, cpu.busy * 100.0);
        add(format_args!(
            ": {us:.2} µs/tick (user {user:.2}), {busy:.0} % of a core"
        ));
    }
    if point.expected > 0 {
        let (p50, p99) = (point.latency.p50_us, point.latency.p99_us);
        let late = point.published.late.p99_us;
        add(format_args!(
            "; p50 {p50} µs, p99 {p99} µs (sent late p99 {late})"
        ));
        let (delivered, expected) = (point.delivered, point.expected);
        let rate = point.deliveries_per_s;
        add(format_args!(
            "; {delivered} of {expected}, {rate:.0}/s, {:.0} B",
            point.bytes_per_tick
        ));
        let generator = point.generator;
        let busy = generator.core_busy.unwrap_or(generator.thread_busy) * 100.0;
        let ceiling = generator.ceiling_per_s;
        add(format_args!(
            "; generator {busy:.0} %, could take {ceiling:.0}/s"
        ));
    }
    if let Some(memory) = point.memory {
        let idle = memory.idle_bytes_per_connection;
        add(format_args!(
            "; {idle} B idle, {} B busy",
            memory.busy_bytes_per_connection
        ));
    }
    if let Some(syscalls) = point.syscalls_per_tick {
        add(format_args!("; {syscalls:.3} syscalls/tick"));
    }
    for (name, value) in &point.extra {
        add(format_args!("; {name} {value:.2}"));
    }
    if !point.sustained && point.expected > 0 {
        add(format_args!("; not sustained"));
    }
    text
}
