//! Which symbols a list of symbols and patterns delivers.

use std::collections::HashSet;

use tickwire_proto::{
    pattern::{Pattern, Selector},
    symbol::Symbol,
};

/// Symbols by name, and patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Symbols.
    pub exact: HashSet<Symbol>,
    /// Patterns.
    pub patterns: Vec<Pattern>,
}

impl Filter {
    /// Whether it delivers this symbol.
    pub fn matches(&self, name: &Symbol) -> bool {
        self.exact.contains(name) || self.patterns.iter().any(|pattern| pattern.matches(name))
    }
}

impl<'a> FromIterator<&'a Selector> for Filter {
    fn from_iter<T: IntoIterator<Item = &'a Selector>>(selectors: T) -> Self {
        let mut filter = Self::default();
        for selector in selectors {
            match selector {
                Selector::Symbol(symbol) => {
                    filter.exact.insert(*symbol);
                }
                Selector::Pattern(pattern) => filter.patterns.push(*pattern),
            }
        }
        filter
    }
}
