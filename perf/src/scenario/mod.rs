//! What is measured: who follows what, at which rates, and which windows count.

mod bridge;
mod burst;
mod churn;
mod hosts;
mod idle;
mod latency;
mod ramp;
mod scale;
mod slow;
mod soak;
mod steady;
mod storm;
mod traces;

use std::io;

use clap::ValueEnum;

use crate::{
    contender::{Contender, Stage},
    dialect::Dialect,
    load::{Follows, Pace},
    run::Point,
    server::ServerError,
    session::{self, Audience, SessionError, Target},
    ticks::Symbols,
    token::Signer,
    zipf::{Random, Zipf},
};

/// p99 up to which a server keeps up, unless a scenario says otherwise.
const P99_MAX_US: u64 = 100_000;

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Many subscribers of one symbol.
    Hot,
    /// Subscribers of ten symbols each, popularity after Zipf.
    Watchlist,
    /// Few subscribers of everything.
    Firehose,
    /// A rate that rises to fifty times the mean for two seconds.
    Burst,
    /// Silent connections.
    Idle,
    /// A low rate, to one subscriber and to many.
    Latency,
    /// tickwire with one floor and with more.
    Scale,
    /// `hot` at the highest rate sustained.
    RampHot,
    /// `watchlist` at the highest rate sustained.
    RampWatchlist,
    /// Everyone comes back at once, beside those who stay.
    Storm,
    /// Some subscribers stop reading for a while.
    Slow,
    /// Clients that come and go.
    Churn,
    /// All of that at once.
    Soak,
    /// Server-Sent Events to many subscribers of one symbol.
    Sse,
    /// Hosts that share ticks through Redis.
    Hosts,
    /// The most ticks that go through one Redis.
    Bridge,
}

/// Its figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Connections.
    pub subscribers: u32,
    /// Ticks per second.
    pub rate: u32,
    /// Ticks flow this long before the window, s.
    pub warmup_s: f64,
    /// The window, s.
    pub duration_s: f64,
    /// Symbols published.
    pub symbols: u32,
    /// Symbols that each connection follows, where it follows some.
    pub per_subscriber: u32,
    /// What the choice of symbols is drawn from.
    pub seed: u64,
    /// How connections are made.
    pub pace: Pace,
    /// Connections of one process; `idle` starts more where there are more.
    pub process_max: u32,
    /// How long a ramp may go on, s; no step begins after that.
    pub ramp_s: f64,
    /// Whether system calls are counted as well, where there is one rate.
    pub syscalls: bool,
}

/// How often a scenario is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundCount {
    /// By servers that a target of it names: their ratios are to be medians.
    pub targets: u32,
    /// By all others, which shows where they stand.
    pub others: u32,
}

impl RoundCount {
    /// `rounds` by every server.
    pub fn each(rounds: u32) -> Self {
        Self {
            targets: rounds,
            others: rounds,
        }
    }
}

/// A server to play against.
pub enum Arena<'a> {
    /// One that runs already.
    Running(Target<'a>),
    /// One that is started for each play.
    Started {
        /// Which.
        contender: &'a Contender,
        /// Where.
        stage: &'a Stage,
        /// Its dialect.
        dialect: &'a dyn Dialect,
    },
}

/// Why a run came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The machine refused, or the server left its core.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server does not run.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The measurement failed.
    #[error("{error}\n{log}")]
    Session {
        /// Why.
        error: SessionError,
        /// The server's last words.
        log: String,
    },
}

impl Scenario {
    /// All of them, each with its rounds.
    pub fn all(quick: bool) -> Vec<(Self, RoundCount)> {
        let rounds = |targets, others| {
            if quick {
                RoundCount::each(1)
            } else {
                RoundCount { targets, others }
            }
        };
        let all = [
            // CPU varies more from run to run than what most targets leave between them.
            (Self::Hot, rounds(15, 2)),
            (Self::Watchlist, rounds(9, 2)),
            (Self::RampHot, rounds(5, 1)),
            (Self::RampWatchlist, rounds(5, 1)),
            (Self::Burst, rounds(5, 1)),
            (Self::Latency, rounds(5, 1)),
            (Self::Idle, rounds(5, 1)),
            (Self::Firehose, rounds(1, 1)),
            (Self::Scale, rounds(1, 1)),
            (Self::Storm, rounds(5, 5)),
            (Self::Slow, rounds(5, 5)),
            (Self::Churn, rounds(1, 1)),
            (Self::Soak, rounds(1, 1)),
            (Self::Sse, rounds(5, 1)),
            (Self::Hosts, rounds(1, 1)),
            (Self::Bridge, rounds(1, 1)),
        ];
        // What a first look goes without.
        let skipped = |scenario| {
            let long = [
                Self::Latency,
                Self::Idle,
                Self::Firehose,
                Self::Scale,
                Self::Burst,
                Self::Storm,
                Self::Slow,
                Self::Churn,
                Self::Soak,
                Self::Sse,
                Self::Hosts,
                Self::Bridge,
            ];
            quick && long.contains(&scenario)
        };
        all.into_iter().filter(|play| !skipped(play.0)).collect()
    }

