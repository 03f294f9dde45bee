//! What was sent and what became of it, over all connections.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::Duration,
};

use tickwire_proto::{
    code::ErrorCode,
    reply::{ErrorReply, Published},
};

use super::message::{Outgoing, Payload};

/// Ticks sent and not decided at which publishing waits: what a crash makes one send again.
const UNDECIDED_TICKS_MAX: u64 = 1 << 18;
/// Errors shown in full per code.
const DETAILS_MAX: usize = 3;

/// The publisher's side of `ack`.
///
/// Ticks that the engine numbers have no identity by which it could drop repeats, so after a
/// reconnect exactly the undecided messages are sent again.
#[derive(Debug, Default)]
pub struct Account {
    undecided: VecDeque<Outgoing>,
    undecided_ticks: u64,
    /// Messages of `undecided` that were sent on this connection.
    sent: usize,
    /// The last ack of this connection.
    acked: Published,
    /// The acks of the connections before.
    before: Published,
    errors: BTreeMap<ErrorCode, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    count: u64,
    details: Vec<String>,
}

impl Account {
    /// Takes the message, if there is one, to be sent.
    pub fn enqueue_some(&mut self, message: Option<Outgoing>) {
        if let Some(message) = message {
            self.enqueue(message);
        }
    }

    fn enqueue(&mut self, message: Outgoing) {
        self.undecided_ticks += u64::from(message.ticks);
        self.undecided.push_back(message);
    }

    /// The next message to send; it counts as sent from here on.
    pub fn next_unsent(&mut self) -> Option<Payload> {
        let payload = self.undecided.get(self.sent)?.payload.clone();
        self.sent += 1;
        Some(payload)
    }

    /// A new connection begins: undecided messages go out again.
    pub fn reconnected(&mut self) {
        self.before = self.counts();
        self.acked = Published::default();
        self.sent = 0;
    }

    /// Takes an ack; its counts are cumulative for the connection.
    pub fn ack(&mut self, published: Published) {
        let newly = published.messages.saturating_sub(self.acked.messages) as usize;
        for message in self.undecided.drain(..newly.min(self.sent)) {
            self.undecided_ticks -= u64::from(message.ticks);
            self.sent -= 1;
        }
        self.acked = published;
    }

    /// Takes note of a refused tick, message or request.
    pub fn error(&mut self, error: &ErrorReply) {
        let place = self.place(error);
        let seen = self.errors.entry(error.code).or_default();
        seen.count += 1;
        if seen.details.len() < DETAILS_MAX {
            seen.details.push(detail(place, error));
        }
    }

    /// Where an error's tick or message stands: in the recording, if that can still be told, else
    /// in what was sent.
    fn place(&self, error: &ErrorReply) -> Option<String> {
        let msg = error.msg?;
        // Errors of a message come before the ack that decides it.
        let ahead = msg.saturating_sub(self.acked.messages).checked_sub(1);
        let message = ahead.and_then(|ahead| self.undecided.get(ahead as usize));
        let lines = message.map_or(&[][..], |message| &message.lines);
        let place = match (error.index, lines) {
            (Some(index), _) => match lines.get(index as usize) {
                Some(line) => format!("line {line}"),
                None => format!("message {msg} tick {index}"),
            },
            (None, [first, .., last]) => format!("lines {first} to {last}"),
            (None, [line]) => format!("line {line}"),
            (None, []) => format!("message {msg}"),
        };
        Some(place)
    }

    /// Whether more may be enqueued before an ack comes.
    pub fn has_room(&self) -> bool {
        self.undecided_ticks < UNDECIDED_TICKS_MAX
    }

    /// Whether everything enqueued is decided.
    pub fn is_settled(&self) -> bool {
        self.undecided.is_empty()
    }

    /// Ticks not decided yet.
    pub fn undecided_ticks(&self) -> u64 {
        self.undecided_ticks
    }

    /// The sums over all connections.
    pub fn counts(&self) -> Published {
        let (before, now) = (&self.before, &self.acked);
        Published {
            accepted: before.accepted + now.accepted,
            rejected: before.rejected + now.rejected,
            duplicates: before.duplicates + now.duplicates,
            messages: before.messages + now.messages,
            errors_omitted: before.errors_omitted + now.errors_omitted,
        }
    }
}

fn detail(place: Option<String>, error: &ErrorReply) -> String {
    let place: Vec<_> = [place, error.symbol.clone()]
        .into_iter()
        .flatten()
        .collect();
    if place.is_empty() {
        error.message.clone()
    } else {
        format!("{}: {}", place.join(" "), error.message)
    }
}

