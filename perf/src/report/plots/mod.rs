//! Plots, as SVG: what a table cannot show.

mod axis;
mod bars;
mod canvas;
mod curves;

use std::{collections::HashMap, fmt::Write as _, fs, io, path::Path};

use plotters::style::RGBColor;

use super::{
    metric::Metric,
    ramps,
    results::{Place, Results},
    servers::{Role, Server},
    steps,
};

/// All plots of a report.
pub struct Pictures {
    pictures: Vec<Picture>,
    /// From the report to the folder that they are in, with a slash at its end unless empty.
    pub link_prefix: String,
}

struct Picture {
    scenario: String,
    file: String,
    caption: String,
    svg: String,
}

/// A kind of picture.
struct Kind {
    /// The end of its file's name.
    file: &'static str,
    /// The end of its caption.
    shows: &'static str,
}

const LATENCY: Kind = kind("latency", "latency by percentile");
const CPU: Kind = kind("cpu", "CPU per delivered tick");
const SUBSCRIBERS: Kind = kind("subscribers", "CPU per delivered tick against subscribers");
const THROUGHPUT: Kind = kind("throughput", "p99 latency against throughput");

const fn kind(file: &'static str, shows: &'static str) -> Kind {
    Kind { file, shows }
}

/// How a server is drawn, the same in every plot.
#[derive(Clone, Copy, Debug)]
struct Pen {
    colour: RGBColor,
    width: u32,
    /// Lengths of dash and gap; none for a solid line.
    dash: Option<(u32, u32)>,
}

/// By their place in the family: the first one's line is solid, and seven is the largest family.
const DASHES: [Option<(u32, u32)>; 7] = [
    None,
    Some((9, 4)),
    Some((3, 3)),
    Some((16, 4)),
    Some((5, 9)),
    Some((2, 6)),
    Some((24, 8)),
];

/// How every server of a report is drawn.
struct Pens(HashMap<String, Pen>);

impl Pictures {
    /// Draws whatever the results have figures for.
    ///
    /// # Errors
    ///
    /// None that is known: drawing needs no file and no font.
    pub fn draw(results: &Results, link_prefix: String) -> io::Result<Self> {
        let mut pictures = Self {
            pictures: Vec::new(),
            link_prefix,
        };
        let pens = Pens::new(&results.servers());
        for scenario in results.scenarios() {
            if ramps::is_ramp(scenario) {
                let svg = curves::throughput(results, scenario, &pens)?;
                pictures.add(scenario, scenario, &THROUGHPUT, svg);
                continue;
            }
            if steps::is_of_steps(scenario) {
                continue;
            }
            let svg = curves::subscribers(results, scenario, &pens)?;
            // It shows what bars for each of the points would.
            let bars_wanted = svg.is_none();
            pictures.add(scenario, scenario, &SUBSCRIBERS, svg);
            for place in results.places(scenario) {
                let name = results.name(place);
                let svg = curves::percentiles(results, place, &pens)?;
                pictures.add(scenario, &name, &LATENCY, svg);
                if bars_wanted {
                    let svg = bars::cpu(results, place, &pens)?;
                    pictures.add(scenario, &name, &CPU, svg);
                }
            }
        }
        Ok(pictures)
    }

    /// Adds the picture of what is called `name`.
    fn add(&mut self, scenario: &str, name: &str, kind: &Kind, svg: Option<String>) {
        let Some(svg) = svg else { return };
        self.pictures.push(Picture {
            scenario: scenario.to_owned(),
            file: format!("{}.svg", slug(&format!("{name} {}", kind.file))),
            caption: format!("{name}: {}", kind.shows),
            svg,
        });
    }

    /// Writes all into `folder`.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        self.pictures
            .iter()
            .try_for_each(|picture| fs::write(folder.join(&picture.file), &picture.svg))
    }

    /// Links to those of a scenario.
    pub fn of_scenario(&self, scenario: &str, text: &mut String) {
        for picture in self
            .pictures
            .iter()
            .filter(|picture| picture.scenario == scenario)
        {
            let Picture { caption, file, .. } = picture;
            let _ = write!(text, "![{caption}]({}{file})\n\n", self.link_prefix);
        }
    }
}

impl Pens {
    /// `servers` in the order of tables.
    fn new(servers: &[Server]) -> Self {
        let mut in_family: HashMap<usize, usize> = HashMap::new();
        let pens = servers.iter().map(|server| {
            let place = in_family.entry(server.place()).or_default();
            let family = server.family();
            let (red, green, blue) = family.colour;
            let pen = Pen {
                colour: RGBColor(red, green, blue),
                width: if family.role == Role::Ours { 3 } else { 2 },
                dash: DASHES[*place % DASHES.len()],
            };
            *place += 1;
            (server.name.clone(), pen)
        });
        Self(pens.collect())
    }

    fn of(&self, server: &Server) -> Pen {
        self.0[&server.name]
    }
}

/// A name for a file: letters and digits, and `-` for all between.
fn slug(text: &str) -> String {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    words.join("-")
}

/// The median of a figure over the rounds.
fn median(results: &Results, place: Place<'_>, metric: &Metric) -> Option<f64> {
    results.spread(place, metric).map(|spread| spread.median)
}
