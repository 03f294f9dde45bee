//! The same scenario against tickwire and against another server, in pairs.
//!
//! Both runs of a pair follow each other at once, and the order alternates, so that what changes
//! slowly on the machine falls on both alike.

use std::{fmt::Write as _, fs, io, path::Path, path::PathBuf};

use serde::Serialize;

use crate::{
    host,
    report::{Measurement, TABLE_HEAD, median},
    scenario::{Hot, ScenarioError, Target},
    server::{Program, ServerError, free_address},
    token::Signer,
    upgrade::ServerUrl,
};

/// What to compare, and where.
#[derive(Clone, Debug)]
pub struct Compare {
    /// The scenario.
    pub hot: Hot,
    /// How many pairs.
    pub pairs: u32,
    /// The core that each server gets.
    pub server_core: usize,
    /// The cores of the generator.
    pub generator_cores: Vec<usize>,
    /// Tickwire's binary.
    pub tickwire: PathBuf,
    /// Further arguments for it.
    pub tickwire_args: Vec<String>,
    /// The other server's binary.
    pub peer: PathBuf,
    /// Its read buffer per connection, bytes.
    pub peer_read_buffer: u32,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Every pair, in the order they ran.
    pub pairs: Vec<Pair>,
    /// Median of the pairs' ratios: CPU per delivered tick of the other server over tickwire's.
    pub ratio_median: f64,
    /// The smallest.
    pub ratio_min: f64,
    /// The largest.
    pub ratio_max: f64,
    /// Median of tickwire's CPU per delivered tick, µs.
    pub tickwire_us: f64,
    /// Median of the other server's, µs.
    pub peer_us: f64,
}

/// Two runs that belong together.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// Tickwire's.
    pub tickwire: Measurement,
    /// The other server's.
    pub peer: Measurement,
    /// CPU per delivered tick of the other server over tickwire's: above 1 tickwire is cheaper.
    pub ratio: f64,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The machine refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A server does not run.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A run failed.
    #[error("{server}: {error}\n{log}")]
    Scenario {
        /// Against which server.
        server: String,
        /// Why.
        error: ScenarioError,
        /// The server's last words.
        log: String,
    },
}

impl Compare {
    /// Runs all pairs and tells of each as it ends.
    pub fn run(&self, tell: impl Fn(&str)) -> Result<Comparison, CompareError> {
        host::confine_self(&self.generator_cores)?;
        let folder = tempfile::tempdir()?;
        let secret = write_secret(folder.path())?;
        let signer = Signer::from_file(&secret)?;
        let mut pairs = Vec::new();
        for number in 0..self.pairs {
            let tickwire = || self.measure(&self.tickwire(&secret)?, &signer, folder.path());
            let peer = || self.measure(&self.peer(&secret)?, &signer, folder.path());
            let (tickwire, peer) = if number % 2 == 0 {
                let tickwire = tickwire()?;
                (tickwire, peer()?)
            } else {
                let peer = peer()?;
                (tickwire()?, peer)
            };
            let pair = Pair::new(tickwire, peer);
            tell(&pair.to_markdown(number + 1, self.pairs));
            pairs.push(pair);
        }
        Ok(Comparison::new(pairs))
    }

    /// Programs and versions, for the report.
    pub fn versions(&self) -> Vec<String> {
        let version = |path: &Path| {
            let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
            Program {
                name: String::new(),
                path: path.to_owned(),
                args: Vec::new(),
                listen,
            }
            .version()
        };
        vec![version(&self.tickwire), version(&self.peer)]
    }

    fn measure(
        &self,
        program: &Program,
        signer: &Signer,
        folder: &Path,
    ) -> Result<Measurement, CompareError> {
        let server = program.start(&[self.server_core], folder)?;
        let target = Target {
            name: program.name.clone(),
            server: ServerUrl::from(program.listen),
            pid: Some(server.pid()),
        };
        let measured = self.hot.run(&target, signer);
        let measured = measured.map_err(|error| CompareError::Scenario {
            server: program.name.clone(),
            error,
            log: server.last_words(),
        })?;
        server.check_confined()?;
        Ok(measured)
    }

