import { compare, fractionDigits } from './decimal.js';
import { BUY, SELL, Series, UNSIDED } from './series.js';

export const INSTRUMENTS_MAX = 200;

// Their names are kept only to count them, so this too must end somewhere.
const UNLISTED_MAX = 10_000;

// Beyond this the source does not publish the present: a recording is played, or its clock is off.
const LAG_MAX_MS = 10_000;

const KINDS = { buy: BUY, sell: SELL };

/** What the page knows of one symbol. */
class Instrument {
  /** The first price since the page was opened, and the last; decimals as they came. */
  opened = null;
  last = null;
  /** Whether the last change of the price went up (1) or down (−1). */
  direction = 0;
  bid = null;
  bidSize = null;
  ask = null;
  askSize = null;
  /** The most digits after the point that a price had. */
  digits = 0;
  stale = false;
  series = new Series();

  #newestMs = -Infinity;
  #behindMs = 0;

  constructor(symbol) {
    this.symbol = symbol;
  }

  take(tick, nowMs) {
    const ms = tick.ts / 1_000;
    if (!tick.snapshot) this.#followClock(ms, nowMs);
    if (tick.type === 'trade') this.#trade(tick, ms);
    else this.#quote(tick, ms);
  }

  /** The symbol's present: charts of a recording end where it is, not years later. */
  presentMs(nowMs) {
    return nowMs - this.#behindMs;
  }

  // Per symbol, so that one source with a wrong clock spoils no other chart.
  #followClock(ms, nowMs) {
    if (ms < this.#newestMs) return;
    this.#newestMs = ms;
    const lagMs = nowMs - ms;
    this.#behindMs = lagMs < 0 || lagMs > LAG_MAX_MS ? lagMs : 0;
  }

  #trade(tick, ms) {
    const { price } = tick;
    if (this.last !== null) this.direction = Math.sign(compare(price, this.last)) || this.direction;
    this.opened ??= price;
    this.last = price;
    this.digits = Math.max(this.digits, fractionDigits(price));
    this.series.trade(ms, Number(price), KINDS[tick.side] ?? UNSIDED);
  }

  #quote(tick, ms) {
    this.bid = tick.bid;
    this.bidSize = tick.bid_size ?? null;
    this.ask = tick.ask;
    this.askSize = tick.ask_size ?? null;
    this.digits = Math.max(this.digits, fractionDigits(tick.bid), fractionDigits(tick.ask));
    this.series.quote(ms, Number(tick.bid), Number(tick.ask));
  }
}

/** The instruments that are listed: the first 200 to appear. */
export class Market {
  #instruments = new Map();
  #unlisted = new Set();
  #onAdd;

  constructor(onAdd) {
    this.#onAdd = onAdd;
  }

  get(symbol) {
    return this.#instruments.get(symbol);
  }

  /** The instrument, listed if it was not; undefined beyond the bound. */
  add(symbol) {
    const known = this.#instruments.get(symbol);
    if (known) return known;
    if (this.#instruments.size >= INSTRUMENTS_MAX) {
      if (this.#unlisted.size < UNLISTED_MAX) this.#unlisted.add(symbol);
      return undefined;
    }
    const instrument = new Instrument(symbol);
    this.#instruments.set(symbol, instrument);
    this.#onAdd(instrument);
    return instrument;
  }

  /** How many symbols came that are not listed, and whether there may be more. */
  get unlisted() {
    return { count: this.#unlisted.size, more: this.#unlisted.size === UNLISTED_MAX };
  }
}
