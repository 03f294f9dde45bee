//! Acks, read back.

use serde_json::Value;

use super::decode::{DecodeError, Fields};
use crate::{
    code::ErrorCode,
    pattern::{Pattern, Selector},
    reply::{Accepted, Ack, AckBody, Listed, Narrowed, Published},
    request::{Mode, Rejected},
    symbol::Symbol,
    tick::{Channel, Channels},
};

pub(super) fn ack(fields: &Fields<'_>) -> Result<Ack, DecodeError> {
    let body = match fields.maybe("op", Value::as_str)? {
        None => AckBody::Published(published(fields)?),
        Some("subscribe") => AckBody::Subscribe(accepted(fields)?),
        Some("replay") => AckBody::Replay(accepted(fields)?),
        Some("unsubscribe") => AckBody::Unsubscribe(Accepted {
            symbols: fields.list("symbols", symbol)?,
            patterns: fields.list("patterns", pattern)?,
            rejected: fields.list("rejected", rejected)?,
            ..Accepted::default()
        }),
        Some("list") => AckBody::List(fields.list("subscriptions", listed)?),
        Some("options") => AckBody::Options {
            max_delay_ms: fields.small("max_delay_ms")?,
        },
        Some("auth") => AckBody::Auth {
            token_exp: fields.integer("token_exp")?,
            lost: fields.list("lost", selector)?,
            narrowed: fields.read("narrowed", narrowed)?,
        },
        Some("declare") => AckBody::Declare {
            symbols: fields.list("symbols", symbol)?,
            rejected: fields.list("rejected", rejected)?,
        },
        Some(kind) => {
            return Err(DecodeError::UnknownKind {
                kind: kind.to_owned(),
            });
        }
    };
    Ok(Ack {
        id: fields.maybe_small("id")?,
        body,
    })
}

fn accepted(fields: &Fields<'_>) -> Result<Accepted, DecodeError> {
    Ok(Accepted {
        symbols: fields.list("symbols", symbol)?,
        patterns: fields.list("patterns", pattern)?,
        pending: fields.list("pending", symbol)?,
        narrowed: fields.read("narrowed", narrowed)?,
        rejected: fields.list("rejected", rejected)?,
    })
}

fn published(fields: &Fields<'_>) -> Result<Published, DecodeError> {
    Ok(Published {
        accepted: fields.integer("accepted")?,
        rejected: fields.integer("rejected")?,
        duplicates: fields.integer("duplicates")?,
        messages: fields.integer("messages")?,
        errors_omitted: fields.maybe_integer("errors_omitted")?.unwrap_or(0),
    })
}

fn symbol(value: &Value) -> Option<Symbol> {
    value.as_str()?.parse().ok()
}

fn selector(value: &Value) -> Option<Selector> {
    value.as_str()?.parse().ok()
}

fn pattern(value: &Value) -> Option<Pattern> {
    pattern_text(value.as_str()?)
}

fn pattern_text(text: &str) -> Option<Pattern> {
    match Selector::parse(text) {
        Ok(Selector::Pattern(pattern)) => Some(pattern),
        _ => None,
    }
}

fn narrowed(value: &Value) -> Option<Vec<Narrowed>> {
    let entry = |(name, to): (&String, &Value)| {
        Some(Narrowed {
            pattern: pattern_text(name)?,
            to: to.as_array()?.iter().map(selector).collect::<Option<_>>()?,
        })
    };
    value.as_object()?.iter().map(entry).collect()
}

fn rejected(value: &Value) -> Option<Rejected> {
    Some(Rejected {
        symbol: value.get("symbol")?.as_str()?.to_owned(),
        code: ErrorCode::from_wire(value.get("code")?.as_str()?)?,
    })
}

fn listed(value: &Value) -> Option<Listed> {
    let channels = value.get("channels")?.as_array()?;
    Some(Listed {
        selector: selector(value.get("symbol")?)?,
        channels: channels.iter().try_fold(Channels::NONE, |channels, name| {
            Some(channels.with(Channel::from_wire(name.as_str()?)?))
        })?,
        mode: match value.get("mode")?.as_str()? {
            "stream" => Mode::Stream,
            "conflate" => Mode::Conflate {
                interval_ms: value.get("interval_ms")?.as_u64()?.try_into().ok()?,
            },
            _ => return None,
        },
    })
}
