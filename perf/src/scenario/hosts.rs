//! Several hosts that share ticks: whether everything comes everywhere, and how much later than at home.

use std::{
    io,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use super::{Arena, P99_MAX_US, PlayError, Settings};
use crate::{
    contender::{Contender, Stage},
    dialect::Dialect,
    load::{Follows, Pace},
    process::Tree,
    publisher::Publisher,
    redis::Redis,
    run::{Generator, Point, Published},
    schedule::{Clock, Schedule},
    server::{Program, Server},
    session::{self, Audience, LEAD_US, Seated, SessionError, Target, expected},
    ticks::Symbols,
    token::Signer,
};

/// Hosts of the large play, on two of which is published.
const HOSTS: usize = 3;
/// Subscribers of everything on each of them, beside those of some symbols.
const OF_ALL: usize = 3;
/// Shards, where there is more than one.
const SHARDS: u32 = 4;
/// What the latency of a hop is measured with: few ticks, to few subscribers.
const HOP: Settings = Settings {
    subscribers: 10,
    rate: 200,
    warmup_s: 2.0,
    duration_s: 20.0,
    symbols: 10,
    per_subscriber: 10,
    seed: 1,
    pace: Pace {
        connects_per_s: 1_000,
        in_progress_max: 64,
        sources: 0,
    },
    process_max: 19_000,
    ramp_s: 0.0,
    syscalls: false,
};
/// The key whose master is killed.
const A_SHARD: &str = "tickwire:{0}";
/// A host that finds ticks of a cluster whose master has died waits for its replica.
const FAILOVER_MAX_US: u64 = 20_000_000;
/// What a play is called in which a master dies.
const DIES: &str = "cluster, a master dies";

/// Of each host of the large play.
pub(super) fn settings(common: Settings) -> Settings {
    Settings {
        rate: 20_000,
        warmup_s: 5.0,
        duration_s: 60.0,
        per_subscriber: 2,
        symbols: 1_000,
        ..common
    }
}

pub(super) fn play(
    settings: &Settings,
    arena: &Arena<'_>,
    signer: &Signer,
) -> Result<Vec<Point>, PlayError> {
    let (contender, stage, dialect) = arena.startable()?;
    let at =
        |redis: Redis, hosts, shards| Stand::start(contender, stage, dialect, redis, hosts, shards);
    let mut points = at(Redis::alone(stage, None)?, 2, 1)?.hop(signer)?;
    if contender.has_all_cores() {
        for shards in [1, SHARDS] {
            let mut stand = at(Redis::alone(stage, None)?, HOSTS, shards)?;
            let name = format!("{shards} of Redis's streams");
            points.extend(stand.everything(&name, settings, signer, |_| Ok(()))?);
        }
        let mut stand = at(Redis::cluster(stage)?, HOSTS, SHARDS)?;
        points.extend(stand.everything("cluster", settings, signer, |_| Ok(()))?);
        let kill = |redis: &mut Redis| redis.kill_the_master_of(A_SHARD);
        points.extend(stand.everything(DIES, settings, signer, kill)?);
    }
    for point in &mut points {
        point.add([("gapped", point.counts.gapped as f64)]);
    }
    Ok(points)
}

/// What makes a point worthless: what Redis lost with a master has to be told as gaps.
pub(super) fn faults(point: &Point) -> Vec<String> {
    if point.label.starts_with(DIES) {
        session::untold(point)
    } else {
        session::losses(point)
    }
}

/// Hosts around a Redis.
pub(super) struct Stand<'a> {
    dialect: &'a dyn Dialect,
    hosts: Vec<(Server, Program)>,
    pub(super) redis: Redis,
}

/// Who publishes what where.
pub(super) struct Feed {
    pub(super) host: usize,
    pub(super) symbols: Symbols,
    pub(super) rate: u32,
}

impl<'a> Stand<'a> {
    pub(super) fn start(
        contender: &Contender,
        stage: &Stage,
        dialect: &'a dyn Dialect,
        redis: Redis,
        hosts: usize,
        shards: u32,
    ) -> Result<Self, PlayError> {
        let hosts = (0..hosts).map(|host| {
            let own = Stage {
                folder: stage.folder.join(format!("host-{host}")),
                ..stage.clone()
            };
            std::fs::create_dir_all(&own.folder)?;
            Ok(contender.start_host(&own, &redis, shards)?)
        });
        Ok(Self {
            dialect,
            hosts: hosts.collect::<Result<_, PlayError>>()?,
            redis,
        })
    }

