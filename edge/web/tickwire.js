/**
 * The tickwire client for browsers and Node; `tickwire.d.ts` is its documentation. This is its entry:
 * what else is in `tickwire/` is nobody's business but its own.
 *
 * ```text
 *   caller ── symbols, token ──► Client ── opens, closes ──► WebSocketLink or EdgeLink ◄──► server
 *     ▲                            │ has one                             │
 *     └── Events ◄── Account ◄── Session ◄─────── what comes in ─────────┘
 *
 *   client          which transport, when (backoff), with which token; why it is refused (admit)
 *   session         what outlives a connection: groups (group) of one selection (selection) with
 *                   their cursor, and what came of each symbol (account)
 *   websocket_link  one connection to an engine; or
 *   edge_link       to an edge, whose answers it reads (answer, event_stream)
 *                   watch: a link's silence; ending: why it ended, and what to do then
 *   events          listeners and loops of the caller
 * ```
 *
 * Symbols that come in the same way form a group. A WebSocket carries all groups; over SSE and
 * long poll each is a request of its own, because the selection is the request's query.
 */

export { backoffMs } from './tickwire/backoff.js';
export { Client } from './tickwire/client.js';
export { EventStream } from './tickwire/event_stream.js';
