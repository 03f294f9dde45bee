//! `tickwire demo`: an engine with a market in it, a token, and a page to look at it.

mod page;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tickwire_engine::{
    Engine, PublishError, Publisher, clock,
    config::{Config, validate},
    door::auth::sign_hs256,
    logging,
    market::{Market, SYMBOLS_MAX},
    tape::{Event, Position, Tape},
};
use tickwire_proto::{
    claims::Claims,
    json,
    tick::{Identity, Marks, PublishedTick, Tick},
};

use self::page::Page;
use super::{
    UsageError, say, serve,
    stop::{LOOK_EVERY, Stop},
    token,
};

/// How long the demo's token is valid.
const TOKEN_TTL_S: u64 = 60 * 60;
/// Shortest sleep: what is due within it goes out together.
const NAP: Duration = Duration::from_millis(1);

/// Flags of `tickwire demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address of `/v1/ws` [default: 127.0.0.1:9001].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address of `/metrics`, `/healthz` and `/readyz` [default: 127.0.0.1:9100].
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Ticks per second on average, over all symbols.
    #[arg(long, value_name = "N", default_value_t = 200)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    rate: u32,
    /// Number of symbols.
    #[arg(long, value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=SYMBOLS_MAX as i64))]
    symbols: u32,
    /// Floor threads, 1–64; 0 chooses by the number of cores.
    #[arg(long, value_name = "N", default_value_t = 0)]
    floors: usize,
    /// Address of the live page, which `tickwire-edge` serves.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9002")]
    page: SocketAddr,
    /// Address of the edge's own `/metrics`, `/healthz` and `/readyz`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9102")]
    page_admin: SocketAddr,
    /// Run the engine alone.
    #[arg(long)]
    no_page: bool,
}

/// Runs engine and market until a signal.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = config(args);
    validate(&config).map_err(|invalid| UsageError(invalid.to_string()))?;
    logging::start(config.log_format, "warn");
    let stop = Stop::on_signals()?;
    // Nobody but the page's edge ever learns the secret, so tokens die with the process. Text, as it
    // is handed over in a file.
    let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let engine = Engine::start_with_secret(config, secret.as_bytes())?;
    let mut publisher = engine.publisher("demo")?;
    let mut page = if args.no_page {
        None
    } else {
        Page::open(args.page, args.page_admin, &engine, &secret)?
    };
    say(welcome(
        &engine,
        &token_for_all(&secret),
        args,
        page.is_some(),
    ))?;
    let mut market = Market::new(rand::random(), args.symbols as usize, f64::from(args.rate));
    publish(&mut market, &mut publisher, &engine, page.as_mut(), &stop)?;
    drop(page);
    drop(publisher);
    engine.drain();
    Ok(())
}

fn config(args: &Args) -> Config {
    let defaults = Config::default();
    Config {
        listen: args.listen.unwrap_or(defaults.listen),
        admin: args.admin.unwrap_or(defaults.admin),
        floors: args.floors,
        symbols_max: defaults.symbols_max.max(args.symbols as usize),
        ..defaults
    }
}

/// A token for everything.
fn token_for_all(secret: &str) -> String {
    let claims = Claims {
        sub: "demo".to_owned(),
        exp: token::now_s() + TOKEN_TTL_S,
        ..Claims::default()
    };
    sign_hs256(secret.as_bytes(), &claims)
}

