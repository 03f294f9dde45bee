//! What the engine says, as JSON.

use super::{
    object::{Object, escaped, list, plain},
    tick::write_tick,
};
use crate::{
    cursor::Cursor,
    reply::{
        Accepted, Ack, AckBody, ErrorReply, Gap, Limits, Listed, Narrowed, Published, Reply, Start,
        Welcome,
    },
    request::{Mode, Rejected},
    symbol::Symbol,
    tick::{Channel, FeedState},
};

impl Reply {
    /// Appends the message as one JSON object.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Welcome(welcome) => write_welcome(out, welcome),
            Self::Ack(ack) => write_ack(out, ack),
            Self::Start(start) => write_start(out, start),
            Self::Tick(tick, marks) => write_tick(out, tick, marks),
            Self::Gap(gap) => write_gap(out, gap),
            Self::Replayed { id, cursor } => write_replayed(out, *id, cursor.as_ref()),
            Self::Cursor(cursor) => write_cursor(out, cursor),
            Self::Feed { symbol, state } => write_feed(out, symbol, *state),
            Self::Heartbeat { ts_us } => write_heartbeat(out, *ts_us),
            Self::TokenExpiring { in_s } => Object::reply(out, "token_expiring")
                .integer("in_s", *in_s)
                .end(),
            Self::Error(error) => write_error(out, error),
            Self::Goodbye {
                reason,
                reconnect_after_ms,
            } => Object::reply(out, "goodbye")
                .text("reason", reason)
                .maybe_integer("reconnect_after_ms", *reconnect_after_ms)
                .end(),
            Self::Pong { id, ts_us } => {
                Object::reply(out, "pong")
                    .maybe_integer("id", *id)
                    .integer("ts", *ts_us)
                    .end();
            }
        }
    }
}

/// Appends a `start`.
pub fn write_start(out: &mut Vec<u8>, start: &Start) {
    Object::reply(out, "start")
        .plain("symbol", start.symbol)
        .integer("epoch", start.epoch)
        .maybe_integer("trade", start.trade)
        .maybe_integer("quote", start.quote)
        .maybe_integer("replay", start.replay)
        .end();
}

/// Appends a `gap`; an end that is not known is `null`.
pub fn write_gap(out: &mut Vec<u8>, gap: &Gap) {
    Object::reply(out, "gap")
        .plain("symbol", gap.symbol)
        .plain("channel", gap.channel.as_str())
        .integer("epoch", gap.epoch)
        .nullable_integer("from", gap.from)
        .nullable_integer("to", gap.to)
        .plain("reason", gap.reason.as_str())
        .maybe_integer("replay", gap.replay)
        .end();
}

/// Appends a `feed`.
pub fn write_feed(out: &mut Vec<u8>, symbol: &Symbol, state: FeedState) {
    Object::reply(out, "feed")
        .plain("symbol", symbol)
        .plain("state", state.as_str())
        .end();
}

/// Appends a `cursor`.
pub fn write_cursor(out: &mut Vec<u8>, cursor: &Cursor) {
    Object::reply(out, "cursor").plain("cursor", cursor).end();
}

/// Appends a `heartbeat`; `ts_us` is microseconds since 1970 UTC.
pub fn write_heartbeat(out: &mut Vec<u8>, ts_us: u64) {
    Object::reply(out, "heartbeat").integer("ts", ts_us).end();
}

fn write_welcome(out: &mut Vec<u8>, welcome: &Welcome) {
    let Limits {
        symbols,
        message_bytes,
        ops_per_s,
    } = welcome.limits;
    Object::reply(out, "welcome")
        .text("session", &welcome.session)
        .plain("protocol", welcome.protocol.as_str())
        .integer("heartbeat_ms", welcome.heartbeat_ms)
        .integer("token_exp", welcome.token_exp)
        .field("limits", |out| {
            Object::begin(out)
                .integer("symbols", symbols)
                .integer("message_bytes", message_bytes)
                .integer("ops_per_s", ops_per_s)
                .end();
        })
        .end();
}

