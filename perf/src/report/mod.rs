//! The report: `REPORT.md` and its plots, made from the files of one comparison and nothing else.
//!
//! ```text
//!  results/<run>/*.json ─► results ─► figures: medians, ratios paired by round
//!                                       ├─► opening, scenarios, ramps, targets, better ─┐
//!                          NOTES.md ────┼─► costs ──────────────────────────────────────┴► REPORT.md
//!                                       └─► plots ─► results/<run>/*.svg
//! ```
//!
//! The same files make the same bytes.

mod better;
mod costs;
mod figures;
mod markdown;
mod metric;
mod opening;
mod plots;
mod ramps;
mod results;
mod scenarios;
mod servers;
mod steps;
pub mod targets;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use self::{plots::Pictures, results::Results, targets::Targets};

/// Beside the report, unless another file is named.
const NOTES: &str = "NOTES.md";

/// What the report is made from, and where it goes.
#[derive(clap::Args)]
pub struct Report {
    /// The folder with the files of the runs; plots are written there too.
    #[arg(long)]
    pub from: PathBuf,
    /// Where the report goes.
    #[arg(long, default_value = "perf/REPORT.md")]
    pub out: PathBuf,
    /// Sections written by hand; by default NOTES.md beside the report, if there is one.
    #[arg(long)]
    pub notes: Option<PathBuf>,
}

impl Report {
    /// Writes the report. Missed targets are no failure of it.
    ///
    /// # Errors
    ///
    /// Files cannot be read or written. Single files of runs that cannot be read are named in the
    /// report instead.
    pub fn write(self) -> io::Result<bool> {
        let named = |error: io::Error, path: &Path| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        let results = Results::read(&self.from).map_err(|error| named(error, &self.from))?;
        let beside = self.out.parent().unwrap_or(Path::new(""));
        let mut link_prefix = relative(beside, &self.from).map_err(|error| named(error, beside))?;
        if !link_prefix.is_empty() {
            link_prefix.push('/');
        }
        let pictures = Pictures::draw(&results, link_prefix)?;
        let text = self.text(&results, &pictures)?;
        pictures.write(&self.from)?;
        fs::write(&self.out, text).map_err(|error| named(error, &self.out))?;
        Ok(true)
    }

    fn text(&self, results: &Results, pictures: &Pictures) -> io::Result<String> {
        let notes = self.notes()?;
        let targets = Targets::built_in();
        // The root of the repository, where commands are given, is where this one was.
        let folder = relative(Path::new(""), &self.from)?;
        let mut text = String::new();
        opening::sections(results, &folder, targets.tally(results), &mut text);
        targets.section(results, &mut text);
        scenarios::sections(results, pictures, &mut text);
        better::section(results, &mut text);
        costs::sections(results, notes.as_deref(), &mut text);
        let mut text = text.trim_end().to_owned();
        text.push('\n');
        Ok(text)
    }

    fn notes(&self) -> io::Result<Option<String>> {
        let beside = self.out.with_file_name(NOTES);
        match fs::read_to_string(self.notes.as_ref().unwrap_or(&beside)) {
            Ok(notes) => Ok(Some(notes)),
            Err(error) if self.notes.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The way from one folder to another, as links have it: with slashes, and without the names of
/// what lies above both.
fn relative(from: &Path, to: &Path) -> io::Result<String> {
    let whole = |path: &Path| {
        fs::canonicalize(if path == Path::new("") {
            Path::new(".")
        } else {
            path
        })
    };
    let (from, to) = (whole(from)?, whole(to)?);
    let common = from
        .components()
        .zip(to.components())
        .take_while(|(one, other)| one == other)
        .count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    let way = up.chain(to.components().skip(common));
    let names: Vec<String> = way
        .map(|component| component.as_os_str().to_string_lossy().into_owned())
        .collect();
    Ok(names.join("/"))
}
