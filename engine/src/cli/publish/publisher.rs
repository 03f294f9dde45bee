//! The run: fill batches, send, take acks, come back after a loss, flush.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tickwire_engine::client::{ConnectError, Target};
use tickwire_proto::{
    backoff::Backoff,
    reply::{Ack, AckBody, Reply},
    request::{Op, Request},
    upgrade::Subprotocol,
};

use super::{
    account::Account,
    link::{Broken, Link, Remedy},
    message::{Batch, Ids, Payload},
    progress::Progress,
    source::{Source, Timed},
};
use crate::cli::{
    Chain,
    stop::{LOOK_EVERY, Stop},
    token_source::TokenSource,
};

/// How long the final ack may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);
/// The same after a signal: the user wants to leave.
const FLUSH_TIMEOUT_STOPPED: Duration = Duration::from_secs(5);
/// Largest message, whatever the engine would take: it is read as a whole before its first tick.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// The id of `flush`; declarations count from 0, renewals of the token have their own.
const FLUSH_ID: u32 = 1_000_000;
const AUTH_ID: u32 = FLUSH_ID + 1;

/// Publishes one source.
#[derive(Debug)]
pub struct Publisher {
    target: Target,
    token: TokenSource,
    subprotocol: Subprotocol,
    stop: Stop,
    ids: Ids,
    link: Link,
    account: Account,
    backoff: Backoff,
    started: Instant,
    flush: Flush,
    /// From when on a lost connection is not worth coming back to.
    give_up: Option<Instant>,
    /// `reconnect_after_ms` of a `goodbye`.
    reconnect_after: Option<Duration>,
    reconnects: u64,
    rows_skipped: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    NotYet,
    Wanted,
    Sent,
    Done,
}

/// How far a batch was filled.
#[derive(Clone, Copy, Debug)]
enum Filled {
    /// The source has no more.
    ToTheEnd,
    /// The next tick is due after this.
    UpTo(Duration),
}

impl Publisher {
    /// Connects; `ids` holds every symbol of an SBE publisher.
    ///
    /// A first attempt that finds nobody is an error: the address is probably wrong.
    pub fn connect(
        target: Target,
        mut token: TokenSource,
        subprotocol: Subprotocol,
        stop: Stop,
        ids: Ids,
    ) -> anyhow::Result<Self> {
        let mut backoff = Backoff::new(rand::random());
        let link = loop {
            match open(&target, &token, subprotocol, &ids) {
                Ok(link) => break link,
                Err(error @ Broken::Connect(ConnectError::Io { .. })) => return Err(error.into()),
                Err(error) => wait(error, &mut token, &mut backoff, None, &stop)?,
            }
        };
        Ok(Self {
            target,
            token,
            subprotocol,
            stop,
            ids,
            link,
            account: Account::default(),
            backoff,
            started: Instant::now(),
            flush: Flush::NotYet,
            give_up: None,
            reconnect_after: None,
            reconnects: 0,
            rows_skipped: 0,
        })
    }

    /// Publishes to the end of `source`, or until a signal comes, and waits until all is decided.
    pub fn run(
        &mut self,
        source: &mut Source,
        strict: bool,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        self.started = Instant::now();
        let ended = self.publish(source, strict, progress);
        if ended.as_ref().is_err_and(anyhow::Error::is::<Broken>) {
            return ended;
        }
        // What was read before a bad row is published, whatever becomes of the rest.
        let flushed = self.finish();
        ended.and(flushed)
    }

    fn publish(
        &mut self,
        source: &mut Source,
        strict: bool,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let mut batch = Batch::new(
            self.subprotocol,
            self.link.message_bytes().min(MESSAGE_BYTES_MAX),
        );
        let mut early = None;
        while !self.stop.asked() {
            let filled = self.fill(&mut batch, &mut early, source, strict);
            self.account.enqueue_some(batch.take());
            let wait = match filled? {
                Filled::ToTheEnd => break,
                Filled::UpTo(wait) if self.account.has_room() => wait,
                Filled::UpTo(_) => LOOK_EVERY,
            };
            self.pump(wait.min(LOOK_EVERY))?;
            progress.update(
                source.progress(self.started.elapsed()),
                self.account.counts().accepted,
            );
        }
        Ok(())
    }

    /// Puts what is due into the batch; `early` keeps the tick that is not.
    fn fill(
        &mut self,
        batch: &mut Batch,
        early: &mut Option<Timed>,
        source: &mut Source,
        strict: bool,
    ) -> anyhow::Result<Filled> {
        while self.account.has_room() {
            let next = match early.take() {
                Some(timed) => Some(timed),
                None => self.read(source, strict)?,
            };
            let Some(timed) = next else {
                return Ok(Filled::ToTheEnd);
            };
            let wait = timed.due.saturating_sub(self.started.elapsed());
            if !wait.is_zero() {
                *early = Some(timed);
                return Ok(Filled::UpTo(wait));
            }
            if batch.push(&timed, &self.ids) {
                break;
            }
        }
        Ok(Filled::UpTo(Duration::ZERO))
    }

    /// The next tick of the source; bad rows are told and skipped, or end a strict run.
    fn read(&mut self, source: &mut Source, strict: bool) -> anyhow::Result<Option<Timed>> {
        loop {
            match source.next()? {
                Some(Err(row)) if strict => return Err(row.into()),
                Some(Err(row)) => {
                    eprintln!("skipped: {row}");
                    self.rows_skipped += 1;
                }
                Some(Ok(timed)) => return Ok(Some(timed)),
                None => return Ok(None),
            }
        }
    }

