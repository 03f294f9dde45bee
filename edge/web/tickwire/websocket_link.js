/**
 * One connection to an engine, by WebSocket. In: a token, and what the session wants; out: to the
 * engine, requests within its limits, each for one group; to the session, what comes in; to the
 * client (`host`), how the connection fares and why it ends.
 */

import { Ending, closeEnding } from './ending.js';
import { SILENCE_GRACE_MS, Watch } from './watch.js';

/** Until `welcome` says it. */
const HEARTBEAT_DEFAULT_MS = 5_000;
/** Never above what an engine takes at once by default. */
const BURST_OPS_MAX = 20;
/** All of a `subscribe` but its symbols and points, counted generously. */
const ENVELOPE_BYTES = 400;
/** `"":{"epoch":,"trade":,"quote":},` and three numbers of up to 16 digits. */
const POINT_BYTES = 32 + 3 * 16;

export class WebSocketLink {
  isWebSocket = true;
  token = null;
  #session;
  #host;
  #url;
  #socket = null;
  #watch = null;
  #goodbye = null;

  /** `null` until `welcome`. */
  #limits = null;
  /** What this connection was asked for: selectors, each with its group then. */
  #asked = new Map();
  #unanswered = new Map();
  #replaying = new Set();
  #nextId = 1;
  #maxDelayMs;
  #freshToken = null;
  /** Requests that the rate allows now. */
  #allowance = 0;
  #filledAtMs = 0;
  #timer;
  /** Whether something is still to be asked. */
  #behind = true;

  constructor(session, host, url) {
    this.#session = session;
    this.#host = host;
    this.#url = url;
    this.#maxDelayMs = host.maxDelayMs;
  }

  get admitUrl() {
    const url = new URL(this.#url);
    url.protocol = url.protocol.replace('ws', 'http');
    url.pathname = url.pathname.replace(/ws$/, 'admit');
    return url.href;
  }

  open(token) {
    this.token = token;
    this.#session.restarted();
    try {
      this.#socket = new this.#host.WebSocket(this.#url, ['tickwire.v1.json', `tickwire.bearer.${token}`]);
    } catch (error) {
      this.#host.ended(new Ending(error.message));
      return;
    }
    this.#watch = new Watch(HEARTBEAT_DEFAULT_MS + SILENCE_GRACE_MS, () => this.#host.ended(new Ending('silent')));
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = ({ code, reason }) => this.#host.ended(closeEnding(code, reason, this.#goodbye));
  }

  close() {
    clearTimeout(this.#timer);
    this.#watch?.stop();
    if (!this.#socket) return;
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    this.#socket.close(1000);
  }

  reconcile() {
    this.#pump();
  }

  renew(token) {
    this.token = token;
    this.#freshToken = token;
    this.#pump();
  }

  #receive(data) {
    this.#watch.heard();
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      this.#host.ended(new Ending('a message that is not JSON'));
      return;
    }
    this.#take(message);
  }

  #take(message) {
    switch (message.type) {
      case 'trade':
      case 'quote':
        this.#host.delivering();
        return this.#session.take(message);
      case 'heartbeat':
        return this.#host.delivering();
      case 'cursor':
        return this.#takeCursor(message.cursor);
      case 'welcome':
        return this.#welcome(message);
      case 'ack':
        return this.#takeAck(message);
      case 'replayed':
        this.#replaying.delete(message.id);
        return this.#settle();
      case 'error':
        return this.#takeError(message);
      case 'token_expiring':
        return this.#host.expiring();
      case 'goodbye':
        this.#goodbye = message;
        return;
      default:
        return this.#session.take(message);
    }
  }

