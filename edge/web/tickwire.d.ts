/**
 * The tickwire client for browsers and Node (20 and later): WebSocket, else Server-Sent Events,
 * else long poll; it reconnects, resumes, and reports what was lost.
 *
 * ```js
 * import { Client } from './tickwire.js';
 *
 * const client = new Client({
 *   engine: 'wss://ticks.example.com/v1/ws',
 *   edge: 'https://edge.example.com',
 *   token: () => fetch('/my/token').then((answer) => answer.text()),
 *   symbols: ['BTC-*', 'AAPL'],
 * });
 * client.on('tick', (tick) => console.log(tick.symbol, tick.price ?? tick.bid));
 * client.on('gap', (gap) => console.warn('missing', gap));
 *
 * // Or: for await (const { type, detail } of client) { … }
 * ```
 */

/** How ticks come in. */
export type Transport = 'websocket' | 'sse' | 'poll';

/** The two streams of a symbol. */
export type Channel = 'trade' | 'quote';

/** What the connection is at: `idle` before `start`, `closed` once and for all. */
export type State = 'idle' | 'connecting' | 'resuming' | 'live' | 'waiting' | 'closed';

/** Ticks of which symbols, and how. */
export interface Selection {
  /** Default: both. */
  channels?: Channel[];
  /** Every tick (the default), or the latest of each channel per symbol and interval. */
  mode?: 'stream' | 'conflate';
  /** Only with `conflate`: 10–60,000 ms, default 250. */
  intervalMs?: number;
  /** Whether the latest tick of each channel comes first; default true. */
  snapshot?: boolean;
}

export interface Options extends Selection {
  /** The engine's `/v1/ws`; several are tried in turn. Without it WebSocket is not used. */
  engine?: string | string[];
  /** The edge's origin, such as `https://edge.example.com`; several are tried in turn. Without it SSE and long poll are not used. */
  edge?: string | string[];
  /**
   * The JWT, or what fetches a fresh one; asked before every connection and before a token expires. White space around
   * it is ignored; no answer for 30 s is a failure.
   */
  token: string | (() => string | Promise<string>);
  /** Symbols and patterns to begin with. */
  symbols?: string[];
  /** The transports to use, in this order; default: websocket, sse, poll, as far as there are addresses. */
  transports?: Transport[];
  /** The latency budget, 0–1000 ms (WebSocket only): how long ticks may be held to come together. */
  maxDelayMs?: number;
  /** Whether to connect at once; default true. Otherwise `start` does. */
  autoStart?: boolean;
  /** For tests and unusual hosts: what stands in for the globals of the same name. */
  WebSocket?: typeof WebSocket;
  fetch?: typeof fetch;
}

/** A trade; decimals are strings, as on the wire. `ts` is integer microseconds since 1970 UTC. */
export interface Trade {
  type: 'trade';
  symbol: string;
  epoch: number;
  seq: number;
  ts: number;
  price: string;
  size?: string;
  side?: 'buy' | 'sell';
  /** The last one before the subscription; not counted. */
  snapshot?: true;
  /** Ticks of the channel before it that `conflate` left out and that are new to this client. */
  skipped?: number;
}

export interface Quote {
  type: 'quote';
  symbol: string;
  epoch: number;
  seq: number;
  ts: number;
  bid: string;
  bid_size?: string;
  ask: string;
  ask_size?: string;
  snapshot?: true;
  skipped?: number;
}

export type Tick = Trade | Quote;

/** Ticks that will not come. `to: null` closes the epoch's account; `from: null` where nobody knows since when. */
export interface Gap {
  symbol: string;
  channel: Channel;
  epoch: number;
  from: number | null;
  to: number | null;
  /** As the server says it; `unseen` where a resume began beyond what had come, or seqs are missing that nobody named. */
  reason: 'slow_consumer' | 'history' | 'overrun' | 'source' | 'bridge' | 'unseen';
}

/** Whether anyone publishes the symbol; with `symbol: '*'`, whether the edge reaches an engine. Only changes are told: at first all is `live`. */
export interface Feed {
  symbol: string;
  state: 'stale' | 'live';
}

export interface StateChange {
  state: State;
  transport: Transport | null;
  /** Why it left the state before: a close code's reason, an HTTP status, `silent`, … */
  reason?: string;
  /** With `waiting`: when the next attempt is made. */
  retryInMs?: number;
}

/** One entry of a subscription that was refused, or that a fresh token no longer allows. */
export interface Rejected {
  symbol: string;
  code: string;
}

export interface ErrorReply {
  code: string;
  message: string;
}

/** Event names and what comes with them. */
export interface Events {
  tick: Tick;
  gap: Gap;
  feed: Feed;
  state: StateChange;
  rejected: Rejected;
  error: ErrorReply;
  /** Events that the `for await` loop was too slow for; the callbacks got them. */
  overflow: { dropped: number };
}

export type Event = { [Name in keyof Events]: { type: Name; detail: Events[Name] } }[keyof Events];

/** What has happened so far. */
export interface Totals {
  /** Without snapshots. */
  ticks: number;
  /** Dropped as already seen. */
  repeats: number;
  skipped: number;
  gapped: number;
  connects: number;
}

export class Client {
  constructor(options: Options);
  readonly state: State;
  readonly transport: Transport | null;
  readonly totals: Totals;
  /** Connects, where `autoStart` was false. */
  start(): void;
  /** Calls `listener` for every such event; the result ends that. */
  on<Name extends keyof Events>(name: Name, listener: (detail: Events[Name]) => void): () => void;
  /**
   * Adds symbols and patterns, or changes how they come; what `selection` leaves out is as in the options. Where
   * patterns overlap, a symbol comes by its own selection, else by that of the longest pattern.
   */
  subscribe(symbols: string[], selection?: Selection): void;
  unsubscribe(symbols: string[]): void;
  /**
   * Breaks the connection, as a network would, and goes on by itself: to try out the resume. It is no failure, so that
   * the wait is 200 ms ± 50 % however often it is called, and the transport stays. While there is no connection, nor
   * an attempt at one, it does nothing.
   */
  interrupt(): void;
  /** Ends for good. Loops end after what they have queued. */
  close(): void;
  /** All events from now on, at most 10,000 of them waiting; above, the oldest are dropped and an `overflow` says how many. */
  [Symbol.asyncIterator](): AsyncIterator<Event>;
}

/** The wait before the attempt after `failures` failures, ms: 200 × 2ⁿ, at most 30 s, ± 50 %. */
export function backoffMs(failures: number, random?: () => number): number;

/**
 * Reads `text/event-stream` by the HTML standard, in pieces of any size: for those who read an edge's streams by
 * themselves. Throws at a line, or the data of an event, of more than 1 MiB.
 */
export class EventStream {
  constructor(onEvent: (event: { type: string; data: string }) => void);
  /** Where to resume; also moved by an `id:` without data. */
  readonly lastEventId: string;
  /** The last `retry:`, else 0. */
  readonly retryMs: number;
  push(text: string): void;
}
