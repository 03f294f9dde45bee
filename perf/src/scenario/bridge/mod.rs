//! How many ticks go through one Redis, and what each costs: by tickwire's bridge, and by a PUBLISH
//! for each tick.

mod naive;

use std::io;

use super::{
    Arena, P99_MAX_US, PlayError, Settings,
    hosts::{Feed, Stand},
    ramp::LIMITED,
};
use crate::{
    load::Follows, process::Tree, redis::Redis, run::Point, session::Audience, ticks::Symbols,
    token::Signer,
};

/// Ticks per second, until they come too late.
const RATES: [u32; 8] = [
    5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 640_000,
];
const SHARDS: [u32; 2] = [1, 4];
/// The bridge's thread.
const BRIDGE: &str = "bridge";
/// The highest rate that was sustained, at its own point.
const RESULT: &str = "max_ticks_per_s";

pub(super) fn settings(common: Settings) -> Settings {
    Settings {
        subscribers: 1,
        duration_s: 3.0,
        symbols: 1_000,
        per_subscriber: 1_000,
        ..common
    }
}

pub(super) fn play(
    settings: &Settings,
    arena: &Arena<'_>,
    signer: &Signer,
) -> Result<Vec<Point>, PlayError> {
    let (contender, stage, dialect) = arena.startable()?;
    let mut points = Vec::new();
    for shards in SHARDS {
        let redis = Redis::alone(stage, None)?;
        let mut stand = Stand::start(contender, stage, dialect, redis, 2, shards)?;
        let name = format!("{shards} of Redis's streams");
        rise(&name, &mut points, |rate| {
            through_hosts(&mut stand, settings, rate, signer)
        })?;
    }
    let redis = Redis::alone(stage, None)?;
    let symbols = Symbols::numbered(settings.symbols as usize);
    rise("a PUBLISH a tick", &mut points, |rate| {
        Ok(naive::play(&redis, &symbols, settings, rate)?)
    })?;
    Ok(points)
}

/// Plays at ever higher rates, and marks the last that was sustained.
fn rise(
    name: &str,
    points: &mut Vec<Point>,
    mut play: impl FnMut(u32) -> Result<Point, PlayError>,
) -> Result<(), PlayError> {
    let first = points.len();
    for rate in RATES {
        let mut point = play(rate)?;
        point.label = format!("{name}, {rate} ticks/s");
        point.rate = f64::from(rate);
        let is_sustained = point.sustained;
        if !is_sustained && point.generator.reached {
            point.add([(LIMITED, 1.0)]);
        }
        points.push(point);
        if !is_sustained {
            break;
        }
    }
    let best = points[first..].iter_mut().rfind(|point| point.sustained);
    if let Some(best) = best {
        best.add([(RESULT, best.rate)]);
    }
    Ok(())
}

/// Publishes on the second host: what a subscriber of everything on the first one got.
fn through_hosts(
    stand: &mut Stand<'_>,
    settings: &Settings,
    rate: u32,
    signer: &Signer,
) -> Result<Point, PlayError> {
    let symbols = Symbols::numbered(settings.symbols as usize);
    let audience = Audience {
        symbols: symbols.clone(),
        follows: vec![Follows::All],
        pace: settings.pace,
    };
    let feed = Feed {
        host: 1,
        symbols,
        rate,
    };
    let redis: Vec<Tree> = stand.redis.trees().collect();
    let bridges = [0, 1].map(|host| stand.tree(host));
    let used_ns = || -> io::Result<[u64; 3]> {
        let of_redis = redis.iter().map(|tree| Ok(tree.cpu()?.total_ns()));
        Ok([
            bridges[1].thread_ns(BRIDGE)?,
            bridges[0].thread_ns(BRIDGE)?,
            of_redis.sum::<io::Result<u64>>()?,
        ])
    };
    let before = used_ns()?;
    let points = stand.run(settings, &[audience], &[feed], P99_MAX_US, signer, |_| {
        Ok(())
    })?;
    let after = used_ns()?;
    let mut point = points.into_iter().next_back().unwrap_or_default();
    let ticks = point.published.ticks.max(1) as f64;
    let names = ["out_us_per_tick", "in_us_per_tick", "redis_us_per_tick"];
    point.add(
        names
            .into_iter()
            .zip(after.iter().zip(before))
            .map(|(name, (after, before))| {
                (name, after.saturating_sub(before) as f64 / 1e3 / ticks)
            }),
    );
    Ok(point)
}
