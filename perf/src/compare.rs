//! The same scenarios against many servers, run by run.
//!
//! In each round every server has its turn once. Those that a target sets beside each other play
//! one behind the other, before the rest, so that what changes slowly on the machine falls on all
//! alike. The order of both is another in every round: a run depends on whom it follows. Each run
//! leaves a file; one that is there already is not repeated, so that a comparison can go on where
//! it was interrupted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    contender::{Contender, Stage},
    host,
    report::targets::Targets,
    run::Run,
    scenario::{Arena, RoundCount, Scenario, Settings},
    summary,
    token::Signer,
    zipf::Random,
};

/// What to compare, and where.
#[derive(Debug)]
pub struct Compare {
    /// The scenarios, each with its figures and rounds.
    pub plays: Vec<(Scenario, Settings, RoundCount)>,
    /// The servers.
    pub contenders: Vec<Contender>,
    /// Whether ramps are run against the few servers that targets name.
    pub quick: bool,
    /// The core that each server gets.
    pub server_core: usize,
    /// The core of the generator.
    pub generator_core: usize,
    /// Where the files go.
    pub out: PathBuf,
    /// Whether peers are installed first.
    pub install: bool,
}

/// One run that is to be made.
#[derive(Clone, Copy, Debug)]
struct Turn<'a> {
    scenario: Scenario,
    settings: Settings,
    round: u32,
    contender: &'a Contender,
}

impl Compare {
    /// Makes all runs that have no file yet. Whether every server could be had, and none of tickwire's
    /// runs was spoilt; that of a peer which cannot keep up is a finding.
    pub fn run(&self) -> io::Result<bool> {
        let broken = if self.install {
            self.install()
        } else {
            BTreeMap::new()
        };
        host::confine_self(&[self.generator_core])?;
        let folder = tempfile::tempdir()?;
        let secret = write_secret(folder.path())?;
        let signer = Signer::from_file(&secret)?;
        let stage = Stage {
            folder: folder.path().to_owned(),
            secret,
            server_core: self.server_core,
        };
        let mut turns = self.turns();
        turns.retain(|turn| !turn.path(&self.out).exists());
        let versions = versions(&turns);
        let bar = progress(turns.len() as u64);
        let mut sound = true;
        for turn in turns {
            bar.set_message(turn.name());
            bar.tick();
            let mut run = turn.empty(self);
            run.versions.extend(
                versions
                    .get(&turn.contender.name)
                    .cloned()
                    .unwrap_or_default(),
            );
            let failed = turn
                .contender
                .peer()
                .and_then(|peer| broken.get(&peer.folder));
            match failed {
                Some(error) => run.faults.push(format!("not installed: {error}")),
                None => turn.play(&stage, &signer, &mut run),
            }
            let is_peer = turn.contender.peer().is_some();
            sound &= failed.is_none() && (is_peer || run.faults.is_empty());
            run.write(&self.out)?;
            bar.suspend(|| println!("{}", summary::of_run(&run)));
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(sound)
    }

    /// All runs in their order.
    fn turns(&self) -> Vec<Turn<'_>> {
        let mut turns = Vec::new();
        let targets = Targets::built_in();
        for (scenario, settings, rounds) in &self.plays {
            let playing = self.contenders.iter();
            let playing = playing.filter(|contender| self.plays(contender, *scenario));
            let (paired, others): (Vec<&Contender>, Vec<_>) =
                playing.partition(|one| targets.mention(&scenario.name(), &one.name));
            for round in 1..=rounds.targets.max(rounds.others) {
                let mut contenders = in_round(round, rounds.targets, &paired);
                contenders.extend(in_round(round, rounds.others, &others));
                // Once is enough: they do not vary as times do.
                let syscalls = settings.syscalls && round == 1;
                let settings = Settings {
                    syscalls,
                    ..*settings
                };
                turns.extend(contenders.into_iter().map(|contender| Turn {
                    scenario: *scenario,
                    settings,
                    round,
                    contender,
                }));
            }
        }
        turns
    }

    fn plays(&self, contender: &Contender, scenario: Scenario) -> bool {
        let ramp = matches!(scenario, Scenario::RampHot | Scenario::RampWatchlist);
        contender.plays(scenario) && (!self.quick || !ramp || contender.ramps_quickly())
    }

