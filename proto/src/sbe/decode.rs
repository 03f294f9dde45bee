//! Reading what the engine sends.

use std::collections::HashMap;

use super::layout::{self, HEADER_BYTES, NULL_U8, NULL_U32, NULL_U64, SCHEMA_ID, block_bytes};
use crate::{
    cursor::{CURSOR_BYTES_MAX, Cursor, CursorError},
    reply::{Gap, GapReason, Reply, Start},
    symbol::{SYMBOL_BYTES_MAX, Symbol, SymbolError},
    tick::{Body, Channel, FeedState, Identity, Marks, Side, Tick, Values, word_to_optional},
};

/// Definitions that a [`Decoder`] remembers, some 16 MB of them. A connection that needs more has
/// seen a million epochs, or is not ours.
pub const DEFINITIONS_MAX: usize = 1 << 18;

/// Why a message is not SBE of this schema; on `/v1/publish` all of these are `bad_sbe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SbeError {
    /// A header or a block reaches beyond the message.
    #[error("the message ends within the SBE message at byte {at}")]
    Truncated {
        /// Offset of the SBE message's header.
        at: usize,
    },
    /// Another schema.
    #[error("schema id {id} instead of {SCHEMA_ID}")]
    WrongSchema {
        /// What was found.
        id: u16,
    },
    /// `blockLength` is below the template's fields.
    #[error("a block of {bytes} bytes is too short for template {template}")]
    BlockTooShort {
        /// `templateId`.
        template: u16,
        /// `blockLength`.
        bytes: u16,
    },
    /// Publishers may send `Trade` and `Quote` only.
    #[error("template {template} cannot be published")]
    NotPublishable {
        /// `templateId`.
        template: u16,
    },
    /// No definition preceded.
    #[error("symbol id {id} was never defined")]
    UndefinedSymbol {
        /// `symbolId`.
        id: u32,
    },
    /// More than [`DEFINITIONS_MAX`].
    #[error("more than {DEFINITIONS_MAX} symbol definitions")]
    TooManyDefinitions,
    /// A definition whose name is no symbol.
    #[error("symbol definition: {0}")]
    BadSymbol(#[from] SymbolError),
    /// A text that is no cursor.
    #[error(transparent)]
    BadCursor(#[from] CursorError),
    /// A value outside its range.
    #[error("field {field} is outside its range")]
    BadValue {
        /// The field's name in the schema.
        field: &'static str,
    },
}

/// One SBE message: its template and its block, at least as long as this version's where the
/// template is known.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) template: u16,
    bytes: &'a [u8],
}

impl<'a> Block<'a> {
    /// Cuts the first SBE message off `message[*at..]`; `None` at the end.
    pub(super) fn next(message: &'a [u8], at: &mut usize) -> Option<Result<Self, SbeError>> {
        let rest = &message[*at..];
        if rest.is_empty() {
            return None;
        }
        Some(Self::first(rest, *at).inspect(|block| *at += HEADER_BYTES + block.bytes.len()))
    }

    fn first(rest: &'a [u8], at: usize) -> Result<Self, SbeError> {
        use layout::header;

        let (head, body) = rest
            .split_at_checked(HEADER_BYTES)
            .ok_or(SbeError::Truncated { at })?;
        let word = |offset: usize| u16::from_le_bytes([head[offset], head[offset + 1]]);
        let (bytes, template, id) = (
            word(header::BLOCK_LENGTH),
            word(header::TEMPLATE_ID),
            word(header::SCHEMA_ID),
        );
        if id != SCHEMA_ID {
            return Err(SbeError::WrongSchema { id });
        }
        let block = body
            .get(..usize::from(bytes))
            .ok_or(SbeError::Truncated { at })?;
        if block_bytes(template).is_some_and(|needed| block.len() < needed) {
            return Err(SbeError::BlockTooShort { template, bytes });
        }
        Ok(Self {
            template,
            bytes: block,
        })
    }