  #welcome({ limits, heartbeat_ms }) {
    this.#limits = limits;
    this.#watch.limitMs = heartbeat_ms + SILENCE_GRACE_MS;
    this.#allowance = this.#burst();
    this.#filledAtMs = performance.now();
    this.#host.opened();
    this.#pump();
  }

  /** A cursor that comes while something is not asked yet, or amid a replay, covers only the rest. */
  #takeCursor(cursor) {
    if (this.#behind || this.#replaying.size) return;
    for (const group of this.#session.groups) group.cursor = cursor;
  }

  #takeAck(ack) {
    this.#unanswered.delete(ack.id);
    if (ack.op === 'subscribe') {
      this.#session.answered(ack);
      // Where nothing was taken, nothing will be replayed.
      if (!ack.symbols.length && !ack.patterns.length) this.#replaying.delete(ack.id);
    } else if (ack.op === 'auth') {
      for (const symbol of ack.lost) this.#session.refuse(symbol, 'not_entitled');
    }
    this.#settle();
  }

  #takeError({ id, code, message }) {
    const request = this.#unanswered.get(id);
    this.#unanswered.delete(id);
    this.#replaying.delete(id);
    if (request && code === 'rate_limited') {
      // Our count of the rate was wrong, so wait a second: insisting ends in a 4429.
      this.#allowance = 1 - this.#limits.ops_per_s;
      this.#filledAtMs = performance.now();
      request.again();
    } else if (request?.resumesFrom && code === 'bad_cursor') {
      request.resumesFrom.cursor = null;
      request.again();
    } else {
      this.#session.tell('error', { code, message });
    }
    this.#pump();
  }

  #burst() {
    return Math.min(2 * this.#limits.ops_per_s, BURST_OPS_MAX);
  }

  /** Sends what is to be asked, as fast as the rate allows. */
  #pump() {
    if (!this.#limits) return;
    clearTimeout(this.#timer);
    const rate = this.#limits.ops_per_s / 1_000;
    const now = performance.now();
    this.#allowance = Math.min(this.#allowance + (now - this.#filledAtMs) * rate, this.#burst());
    this.#filledAtMs = now;
    this.#behind = true;
    while (this.#behind && this.#allowance >= 1) {
      this.#behind = this.#sendNext();
      if (this.#behind) this.#allowance -= 1;
    }
    // There may be more to ask; the next call finds out.
    if (this.#behind) this.#timer = setTimeout(() => this.#pump(), Math.ceil((1 - this.#allowance) / rate));
    this.#settle();
  }

  #settle() {
    if (!this.#behind && !this.#unanswered.size && !this.#replaying.size) this.#host.settled();
  }

  /** `false` where nothing is to be asked. */
  #sendNext() {
    const token = this.#freshToken;
    if (token !== null) {
      this.#freshToken = null;
      return this.#send({ op: 'auth', token }, { again: () => (this.#freshToken ??= token) });
    }
    const max_delay_ms = this.#maxDelayMs;
    if (max_delay_ms) {
      this.#maxDelayMs = 0;
      return this.#send({ op: 'options', max_delay_ms }, { again: () => (this.#maxDelayMs = max_delay_ms) });
    }
    return this.#sendUnsubscribe() || this.#sendSubscribe();
  }

  #sendUnsubscribe() {
    const symbols = [];
    let bytes = ENVELOPE_BYTES;
    for (const symbol of this.#asked.keys()) {
      if (this.#session.selectors.has(symbol)) continue;
      bytes += symbol.length + 3;
      if (symbols.length && bytes > this.#limits.message_bytes) break;
      symbols.push(symbol);
    }
    if (!symbols.length) return false;
    const asked = symbols.map((symbol) => [symbol, this.#asked.get(symbol)]);
    for (const symbol of symbols) this.#asked.delete(symbol);
    const again = () => asked.forEach(([symbol, group]) => this.#asked.has(symbol) || this.#asked.set(symbol, group));
    return this.#send({ op: 'unsubscribe', symbols }, { again });
  }

  #sendSubscribe() {
    const batch = this.#nextBatch();
    if (!batch) return false;
    const { group, resumes, symbols, points } = batch;
    const request = { op: 'subscribe', symbols, ...group.selection };
    // Built from entries, so that a symbol called `__proto__` is a key like any other.
    if (resumes) request.since = Object.fromEntries(points);
    if (resumes && group.cursor !== null) request.since.cursor = group.cursor;
    for (const symbol of symbols) this.#asked.set(symbol, group);
    const again = () => symbols.forEach((symbol) => this.#asked.delete(symbol));
    return this.#send(request, { again, resumesFrom: request.since?.cursor ? group : null });
  }

  /**
   * The next selectors that can share a request: of one group, and all resumed or all not, since
   * without a cursor a `since` replays from its base what it does not name. A selector whose
   * options changed needs no `since`: its account goes on where the old one ended.
   */
  #nextBatch() {
    const { message_bytes, symbols: symbolsMax } = this.#limits;
    let batch = null;
    let bytes = ENVELOPE_BYTES;
    for (const [symbol, group] of this.#session.selectors) {
      if (this.#asked.get(symbol) === group) continue;
      const wasCut = !this.#asked.has(symbol) && this.#session.accepted.has(symbol);
      const point = wasCut ? this.#session.point(symbol) : null;
      const resumes = wasCut && (point !== null || group.cursor !== null);
      batch ??= { group, resumes, symbols: [], points: [] };
      if (group !== batch.group || resumes !== batch.resumes) continue;
      bytes += symbol.length + 3 + (point ? symbol.length + POINT_BYTES : 0);
      if (batch.symbols.length && (bytes > message_bytes || batch.symbols.length >= symbolsMax)) break;
      batch.symbols.push(symbol);
      if (point) batch.points.push([symbol, point]);
    }
    return batch;
  }

  #send({ op, ...fields }, request) {
    const id = this.#nextId++;
    this.#unanswered.set(id, request);
    if (fields.since) this.#replaying.add(id);
    this.#socket.send(JSON.stringify({ op, id, ...fields }));
    return true;
  }
}