fn write_replayed(out: &mut Vec<u8>, id: Option<u32>, cursor: Option<&Cursor>) {
    let reply = Object::reply(out, "replayed").maybe_integer("id", id);
    match cursor {
        Some(cursor) => reply.plain("cursor", cursor).end(),
        None => reply.end(),
    }
}

fn write_error(out: &mut Vec<u8>, error: &ErrorReply) {
    let reply = Object::reply(out, "error")
        .maybe_integer("id", error.id)
        .plain("code", error.code)
        .text("message", &error.message)
        .maybe_integer("msg", error.msg)
        .maybe_integer("index", error.index);
    match &error.symbol {
        Some(symbol) => reply.text("symbol", symbol).end(),
        None => reply.end(),
    }
}

fn write_ack(out: &mut Vec<u8>, ack: &Ack) {
    let reply = Object::reply(out, "ack").maybe_integer("id", ack.id);
    match &ack.body {
        AckBody::Subscribe(accepted) => with_accepted(reply.plain("op", "subscribe"), accepted),
        AckBody::Replay(accepted) => with_accepted(reply.plain("op", "replay"), accepted),
        AckBody::Unsubscribe(accepted) => reply
            .plain("op", "unsubscribe")
            .plain_list("symbols", &accepted.symbols)
            .plain_list("patterns", &accepted.patterns)
            .list("rejected", &accepted.rejected, write_rejected),
        AckBody::List(listed) => {
            reply
                .plain("op", "list")
                .list("subscriptions", listed, write_listed)
        }
        AckBody::Options { max_delay_ms } => reply
            .plain("op", "options")
            .integer("max_delay_ms", *max_delay_ms),
        AckBody::Auth {
            token_exp,
            lost,
            narrowed,
        } => reply
            .plain("op", "auth")
            .integer("token_exp", *token_exp)
            .plain_list("lost", lost)
            .field("narrowed", |out| write_narrowed(out, narrowed)),
        AckBody::Declare { symbols, rejected } => reply
            .plain("op", "declare")
            .plain_list("symbols", symbols)
            .list("rejected", rejected, write_rejected),
        AckBody::Published(published) => with_published(reply, published),
    }
    .end();
}

fn with_accepted<'a>(reply: Object<'a>, accepted: &Accepted) -> Object<'a> {
    reply
        .plain_list("symbols", &accepted.symbols)
        .plain_list("patterns", &accepted.patterns)
        .plain_list("pending", &accepted.pending)
        .field("narrowed", |out| write_narrowed(out, &accepted.narrowed))
        .list("rejected", &accepted.rejected, write_rejected)
}

fn with_published<'a>(reply: Object<'a>, published: &Published) -> Object<'a> {
    let errors_omitted = (published.errors_omitted > 0).then_some(published.errors_omitted);
    reply
        .integer("accepted", published.accepted)
        .integer("rejected", published.rejected)
        .integer("duplicates", published.duplicates)
        .integer("messages", published.messages)
        .maybe_integer("errors_omitted", errors_omitted)
}

fn write_narrowed(out: &mut Vec<u8>, narrowed: &[Narrowed]) {
    narrowed
        .iter()
        .fold(Object::begin(out), |object, Narrowed { pattern, to }| {
            object.plain_list(&pattern.to_string(), to)
        })
        .end();
}

fn write_rejected(out: &mut Vec<u8>, rejected: &Rejected) {
    Object::begin(out)
        .field("symbol", |out| escaped(out, &rejected.symbol))
        .plain("code", rejected.code)
        .end();
}

fn write_listed(out: &mut Vec<u8>, listed: &Listed) {
    let entry = Object::begin(out)
        .plain("symbol", listed.selector)
        .field("channels", |out| {
            list(out, listed.channels.iter().map(Channel::as_str), plain);
        });
    match listed.mode {
        Mode::Stream => entry.plain("mode", "stream"),
        Mode::Conflate { interval_ms } => entry
            .plain("mode", "conflate")
            .integer("interval_ms", interval_ms),
    }
    .end();
}