    fn tickwire(&self, secret: &Path) -> io::Result<Program> {
        let (listen, admin) = (free_address()?, free_address()?);
        let mut args: Vec<String> = ["serve", "--floors", "1", "--per-ip-rate", "0"]
            .map(String::from)
            .into();
        args.extend(["--listen".to_owned(), listen.to_string()]);
        args.extend(["--admin".to_owned(), admin.to_string()]);
        args.extend(["--jwt-hs256-file".to_owned(), secret.display().to_string()]);
        args.extend(self.tickwire_args.iter().cloned());
        Ok(Program {
            name: "tickwire".to_owned(),
            path: self.tickwire.clone(),
            args,
            listen,
        })
    }

    fn peer(&self, secret: &Path) -> io::Result<Program> {
        let listen = free_address()?;
        let args = vec![
            "--listen".to_owned(),
            listen.to_string(),
            "--jwt-hs256-file".to_owned(),
            secret.display().to_string(),
            "--workers".to_owned(),
            "1".to_owned(),
            "--read-buffer".to_owned(),
            self.peer_read_buffer.to_string(),
        ];
        Ok(Program {
            name: "tokio-tungstenite".to_owned(),
            path: self.peer.clone(),
            args,
            listen,
        })
    }
}

impl Comparison {
    fn new(pairs: Vec<Pair>) -> Self {
        let of = |value: fn(&Pair) -> f64| pairs.iter().map(value).collect::<Vec<f64>>();
        let ratios = of(|pair| pair.ratio);
        Self {
            ratio_median: median(&ratios),
            ratio_min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratio_max: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            tickwire_us: median(&of(|pair| us_per_tick(&pair.tickwire))),
            peer_us: median(&of(|pair| us_per_tick(&pair.peer))),
            pairs,
        }
    }

    /// Whether no run was spoilt.
    pub fn is_sound(&self) -> bool {
        self.pairs
            .iter()
            .all(|pair| pair.runs().iter().all(|run| run.faults().is_empty()))
    }

    /// The last lines of the report.
    pub fn to_markdown(&self) -> String {
        format!(
            "CPU per delivered tick, median of {}: tickwire {:.3} µs, tokio-tungstenite {:.3} µs.\n\
             Ratio tokio-tungstenite / tickwire: median {:.2}, {:.2} to {:.2}.",
            self.pairs.len(),
            self.tickwire_us,
            self.peer_us,
            self.ratio_median,
            self.ratio_min,
            self.ratio_max,
        )
    }
}

impl Pair {
    fn new(tickwire: Measurement, peer: Measurement) -> Self {
        let ratio = us_per_tick(&peer) / us_per_tick(&tickwire);
        Self {
            tickwire,
            peer,
            ratio,
        }
    }

    fn runs(&self) -> [&Measurement; 2] {
        [&self.tickwire, &self.peer]
    }

    fn to_markdown(&self, number: u32, of: u32) -> String {
        let mut text = format!(
            "Pair {number} of {of}: ratio {:.2}\n\n{TABLE_HEAD}\n",
            self.ratio
        );
        for run in self.runs() {
            text.push_str(&run.row());
            text.push('\n');
        }
        for run in self.runs() {
            for fault in run.faults() {
                writeln!(text, "\n**{}**: {fault}", run.server)
                    .expect("writing to a String never fails");
            }
        }
        text
    }
}

fn us_per_tick(run: &Measurement) -> f64 {
    run.cpu.as_ref().map_or(f64::NAN, |cpu| cpu.us_per_tick)
}

/// A fresh secret for one comparison.
fn write_secret(folder: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 32];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut random)?;
    let path = folder.join("secret");
    let mut text = String::new();
    for byte in random {
        write!(text, "{byte:02x}").expect("writing to a String never fails");
    }
    fs::write(&path, text)?;
    Ok(path)
}
