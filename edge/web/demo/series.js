/** Time is cut into slots; each keeps the last of what fell into it. Finer would not be seen. */
export const SLOT_MS = 100;

/** The chart's longest window. */
const SPAN_MS = 300_000;

// A few seconds more than the span, so that the oldest slot in view is not the one being reused.
export const SLOTS = SPAN_MS / SLOT_MS + 50;

/** What a slot knows of trades. */
export const NO_TRADE = 0;
export const BUY = 1;
export const SELL = 2;
export const UNSIDED = 3;

/**
 * The last five minutes of one symbol, some 100 KB whatever its rate. Slots are found by time, so
 * ticks that a resume brings late land where they belong, and nothing has to be shifted or cleared.
 */
export class Series {
  #slot = new Float64Array(SLOTS);
  #price = new Float64Array(SLOTS);
  #bid = new Float64Array(SLOTS);
  #ask = new Float64Array(SLOTS);
  #trade = new Uint8Array(SLOTS);

  trade(ms, price, kind) {
    const at = this.#claim(ms);
    if (at < 0) return;
    this.#price[at] = price;
    this.#trade[at] = kind;
  }

  quote(ms, bid, ask) {
    const at = this.#claim(ms);
    if (at < 0) return;
    this.#bid[at] = bid;
    this.#ask[at] = ask;
  }

  /** Where the slot of `ms` is kept, emptied if it held an older one; −1 if it holds a newer one. */
  #claim(ms) {
    const slot = Math.floor(ms / SLOT_MS);
    const at = slot % SLOTS;
    if (slot < this.#slot[at]) return -1;
    if (slot > this.#slot[at]) {
      this.#slot[at] = slot;
      this.#price[at] = NaN;
      this.#bid[at] = NaN;
      this.#ask[at] = NaN;
      this.#trade[at] = NO_TRADE;
    }
    return at;
  }

  /** Calls `visit(ms, price, bid, ask, trade)` for each slot that has any; NaN is what it lacks. */
  each(fromMs, toMs, visit) {
    const last = Math.floor(toMs / SLOT_MS);
    for (let slot = Math.floor(fromMs / SLOT_MS); slot <= last; slot += 1) {
      const at = slot % SLOTS;
      if (this.#slot[at] !== slot) continue;
      visit(slot * SLOT_MS, this.#price[at], this.#bid[at], this.#ask[at], this.#trade[at]);
    }
  }

  /** What was in force when the slot of `ms` began; NaN where nothing is kept. */
  before(ms) {
    const found = { price: NaN, bid: NaN, ask: NaN };
    const end = Math.floor(ms / SLOT_MS);
    for (let slot = end - 1; slot >= end - SLOTS && slot >= 0; slot -= 1) {
      const at = slot % SLOTS;
      if (this.#slot[at] !== slot) continue;
      if (Number.isNaN(found.price)) found.price = this.#price[at];
      if (Number.isNaN(found.bid)) {
        found.bid = this.#bid[at];
        found.ask = this.#ask[at];
      }
      if (!Number.isNaN(found.price) && !Number.isNaN(found.bid)) break;
    }
    return found;
  }
}