    pub(super) fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[offset..offset + N]);
        array
    }

    pub(super) fn u8(&self, offset: usize) -> u8 {
        self.bytes[offset]
    }

    pub(super) fn i8(&self, offset: usize) -> i8 {
        self.bytes[offset].cast_signed()
    }

    pub(super) fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }

    pub(super) fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.array(offset))
    }

    fn i64(&self, offset: usize) -> i64 {
        i64::from_le_bytes(self.array(offset))
    }

    pub(super) fn optional_u32(&self, offset: usize) -> Option<u32> {
        Some(self.u32(offset)).filter(|&value| value != NULL_U32)
    }

    pub(super) fn optional_u64(&self, offset: usize) -> Option<u64> {
        Some(self.u64(offset)).filter(|&value| value != NULL_U64)
    }

    /// The values of a `Trade` or a `Quote`, with ranges not yet checked; `None` for a bad `side`.
    pub(super) fn values(&self) -> Option<Values> {
        use layout::{quote, tick, trade};

        let body = if self.template == trade::TEMPLATE_ID {
            Body::Trade {
                price: self.i64(trade::PRICE),
                size: word_to_optional(self.i64(trade::SIZE)),
                side: match self.u8(trade::SIDE) {
                    0 => Some(Side::Buy),
                    1 => Some(Side::Sell),
                    NULL_U8 => None,
                    _ => return None,
                },
            }
        } else {
            Body::Quote {
                bid: self.i64(quote::BID),
                bid_size: word_to_optional(self.i64(quote::BID_SIZE)),
                ask: self.i64(quote::ASK),
                ask_size: word_to_optional(self.i64(quote::ASK_SIZE)),
            }
        };
        // Without a size its exponent says nothing, and some tools write their null there.
        let sized = !matches!(
            body,
            Body::Trade { size: None, .. }
                | Body::Quote {
                    bid_size: None,
                    ask_size: None,
                    ..
                }
        );
        let size_exponent = if sized { self.i8(tick::SIZE_EXP) } else { 0 };
        Some(Values {
            price_exponent: self.i8(tick::PRICE_EXP),
            size_exponent,
            body,
        })
    }

    /// `skipped` and `replay` of a `Trade` or a `Quote`.
    pub(super) fn skipped_and_replay(&self) -> (u32, Option<u32>) {
        use layout::{quote, trade};

        if self.template == trade::TEMPLATE_ID {
            (self.u32(trade::SKIPPED), self.optional_u32(trade::REPLAY))
        } else {
            (self.u32(quote::SKIPPED), self.optional_u32(quote::REPLAY))
        }
    }
}

/// Checks the framing of a whole message before any of it is used.
pub(super) fn check_framing(
    message: &[u8],
    allow: impl Fn(u16) -> Result<(), SbeError>,
) -> Result<(), SbeError> {
    let mut at = 0;
    while let Some(block) = Block::next(message, &mut at) {
        allow(block?.template)?;
    }
    Ok(())
}

/// Reads a client's binary messages; lives as long as the connection.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    definitions: HashMap<u32, (Symbol, u64)>,
}

impl Decoder {
    /// A decoder that no id was defined to.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands out every reply in `message`, in order; definitions come as [`Reply::Start`].
    ///
    /// A definition of a known id replaces it. Unknown templates are skipped, and so is what
    /// later versions append to a block.
    ///
    /// # Errors
    ///
    /// See [`SbeError`]. Nothing was handed out where the framing is at fault; otherwise, what
    /// stood before the fault was. Either way the stream cannot be trusted any further.
    pub fn decode(&mut self, message: &[u8], mut each: impl FnMut(Reply)) -> Result<(), SbeError> {
        check_framing(message, |_| Ok(()))?;
        let mut at = 0;
        while let Some(block) = Block::next(message, &mut at) {
            if let Some(reply) = self.reply(&block?)? {
                each(reply);
            }
        }
        Ok(())
    }

    /// One reply; `None` for a template that is not known.
    pub(super) fn reply(&mut self, block: &Block<'_>) -> Result<Option<Reply>, SbeError> {
        Ok(Some(match block.template {
            layout::trade::TEMPLATE_ID | layout::quote::TEMPLATE_ID => self.tick(block)?,
            layout::gap::TEMPLATE_ID => Reply::Gap(self.gap(block)?),
            layout::feed::TEMPLATE_ID => self.feed(block)?,
            layout::heartbeat::TEMPLATE_ID => Reply::Heartbeat {
                ts_us: block.u64(layout::heartbeat::TS) / 1_000,
            },
            layout::definition::TEMPLATE_ID => Reply::Start(self.define(block)?),
            layout::cursor::TEMPLATE_ID => Reply::Cursor(cursor(block)?),
            _ => return Ok(None),
        }))
    }

