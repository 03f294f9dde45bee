/**
 * How far a symbol is accounted for to the caller, over all connections. In: its `start`, ticks, gaps
 * and feed, as one connection after another brings them; out, to the session: each tick once, and
 * every loss.
 *
 * ```text
 *   seq   at ........ q       whatever is not above `at` is a repeat, and clipped
 *   line      between         named by the `skipped` of q, or by gaps, else `unseen`
 * ```
 */

import { CHANNELS } from './selection.js';

export class Account {
  /** 0 stands for "nothing heard". */
  epoch = 0;
  /**
   * Per channel: every seq up to `at` is delivered, in a gap, or `owed`: it stood before a gap,
   * and the next tick's `skipped` names it. `closed`: the end of the epoch was told.
   */
  lines = {};
  /** Whether this connection opened the account already. */
  started = false;
  feed = 'live';

  constructor(session, symbol, group) {
    this.session = session;
    this.symbol = symbol;
    this.group = group;
  }

  point() {
    if (!this.epoch) return null;
    // Seq 0 is no tick: without it the channel is replayed from its base, which is the same.
    const points = CHANNELS.filter((channel) => this.lines[channel]?.at).map((channel) => [channel, this.lines[channel].at]);
    return { epoch: this.epoch, ...Object.fromEntries(points) };
  }

  keep(channels) {
    for (const channel of CHANNELS) if (!channels.includes(channel)) delete this.lines[channel];
  }

  start(message) {
    const cut = !this.started;
    this.started = true;
    if (message.epoch < this.epoch) return;
    // A symbol that is still stale is said to be, right behind this.
    if (cut) this.changeFeed('live');
    this.#reach(message.epoch, cut);
    for (const channel of CHANNELS) {
      const at = message[channel];
      if (at === undefined) continue;
      const line = (this.lines[channel] ??= lineAt(at));
      if (at <= line.at) continue;
      this.#lose(channel, line.at + 1, at);
      line.at = at;
    }
  }

  changeFeed(state) {
    if (this.feed === state) return;
    this.feed = state;
    this.session.tell('feed', { symbol: this.symbol, state });
  }

  /** Hands out a tick that is new to the caller; `false` for one that is not. */
  tick(tick) {
    const { type: channel, epoch, seq } = tick;
    if (epoch < this.epoch) return false;
    if (tick.snapshot) {
      this.session.tick(tick);
      return true;
    }
    this.#reach(epoch, !this.started);
    const named = tick.skipped ?? 0;
    const line = (this.lines[channel] ??= lineAt(Math.max(seq - 1 - named, 0)));
    if (seq <= line.at) return false;
    const between = seq - line.at - 1;
    const unseen = Math.max(between - named, 0);
    if (unseen) this.#lose(channel, line.at + 1, line.at + unseen);
    const skipped = between - unseen + line.owed;
    if (skipped) tick.skipped = skipped;
    else delete tick.skipped;
    this.lines[channel] = lineAt(seq);
    this.session.tick(tick);
    return true;
  }

  gap({ channel, epoch, from, to, reason }) {
    if (epoch < this.epoch) return;
    this.#reach(epoch, !this.started);
    const line = this.lines[channel];
    if (!line) {
      // The seqs before it are unknown, so it opens the account at its end.
      if (to !== null) this.lines[channel] = lineAt(to);
    } else {
      if (to === null ? line.closed : to <= line.at) return;
      from = Math.max(from ?? 0, line.at + 1);
      if (to === null) {
        line.closed = true;
      } else {
        // No tick below a gap can follow it: what lies before it was left out by `conflate`.
        line.owed += from - line.at - 1;
        line.at = to;
      }
    }
    this.session.gap({ symbol: this.symbol, channel, epoch, from, to, reason });
  }

  /**
   * Moves on to `epoch` where that is a new one. Within a connection the rest of the old epoch
   * was sent before; where a connection begins beyond it (`cut`), its end is lost.
   */
  #reach(epoch, cut) {
    if (epoch <= this.epoch) return;
    for (const channel of CHANNELS) {
      const line = this.lines[channel];
      if (cut && line && !line.closed) this.#lose(channel, line.at + 1, null);
    }
    this.epoch = epoch;
    this.lines = {};
  }

  #lose(channel, from, to) {
    this.session.gap({ symbol: this.symbol, channel, epoch: this.epoch, from, to, reason: 'unseen' });
  }
}

function lineAt(at) {
  return { at, owed: 0, closed: false };
}
