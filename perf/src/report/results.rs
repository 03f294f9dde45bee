//! The files of one comparison, and the figures that they hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use serde::{Deserialize, de::DeserializeOwned};

use crate::run::{Point, Run};

use super::{
    figures::{Rounds, Spread},
    metric::{Metric, Which},
    servers::Server,
};

/// The profile: a list of [`Share`].
const PROFILE: &str = "profile.json";
/// Instructions by what was counted: names and numbers.
const INSTRUCTIONS: &str = "instructions.json";

/// What a comparison left in its folder.
#[derive(Debug, Default)]
pub struct Results {
    /// Ascending by scenario, server and round.
    pub runs: Vec<Run>,
    /// Files of runs that are none, and why.
    pub unreadable: Vec<(String, String)>,
    /// The profile, largest share first; empty where there is none.
    pub profile: Vec<Share>,
    /// Instructions per delivered tick, or per tick where none is delivered, by what was counted.
    pub instructions: BTreeMap<String, f64>,
}

/// A function's part of a profile.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Share {
    /// Its name.
    pub function: String,
    /// Of all instructions, 0 to 1.
    pub instructions_share: f64,
}

/// Whose figure is meant.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The scenario.
    pub scenario: &'a str,
    /// The server's name.
    pub server: &'a str,
    /// Which of the run's points.
    pub which: Which<'a>,
}

impl Results {
    /// Reads every `<scenario>--<server>--<round>.json` of `folder`, and [`PROFILE`] and
    /// [`INSTRUCTIONS`] if they are there.
    ///
    /// A file that cannot be read is named in the report: the comparison is not lost with it, and
    /// nobody takes it for complete.
    ///
    /// # Errors
    ///
    /// The folder cannot be read, or has no file of a run. A profile or counts that are there and
    /// cannot be read: a report without them would look as if there were none.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut results = Self::default();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_run = name.matches("--").count() >= 2 && name.ends_with(".json");
            if !is_run {
                continue;
            }
            match Run::read(&path) {
                Ok(run) => results.runs.push(run),
                Err(error) => {
                    // It begins with the path, of which the report has its own idea.
                    let path = format!("{}: ", path.display());
                    let reason = error.to_string().replace(&path, "");
                    results.unreadable.push((name.into_owned(), reason));
                }
            }
        }
        if results.runs.is_empty() && results.unreadable.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "no file of a run in it",
            ));
        }
        // The order of a folder's entries is the file system's own; a report must not depend on it.
        let key = |run: &Run| (run.scenario.clone(), run.server.clone(), run.round);
        results.runs.sort_by_cached_key(key);
        results.unreadable.sort();
        results.profile = counted(folder, PROFILE)?;
        let by_share = |one: &Share, other: &Share| {
            other.instructions_share.total_cmp(&one.instructions_share)
        };
        results.profile.sort_by(by_share);
        results.instructions = counted(folder, INSTRUCTIONS)?;
        Ok(results)
    }

    /// The runs of one server in one scenario, by round.
    pub fn runs_of<'a>(
        &'a self,
        scenario: &'a str,
        server: &'a str,
    ) -> impl Iterator<Item = &'a Run> {
        self.runs
            .iter()
            .filter(move |run| run.scenario == scenario && run.server == server)
    }

    /// Names of all scenarios, ascending.
    pub fn scenarios(&self) -> BTreeSet<&str> {
        self.runs.iter().map(|run| run.scenario.as_str()).collect()
    }

    /// All servers, in the order of the report.
    pub fn servers(&self) -> Vec<Server> {
        self.servers_where(|_| true)
    }

    /// The servers that were run in a scenario, in the order of the report.
    pub fn servers_in(&self, scenario: &str) -> Vec<Server> {
        self.servers_where(|run| run.scenario == scenario)
    }

    fn servers_where(&self, wanted: impl Fn(&Run) -> bool) -> Vec<Server> {
        let runs = self.runs.iter().filter(|run| wanted(run));
        let titles: BTreeMap<&str, &str> = runs
            .map(|run| (run.server.as_str(), run.title.as_str()))
            .collect();
        let mut servers: Vec<Server> = titles
            .into_iter()
            .map(|(name, title)| Server::new(name, title))
            .collect();
        servers.sort();
        servers
    }

    /// What sets a scenario's points apart, in the order of the run that has most of them; one
    /// empty label where there is one point only.
    fn labels(&self, scenario: &str) -> Vec<&str> {
        let runs = || self.runs.iter().filter(|run| run.scenario == scenario);
        // The first of several with the most: `max_by_key` would take the last.
        let most = runs().map(|run| run.points.len()).max().unwrap_or_default();
        let fullest = runs().find(|run| run.points.len() == most);
        let mut labels: Vec<&str> = Vec::new();
        for point in fullest
            .into_iter()
            .chain(runs())
            .flat_map(|run| &run.points)
        {
            if !labels.contains(&point.label.as_str()) {
                labels.push(&point.label);
            }
        }
        labels
    }

    /// A place for each of a scenario's points, of no server yet: [`Place::of`] makes it one's.
    pub fn places<'a>(&'a self, scenario: &'a str) -> Vec<Place<'a>> {
        let place = |label| Place {
            scenario,
            server: "",
            which: Which::label(label),
        };
        self.labels(scenario).into_iter().map(place).collect()
    }

    /// What a place is called: by its scenario, and by its label if there are others.
    pub fn name(&self, place: Place<'_>) -> String {
        match place.which.label {
            Some(label) if self.labels(place.scenario).len() > 1 => {
                format!("{}: {label}", place.scenario)
            }
            _ => place.scenario.to_owned(),
        }
    }

    /// How many rounds a scenario has.
    pub fn rounds(&self, scenario: &str) -> usize {
        let runs = self.runs.iter().filter(|run| run.scenario == scenario);
        runs.map(|run| run.round).collect::<BTreeSet<_>>().len()
    }

    /// A figure of every round in which it was measured.
    pub fn by_round(&self, place: Place<'_>, metric: &Metric) -> Rounds {
        self.runs_of(place.scenario, place.server)
            .filter_map(|run| Some((run.round, metric.of(run, place.which)?)))
            .collect()
    }

    /// A figure over all rounds.
    pub fn spread(&self, place: Place<'_>, metric: &Metric) -> Option<Spread> {
        Spread::of(self.by_round(place, metric).into_values())
    }

    /// A figure as a multiple of another server's, paired round by round. None of a server against
    /// itself, which says nothing.
    pub fn ratio(&self, of: Place<'_>, against: Place<'_>, metric: &Metric) -> Option<Spread> {
        if of.server == against.server {
            return None;
        }
        let (of, against) = (self.by_round(of, metric), self.by_round(against, metric));
        Spread::paired(&of, &against)
    }
}

impl<'a> Place<'a> {
    /// The points of a run that are meant.
    pub fn points_of(self, run: &'a Run) -> impl Iterator<Item = &'a Point> {
        run.points
            .iter()
            .filter(move |point| self.which.matches(point))
    }

    /// The same of another server.
    pub fn of(self, server: &'a str) -> Self {
        Self { server, ..self }
    }
}

/// What a file holds; nothing where there is no file.
fn counted<T: DeserializeOwned + Default>(folder: &Path, name: &str) -> io::Result<T> {
    let json = match fs::read_to_string(folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        read => read?,
    };
    serde_json::from_str(&json).map_err(|error| io::Error::other(format!("{name}: {error}")))
}
