//! What a session is subscribed to.

use std::collections::HashSet;

use crate::{
    pattern::{Pattern, Selector},
    symbol::Symbol,
};

/// Symbols and patterns, each once, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    all: Vec<Selector>,
    known: HashSet<Selector>,
    patterns: Vec<Pattern>,
}

impl Wanted {
    /// Adds what is not there yet, and returns that.
    pub(super) fn add(&mut self, selectors: impl IntoIterator<Item = Selector>) -> Vec<Selector> {
        let before = self.all.len();
        for selector in selectors {
            if self.known.insert(selector) {
                self.all.push(selector);
                if let Selector::Pattern(pattern) = selector {
                    self.patterns.push(pattern);
                }
            }
        }
        self.all[before..].to_vec()
    }

    /// Takes out what is there, and returns that.
    pub(super) fn remove(
        &mut self,
        selectors: impl IntoIterator<Item = Selector>,
    ) -> Vec<Selector> {
        let gone: Vec<Selector> = selectors
            .into_iter()
            .filter(|selector| self.known.remove(selector))
            .collect();
        if !gone.is_empty() {
            let known = &self.known;
            self.all.retain(|selector| known.contains(selector));
            self.patterns
                .retain(|pattern| known.contains(&Selector::Pattern(*pattern)));
        }
        gone
    }

    /// Whether one of them delivers `symbol`.
    pub(super) fn cover(&self, symbol: &Symbol) -> bool {
        self.known.contains(&Selector::Symbol(*symbol))
            || self.patterns.iter().any(|pattern| pattern.matches(symbol))
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Selector] {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selectors(texts: &[&str]) -> Vec<Selector> {
        let parse = |text: &&str| Selector::parse(text).unwrap();
        texts.iter().map(parse).collect()
    }

    #[test]
    fn each_is_there_once_and_goes_whole() {
        let mut wanted = Wanted::default();
        assert_eq!(
            wanted.add(selectors(&["A", "B*", "A"])),
            selectors(&["A", "B*"])
        );
        assert_eq!(wanted.add(selectors(&["B*", "C"])), selectors(&["C"]));
        let covers = |wanted: &Wanted, text: &str| wanted.cover(&Symbol::parse(text).unwrap());
        assert!(covers(&wanted, "A") && covers(&wanted, "B1") && !covers(&wanted, "D"));
        assert_eq!(wanted.remove(selectors(&["B*", "D"])), selectors(&["B*"]));
        assert_eq!(wanted.all(), selectors(&["A", "C"]));
        assert!(!covers(&wanted, "B1"));
    }
}
