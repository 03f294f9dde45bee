//! Instructions of a program, counted by callgrind.
//!
//! Callgrind runs a program on a processor of its own, so that a count does not depend on what
//! else the machine does. It depends on the compiler, on libc, and a little on what the real
//! processor can do, since libc chooses its `memcpy` by that.

use std::{fs, path::Path, process::Command};

use serde::Deserialize;

use crate::{
    error::GateError,
    workspace::{Workspace, json, run},
};

/// What the driver prints on its last line, as far as it is of use here.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Report {
    /// Ticks that went through.
    pub ticks: u64,
    /// Ticks × those who got them.
    pub deliveries: u64,
}

/// One run of the driver.
#[derive(Clone, Debug)]
pub struct Counted {
    /// What it reports.
    pub report: Report,
    /// Instructions of the function that was asked about and of all that it calls.
    pub instructions: u64,
    /// Callgrind's own words.
    pub profile: String,
}

/// Runs the driver once, under callgrind, and counts a function of it; its name may hold `*`.
pub fn count(
    workspace: &Workspace,
    driver: &Path,
    function: &str,
    case: &str,
    ticks: u64,
) -> Result<Counted, GateError> {
    let folder = workspace.scratch("callgrind");
    fs::create_dir_all(&folder).map_err(|source| GateError::File {
        path: folder.clone(),
        source,
    })?;
    let profile = folder.join(format!("{case}.{ticks}"));
    let mut out_file = std::ffi::OsString::from("--callgrind-out-file=");
    out_file.push(&profile);
    let mut valgrind = Command::new("valgrind");
    valgrind
        .arg("--tool=callgrind")
        .arg(out_file)
        .arg(format!("--toggle-collect={function}"))
        .arg(driver)
        .args(["--case", case, "--ticks", &ticks.to_string()]);
    let output = run(&mut valgrind)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let report = json(
        "the driver",
        printed
            .trim_end()
            .lines()
            .last()
            .unwrap_or_default()
            .as_bytes(),
    )?;
    let profile = fs::read_to_string(&profile).map_err(|source| GateError::File {
        path: profile,
        source,
    })?;
    let instructions = total(&profile).ok_or_else(|| GateError::Silent {
        program: "valgrind".to_owned(),
        what: "the instructions in total".to_owned(),
    })?;
    Ok(Counted {
        report,
        instructions,
        profile,
    })
}

/// The sum over a profile: its line `totals: 122968`.
fn total(profile: &str) -> Option<u64> {
    let line = profile
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("totals:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_a_profile_is_found() {
        let profile = "# callgrind format\nevents: Ir\nfn=(0)\n16 3\n\ntotals: 122968\n";
        assert_eq!(total(profile), Some(122_968));
        assert_eq!(total("# callgrind format\n"), None);
    }
}
