/**
 * The caller's end of it all: which transport to use, when to connect, with which token. In: options,
 * symbols, and how each link fares; out: one link at a time, and events.
 */

import { askAdmit } from './admit.js';
import { backoffMs } from './backoff.js';
import { EdgeLink } from './edge_link.js';
import { Ending } from './ending.js';
import { Events } from './events.js';
import { Session } from './session.js';
import { WebSocketLink } from './websocket_link.js';

const TRANSPORTS = ['websocket', 'sse', 'poll'];

/** Ticks or heartbeats for so long prove that a connection works; connecting proves nothing. */
const STABLE_MS = 60_000;
/** What `setTimeout` can count to; above, it fires at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Failures in a row after which the next transport is tried. */
const FAILURES_MAX = 3;
const TOKEN_REFUSALS_MAX = 3;
const FIRST_TRANSPORT_AGAIN_MS = 300_000;
const TOKEN_WAIT_MS = 30_000;

export class Client {
  #options;
  #events = new Events(() => this.#state === 'closed');
  #session = new Session((name, detail) => this.#events.tell(name, detail));
  #state = 'idle';
  #started = false;
  #changed = false;

  #fetch;
  #WebSocket;
  #addresses;
  #transports;
  /** Which of the transports is in use or tried next. */
  #rank = 0;
  /** The rank to go back to at once where trying the first transport again fails. */
  #fallback = null;
  #returnTimer;
  #attempts = 0;

  #link = null;
  #timer;
  #renewing = null;
  /** Failures of the current transport in a row. */
  #failures = 0;
  /** Ends in a row that the caller did not ask for, whoever's fault, for the backoff. */
  #ends = 0;
  #tokensRefused = 0;
  #deliveringSinceMs = null;

  constructor(options) {
    this.#options = options;
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this.#fetch = options.fetch ?? ((...request) => globalThis.fetch(...request));
    const edges = listOf(options.edge).map((origin) => origin.replace(/\/+$/, ''));
    this.#addresses = { websocket: listOf(options.engine), sse: edges, poll: edges };
    const canUse = (transport) => this.#addresses[transport]?.length && (transport !== 'websocket' || this.#WebSocket);
    this.#transports = (options.transports ?? TRANSPORTS).filter(canUse);
    if (!this.#transports.length) {
      throw new TypeError('no transport is left: give an engine (and a WebSocket where there is no global one) or an edge');
    }
    this.#session.subscribe(options.symbols ?? [], options);
    // Not before the caller had the chance to add listeners.
    if (options.autoStart ?? true) queueMicrotask(() => this.start());
  }

  get state() {
    return this.#state;
  }