    /// The processes of host `host`.
    pub(super) fn tree(&self, host: usize) -> Tree {
        self.hosts[host].0.tree()
    }

    /// What a tick takes to subscribers where it is published, and to those of another host.
    fn hop(&mut self, signer: &Signer) -> Result<Vec<Point>, PlayError> {
        let audience = HOP.audience();
        let feed = Feed {
            host: 0,
            symbols: audience.symbols.clone(),
            rate: HOP.rate,
        };
        let audiences = [audience.clone(), audience];
        let mut points = self.run(&HOP, &audiences, &[feed], P99_MAX_US, signer, |_| Ok(()))?;
        for (point, label) in points.iter_mut().zip(["the same host", "another host"]) {
            label.clone_into(&mut point.label);
            point.rate = f64::from(HOP.rate);
        }
        Ok(points)
    }

    /// Many subscribers on all hosts, publishers on two of them; `midway` happens halfway.
    fn everything(
        &mut self,
        name: &str,
        settings: &Settings,
        signer: &Signer,
        midway: impl FnOnce(&mut Redis) -> io::Result<()>,
    ) -> Result<Vec<Point>, PlayError> {
        let mut audience = settings.audience();
        audience.follows.extend(vec![Follows::All; OF_ALL]);
        let halves = [0, 1].map(|half| {
            let names = audience.symbols.names().iter();
            Symbols::new(names.skip(half).step_by(2).cloned().collect())
        });
        let feeds: Vec<Feed> = halves
            .into_iter()
            .enumerate()
            .map(|(host, symbols)| Feed {
                host,
                symbols,
                rate: settings.rate / 2,
            })
            .collect();
        let audiences = vec![audience; self.hosts.len()];
        let p99_max_us = if name == DIES {
            FAILOVER_MAX_US
        } else {
            P99_MAX_US
        };
        let mut points = self.run(settings, &audiences, &feeds, p99_max_us, signer, midway)?;
        for (host, point) in (1..).zip(&mut points) {
            point.label = format!("{name}, host {host}");
            point.rate = f64::from(settings.rate);
        }
        Ok(points)
    }

    /// Plays `feeds` to an audience on each of the first hosts; a point for each of these.
    pub(super) fn run(
        &mut self,
        settings: &Settings,
        audiences: &[Audience],
        feeds: &[Feed],
        p99_max_us: u64,
        signer: &Signer,
        midway: impl FnOnce(&mut Redis) -> io::Result<()>,
    ) -> Result<Vec<Point>, PlayError> {
        let played = self.try_run(settings, audiences, feeds, p99_max_us, signer, midway);
        let played = played.and_then(|points| {
            for (server, _) in &self.hosts {
                server.check_confined()?;
            }
            Ok(points)
        });
        played.map_err(|error| PlayError::Session {
            error,
            log: self.last_words(),
        })
    }

    fn last_words(&self) -> String {
        let words: Vec<String> = self.hosts.iter().map(|host| host.0.last_words()).collect();
        words.join("\n")
    }

