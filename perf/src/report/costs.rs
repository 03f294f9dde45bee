//! Where the time goes: the profile, the system calls, and what was written by hand about them.

use std::{fmt::Write as _, fs, io, path::Path};

use serde::Deserialize;

use super::{markdown::Table, results::Results, scenarios};

/// File of the profile in the folder of results.
const PROFILE: &str = "profile.json";

/// One line of `profile.json`.
#[derive(Clone, Debug, Deserialize)]
struct Share {
    function: String,
    /// Of all instructions, 0 to 1.
    instructions_share: f64,
}

/// The sections of the report. `notes` are taken as they are, without their title.
///
/// # Errors
///
/// `profile.json` is there and cannot be read: a report without it would look as if there was none.
pub fn sections(
    results: &Results,
    folder: &Path,
    notes: Option<&str>,
    text: &mut String,
) -> io::Result<()> {
    text.push_str("## Where the time goes\n\n");
    profile(folder, text)?;
    syscalls(results, text);
    match notes {
        Some(notes) => {
            let _ = writeln!(text, "{}\n", without_title(notes).trim());
        }
        None => text.push_str("Nobody has written notes on these runs.\n\n"),
    }
    Ok(())
}

fn profile(folder: &Path, text: &mut String) -> io::Result<()> {
    let path = folder.join(PROFILE);
    let json = match fs::read_to_string(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            text.push_str("The profile was not measured.\n\n");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let named = |error| io::Error::other(format!("{}: {error}", path.display()));
    let mut shares: Vec<Share> = serde_json::from_str(&json).map_err(named)?;
    shares.sort_by(|one, other| other.instructions_share.total_cmp(&one.instructions_share));
    text.push_str("Instructions in user mode by function, counted by callgrind:\n\n");
    let mut table = Table::new(["function", "share"]);
    for share in shares {
        let percent = format!("{:.1} %", share.instructions_share * 100.0);
        table.row([format!("`{}`", share.function), percent]);
    }
    let _ = writeln!(text, "{table}");
    Ok(())
}

fn syscalls(results: &Results, text: &mut String) {
    let table = scenarios::syscalls(results);
    if table.is_empty() {
        text.push_str("System calls were not counted.\n\n");
    } else {
        let _ = writeln!(
            text,
            "System calls of the server per delivered tick:\n\n{table}"
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
