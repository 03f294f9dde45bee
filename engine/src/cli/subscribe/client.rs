//! Drives a session over the blocking client.

use std::time::{Duration, Instant};

use tickwire_engine::client::{ConnectError, Connection, Lost, Message, Target};
use tickwire_proto::{
    json::DecodeError,
    reply::Reply,
    sbe,
    session::{Disconnect, Event, Next, Options, Session},
    upgrade::Subprotocol,
};

use super::output::{Output, PipeClosed};
use crate::cli::{
    Chain,
    stop::{LOOK_EVERY, Stop},
    token_source::TokenSource,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One subscriber over all its connections.
#[derive(Debug)]
pub struct Client {
    target: Target,
    token: TokenSource,
    subprotocol: Subprotocol,
    stop: Stop,
    session: Session,
    output: Output,
    /// Ticks still to come before the end, where there is one.
    left: Option<u64>,
    started: Instant,
}

/// Why a connection is not used any longer.
#[derive(Debug)]
enum End {
    /// The run is over, as asked.
    Finished,
    /// The connection is over.
    Disconnected(Disconnect, String),
}

impl From<Lost> for End {
    fn from(lost: Lost) -> Self {
        let cause = match &lost {
            Lost::Closed { code, .. } => Disconnect::Closed { code: *code },
            _ => Disconnect::Io,
        };
        Self::Disconnected(cause, Chain(&lost).to_string())
    }
}

impl From<PipeClosed> for End {
    /// Who reads us has seen enough: `tickwire subscribe … | head` ends like any other command.
    fn from(_: PipeClosed) -> Self {
        Self::Finished
    }
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(
        target: Target,
        token: TokenSource,
        subprotocol: Subprotocol,
        stop: Stop,
        options: Options,
        output: Output,
        count: Option<u64>,
    ) -> Self {
        let (session, started) = (Session::new(options), Instant::now());
        Self {
            target,
            token,
            subprotocol,
            stop,
            session,
            output,
            left: count,
            started,
        }
    }

    /// Connects, and comes back after losses, until the end.
    pub fn run(mut self) -> anyhow::Result<()> {
        let result = loop {
            let End::Disconnected(cause, message) = self.connect() else {
                break Ok(());
            };
            match self.session.disconnected(cause) {
                Next::Stop { reason } => break Err(anyhow::Error::from(reason).context(message)),
                Next::ConnectAfter { ms, fresh_token } => {
                    eprintln!("{message}; next attempt in {:.1} s", ms as f64 / 1_000.0);
                    if self.wait(Duration::from_millis(ms)) {
                        break Ok(());
                    }
                    if fresh_token && let Err(error) = self.token.refresh() {
                        eprintln!("{error:#}");
                    }
                }
            }
        };
        self.output.finish(&self.session.totals());
        result
    }

    /// Waits for the next attempt; whether the run is over.
    fn wait(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            if self.output.settle(&self.session.totals()).is_err()
                || self.stop.sleep(left.min(LOOK_EVERY))
            {
                return true;
            }
        }
    }

    /// One connection from its first byte to its end.
    fn connect(&mut self) -> End {
        let opened = Connection::open(
            &self.target,
            self.token.current(),
            self.subprotocol.as_str(),
            CONNECT_TIMEOUT,
        );
        let mut connection = match opened {
            Ok(connection) => connection,
            Err(error) => return End::Disconnected(cause(&error), Chain(&error).to_string()),
        };
        self.session.connected(self.now_ms());
        let mut decoder = sbe::Decoder::new();
        loop {
            if let Err(end) = self.turn(&mut connection, &mut decoder) {
                if matches!(end, End::Finished) {
                    connection.close();
                }
                return end;
            }
        }
    }

    /// Sends what is due, and takes what is there or comes within a moment.
    fn turn(&mut self, connection: &mut Connection, decoder: &mut sbe::Decoder) -> Result<(), End> {
        if self.stop.asked() {
            return Err(End::Finished);
        }
        let now_ms = self.now_ms();
        if self.session.timed_out(now_ms) {
            return Err(End::Disconnected(
                Disconnect::Silent,
                "the engine fell silent".to_owned(),
            ));
        }
        while let Some(request) = self.session.next_request(now_ms) {
            connection.send_text(request.to_json())?;
        }
        let mut message = connection.receive(Duration::ZERO)?;
        if message.is_none() {
            // Only now is there time to hand out what was gathered.
            self.output.settle(&self.session.totals())?;
            let due_ms = self
                .session
                .deadline_ms()
                .unwrap_or(u64::MAX)
                .saturating_sub(now_ms);
            message = connection.receive(Duration::from_millis(due_ms).min(LOOK_EVERY))?;
        }
        match message {
            Some(Message::Text(text)) => match Reply::from_json(&text) {
                Ok(reply) => self.take(connection, reply),
                Err(DecodeError::UnknownKind { .. }) => Ok(()),
                Err(error) => Err(unreadable(&error)),
            },
            Some(Message::Binary(bytes)) => self.take_sbe(connection, decoder, &bytes),
            None => Ok(()),
        }
    }

    fn take_sbe(
        &mut self,
        connection: &mut Connection,
        decoder: &mut sbe::Decoder,
        bytes: &[u8],
    ) -> Result<(), End> {
        let mut taken = Ok(());
        let decoded = decoder.decode(bytes, |reply| {
            if taken.is_ok() {
                taken = self.take(connection, reply);
            }
        });
        taken.and(decoded.map_err(|error| unreadable(&error)))
    }

    fn take(&mut self, connection: &mut Connection, reply: Reply) -> Result<(), End> {
        let now_ms = self.now_ms();
        let mut expiring = false;
        let mut over = false;
        let (output, left) = (&mut self.output, &mut self.left);
        self.session.receive(now_ms, reply, |event| {
            if over {
                return;
            }
            expiring |= matches!(event, Event::TokenExpiring { .. });
            let is_tick = matches!(event, Event::Tick(..));
            output.event(&event);
            if is_tick && let Some(left) = left {
                *left -= 1;
                over = *left == 0;
            }
        });
        if over {
            return Err(End::Finished);
        }
        if expiring {
            self.renew_token(connection)?;
        }
        self.output.relieve(&self.session.totals())?;
        Ok(())
    }

    fn renew_token(&mut self, connection: &mut Connection) -> Result<(), Lost> {
        match self.token.refresh() {
            Ok(true) => {
                let token = self.token.current().to_owned();
                let request = self.session.fresh_token(self.now_ms(), token);
                connection.send_text(request.to_json())
            }
            Ok(false) => {
                eprintln!("there is no other token");
                Ok(())
            }
            Err(error) => {
                eprintln!("{error:#}");
                Ok(())
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

fn cause(error: &ConnectError) -> Disconnect {
    match error {
        ConnectError::Refused(refusal) => Disconnect::Refused {
            status: refusal.status,
            retry_after_ms: refusal.retry_after.map(|after| after.as_millis() as u64),
        },
        // The engine would say the same of a token that no header can carry.
        ConnectError::BadToken => Disconnect::Refused {
            status: 401,
            retry_after_ms: None,
        },
        _ => Disconnect::Io,
    }
}

/// Bytes that cannot be read are the engine's fault or a proxy's; a fresh connection may help.
fn unreadable(error: &dyn std::error::Error) -> End {
    End::Disconnected(
        Disconnect::Io,
        format!("the engine said something unreadable: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_fits_no_header_is_refused_like_a_wrong_one() {
        let mut session = Session::new(Options::default());
        let mut attempts = 0;
        while let Next::ConnectAfter { fresh_token, .. } =
            session.disconnected(cause(&ConnectError::BadToken))
        {
            assert!(fresh_token, "the same token was tried again");
            attempts += 1;
            assert!(attempts < 100, "it never gave up");
        }
    }
}
