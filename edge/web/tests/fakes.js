/** Stand-ins for clock, chance, WebSocket and fetch: nothing here waits, and a test decides what happens when. */

import { mock } from 'node:test';

import { Client } from '../tickwire.js';

const turn = setImmediate;

/** Lets everything happen that is due without time going by. */
export async function settle() {
  for (let turns = 0; turns < 8; turns++) await new Promise((resolve) => turn(resolve));
}

export async function after(ms) {
  await settle();
  mock.timers.tick(ms);
  await settle();
}

/** No jitter, and a clock that only `after` moves. */
export function freeze() {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  mock.method(performance, 'now', () => Date.now());
  mock.method(Math, 'random', () => 0.5);
}

export function thaw() {
  mock.timers.reset();
  mock.restoreAll();
}

export const LIMITS = { symbols: 1024, message_bytes: 65_536, ops_per_s: 10 };

/** A class of sockets that remembers them. */
export function fakeWebSocket() {
  return class FakeWebSocket {
    static all = [];
    static get last() {
      return this.all.at(-1);
    }

    sent = [];
    closedWith = null;

    constructor(url, protocols) {
      Object.assign(this, { url, protocols });
      FakeWebSocket.all.push(this);
    }

    send(text) {
      this.sent.push(JSON.parse(text));
    }

    close(code) {
      this.closedWith = code;
    }

    say(...messages) {
      for (const message of messages) this.onmessage?.({ data: JSON.stringify(message) });
    }

    drop(code = 1006, reason = '') {
      this.onclose?.({ code, reason });
    }

    welcome(limits = LIMITS) {
      this.say({ type: 'welcome', session: 's', protocol: 'tickwire.v1.json', heartbeat_ms: 5_000, limits });
    }

    /** Takes everything that was asked and not answered yet. */
    grant() {
      for (const request of this.sent.splice(0)) {
        const { op, id, symbols = [] } = request;
        const isPattern = (symbol) => symbol.endsWith('*');
        const patterns = symbols.filter(isPattern);
        this.say({ type: 'ack', id, op, symbols: symbols.filter((symbol) => !isPattern(symbol)), patterns, rejected: [], lost: [] });
        if (request.since) this.say({ type: 'replayed', id });
      }
    }
  };
}

/** A `fetch` that asks `answers[path]`; without an answer there is no network. */
export function fakeEdge(answers = {}) {
  const requests = [];
  const fetch = async (url, { headers, signal }) => {
    const { pathname, searchParams } = new URL(url);
    const request = { path: pathname, query: Object.fromEntries(searchParams), headers, signal };
    requests.push(request);
    if (!answers[pathname]) throw new TypeError('fetch failed');
    return answers[pathname](request);
  };
  return { fetch, requests, answers, to: (path) => requests.filter((request) => request.path === path) };
}

export function json(body, status = 200, headers = {}) {
  return new Response(JSON.stringify(body), { status, headers });
}

/** Answers every request with an event stream, and collects them. */
export function streams() {
  const all = [];
  const answer = (request) => {
    let controller;
    const body = new ReadableStream({ start: (its) => (controller = its) });
    const stream = {
      request,
      say: (text) => controller.enqueue(new TextEncoder().encode(text)),
      tell: (...messages) => messages.forEach((message) => stream.say(`event: ${message.type}\ndata: ${JSON.stringify(message)}\n\n`)),
      end: () => controller.close(),
      isOpen: true,
    };
    request.signal.addEventListener('abort', () => {
      stream.isOpen = false;
      controller.error(new Error('aborted'));
    });
    all.push(stream);
    return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
  };
  return { all, answer };
}

/** An answer that never comes. */
export function pending({ signal }) {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))));
}

/** A client with all that it tells. */
export function listening(options) {
  const client = new Client({ token: 'jwt', symbols: ['A'], ...options });
  const heard = { client };
  for (const name of ['tick', 'gap', 'feed', 'state', 'rejected', 'error', 'overflow']) {
    heard[name] = [];
    client.on(name, (detail) => heard[name].push(detail));
  }
  return heard;
}

/** A client over WebSocket that is live. */
export async function overWebSocket(options) {
  const WebSocket = fakeWebSocket();
  const heard = listening({ engine: 'wss://engine/v1/ws', WebSocket, fetch: fakeEdge().fetch, ...options });
  await settle();
  WebSocket.last.welcome();
  WebSocket.last.grant();
  return Object.assign(heard, { WebSocket });
}

/** A client over SSE, with the streams that it opened. */
export async function overSse(options) {
  const opened = streams();
  const edge = fakeEdge({ '/v1/sse': opened.answer });
  const heard = listening({ edge: 'https://edge', transports: ['sse', 'poll'], fetch: edge.fetch, ...options });
  await settle();
  return Object.assign(heard, { edge, opened });
}

export const start = (symbol, epoch, trade, quote) => ({ type: 'start', symbol, epoch, trade, quote });
export const trade = (symbol, epoch, seq, more = {}) => ({ type: 'trade', symbol, epoch, seq, ts: 1, price: '1.5', ...more });
export const gap = (symbol, epoch, from, to, reason = 'history') => ({ type: 'gap', symbol, channel: 'trade', epoch, from, to, reason });
export const cursor = (text) => ({ type: 'cursor', cursor: text });
export const ack = (symbols, patterns = [], rejected = []) => ({ type: 'ack', op: 'subscribe', symbols, patterns, rejected });
