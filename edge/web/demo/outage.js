/**
 * Measures from the end of one `live` to the next. What is counted between the two was caught up:
 * the state becomes `live` again only after the resume.
 */
export class Outage {
  #live = false;
  #down = null;

  /** The connection is being broken on purpose: the outage begins now, not when it is noticed. */
  begin(nowMs, totals) {
    if (!this.#live) return;
    this.#down ??= { sinceMs: nowMs, ticks: totals.ticks, gapped: totals.gapped, resumed: false };
  }

  /** Follows the state; the answer is how an outage ended, or null. */
  follow(state, nowMs, totals) {
    if (state !== 'live') {
      this.begin(nowMs, totals);
      if (this.#down && state === 'resuming') this.#down.resumed = true;
      this.#live = false;
      return null;
    }
    const down = this.#down;
    this.#live = true;
    this.#down = null;
    return down && {
      tookMs: nowMs - down.sinceMs,
      resumed: down.resumed,
      lost: totals.gapped - down.gapped,
      caughtUp: totals.ticks - down.ticks,
    };
  }
}