    fn tick(&self, block: &Block<'_>) -> Result<Reply, SbeError> {
        use layout::tick;

        let (symbol, epoch) = self.defined(block.u32(tick::SYMBOL_ID))?;
        let bad = |field| SbeError::BadValue { field };
        let values = block.values().ok_or(bad("side"))?;
        let values = values.checked().map_err(|_| bad("price or size"))?;
        let (skipped, replay) = block.skipped_and_replay();
        Ok(Reply::Tick(
            Tick {
                symbol,
                identity: Identity {
                    epoch,
                    seq: block.optional_u64(tick::SEQ).ok_or(bad("seq"))?,
                },
                ts_ns: block.optional_u64(tick::TS).ok_or(bad("ts"))?,
                values,
            },
            Marks {
                snapshot: block.u8(tick::FLAGS) & layout::FLAG_SNAPSHOT != 0,
                skipped,
                replay,
            },
        ))
    }

    fn gap(&self, block: &Block<'_>) -> Result<Gap, SbeError> {
        use layout::gap as at;

        let (symbol, _) = self.defined(block.u32(at::SYMBOL_ID))?;
        let bad = |field| SbeError::BadValue { field };
        let channel = Channel::BOTH.get(usize::from(block.u8(at::CHANNEL)));
        let reason = GapReason::ALL.get(usize::from(block.u8(at::REASON)));
        Ok(Gap {
            symbol,
            channel: *channel.ok_or(bad("channel"))?,
            epoch: block.u64(at::EPOCH),
            from: block.optional_u64(at::FROM),
            to: block.optional_u64(at::TO),
            reason: *reason.ok_or(bad("reason"))?,
            replay: block.optional_u32(at::REPLAY),
        })
    }

    fn feed(&self, block: &Block<'_>) -> Result<Reply, SbeError> {
        let (symbol, _) = self.defined(block.u32(layout::feed::SYMBOL_ID))?;
        let state = match block.u8(layout::feed::STATE) {
            0 => FeedState::Stale,
            1 => FeedState::Live,
            _ => return Err(SbeError::BadValue { field: "state" }),
        };
        Ok(Reply::Feed { symbol, state })
    }

    fn define(&mut self, block: &Block<'_>) -> Result<Start, SbeError> {
        use layout::definition as at;

        let id = block.u32(at::SYMBOL_ID);
        let start = Start {
            symbol: Symbol::from_padded(block.array::<SYMBOL_BYTES_MAX>(at::NAME))?,
            epoch: block.u64(at::EPOCH),
            trade: block.optional_u64(at::TRADE),
            quote: block.optional_u64(at::QUOTE),
            replay: block.optional_u32(at::REPLAY),
        };
        self.name(id, start.symbol, start.epoch)?;
        Ok(start)
    }

    /// Remembers what `id` names from here on.
    pub(super) fn name(&mut self, id: u32, symbol: Symbol, epoch: u64) -> Result<(), SbeError> {
        if self.definitions.len() >= DEFINITIONS_MAX && !self.definitions.contains_key(&id) {
            return Err(SbeError::TooManyDefinitions);
        }
        self.definitions.insert(id, (symbol, epoch));
        Ok(())
    }

    pub(super) fn defined(&self, id: u32) -> Result<(Symbol, u64), SbeError> {
        self.definitions
            .get(&id)
            .copied()
            .ok_or(SbeError::UndefinedSymbol { id })
    }
}

fn cursor(block: &Block<'_>) -> Result<Cursor, SbeError> {
    let padded = block.array::<CURSOR_BYTES_MAX>(layout::cursor::CURSOR);
    let text_bytes = padded
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(CURSOR_BYTES_MAX);
    let text = std::str::from_utf8(&padded[..text_bytes]).map_err(|_| CursorError)?;
    Ok(Cursor::parse(text)?)
}
