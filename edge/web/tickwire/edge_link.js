/**
 * What is one connection to the client, over an edge: for each group a stream of Server-Sent Events,
 * or a loop of polls. In: a token, and the session's groups; out: to the edge, their requests; to the
 * session, what comes in; to the client (`host`), how the connection fares and why it ends.
 */

import { boundedText, refusal, textOf } from './answer.js';
import { Ending, closeEnding, isNotEntitled } from './ending.js';
import { EventStream } from './event_stream.js';
import { SILENCE_GRACE_MS, Watch } from './watch.js';

const SSE_SILENCE_MS = 20_000;
const POLL_WAIT_S = 25;
/** Between polls ticks gather. Without it a busy symbol costs a request per tick. */
const POLL_PAUSE_MS = 100;

export class EdgeLink {
  isWebSocket = false;
  token = null;
  #session;
  #host;
  #origin;
  #polls;
  #loops = new Map();
  /** Groups whose first answer, or replay, is not complete. */
  #unsettled = new Set();
  #goodbye = null;
  #retryMs = 0;

  constructor(session, host, origin, polls) {
    this.#session = session;
    this.#host = host;
    this.#origin = origin;
    this.#polls = polls;
  }

  get admitUrl() {
    return `${this.#origin}/v1/admit`;
  }

  open(token) {
    this.token = token;
    this.#unsettled = new Set(this.#session.groups);
    this.reconcile();
  }

  close() {
    for (const loop of this.#loops.values()) loop.abort.abort();
    this.#loops.clear();
  }

  /** Reopens the groups that changed; the others are left alone. */
  reconcile() {
    if (this.token === null) return;
    for (const [group, loop] of this.#loops) {
      if (this.#session.groups.has(group)) continue;
      loop.abort.abort();
      this.#loops.delete(group);
      this.#settle(group);
    }
    for (const group of this.#session.groups) {
      const symbols = [...group.symbols];
      const before = this.#loops.get(group);
      if (before?.symbols.join() === symbols.join()) continue;
      before?.abort.abort();
      const loop = { symbols, abort: new AbortController(), refused: false };
      this.#loops.set(group, loop);
      this.#follow(group, loop);
    }
  }

  renew(token) {
    this.token = token;
    this.close();
    this.reconcile();
  }

  async #follow(group, loop) {
    const { signal } = loop.abort;
    this.#session.restarted(group);
    try {
      await this.#greet(group, loop);
      while (!signal.aborted) await (this.#polls ? this.#pollOn(group, loop) : this.#stream(group, loop));
    } catch (error) {
      if (signal.aborted) return;
      if (error.code === 'bad_cursor') group.cursor = null;
      if (isNotEntitled(error)) this.#refused(group, loop, error);
      else this.#host.ended(this.#endingFor(error));
    }
  }

  /** Over a WebSocket these symbols would be rejected while the others go on; so they are here. */
  #refused(group, loop, error) {
    loop.refused = true;
    if ([...this.#loops.values()].every(({ refused }) => refused)) {
      this.#host.ended(error);
      return;
    }
    for (const symbol of loop.symbols) this.#session.refuse(symbol, error.code);
    this.#settle(group);
  }

  #endingFor(error) {
    if (!(error instanceof Ending)) return new Ending(error.message, { atLeastMs: this.#retryMs });
    const ending = this.#goodbye ? closeEnding(undefined, error.message, this.#goodbye) : error;
    ending.atLeastMs = Math.max(ending.atLeastMs, this.#retryMs);
    return ending;
  }

  #silent() {
    this.#host.ended(this.#endingFor(new Ending('silent')));
  }

  #settle(group) {
    this.#unsettled.delete(group);
    if (!this.#unsettled.size) this.#host.settled();
  }

  /** A resumed stream has no snapshots, so symbols that join it get theirs by a poll of their own. */
  async #greet(group, { symbols, abort }) {
    const joining = symbols.filter((symbol) => !this.#session.accepted.has(symbol));
    if (group.cursor === null || !group.selection.snapshot || !joining.length) return;
    try {
      await this.#poll(group, joining, null, abort.signal);
    } catch (error) {
      if (!isNotEntitled(error)) throw error;
      for (const symbol of joining) this.#session.refuse(symbol, error.code);
    }
  }

  async #stream(group, { symbols, abort: { signal } }) {
    const watch = new Watch(SSE_SILENCE_MS, () => this.#silent());
    const resumes = group.cursor !== null;
    const settles = resumes ? 'replayed' : 'ack';
    const events = new EventStream(({ data }) => {
      // A listener may end the connection amid a chunk.
      if (signal.aborted) return;
      const message = JSON.parse(data);
      this.#take(message, group);
      if (message.type === settles) this.#settle(group);
    });
    try {
      const headers = resumes ? { 'Last-Event-ID': group.cursor } : {};
      const response = await this.#get('sse', group, { symbols }, headers, signal);
      if (!response.headers.get('content-type')?.startsWith('text/event-stream')) {
        throw new Ending('an answer that is no event stream');
      }
      this.#host.opened();
      for await (const text of textOf(response)) {
        if (signal.aborted) return;
        // Comments too: they are this transport's heartbeats.
        watch.heard();
        this.#host.delivering();
        events.push(text);
        if (signal.aborted) return;
        if (events.lastEventId) group.cursor = events.lastEventId;
        this.#retryMs = Math.max(this.#retryMs, events.retryMs);
      }
    } finally {
      watch.stop();
    }
    throw new Ending('the stream ended');
  }

  async #pollOn(group, { symbols, abort: { signal } }) {
    const { cursor, more } = await this.#poll(group, symbols, group.cursor, signal);
    if (signal.aborted) return;
    group.cursor = cursor;
    if (more) return;
    this.#settle(group);
    await new Promise((resolve) => setTimeout(resolve, POLL_PAUSE_MS));
  }

  async #poll(group, symbols, cursor, signal) {
    const watch = new Watch(POLL_WAIT_S * 1_000 + SILENCE_GRACE_MS, () => this.#silent());
    try {
      const query = cursor === null ? { symbols } : { symbols, cursor, wait: POLL_WAIT_S };
      const answer = JSON.parse(await boundedText(await this.#get('poll', group, query, {}, signal)));
      if (signal.aborted) return answer;
      this.#host.opened();
      this.#host.delivering();
      for (const message of answer.ticks) {
        if (signal.aborted) return answer;
        this.#take(message, group);
      }
      this.#session.opened(symbols);
      return answer;
    } finally {
      watch.stop();
    }
  }

  async #get(path, group, { symbols, ...query }, headers, signal) {
    const fields = Object.entries({ ...group.selection, ...query }).map(([name, value]) => `&${name}=${value}`);
    const url = `${this.#origin}/v1/${path}?symbols=${symbols.map(encodeURIComponent).join()}${fields.join('')}`;
    headers = { ...headers, Authorization: `Bearer ${this.token}` };
    const response = await this.#host.fetch(url, { headers, signal, cache: 'no-store' });
    if (response.status !== 200) throw await refusal(response);
    return response;
  }

  #take(message, group) {
    if (message.type === 'ack') this.#session.answered(message);
    else if (message.type === 'token_expiring') this.#host.expiring();
    else if (message.type === 'goodbye') this.#goodbye = message;
    else this.#session.take(message, group);
  }
}