  get transport() {
    return ['idle', 'closed'].includes(this.#state) ? null : this.#transports[this.#rank];
  }

  get totals() {
    return { ...this.#session.totals };
  }

  start() {
    if (this.#started || this.#state === 'closed') return;
    this.#started = true;
    this.#connect();
  }

  on(name, listener) {
    return this.#events.on(name, listener);
  }

  subscribe(symbols, selection = {}) {
    this.#session.subscribe(symbols, { ...this.#options, ...selection });
    this.#change();
  }

  unsubscribe(symbols) {
    this.#session.unsubscribe(symbols);
    this.#change();
  }

  interrupt() {
    if (!this.#link) return;
    this.#drop();
    // The caller broke it, not a server in need of being spared: nothing is counted.
    this.#waitFor(backoffMs(0), 'interrupted');
  }

  close() {
    this.#finish('closed by the caller');
  }

  [Symbol.asyncIterator]() {
    return this.#events.iterate();
  }

  #enter(state, why = {}) {
    this.#state = state;
    this.#events.tell('state', { state, transport: this.transport, ...why });
  }

  /** Makes changes known once the caller's current turn ends, so that many calls become one request. */
  #change() {
    if (this.#changed) return;
    this.#changed = true;
    queueMicrotask(() => {
      this.#changed = false;
      this.#session.prune();
      if (this.#link) this.#link.reconcile();
      else if (this.#started && this.#state === 'idle') this.#connect();
    });
  }

  async #connect() {
    // The engine closes connections that subscribe to nothing.
    if (!this.#session.selectors.size) {
      if (this.#state !== 'idle') this.#enter('idle');
      return;
    }
    const transport = this.#transports[this.#rank];
    const addresses = this.#addresses[transport];
    const address = addresses[this.#attempts++ % addresses.length];
    const host = {
      fetch: this.#fetch,
      WebSocket: this.#WebSocket,
      maxDelayMs: this.#options.maxDelayMs ?? 0,
      opened: () => this.#opened(),
      delivering: () => this.#delivering(),
      settled: () => this.#settled(),
      expiring: () => this.#renew(link),
      ended: (ending) => this.#ended(link, ending),
    };
    const link =
      transport === 'websocket'
        ? new WebSocketLink(this.#session, host, address)
        : new EdgeLink(this.#session, host, address, transport === 'poll');
    this.#link = link;
    this.#enter('connecting');
    try {
      const token = await this.#token();
      if (this.#link === link) link.open(token);
    } catch (error) {
      this.#ended(link, new Ending(`token: ${error.message}`, { blamesTransport: false }));
    }
  }

  async #token() {
    const { token } = this.#options;
    if (typeof token === 'string') return token.trim();
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${TOKEN_WAIT_MS} ms`)), TOKEN_WAIT_MS);
    });
    try {
      return String(await Promise.race([token(), late])).trim();
    } finally {
      clearTimeout(timer);
    }
  }

  #opened() {
    this.#tokensRefused = 0;
    if (this.#state !== 'connecting') return;
    this.#session.totals.connects += 1;
    this.#enter('resuming');
  }

  #settled() {
    if (this.#rank === 0) this.#fallback = null;
    if (this.#state !== 'resuming') return;
    this.#enter('live');
    this.#session.upstream('live');
  }

  #delivering() {
    const now = performance.now();
    this.#deliveringSinceMs ??= now;
    if (now - this.#deliveringSinceMs < STABLE_MS) return;
    this.#ends = 0;
    this.#failures = 0;
  }

  async #renew(link) {
    // Every stream of an edge announces the same expiry.
    if (this.#renewing === link) return;
    this.#renewing = link;
    try {
      const token = await this.#token();
      if (this.#link === link) link.renew(token);
    } catch (error) {
      this.#events.tell('error', { code: 'token', message: error.message });
    }
    this.#renewing = null;
  }

  #drop() {
    this.#link?.close();
    this.#link = null;
    this.#deliveringSinceMs = null;
  }

  async #ended(link, ending) {
    if (this.#link !== link) return;
    this.#drop();
    let { reason, verdict, atLeastMs } = ending;
    if (ending.blamesTransport && verdict === 'again') {
      ({ reason, verdict, atLeastMs } = await this.#fail(link, ending));
      if (this.#state === 'closed') return;
    }
    if (verdict === 'token' && ++this.#tokensRefused > TOKEN_REFUSALS_MAX) {
      this.#finish(`${this.#tokensRefused} tokens in a row were refused: ${reason}`);
    } else if (verdict === 'stop') {
      this.#finish(reason);
    } else {
      this.#waitFor(Math.max(backoffMs(this.#ends++), atLeastMs), reason);
    }
  }

  #waitFor(ms, reason) {
    const retryInMs = Math.min(ms, TIMER_MAX_MS);
    this.#timer = setTimeout(() => this.#connect(), retryInMs);
    this.#enter('waiting', { reason, retryInMs });
  }

  /** Counts a failure of the transport; after too many of them asks why, and moves on. */
  async #fail(link, ending) {
    this.#failures += 1;
    if (this.#fallback !== null && this.#rank === 0) {
      this.#moveTo(this.#fallback);
      return ending;
    }
    if (this.#failures < FAILURES_MAX) return ending;
    const why = await askAdmit(this.#fetch, link, ending);
    if (why.verdict === 'again') this.#moveTo((this.#rank + 1) % this.#transports.length);
    return why;
  }

  #moveTo(rank) {
    this.#rank = rank;
    this.#fallback = null;
    this.#failures = 0;
    clearTimeout(this.#returnTimer);
    if (rank !== 0) this.#returnTimer = setTimeout(() => this.#tryFirstAgain(), FIRST_TRANSPORT_AGAIN_MS);
  }

  #tryFirstAgain() {
    this.#fallback = this.#rank;
    this.#rank = 0;
    // Otherwise an attempt is due anyway.
    if (!this.#link) return;
    this.#drop();
    this.#connect();
  }

  #finish(reason) {
    if (this.#state === 'closed') return;
    this.#drop();
    clearTimeout(this.#timer);
    clearTimeout(this.#returnTimer);
    this.#enter('closed', { reason });
  }
}

function listOf(addresses) {
  return addresses === undefined ? [] : [addresses].flat();
}