fn welcome(engine: &Engine, token: &str, args: &Args, has_page: bool) -> String {
    let (table, admin, listen) = (
        engine.thread_table(),
        engine.admin_addr(),
        engine.listen_addr(),
    );
    // As it was started, so that the line can be pasted whether or not it is on the path.
    let tickwire = std::env::args().next().unwrap_or("tickwire".to_owned());
    let page = match (has_page, args.no_page) {
        (true, _) => format!("http://{}/", args.page),
        (false, true) => "none, as --no-page says".to_owned(),
        (false, false) => "none: `tickwire-edge`, which serves it, is not beside this program \
             (cargo build --release -p tickwire-edge)"
            .to_owned(),
    };
    format!(
        "{table}\n\n\
         page:    {page}\n\
         address: ws://{listen}/v1/ws\n\
         metrics: http://{admin}/metrics\n\
         token, for an hour: {token}\n\n\
         in another terminal, to see ticks:\n  \
           TICKWIRE_TOKEN={token} {tickwire} subscribe --url ws://{listen}/v1/ws --symbols 'BTC-*,AAPL'\n"
    )
}

/// What the tape holds, told once a second.
struct Pulse {
    tape: Arc<Tape>,
    told: Instant,
    head: Position,
}

impl Pulse {
    const EVERY: Duration = Duration::from_secs(1);
    /// Records looked at for the latest tick; others are feed changes.
    const RECORDS: u64 = 64;

    fn new(engine: &Engine) -> Self {
        let tape = Arc::clone(engine.tape());
        let head = tape.head();
        Self {
            tape,
            told: Instant::now(),
            head,
        }
    }

    /// Tells, if it is time to; whether it was.
    fn tell(&mut self) -> anyhow::Result<bool> {
        let elapsed = self.told.elapsed();
        if elapsed < Self::EVERY {
            return Ok(false);
        }
        let head = self.tape.head();
        let rate = (head.0 - self.head.0) as f64 / elapsed.as_secs_f64();
        (self.told, self.head) = (Instant::now(), head);
        let mut line = Vec::new();
        if let Some(tick) = self.latest(head) {
            json::write_tick(&mut line, &tick, &Marks::default());
        }
        say(format!(
            "{rate:>8.0} ticks/s  {}",
            String::from_utf8_lossy(&line)
        ))?;
        Ok(true)
    }

    fn latest(&self, head: Position) -> Option<Tick> {
        let oldest = head.0.saturating_sub(Self::RECORDS);
        (oldest..head.0).rev().find_map(|at| {
            let record = self.tape.read(Position(at)).ok()?;
            let Event::Tick { seq, ts_ns, values } = record.event else {
                return None;
            };
            Some(Tick {
                symbol: self.tape.name(record.symbol),
                identity: Identity {
                    epoch: record.epoch,
                    seq,
                },
                ts_ns,
                values,
            })
        })
    }
}

/// Publishes each tick when it is due, until a signal.
fn publish(
    market: &mut Market,
    publisher: &mut Publisher,
    engine: &Engine,
    mut page: Option<&mut Page>,
    stop: &Stop,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut due = Duration::ZERO;
    let mut pulse = Pulse::new(engine);
    while !stop.asked() {
        if pulse.tell()?
            && let Some(page) = &mut page
        {
            page.look_after()?;
        }
        let (delay, mut tick) = market.next();
        due += delay;
        loop {
            let early = due.saturating_sub(started.elapsed());
            if early.is_zero() || stop.asked() {
                break;
            }
            sleep(engine, early.clamp(NAP, LOOK_EVERY))?;
        }
        tick.ts_ns = Some(clock::wall_ns());
        hand_in(publisher, tick, engine, stop)?;
    }
    Ok(())
}

/// Waits while the lane is full: a market that is too fast for the machine slows down.
fn hand_in(
    publisher: &mut Publisher,
    mut tick: PublishedTick,
    engine: &Engine,
    stop: &Stop,
) -> anyhow::Result<()> {
    while let Err(PublishError::Full(back)) = publisher.publish(tick) {
        if stop.asked() {
            break;
        }
        tick = back;
        sleep(engine, NAP)?;
    }
    Ok(())
}

/// Sleeps beside an engine that is alive.
fn sleep(engine: &Engine, time: Duration) -> anyhow::Result<()> {
    serve::check_threads(engine)?;
    std::thread::sleep(time);
    Ok(())
}
