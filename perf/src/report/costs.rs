//! Where the time goes: the profile, the counts of instructions and system calls, and what was
//! written by hand about them.

use std::fmt::Write as _;

use super::{
    figures::number,
    markdown::Table,
    results::{Results, Share},
    scenarios,
};

/// The sections of the report. `notes` are taken as they are, without their title.
pub fn sections(results: &Results, notes: Option<&str>, text: &mut String) {
    text.push_str("## Where the time goes\n\n");
    profile(&results.profile, text);
    instructions(results, text);
    syscalls(results, text);
    match notes {
        Some(notes) => {
            let _ = writeln!(text, "{}\n", without_title(notes).trim());
        }
        None => text.push_str("Nobody has written notes on these runs.\n\n"),
    }
}

fn profile(shares: &[Share], text: &mut String) {
    if shares.is_empty() {
        text.push_str("The profile was not measured.\n\n");
        return;
    }
    let mut table = Table::new(["function", "share"]);
    for share in shares {
        let percent = format!("{:.1} %", share.instructions_share * 100.0);
        table.row([format!("`{}`", share.function), percent]);
    }
    let _ = write!(
        text,
        "Instructions in user mode by function, counted by callgrind:\n\n{table}\n"
    );
}

fn instructions(results: &Results, text: &mut String) {
    if results.instructions.is_empty() {
        text.push_str("Instructions were not counted.\n\n");
        return;
    }
    let mut table = Table::new(["floor turns", "instructions"]);
    for (name, &count) in &results.instructions {
        table.row([format!("`{name}`"), number(count)]);
    }
    let _ = write!(
        text,
        "Instructions per delivered tick, and per tick where none is delivered, counted by \
         callgrind:\n\n{table}\n"
    );
}

fn syscalls(results: &Results, text: &mut String) {
    let table = scenarios::syscalls(results);
    if table.is_empty() {
        text.push_str("System calls were not counted.\n\n");
    } else {
        let _ = write!(
            text,
            "System calls of the server per delivered tick:\n\n{table}\n"
        );
    }
}

/// The report has a title already.
fn without_title(notes: &str) -> &str {
    match notes.split_once('\n') {
        Some((first, rest)) if first.starts_with("# ") => rest,
        _ => notes,
    }
}
