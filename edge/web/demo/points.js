import { NO_TRADE, SLOTS } from './series.js';

// One more than there are slots: what was in force at the left edge comes first.
const POINTS_MAX = SLOTS + 1;

/**
 * What is to be drawn of a series: prices and quotes carried forward from left to right, at most
 * one point per `groupMs`. The arrays are allocated once and filled anew for every drawing.
 *
 * Groups are cut by time and not by pixel: the same ticks fall together in every frame, or the
 * line would shimmer as it slides.
 */
export class Points {
  length = 0;
  ms = new Float64Array(POINTS_MAX);
  price = new Float64Array(POINTS_MAX);
  bid = new Float64Array(POINTS_MAX);
  ask = new Float64Array(POINTS_MAX);
  trade = new Uint8Array(POINTS_MAX);

  gather(series, fromMs, toMs, groupMs) {
    let { price, bid, ask } = series.before(fromMs);
    let group = NaN;
    this.length = 0;
    if (!Number.isNaN(price) || !Number.isNaN(bid)) this.#open(fromMs, price, bid, ask);

    series.each(fromMs, toMs, (ms, slotPrice, slotBid, slotAsk, trade) => {
      if (trade !== NO_TRADE) price = slotPrice;
      if (!Number.isNaN(slotBid)) {
        bid = slotBid;
        ask = slotAsk;
      }
      const itsGroup = Math.floor(ms / groupMs);
      if (itsGroup === group) {
        this.#put(this.length - 1, ms, price, bid, ask);
      } else {
        group = itsGroup;
        this.#open(ms, price, bid, ask);
      }
      if (trade !== NO_TRADE) this.trade[this.length - 1] = trade;
    });
  }

  #open(ms, price, bid, ask) {
    this.trade[this.length] = NO_TRADE;
    this.#put(this.length, ms, price, bid, ask);
    this.length += 1;
  }

  #put(index, ms, price, bid, ask) {
    this.ms[index] = ms;
    this.price[index] = price;
    this.bid[index] = bid;
    this.ask[index] = ask;
  }

  /** The first index from which `values` are known, `length` if they never are. */
  known(values) {
    let index = 0;
    while (index < this.length && Number.isNaN(values[index])) index += 1;
    return index;
  }

  /** The point in force at `ms`, −1 before the first. */
  indexAt(ms) {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ms[middle] <= ms) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** The lowest and the highest of the given columns; infinite when nothing is known. */
  extent(...columns) {
    let low = Infinity;
    let high = -Infinity;
    for (const values of columns) {
      for (let i = this.known(values); i < this.length; i += 1) {
        if (values[i] < low) low = values[i];
        if (values[i] > high) high = values[i];
      }
    }
    return { low, high };
  }
}
