use super::*;

fn tick(epoch: u64, seq: u64) -> Tick {
    Tick {
        channel: Channel::Trade,
        symbol: Some(7),
        epoch,
        seq,
        ts_us: 0,
        skipped: 0,
        accounted: true,
    }
}

fn ledger() -> Ledger {
    Ledger::new(&[3, 7, 9], 1)
}

fn counts_after(seqs: &[u64]) -> Counts {
    let mut ledger = ledger();
    let mut counts = Counts::default();
    for &seq in seqs {
        ledger.tick(&tick(1, seq), &mut counts);
    }
    counts
}

fn delivered(delivered: u64) -> Counts {
    Counts {
        delivered,
        ..Counts::default()
    }
}

#[test]
fn every_tick_in_order_is_sound() {
    let counts = counts_after(&[1, 2, 3]);
    assert_eq!(counts, delivered(3));
    assert!(counts.is_complete());
}

#[test]
fn a_hole_is_missing() {
    let counts = counts_after(&[1, 2, 6]);
    let expected = Counts {
        missing: 3,
        ..delivered(3)
    };
    assert_eq!(counts, expected);
    assert!(!counts.is_sound());
    assert_eq!(counts_after(&[2]).missing, 1, "a hole right at the start");
}

#[test]
fn a_repeated_tick_is_a_duplicate() {
    let counts = counts_after(&[1, 2, 2, 1]);
    let expected = Counts {
        duplicates: 2,
        ..delivered(2)
    };
    assert_eq!(counts, expected);
    assert!(!counts.is_sound());
}

#[test]
fn a_late_tick_is_out_of_order_and_no_longer_missing() {
    let counts = counts_after(&[1, 5, 3, 3, 6]);
    let expected = Counts {
        missing: 2,
        out_of_order: 1,
        duplicates: 1,
        ..delivered(3)
    };
    assert_eq!(counts, expected);
    assert!(!counts_after(&[1, 3, 2]).is_sound());
}

#[test]
fn a_tick_of_another_symbol_is_a_contradiction() {
    let mut counts = Counts::default();
    for symbol in [None, Some(4)] {
        let foreign = Tick {
            symbol,
            ..tick(1, 1)
        };
        assert!(!ledger().tick(&foreign, &mut counts));
    }
    assert_eq!((counts.contradictions, counts.delivered), (2, 0));
}

#[test]
fn declared_losses_balance_the_account_only_where_it_stands() {
    let mut ledger = ledger();
    let mut counts = Counts::default();
    ledger.start(Some(7), 2, [Some(41), None], &mut counts);
    ledger.gap(
        (Some(7), Channel::Trade, 2),
        Some(42),
        Some(50),
        &mut counts,
    );
    let conflated = Tick {
        skipped: 4,
        ..tick(2, 55)
    };
    assert!(!ledger.tick(&conflated, &mut counts));
    let expected = Counts {
        skipped: 4,
        gapped: 9,
        ..delivered(1)
    };
    assert_eq!(counts, expected);
    assert_eq!(counts.delivered + counts.skipped + counts.gapped, 55 - 41);
    assert!(counts.is_sound() && !counts.is_complete());
    ledger.gap(
        (Some(7), Channel::Trade, 2),
        Some(58),
        Some(60),
        &mut counts,
    );
    assert_eq!(counts.contradictions, 1);
    let overdone = Tick {
        skipped: 9,
        ..tick(2, 56)
    };
    ledger.tick(&overdone, &mut counts);
    assert_eq!(counts.contradictions, 2, "it claims more than was left out");
}

#[test]
fn an_epoch_needs_a_start() {
    let mut ledger = ledger();
    let mut counts = Counts::default();
    ledger.tick(&tick(1, 1), &mut counts);
    ledger.start(Some(7), 2, [Some(9), None], &mut counts);
    ledger.tick(&tick(2, 10), &mut counts);
    assert!(counts.is_sound());
    ledger.tick(&tick(3, 1), &mut counts);
    assert_eq!(counts.contradictions, 1);
}

#[test]
fn a_start_that_jumps_ahead_leaves_a_hole() {
    let mut ledger = ledger();
    let mut counts = Counts::default();
    ledger.tick(&tick(1, 1), &mut counts);
    ledger.start(Some(7), 1, [Some(1), None], &mut counts);
    assert!(counts.is_sound());
    ledger.start(Some(7), 1, [Some(4), None], &mut counts);
    assert_eq!(counts.missing, 3);
}

#[test]
fn the_symbol_after_the_last_one_is_expected_next() {
    let mut ledger = ledger();
    let mut counts = Counts::default();
    assert_eq!(ledger.expected().unwrap().0, 3);
    ledger.tick(&tick(1, 1), &mut counts);
    assert_eq!(ledger.expected().unwrap().0, 9);
    ledger.expected().unwrap().1.advance(2, &mut counts);
    ledger.turn();
    assert_eq!(ledger.expected().unwrap().0, 3);
    assert_eq!(counts, delivered(3));
}
