/**
 * What is wanted, and how far it came, over all connections. In: the caller's symbols, and what the
 * links read; out: to the links, which groups to ask for and where to resume them; to the caller,
 * ticks, gaps, feeds and refusals.
 */

import { Account } from './account.js';
import { Group } from './group.js';
import { SELECTOR, wireSelection } from './selection.js';

/** Ticks of further symbols are handed out unchecked. */
const SYMBOLS_MAX = 1 << 18;

export class Session {
  totals = { ticks: 0, repeats: 0, skipped: 0, gapped: 0, connects: 0 };
  /** Symbols and patterns, each with its group. */
  selectors = new Map();
  groups = new Set();
  /** Those that a server took. They are resumed; the others begin afresh, with a snapshot. */
  accepted = new Set();
  #refused = new Map();
  #accounts = new Map();
  #upstream = 'live';

  constructor(tell) {
    this.tell = tell;
  }

  subscribe(symbols, options) {
    const selection = wireSelection(options);
    for (const symbol of new Set(symbols)) {
      if (!SELECTOR.test(symbol)) {
        queueMicrotask(() => this.tell('rejected', { symbol, code: 'bad_symbol' }));
        continue;
      }
      const before = this.selectors.get(symbol);
      const key = JSON.stringify(selection);
      if (before?.key === key) continue;
      before?.remove(symbol);
      const group = this.#roomIn(key, symbol) ?? new Group(key, selection, before?.cursor ?? null);
      group.add(symbol);
      this.groups.add(group);
      this.selectors.set(symbol, group);
    }
  }

  #roomIn(key, symbol) {
    return [...this.groups].find((group) => group.key === key && group.hasRoomFor(symbol));
  }

  unsubscribe(symbols) {
    for (const symbol of symbols) {
      this.selectors.get(symbol)?.remove(symbol);
      this.selectors.delete(symbol);
    }
  }

  /** Forgets what nothing asks for any more. */
  prune() {
    for (const group of this.groups) if (!group.symbols.size) this.groups.delete(group);
    for (const known of [this.accepted, this.#refused]) {
      for (const symbol of known.keys()) if (!this.selectors.has(symbol)) known.delete(symbol);
    }
    for (const [symbol, account] of this.#accounts) {
      account.group = this.#governor(symbol);
      if (account.group) account.keep(account.group.selection.channels);
      else this.#accounts.delete(symbol);
    }
  }

  /** The group of the symbol itself, else of the longest pattern: as the engine decides. */
  #governor(symbol) {
    let group = this.selectors.get(symbol);
    for (let length = symbol.length; !group && length >= 0; length--) {
      group = this.selectors.get(`${symbol.slice(0, length)}*`);
    }
    return group;
  }

  #account(symbol) {
    let account = this.#accounts.get(symbol);
    if (!account) {
      account = new Account(this, symbol, this.#governor(symbol));
      if (account.group && this.#accounts.size < SYMBOLS_MAX) this.#accounts.set(symbol, account);
    }
    return account;
  }

  /** A connection begins anew, for one group or for all. */
  restarted(group) {
    for (const account of this.#accounts.values()) {
      if (!group || account.group === group) account.started = false;
    }
  }

  /** Where to resume a symbol; `null` for patterns, and where nothing came. */
  point(symbol) {
    // In a `since` the name `cursor` means something else.
    return symbol === 'cursor' ? null : (this.#accounts.get(symbol)?.point() ?? null);
  }

  take(message, group) {
    const { type, symbol } = message;
    if (!['start', 'trade', 'quote', 'gap', 'feed'].includes(type)) return;
    if (symbol === '*') {
      this.upstream(message.state);
      return;
    }
    const account = this.#account(symbol);
    // A pattern's stream also brings what another stream is asked for; and what was queued
    // before an unsubscribe comes after it.
    if (!account.group || (group && account.group !== group)) return;
    if (type === 'start') account.start(message);
    else if (type === 'gap') account.gap(message);
    else if (type === 'feed') account.changeFeed(message.state);
    else if (!account.tick(message)) this.totals.repeats += 1;
  }

  /** Whether the edge reaches an engine; every group's stream says it. */
  upstream(state) {
    if (this.#upstream === state) return;
    this.#upstream = state;
    this.tell('feed', { symbol: '*', state });
  }

  tick(tick) {
    if (!tick.snapshot) this.totals.ticks += 1;
    this.totals.skipped += tick.skipped ?? 0;
    this.tell('tick', tick);
  }

  gap(gap) {
    if (gap.from !== null && gap.to !== null) this.totals.gapped += gap.to - gap.from + 1;
    this.tell('gap', gap);
  }

  /** The `ack` of a subscription. */
  answered({ symbols, patterns, rejected }) {
    for (const symbol of [...symbols, ...patterns]) {
      this.#refused.delete(symbol);
      if (this.selectors.has(symbol)) this.accepted.add(symbol);
    }
    for (const { symbol, code } of rejected) this.refuse(symbol, code);
  }

  /** These were answered for, whether an `ack` said so or not. */
  opened(symbols) {
    for (const symbol of symbols) {
      if (this.selectors.has(symbol) && !this.#refused.has(symbol)) this.accepted.add(symbol);
    }
  }

  /** Tells a refusal once, although every connection repeats it. */
  refuse(symbol, code) {
    this.accepted.delete(symbol);
    if (this.#refused.get(symbol) === code) return;
    if (this.selectors.has(symbol)) this.#refused.set(symbol, code);
    this.tell('rejected', { symbol, code });
  }
}