    /// Has everything decided, and closes.
    fn finish(&mut self) -> anyhow::Result<()> {
        let timeout = if self.stop.asked() {
            FLUSH_TIMEOUT_STOPPED
        } else {
            FLUSH_TIMEOUT
        };
        let deadline = Instant::now() + timeout;
        self.give_up = Some(deadline);
        self.flush = Flush::Wanted;
        while !self.is_done() {
            if Instant::now() > deadline {
                let undecided = self.account.undecided_ticks();
                bail!(
                    "no final ack within {} s, {undecided} ticks undecided",
                    timeout.as_secs()
                );
            }
            self.pump(LOOK_EVERY)?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.flush == Flush::Done && self.account.is_settled()
    }

    /// Says goodbye to the engine.
    pub fn close(self) {
        self.link.close();
    }

    pub fn account(&self) -> &Account {
        &self.account
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn reconnects(&self) -> u64 {
        self.reconnects
    }

    pub fn rows_skipped(&self) -> u64 {
        self.rows_skipped
    }

    /// Sends what is due and takes what came, waiting up to `wait` for it; reconnects on a loss.
    fn pump(&mut self, wait: Duration) -> anyhow::Result<()> {
        match self.exchange(wait) {
            Ok(()) => Ok(()),
            // All is decided, so the connection is of no more use.
            Err(_) if self.is_done() => Ok(()),
            Err(broken) => self.reconnect(broken),
        }
    }

    fn exchange(&mut self, mut wait: Duration) -> Result<(), Broken> {
        while let Some(payload) = self.account.next_unsent() {
            self.link.send(payload)?;
        }
        if self.flush == Flush::Wanted {
            self.link.send(request(FLUSH_ID, Op::Flush))?;
            self.flush = Flush::Sent;
        }
        while let Some(reply) = self.link.receive(wait)? {
            wait = Duration::ZERO;
            self.take(reply)?;
        }
        Ok(())
    }

    fn take(&mut self, reply: Reply) -> Result<(), Broken> {
        match reply {
            Reply::Ack(Ack {
                id,
                body: AckBody::Published(published),
            }) => {
                self.delivering();
                self.account.ack(published);
                if id == Some(FLUSH_ID) {
                    self.flush = Flush::Done;
                }
            }
            Reply::Ack(Ack {
                body: AckBody::Declare { rejected, .. },
                ..
            }) => {
                for entry in rejected {
                    eprintln!("not declared: {} ({})", entry.symbol, entry.code);
                }
            }
            Reply::Heartbeat { .. } => self.delivering(),
            Reply::Error(error) => self.account.error(&error),
            Reply::Goodbye {
                reconnect_after_ms, ..
            } => {
                self.reconnect_after = reconnect_after_ms.map(Duration::from_millis);
            }
            Reply::TokenExpiring { in_s } => self.renew_token(in_s)?,
            _ => {}
        }
        Ok(())
    }

    fn delivering(&mut self) {
        self.backoff
            .delivering(self.started.elapsed().as_millis() as u64);
    }

    fn renew_token(&mut self, in_s: u64) -> Result<(), Broken> {
        match self.token.refresh() {
            Ok(true) => self.link.send(request(
                AUTH_ID,
                Op::Auth {
                    token: self.token.current().to_owned(),
                },
            )),
            Ok(false) => {
                eprintln!("the token expires in {in_s} s and there is no other");
                Ok(())
            }
            Err(error) => {
                eprintln!("the token expires in {in_s} s: {error:#}");
                Ok(())
            }
        }
    }

    fn reconnect(&mut self, mut broken: Broken) -> anyhow::Result<()> {
        loop {
            if self
                .give_up
                .is_some_and(|deadline| Instant::now() > deadline)
            {
                return Err(anyhow::Error::from(broken).context("gave up reconnecting"));
            }
            let at_least = self.reconnect_after.take();
            wait(
                broken,
                &mut self.token,
                &mut self.backoff,
                at_least,
                &self.stop,
            )?;
            match open(&self.target, &self.token, self.subprotocol, &self.ids) {
                Ok(link) => {
                    self.link = link;
                    break;
                }
                Err(error) => broken = error,
            }
        }
        eprintln!(
            "reconnected; sending {} undecided ticks again",
            self.account.undecided_ticks()
        );
        self.reconnects += 1;
        self.account.reconnected();
        if self.flush != Flush::NotYet {
            self.flush = Flush::Wanted;
        }
        Ok(())
    }
}

/// Connects and declares.
fn open(
    target: &Target,
    token: &TokenSource,
    subprotocol: Subprotocol,
    ids: &Ids,
) -> Result<Link, Broken> {
    let mut link = Link::open(target, token.current(), subprotocol)?;
    for request in ids.declarations(link.message_bytes()) {
        link.send(Payload::Text(request.to_json().into()))?;
    }
    Ok(link)
}

/// Waits as long as the loss asks for; an error where coming back is of no use.
fn wait(
    broken: Broken,
    token: &mut TokenSource,
    backoff: &mut Backoff,
    at_least: Option<Duration>,
    stop: &Stop,
) -> anyhow::Result<()> {
    let at_least = match broken.remedy() {
        Remedy::Reconnect { at_least: own } => own.max(at_least),
        Remedy::FreshToken if token.refresh()? => at_least,
        Remedy::FreshToken | Remedy::GiveUp => return Err(broken.into()),
    };
    let pause =
        Duration::from_millis(backoff.failed(at_least.map(|at_least| at_least.as_millis() as u64)));
    eprintln!(
        "{}; next attempt in {:.1} s",
        Chain(&broken),
        pause.as_secs_f64()
    );
    if stop.sleep(pause) {
        return Err(broken).context("stopped before the connection came back");
    }
    Ok(())
}

fn request(id: u32, op: Op) -> Payload {
    Payload::Text(Request { id: Some(id), op }.to_json().into())
}

#[cfg(test)]
mod tests;
