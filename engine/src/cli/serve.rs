//! `tickwire serve`: the engine, configured.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use tickwire_engine::{
    Engine,
    config::{Config, ConfigError, Idle, LogFormat, Setting, Sources, environment, to_toml},
    listeners::Listeners,
    logging,
    takeover::{Offer, Predecessor},
};

use super::{UsageError, say, stop::Stop};

/// How often it is looked whether all threads are alive, and whether another process serves.
const WATCH_EVERY: Duration = Duration::from_millis(200);

/// Flags of `tickwire serve`; each wins over the environment, and that over the file.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// TOML file with settings; `tickwire.sample.toml` shows all of them.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of `/v1/ws` and `/v1/publish` [default: 127.0.0.1:9001].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address of `/metrics`, `/healthz` and `/readyz` [default: 127.0.0.1:9100].
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Floor threads, 1–64; 0 chooses by the number of cores.
    #[arg(long, value_name = "N")]
    floors: Option<usize>,
    /// What floors do while no tick comes.
    #[arg(long, value_enum)]
    idle: Option<Idle>,
    /// File with the HS256 secret, at least 32 bytes.
    #[arg(long, value_name = "FILE")]
    jwt_hs256_file: Option<String>,
    /// Handshakes per second and IP, 0 for no limit.
    #[arg(long, value_name = "N")]
    per_ip_rate: Option<u32>,
    /// Handshakes that one IP may make at once.
    #[arg(long, value_name = "N")]
    per_ip_burst: Option<u32>,
    /// Redis through which hosts share ticks, as redis://host:port; several with commas.
    #[arg(long, value_name = "URLS")]
    redis: Option<String>,
    /// Streams that symbols are spread over, the same on every host.
    #[arg(long, value_name = "N")]
    redis_shards: Option<u32>,
    /// How log lines look.
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// Any key of the config file; may be repeated. The flags above win.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Setting>,
    /// Check the settings, print all of them as TOML, and end.
    #[arg(long)]
    check: bool,
}

/// Serves until a signal, or until another process has taken over; then drains.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = load(args, environment())?;
    if args.check {
        return say(to_toml(&config)?.trim_end());
    }
    logging::start(config.log_format, &config.log_level);
    let stop = Stop::on_signals()?;
    let takeover = config.takeover_socket.clone();
    let engine = start(config, takeover.as_deref())?;
    tracing::info!(listen = %engine.listen_addr(), admin = %engine.admin_addr(), "serving");
    for line in engine.thread_table().lines() {
        tracing::info!("{line}");
    }
    let relieved = Arc::new(AtomicBool::new(false));
    let _offer = takeover
        .map(|path| offer(&engine, &path, &relieved))
        .transpose()?;
    // Relaxed: the flag stands for itself.
    while !stop.sleep(WATCH_EVERY) && !relieved.load(Ordering::Relaxed) {
        check_threads(&engine)?;
    }
    let complete = if relieved.load(Ordering::Relaxed) {
        tracing::info!("draining: another process has taken over");
        engine.hand_over()
    } else {
        tracing::info!("draining");
        engine.drain()
    };
    if !complete {
        tracing::warn!("the drain did not end within `drain_s`; what was left is cut off");
    }
    Ok(())
}

/// An engine on the sockets of the process that serves until now, if there is one.
fn start(config: Config, takeover: Option<&Path>) -> anyhow::Result<Engine> {
    let met = takeover.map(Predecessor::meet).transpose();
    let met = met.context("the process at `takeover_socket` does not hand over")?;
    let Some((predecessor, listeners)) = met.flatten() else {
        let listeners = Listeners::from_environment(&config)?;
        return Ok(Engine::start_on(listeners, config)?);
    };
    let engine = Engine::start_on(listeners, config)?;
    match predecessor.relieve() {
        Ok(()) => tracing::info!("took over from the process that served until now"),
        Err(error) => tracing::warn!(%error, "the process that served until now has gone"),
    }
    Ok(engine)
}

