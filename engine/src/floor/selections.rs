//! What one connection asked for, and which of it governs a symbol.

use tickwire_proto::{
    claims::Entitlement,
    pattern::{Pattern, Selector},
    request::Mode,
    symbol::Symbol,
    tick::Channels,
};

use crate::few::FewMap;

/// The options of one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which channels.
    pub channels: Channels,
    /// Every tick, or the latest per interval.
    pub mode: Mode,
    /// Which request of the connection made it; a later one replaces it.
    pub request: u32,
}

/// [`Options`] as they are kept, so that an entry takes 48 bytes with its selector.
#[derive(Clone, Copy)]
struct Kept {
    channels: Channels,
    /// 0 for every tick.
    interval_ms: u32,
    request: u32,
}

const _: () = assert!(size_of::<(Selector, Kept)>() <= 48);

impl From<Options> for Kept {
    fn from(options: Options) -> Self {
        let interval_ms = match options.mode {
            Mode::Stream => 0,
            Mode::Conflate { interval_ms } => interval_ms,
        };
        Self {
            channels: options.channels,
            interval_ms,
            request: options.request,
        }
    }
}

impl From<Kept> for Options {
    fn from(kept: Kept) -> Self {
        let mode = match kept.interval_ms {
            0 => Mode::Stream,
            interval_ms => Mode::Conflate { interval_ms },
        };
        Self {
            channels: kept.channels,
            mode,
            request: kept.request,
        }
    }
}

/// A connection's subscriptions by what they name.
#[derive(Default)]
pub struct Selections {
    options: FewMap<Selector, Kept>,
    /// The patterns among them, longest first.
    #[expect(
        clippy::box_collection,
        reason = "most connections have none, and 16 bytes each add up"
    )]
    patterns: Option<Box<Vec<Pattern>>>,
}

impl Selections {
    /// How many symbols and patterns are subscribed.
    pub fn len(&self) -> usize {
        self.options.len()
    }

    /// Whether any of them is a pattern.
    pub fn has_patterns(&self) -> bool {
        self.patterns.is_some()
    }

    /// Whether `selector` itself is subscribed.
    pub fn contains(&self, selector: &Selector) -> bool {
        self.options.contains_key(selector)
    }

    /// Adds a subscription, or replaces its options.
    pub fn insert(&mut self, selector: Selector, options: Options) {
        let known = self.options.insert(selector, options.into()).is_some();
        if let (Selector::Pattern(pattern), false) = (selector, known) {
            let longer = |other: &Pattern| other.prefix().len() > pattern.prefix().len();
            let patterns = self.patterns.get_or_insert_default();
            let at = patterns.partition_point(longer);
            patterns.insert(at, pattern);
        }
    }

    /// Ends a subscription; false where there was none.
    pub fn remove(&mut self, selector: &Selector) -> bool {
        if let (Selector::Pattern(pattern), Some(patterns)) = (selector, &mut self.patterns) {
            patterns.retain(|own| own != pattern);
            if patterns.is_empty() {
                self.patterns = None;
            }
        }
        self.options.remove(selector).is_some()
    }

    /// The subscription under whose options `symbol` is delivered: its own, else that of the
    /// longest matching pattern, which delivers only what the token allows.
    pub fn governing(
        &self,
        symbol: &Symbol,
        entitlement: &Entitlement,
    ) -> Option<(Selector, Options)> {
        let own = Selector::Symbol(*symbol);
        if let Some(options) = self.options.get(&own) {
            return Some((own, (*options).into()));
        }
        let pattern = Selector::Pattern(
            *self
                .patterns
                .iter()
                .flat_map(|patterns| patterns.iter())
                .find(|pattern| pattern.matches(symbol))?,
        );
        let options = (*self.options.get(&pattern)?).into();
        entitlement.allows(symbol).then_some((pattern, options))
    }

    /// Every subscription, in the order of their names.
    pub fn sorted(&self) -> Vec<(Selector, Options)> {
        let mut all: Vec<_> = self
            .options
            .iter()
            .map(|(selector, kept)| (*selector, Options::from(*kept)))
            .collect();
        all.sort_unstable_by_key(|(selector, _)| *selector);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(request: u32) -> Options {
        Options {
            channels: Channels::BOTH,
            mode: Mode::Stream,
            request,
        }
    }

    #[test]
    fn the_exact_symbol_governs_then_the_longest_pattern() {
        let mut selections = Selections::default();
        for (index, text) in ["*", "BTC-*", "BTC-USDT", "BTC-U*"].into_iter().enumerate() {
            selections.insert(Selector::parse(text).unwrap(), options(index as u32));
        }
        let all = Entitlement::all();
        let governed = |text: &str| {
            selections
                .governing(&Symbol::parse(text).unwrap(), &all)
                .unwrap()
                .0
                .to_string()
        };
        assert_eq!(governed("BTC-USDT"), "BTC-USDT");
        assert_eq!(governed("BTC-USD"), "BTC-U*");
        assert_eq!(governed("BTC-EUR"), "BTC-*");
        assert_eq!(governed("AAPL"), "*");
        assert!(selections.remove(&Selector::parse("BTC-U*").unwrap()));
        let symbol = Symbol::parse("BTC-USD").unwrap();
        assert_eq!(
            selections.governing(&symbol, &all).unwrap().0.to_string(),
            "BTC-*"
        );
    }

    #[test]
    fn a_pattern_delivers_only_what_the_token_allows() {
        let mut selections = Selections::default();
        selections.insert(Selector::parse("*").unwrap(), options(0));
        let own = Entitlement::new([Selector::parse("BTC-*").unwrap()]);
        assert!(
            selections
                .governing(&Symbol::parse("BTC-USD").unwrap(), &own)
                .is_some()
        );
        assert!(
            selections
                .governing(&Symbol::parse("AAPL").unwrap(), &own)
                .is_none()
        );
    }
}
