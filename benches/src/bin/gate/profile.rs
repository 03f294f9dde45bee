//! Where a floor's instructions go: shares of functions, from a profile of callgrind
//! ("Callgrind Format Specification", valgrind's manual).

use std::collections::BTreeMap;

use serde::Serialize;

/// Functions told; the rest is small.
const FUNCTIONS_MAX: usize = 20;

/// What a function itself takes, without what it calls.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Its name.
    pub function: String,
    /// Of all that was counted, 0 to 1.
    pub instructions_share: f64,
}

/// The functions that take most, from the text of a profile.
pub fn shares(profile: &str) -> Vec<Share> {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut own: BTreeMap<&str, u64> = BTreeMap::new();
    let mut function = "";
    let mut is_call = false;
    for line in profile.lines() {
        if let Some(named) = line.strip_prefix("cfn=") {
            // A callee may be named here first.
            name(named, &mut names);
        } else if let Some(named) = line.strip_prefix("fn=") {
            function = name(named, &mut names);
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            // The line behind `calls` has what the callee took, which is its own.
            if !std::mem::take(&mut is_call) {
                let cost = line.split_ascii_whitespace().nth(1);
                let cost: u64 = cost.and_then(|cost| cost.parse().ok()).unwrap_or_default();
                *own.entry(function).or_default() += cost;
            }
        }
    }
    let total: u64 = own.values().sum();
    let mut own: Vec<_> = own.into_iter().filter(|(_, cost)| *cost > 0).collect();
    own.sort_by_key(|(function, cost)| (std::cmp::Reverse(*cost), *function));
    own.truncate(FUNCTIONS_MAX);
    let share = |(function, cost): (&str, u64)| Share {
        function: function.to_owned(),
        instructions_share: (cost as f64 / total as f64 * 1e4).round() / 1e4,
    };
    own.into_iter().map(share).collect()
}

/// `(12) name` gives a function a number, `(12)` is the one that has it.
fn name<'a>(named: &'a str, names: &mut BTreeMap<&'a str, &'a str>) -> &'a str {
    let Some((number, text)) = named.split_once(')') else {
        return named;
    };
    if text.trim().is_empty() {
        names.get(number).copied().unwrap_or(named)
    } else {
        names.insert(number, text.trim());
        text.trim()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_has_what_it_took_itself() {
        let profile = "events: Ir\n\
            fn=(1) turn\n16 3\n+1 2\ncfn=(2) encode\ncalls=4 0\n* 90\n+2 5\n\
            fn=(2)\n8 60\nfn=(3) copy\n9 30\ntotals: 100\n";
        let shares = shares(profile);
        let found: Vec<_> = shares
            .iter()
            .map(|share| (&*share.function, share.instructions_share))
            .collect();
        assert_eq!(found, [("encode", 0.6), ("copy", 0.3), ("turn", 0.1)]);
    }
}
