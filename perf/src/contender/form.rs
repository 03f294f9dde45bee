//! The forms in which tickwire takes part.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Its name in results.
    pub name: &'static str,
    /// The same for people.
    pub title: &'static str,
    /// Ticks in binary.
    pub sbe: bool,
    /// The latency budget that subscribers ask for.
    pub max_delay_ms: Option<u32>,
    /// Confined to the server's core; else laid out as it likes.
    pub confined: bool,
    /// What floors do while no tick comes, where it is not the default; matters to `latency` alone.
    pub idle: Option<&'static str>,
    /// Sends in a batch, where it is not the default: what batches are worth.
    pub sends_per_turn: Option<u32>,
}

/// All of them; the first is tickwire as it comes.
pub(super) const FORMS: [Form; 9] = [
    Form {
        name: "tickwire",
        title: "tickwire",
        sbe: false,
        max_delay_ms: None,
        confined: true,
        idle: None,
        sends_per_turn: None,
    },
    Form {
        name: "tickwire-sbe",
        title: "tickwire, SBE",
        sbe: true,
        max_delay_ms: None,
        confined: true,
        idle: None,
        sends_per_turn: None,
    },
    Form {
        name: "tickwire-delay20",
        title: "tickwire, max_delay_ms 20",
        sbe: false,
        max_delay_ms: Some(20),
        confined: true,
        idle: None,
        sends_per_turn: None,
    },
    Form {
        name: "tickwire-sbe-delay20",
        title: "tickwire, SBE, max_delay_ms 20",
        sbe: true,
        max_delay_ms: Some(20),
        confined: true,
        idle: None,
        sends_per_turn: None,
    },
    Form {
        name: "tickwire-default",
        title: "tickwire, default layout",
        sbe: false,
        max_delay_ms: None,
        confined: false,
        idle: None,
        sends_per_turn: None,
    },
    Form {
        name: "tickwire-spin",
        title: "tickwire, spinning",
        sbe: false,
        max_delay_ms: None,
        confined: true,
        idle: Some("spin"),
        sends_per_turn: None,
    },
    Form {
        name: "tickwire-hybrid",
        title: "tickwire, spinning, then parking",
        sbe: false,
        max_delay_ms: None,
        confined: true,
        idle: Some("hybrid"),
        sends_per_turn: None,
    },
    Form {
        name: "tickwire-batch16",
        title: "tickwire, 16 sends a batch",
        sbe: false,
        max_delay_ms: None,
        confined: true,
        idle: None,
        sends_per_turn: Some(16),
    },
    Form {
        name: "tickwire-batch256",
        title: "tickwire, 256 sends a batch",
        sbe: false,
        max_delay_ms: None,
        confined: true,
        idle: None,
        sends_per_turn: Some(256),
    },
];