    /// Its name in files and on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// Its figures, unless others are asked for. `quick` ones are for a first look.
    pub fn settings(self, quick: bool) -> Settings {
        let common = Settings {
            subscribers: 1_000,
            rate: 100,
            warmup_s: 1.0,
            duration_s: 5.0,
            symbols: 1,
            per_subscriber: 1,
            seed: 1,
            pace: Pace {
                connects_per_s: 2_000,
                in_progress_max: 64,
                sources: 0,
            },
            process_max: 19_000,
            ramp_s: if quick { 20.0 } else { 45.0 },
            syscalls: false,
        };
        let many = Pace {
            connects_per_s: 4_000,
            ..common.pace
        };
        let watchlist = Settings {
            subscribers: 2_000,
            rate: 5_000,
            symbols: 1_000,
            per_subscriber: 10,
            ..common
        };
        match self {
            Self::Hot | Self::RampHot => common,
            Self::Watchlist => watchlist,
            Self::Firehose => Settings {
                subscribers: 100,
                rate: 1_000,
                per_subscriber: 1_000,
                ..watchlist
            },
            Self::Burst => Settings {
                rate: 200,
                ..watchlist
            },
            Self::Idle => Settings {
                subscribers: 19_000,
                symbols: 1_000,
                pace: many,
                ..common
            },
            Self::Latency => Settings {
                subscribers: 10_000,
                duration_s: 3.0,
                pace: many,
                ..common
            },
            Self::Scale => Settings {
                rate: 2_500,
                ..watchlist
            },
            Self::RampWatchlist => Settings {
                rate: 2_000,
                ..watchlist
            },
            Self::Churn => Settings {
                subscribers: 16_000,
                duration_s: 300.0,
                symbols: 10,
                pace: many,
                ..common
            },
            Self::Soak => Settings {
                subscribers: 500,
                rate: 200,
                duration_s: 1_200.0,
                symbols: 10,
                per_subscriber: 10,
                ..common
            },
            Self::Sse => Settings {
                subscribers: 5_000,
                rate: 20,
                duration_s: 60.0,
                ..common
            },
            Self::Hosts => hosts::settings(common),
            Self::Bridge => bridge::settings(common),
            Self::Slow => Settings {
                subscribers: 900,
                rate: 200,
                ..common
            },
            Self::Storm => Settings {
                subscribers: 2_000,
                rate: 20,
                symbols: 10,
                per_subscriber: 10,
                ..common
            },
        }
    }

    /// What makes a run of it worthless for a comparison; empty for a sound one.
    pub fn faults(self, points: &[Point]) -> Vec<String> {
        match self {
            // Steps beyond what the server can take are the point of it.
            Self::RampHot | Self::RampWatchlist | Self::Bridge => {
                let strange = |point: &&Point| {
                    let counts = point.counts;
                    counts.duplicates + counts.out_of_order + counts.contradictions > 0
                };
                let last = points.iter().rfind(strange);
                let faults =
                    last.map(|point| format!("the account does not balance: {:?}", point.counts));
                faults.into_iter().collect()
            }
            // Others take what is left of the generator's core.
            Self::Storm | Self::Slow | Self::Soak => {
                points.iter().flat_map(session::losses).collect()
            }
            Self::Hosts => points.iter().flat_map(hosts::faults).collect(),
            _ => points.iter().flat_map(session::faults).collect(),
        }
    }