    fn try_run(
        &mut self,
        settings: &Settings,
        audiences: &[Audience],
        feeds: &[Feed],
        p99_max_us: u64,
        signer: &Signer,
        midway: impl FnOnce(&mut Redis) -> io::Result<()>,
    ) -> Result<Vec<Point>, SessionError> {
        let clock = Clock::start();
        let epoch = clock.now_us() / 1_000;
        let publishers = feeds.iter().map(|feed| {
            let (at, token) = (self.hosts[feed.host].1.listen, signer.publisher());
            Publisher::connect(self.dialect, at, &feed.symbols, &token, epoch)
        });
        let mut publishers = publishers.collect::<Result<Vec<_>, _>>()?;
        let seconds = settings.warmup_s + settings.duration_s;
        let (hosts, redis) = (&self.hosts, &mut self.redis);
        thread::scope(|scope| {
            let (ready, all_ready) = channel();
            let seats = hosts
                .iter()
                .zip(audiences)
                .map(|((server, program), audience)| {
                    let seat = Seat {
                        target: Target {
                            dialect: self.dialect,
                            server: program.listen,
                            tree: Some(server.tree()),
                        },
                        audience: audience.clone(),
                        signer,
                        clock,
                        epoch,
                        feeds,
                        warmup_s: settings.warmup_s,
                        p99_max_us,
                    };
                    let ready = ready.clone();
                    let (begin, begins) = channel();
                    (begin, scope.spawn(move || seat.play(ready, &begins)))
                });
            let (begins, seated): (Vec<_>, Vec<_>) = seats.collect();
            drop(ready);
            // Whoever could not be seated says why when it is joined, and then nobody begins.
            let begin =
                (all_ready.iter().count() == begins.len()).then_some(clock.now_us() + LEAD_US);
            let mut published = Published::default();
            if let Some(start_us) = begin {
                let schedules: Vec<Schedule> = feeds
                    .iter()
                    .map(|feed| Schedule::new(start_us, feed.rate, seconds))
                    .collect();
                let publishing: Vec<_> = publishers
                    .iter_mut()
                    .zip(schedules.clone())
                    .map(|(publisher, schedule)| {
                        scope.spawn(move || publisher.run(&clock, &schedule))
                    })
                    .collect();
                for begin in &begins {
                    // It ends only when told to, or with an error that its thread tells.
                    let _ = begin.send(schedules.clone());
                }
                thread::sleep(clock.until(start_us + (seconds * 5e5) as u64));
                midway(redis)?;
                for publishing in publishing {
                    let one = publishing.join();
                    add(
                        &mut published,
                        one.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                    );
                }
            }
            drop(begins);
            let mut points = Vec::new();
            for seated in seated {
                let own = seated.join();
                points.extend(own.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            let (is_taken, is_shared) = (published.accepted == published.ticks, points.len() > 1);
            for point in &mut points {
                point.published = published.clone();
                point.sustained &= is_taken && published.late.p99_us < p99_max_us;
                if is_shared {
                    // Readers of several hosts share the generator's core, and hosts theirs: no one
                    // of them can say what it took alone.
                    point.cpu = None;
                    point.generator = Generator {
                        ceiling_per_s: 0.0,
                        reached: false,
                        ..point.generator
                    };
                }
            }
            Ok(points)
        })
    }
}

/// What one thread needs to be the audience of one host.
struct Seat<'a> {
    target: Target<'a>,
    audience: Audience,
    signer: &'a Signer,
    clock: Clock,
    epoch: u64,
    feeds: &'a [Feed],
    warmup_s: f64,
    p99_max_us: u64,
}

impl Seat<'_> {
    /// Connects, says that it is `ready`, and receives once it is told what is published when. No
    /// points where it is told nothing.
    fn play(
        self,
        ready: Sender<()>,
        begins: &Receiver<Vec<Schedule>>,
    ) -> Result<Vec<Point>, SessionError> {
        let symbols = self.audience.symbols.clone();
        let mut seated = Seated::open(
            self.target,
            self.audience,
            self.signer,
            self.clock,
            self.epoch,
        )?;
        // Nobody waits for it any more where another one failed.
        let _ = ready.send(());
        drop(ready);
        let Ok(schedules) = begins.recv() else {
            return Ok(Vec::new());
        };
        let window = schedules[0].window(0, self.warmup_s);
        let followers = seated.followers();
        let of_feeds = self.feeds.iter().zip(&schedules).map(|(feed, schedule)| {
            let followers: Vec<u64> = feed
                .symbols
                .names()
                .iter()
                .filter_map(|name| Some(followers[symbols.index(name.as_bytes())? as usize]))
                .collect();
            expected(&followers, 0, schedule, &[window])[0]
        });
        let expected = [of_feeds.sum()];
        let received = seated.receive(&[window], schedules[0].end_us(), &expected, || true)?;
        seated.points(&received, &expected, &Published::default(), self.p99_max_us)
    }
}

/// Adds what another publisher has published.
fn add(sum: &mut Published, one: Published) {
    sum.ticks += one.ticks;
    sum.accepted += one.accepted;
    sum.first_error = sum.first_error.take().or(one.first_error);
    if one.late.p99_us >= sum.late.p99_us {
        sum.late = one.late;
    }
}