/// The last words of a run.
#[derive(Debug)]
pub struct Summary<'a> {
    pub account: &'a Account,
    pub elapsed: Duration,
    pub reconnects: u64,
    pub rows_skipped: u64,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Published {
            accepted,
            rejected,
            duplicates,
            errors_omitted,
            ..
        } = self.account.counts();
        writeln!(
            f,
            "accepted {accepted}, rejected {rejected}, duplicates {duplicates}"
        )?;
        let seconds = self.elapsed.as_secs_f64();
        let rate = (accepted + rejected + duplicates) as f64 / seconds.max(0.001);
        write!(f, "{seconds:.1} s, {rate:.0} ticks/s")?;
        for (count, what) in [
            (self.reconnects, "reconnects"),
            (self.rows_skipped, "bad rows skipped"),
            (self.account.undecided_ticks, "ticks undecided"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        for (code, seen) in &self.account.errors {
            write!(f, "\n{code}: {}", seen.count)?;
            for detail in &seen.details {
                write!(f, "\n  {detail}")?;
            }
        }
        if errors_omitted > 0 {
            write!(
                f,
                "\nfurther errors not told by the engine: {errors_omitted}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, ticks: u32) -> Outgoing {
        Outgoing {
            payload: Payload::Text(name.into()),
            ticks,
            lines: Box::default(),
        }
    }

    fn error(msg: u64, index: Option<u32>) -> ErrorReply {
        ErrorReply {
            id: None,
            code: ErrorCode::NotEntitled,
            message: "the token does not allow it".into(),
            msg: Some(msg),
            index,
            symbol: Some("AAPL".into()),
        }
    }

    fn published(accepted: u64, rejected: u64, messages: u64) -> Published {
        Published {
            accepted,
            rejected,
            messages,
            ..Published::default()
        }
    }

    fn names(account: &mut Account) -> Vec<Payload> {
        std::iter::from_fn(|| account.next_unsent()).collect()
    }

    #[test]
    fn after_a_reconnect_only_undecided_messages_go_out_again() {
        let mut account = Account::default();
        for name in ["a", "b", "c"] {
            account.enqueue(message(name, 2));
        }
        assert_eq!(names(&mut account).len(), 3);
        account.ack(published(2, 0, 1));
        account.reconnected();
        assert_eq!(
            names(&mut account),
            [Payload::Text("b".into()), Payload::Text("c".into())]
        );
        assert!(!account.is_settled());
        account.ack(published(3, 1, 2));
        assert!(account.is_settled());
        assert_eq!(account.counts(), published(5, 1, 3));
    }

    #[test]
    fn an_ack_of_more_than_was_sent_settles_only_what_was_sent() {
        let mut account = Account::default();
        account.enqueue(message("a", 1));
        account.next_unsent();
        account.enqueue(message("b", 1));
        account.ack(published(9, 0, 9));
        assert_eq!(names(&mut account), [Payload::Text("b".into())]);
        assert_eq!(account.undecided_ticks(), 1);
    }

    #[test]
    fn undecided_ticks_are_bounded() {
        let mut account = Account::default();
        account.enqueue(message("a", UNDECIDED_TICKS_MAX as u32));
        assert!(!account.has_room());
        account.next_unsent();
        account.ack(published(1, 0, 1));
        assert!(account.has_room());
    }

    #[test]
    fn an_error_names_the_line_of_its_tick_on_every_connection() {
        let mut account = Account::default();
        for lines in [&[2, 3][..], &[5, 6, 7]] {
            account.enqueue(Outgoing {
                lines: lines.into(),
                ..message("a", lines.len() as u32)
            });
        }
        names(&mut account);
        let place = |account: &Account, msg, index| account.place(&error(msg, index)).unwrap();
        assert_eq!(place(&account, 1, Some(1)), "line 3");
        assert_eq!(place(&account, 2, Some(2)), "line 7");
        account.ack(published(2, 0, 1));
        assert_eq!(place(&account, 2, Some(0)), "line 5");
        assert_eq!(place(&account, 2, None), "lines 5 to 7");
        account.reconnected();
        assert_eq!(place(&account, 1, Some(1)), "line 6");
        for beyond in [0, 2, u64::MAX] {
            assert_eq!(
                place(&account, beyond, Some(1)),
                format!("message {beyond} tick 1")
            );
        }
    }

    #[test]
    fn the_summary_counts_errors_by_code_and_shows_the_first() {
        let mut account = Account::default();
        for index in 0..5 {
            account.error(&error(17, Some(index)));
        }
        account.ack(published(10, 5, 1));
        let elapsed = Duration::from_secs(3);
        let text = Summary {
            account: &account,
            elapsed,
            reconnects: 1,
            rows_skipped: 0,
        }
        .to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "accepted 10, rejected 5, duplicates 0");
        assert_eq!(lines[1], "3.0 s, 5 ticks/s, 1 reconnects");
        assert_eq!(lines[2], "not_entitled: 5");
        assert_eq!(
            lines[3],
            "  message 17 tick 0 AAPL: the token does not allow it"
        );
        assert_eq!(lines.len(), 3 + DETAILS_MAX);
    }
}
