//! What a point is worth.

use crate::{
    account::Counts,
    run::{Point, Published},
};

/// The share of deliveries that a server must make to keep up.
const DELIVERED_MIN: f64 = 0.999;

/// What came since `before`.
pub(super) fn since(counts: Counts, before: Counts) -> Counts {
    Counts {
        delivered: counts.delivered - before.delivered,
        skipped: counts.skipped - before.skipped,
        gapped: counts.gapped - before.gapped,
        missing: counts.missing.saturating_sub(before.missing),
        duplicates: counts.duplicates - before.duplicates,
        out_of_order: counts.out_of_order - before.out_of_order,
        contradictions: counts.contradictions - before.contradictions,
    }
}

/// Whether the server kept up, `counts` being those of the point alone.
pub(super) fn is_sustained(point: &Point, counts: Counts, p99_max_us: u64) -> bool {
    point.delivered as f64 >= point.expected as f64 * DELIVERED_MIN
        && counts.is_complete()
        && point.lost_connections == 0
        && point.published.accepted == point.published.ticks
        && point.latency.p99_us < p99_max_us
        && point.published.late.p99_us < p99_max_us
}

/// Everything that makes a point worthless for a comparison; empty for a sound one.
pub fn faults(point: &Point) -> Vec<String> {
    let mut faults = losses(point);
    if point.generator.reached {
        let busy = point.generator.core_busy;
        let busy = busy.unwrap_or(point.generator.thread_busy) * 100.0;
        faults.push(format!(
            "the generator had no CPU to spare: {busy:.0} % busy"
        ));
    }
    faults
}

/// What was not delivered, or not as it should be.
pub fn losses(point: &Point) -> Vec<String> {
    let mut faults = Vec::new();
    if point.delivered != point.expected {
        let Point {
            delivered,
            expected,
            ..
        } = point;
        faults.push(format!("{delivered} of {expected} deliveries were made"));
    }
    if !point.counts.is_sound() {
        let counts = point.counts;
        faults.push(format!("the account does not balance: {counts:?}"));
    }
    if point.lost_connections > 0 {
        let why = point.first_lost.as_deref().unwrap_or_default();
        let lost = point.lost_connections;
        faults.push(format!("{lost} connections were lost, the first: {why}"));
    }
    let Published {
        accepted, ticks, ..
    } = point.published;
    if accepted != ticks || point.published.first_error.is_some() {
        let error = point.published.first_error.as_deref();
        let error = error.unwrap_or("no error sent");
        faults.push(format!(
            "the server took {accepted} of {ticks} ticks ({error})"
        ));
    }
    faults
}

/// As [`losses`], where what is told as a gap is no loss: of a feed that something was done to.
pub fn untold(point: &Point) -> Vec<String> {
    let told = point
        .counts
        .gapped
        .min(point.expected - point.delivered.min(point.expected));
    losses(&Point {
        delivered: point.delivered + told,
        ..point.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Point {
        Point {
            expected: 20,
            delivered: 20,
            published: Published {
                ticks: 15,
                accepted: 15,
                ..Published::default()
            },
            ..Point::default()
        }
    }

    #[test]
    fn whatever_spoils_a_run_is_named() {
        assert_eq!(faults(&sound()), Vec::<String>::new());
        assert!(is_sustained(&sound(), Counts::default(), 1));
        let spoilt: [fn(&mut Point); 5] = [
            |point| point.delivered = 19,
            |point| point.counts.duplicates = 1,
            |point| point.lost_connections = 1,
            |point| point.published.accepted = 14,
            |point| point.generator.reached = true,
        ];
        for spoil in spoilt {
            let mut point = sound();
            spoil(&mut point);
            assert_eq!(faults(&point).len(), 1, "{point:?}");
            // A busy generator gathers more per read: what arrived in time is sustained all the same.
            let sustained = is_sustained(&point, point.counts, 1);
            assert_eq!(sustained, point.generator.reached, "{point:?}");
        }
    }

    #[test]
    fn a_gap_tells_of_a_loss() {
        let mut point = sound();
        point.delivered = 15;
        point.counts.gapped = 4;
        assert_eq!(untold(&point), ["19 of 20 deliveries were made"]);
        point.counts.gapped = 5;
        assert_eq!(untold(&point), Vec::<String>::new());
        assert_eq!(losses(&point).len(), 1);
    }

    #[test]
    fn a_rate_is_not_sustained_with_late_or_lost_ticks() {
        let gapped = Counts {
            gapped: 1,
            ..Counts::default()
        };
        assert!(!is_sustained(&sound(), gapped, 1));
        let mut late = sound();
        late.latency.p99_us = 100;
        assert!(is_sustained(&late, Counts::default(), 101));
        assert!(!is_sustained(&late, Counts::default(), 100));
    }
}