    /// Plays it; what it measured.
    pub fn play(
        self,
        settings: &Settings,
        arena: &Arena<'_>,
        signer: &Signer,
    ) -> Result<Vec<Point>, PlayError> {
        match self {
            Self::Hot | Self::Watchlist | Self::Firehose | Self::Sse => {
                steady::play(settings, arena, signer)
            }
            Self::Burst => burst::play(settings, arena, signer),
            Self::Idle => idle::play(settings, arena, signer),
            Self::Latency => latency::play(settings, arena, signer),
            Self::Scale => scale::play(settings, arena, signer),
            Self::RampHot | Self::RampWatchlist => ramp::play(settings, arena, signer),
            Self::Storm => storm::play(settings, arena, signer),
            Self::Slow => slow::play(settings, arena, signer),
            Self::Churn => churn::play(settings, arena, signer),
            Self::Soak => soak::play(settings, arena, signer),
            Self::Hosts => hosts::play(settings, arena, signer),
            Self::Bridge => bridge::play(settings, arena, signer),
        }
    }
}

impl Settings {
    /// Who follows what.
    pub fn audience(&self) -> Audience {
        let symbols = Symbols::numbered(self.symbols as usize);
        let zipf = Zipf::new(symbols.len());
        let mut random = Random::new(self.seed);
        // Symbols tick in the order of their numbers. Were that the order of their popularity, most
        // deliveries would be due at once at the begin of each round, which no market does.
        let by_rank = random.shuffled(self.symbols);
        let follows = (0..self.subscribers).map(|_| {
            if self.symbols > 1 && self.per_subscriber >= self.symbols {
                Follows::All
            } else {
                let count = self.per_subscriber as usize;
                let ranks = zipf.distinct(count, &mut random);
                let mut symbols: Vec<u32> =
                    ranks.iter().map(|&rank| by_rank[rank as usize]).collect();
                symbols.sort_unstable();
                Follows::Symbols(symbols)
            }
        });
        Audience {
            follows: follows.collect(),
            symbols,
            pace: self.pace,
        }
    }
}

impl Arena<'_> {
    /// Plays against the server, with `extra` on its command line if it is tickwire and started
    /// here.
    pub fn play<T>(
        &self,
        extra: &[String],
        play: impl FnOnce(Target<'_>) -> Result<T, SessionError>,
    ) -> Result<T, PlayError> {
        match self {
            Self::Running(target) => play(*target).map_err(|error| PlayError::Session {
                error,
                log: String::new(),
            }),
            Self::Started {
                contender,
                stage,
                dialect,
            } => {
                let (server, program) = contender.start(stage, extra)?;
                let target = Target {
                    dialect: *dialect,
                    server: program.listen,
                    tree: Some(server.tree()),
                };
                let played = play(target).map_err(|error| PlayError::Session {
                    error,
                    log: server.last_words(),
                })?;
                server.check_confined()?;
                Ok(played)
            }
        }
    }

    /// What hosts are started from, where a scenario does that itself.
    fn startable(&self) -> io::Result<(&Contender, &Stage, &dyn Dialect)> {
        match *self {
            Self::Started {
                contender,
                stage,
                dialect,
            } => Ok((contender, stage, dialect)),
            Self::Running(_) => Err(io::Error::other("the scenario starts its hosts itself")),
        }
    }

    /// The core that a server started here gets.
    pub fn server_core(&self) -> Option<usize> {
        match self {
            Self::Running(_) => None,
            Self::Started { stage, .. } => Some(stage.server_core),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchlist_makes_a_hundred_thousand_deliveries_a_second() {
        let settings = Scenario::Watchlist.settings(false);
        let audience = settings.audience();
        assert_eq!(audience.follows.len(), 2_000);
        let followed: usize = audience
            .follows
            .iter()
            .map(|follows| match follows {
                Follows::Symbols(symbols) => symbols.len(),
                Follows::All => 0,
            })
            .sum();
        let per_symbol_per_s = settings.rate as usize / audience.symbols.len();
        assert_eq!(followed * per_symbol_per_s, 100_000);
        assert_eq!(
            settings.audience().follows,
            audience.follows,
            "the same for every server"
        );
    }

    #[test]
    fn hot_is_one_symbol_and_firehose_is_all() {
        let hot = Scenario::Hot.settings(true).audience();
        assert!(
            hot.follows
                .iter()
                .all(|follows| *follows == Follows::Symbols(vec![0]))
        );
        let firehose = Scenario::Firehose.settings(true).audience();
        assert!(
            firehose
                .follows
                .iter()
                .all(|follows| *follows == Follows::All)
        );
    }
}