    /// Installs every peer once; those that could not be, with the reason.
    fn install(&self) -> BTreeMap<PathBuf, String> {
        let mut seen = BTreeSet::new();
        let peers = self.contenders.iter().filter_map(Contender::peer);
        let peers: Vec<_> = peers.filter(|peer| seen.insert(&peer.folder)).collect();
        let bar = progress(peers.len() as u64);
        let mut broken = BTreeMap::new();
        for peer in peers {
            bar.set_message(format!("installing {}", peer.manifest.title));
            bar.tick();
            if let Err(error) = peer.install() {
                let title = &peer.manifest.title;
                bar.suspend(|| println!("{title} cannot be installed: {error}"));
                broken.insert(peer.folder.clone(), error.to_string());
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        broken
    }
}

impl Turn<'_> {
    fn name(&self) -> String {
        let Self {
            scenario,
            contender,
            round,
            ..
        } = self;
        format!("{} {} {round}", scenario.name(), contender.name)
    }

    fn path(&self, out: &Path) -> PathBuf {
        Run::path(out, &self.scenario.name(), &self.contender.name, self.round)
    }

    fn empty(&self, compare: &Compare) -> Run {
        let Contender { name, title, .. } = self.contender;
        let mut run = Run::new(&self.scenario.name(), name, title, self.round);
        run.layout = self
            .contender
            .layout(compare.server_core, compare.generator_core);
        run.versions = vec![format!("tickwire-perf {}", env!("CARGO_PKG_VERSION"))];
        run
    }

    fn play(&self, stage: &Stage, signer: &Signer, run: &mut Run) {
        let dialect = match self.contender.dialect() {
            Ok(dialect) => dialect,
            Err(error) => return run.faults.push(error.to_string()),
        };
        let arena = Arena::Started {
            contender: self.contender,
            stage,
            dialect: dialect.as_ref(),
        };
        run.play(self.scenario, &self.settings, &arena, signer);
    }
}

/// Who plays in `round` of `rounds`, in an order that is the round's own.
fn in_round<'a>(round: u32, rounds: u32, all: &[&'a Contender]) -> Vec<&'a Contender> {
    if round > rounds {
        return Vec::new();
    }
    let order = Random::new(round.into()).shuffled(all.len() as u32);
    order.iter().map(|&place| all[place as usize]).collect()
}

/// Of every server that has a run to make, by name.
fn versions(turns: &[Turn<'_>]) -> BTreeMap<String, Vec<String>> {
    let mut versions = BTreeMap::new();
    for turn in turns {
        versions
            .entry(turn.contender.name.clone())
            .or_insert_with(|| turn.contender.versions());
    }
    versions
}

fn progress(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}, {eta} left: {msg}");
    ProgressBar::new(length).with_style(style.expect("the template is sound"))
}

/// A fresh secret for one comparison.
pub fn write_secret(folder: &Path) -> io::Result<PathBuf> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender;

    /// Of tickwire's own forms.
    fn comparison(scenario: Scenario, rounds: RoundCount) -> Compare {
        Compare {
            plays: vec![(scenario, scenario.settings(true), rounds)],
            contenders: contender::tickwire(Path::new("tickwire"), &[]),
            quick: false,
            server_core: 0,
            generator_core: 1,
            out: PathBuf::new(),
            install: false,
        }
    }

    #[test]
    fn those_of_targets_play_together_and_after_another_in_each_round() {
        let compare = comparison(Scenario::Hot, RoundCount::each(9));
        let turns = compare.turns();
        assert!(turns.is_sorted_by_key(|turn| turn.round));
        let of_targets = ["tickwire", "tickwire-delay20", "tickwire-sbe"];
        let mut followed = BTreeSet::new();
        for round in turns.chunk_by(|a, b| a.round == b.round) {
            // Spinning says nothing about a busy server.
            assert_eq!(round.len(), 7);
            let order: Vec<&str> = round.iter().map(|turn| &*turn.contender.name).collect();
            let mut first = order[..3].to_vec();
            first.sort_unstable();
            assert_eq!(first, of_targets);
            followed.extend(order.windows(2).map(|pair| (pair[0], pair[1])));
        }
        let of_both = |pair: &&(&str, &str)| of_targets.contains(&pair.1);
        assert_eq!(followed.iter().filter(of_both).count(), 6, "{followed:?}");
    }

    #[test]
    fn servers_that_no_target_names_play_fewer_rounds() {
        let rounds = RoundCount {
            targets: 5,
            others: 2,
        };
        let compare = comparison(Scenario::Burst, rounds);
        let turns = compare.turns();
        let rounds_of = |name: &str| {
            let own = turns.iter().filter(|turn| turn.contender.name == name);
            own.map(|turn| turn.round).collect::<Vec<_>>()
        };
        assert_eq!(rounds_of("tickwire"), [1, 2, 3, 4, 5]);
        assert_eq!(rounds_of("tickwire-default"), [1, 2]);
    }
}