/// Offers the engine's sockets at `path`; sets `relieved` when another process serves on them.
fn offer(engine: &Engine, path: &Path, relieved: &Arc<AtomicBool>) -> anyhow::Result<Offer> {
    let relieved = Arc::clone(relieved);
    let taken = move || relieved.store(true, Ordering::Relaxed);
    let offer = engine
        .listeners()
        .and_then(|listeners| Offer::at(path, listeners, taken));
    offer.with_context(|| format!("cannot listen on `takeover_socket`, {}", path.display()))
}

/// An error where the engine has lost a thread: it serves nobody any more, or not everybody.
pub fn check_threads(engine: &Engine) -> anyhow::Result<()> {
    match engine.failed_thread() {
        Some(thread) => bail!("the thread {thread} ended by itself"),
        None => Ok(()),
    }
}

/// Puts the sources together.
fn load(args: &Args, environment: Vec<(String, String)>) -> Result<Config, UsageError> {
    let sources = Sources {
        file: args.config.clone(),
        environment,
        flags: flags(args),
    };
    sources
        .load()
        .map_err(|error: ConfigError| UsageError(super::Chain(&error).to_string()))
}

fn flags(args: &Args) -> Vec<Setting> {
    let named = [
        ("listen", args.listen.map(|address| address.to_string())),
        ("admin", args.admin.map(|address| address.to_string())),
        ("floors", args.floors.map(|floors| floors.to_string())),
        ("idle", args.idle.as_ref().and_then(name)),
        ("jwt_hs256_file", args.jwt_hs256_file.clone()),
        ("per_ip_rate", args.per_ip_rate.map(|rate| rate.to_string())),
        (
            "per_ip_burst",
            args.per_ip_burst.map(|burst| burst.to_string()),
        ),
        ("redis", args.redis.clone()),
        (
            "redis_shards",
            args.redis_shards.map(|shards| shards.to_string()),
        ),
        ("log_format", args.log_format.as_ref().and_then(name)),
    ];
    let named = named
        .into_iter()
        .filter_map(|(key, value)| Some(Setting::new(key, value?)));
    args.set.iter().cloned().chain(named).collect()
}

/// The name of an enum's value, which the flag and the file share.
fn name(value: &impl clap::ValueEnum) -> Option<String> {
    Some(value.to_possible_value()?.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn config(line: &str) -> Result<Config, UsageError> {
        let args = Line::try_parse_from(format!("serve {line}").split_whitespace())
            .unwrap()
            .args;
        load(&args, vec![("TICKWIRE_FLOORS".into(), "5".into())])
    }

    #[test]
    fn flags_win_over_set_and_set_over_the_environment() {
        assert_eq!(config("").unwrap().floors, 5);
        assert_eq!(config("--set floors=6").unwrap().floors, 6);
        assert_eq!(config("--floors 7 --set floors=6").unwrap().floors, 7);
    }

    #[test]
    fn every_flag_reaches_its_key() {
        let line = "--listen 127.0.0.1:1 --admin 127.0.0.1:2 --idle hybrid --jwt-hs256-file secret \
                    --per-ip-rate 0 --per-ip-burst 9 --log-format json --set drain_s=4 \
                    --redis redis://a:1,redis://b:2 --redis-shards 4";
        let expected = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 1)),
            admin: SocketAddr::from(([127, 0, 0, 1], 2)),
            floors: 5,
            idle: Idle::Hybrid,
            jwt_hs256_file: Some("secret".into()),
            per_ip_rate: 0,
            per_ip_burst: 9,
            redis: ["redis://a:1", "redis://b:2"]
                .map(String::from)
                .into_iter()
                .collect(),
            redis_shards: 4,
            log_format: LogFormat::Json,
            drain_s: 4,
            ..Config::default()
        };
        assert_eq!(config(line).unwrap(), expected);
    }

    #[test]
    fn an_unknown_key_is_wrong_usage() {
        let error = config("--set flors=1").unwrap_err().to_string();
        assert_eq!(
            error,
            "command line: there is no key `flors`; did you mean `floors`?"
        );
    }
}
