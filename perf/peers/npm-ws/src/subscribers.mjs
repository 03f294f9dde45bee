// Who wants which symbol.

import WebSocket, { WebSocketServer } from "ws";

/** A subscriber's messages are short: a few thousand symbols at most. */
const MESSAGE_BYTES_MAX = 64 * 1024;
/** Unsent bytes of one subscriber; past that its ticks are stale, and it costs memory. */
const BUFFERED_BYTES_MAX = 8 * 1024 * 1024;
/** How often silent connections are pinged; whoever has not answered the last ping is cut off. */
const HEARTBEAT_MS = 30_000;

const NOBODY = new Set();

/** The connections of `/v1/ws`. */
export class Subscribers {
  server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: MESSAGE_BYTES_MAX,
  });
  #bySymbol = new Map();
  #heartbeat = setInterval(() => this.server.clients.forEach(beat), HEARTBEAT_MS);

  /** The connections that subscribed to `symbol`. */
  of(symbol) {
    return this.#bySymbol.get(symbol) ?? NOBODY;
  }

  welcome(client) {
    client.isAlive = true;
    client.symbols = new Set();
    client.on("pong", alive);
    client.on("error", ignore); // "close" follows
    client.on("message", (text) => this.#request(client, text));
    client.on("close", () => this.#leave(client));
  }

  close() {
    clearInterval(this.#heartbeat);
    for (const client of this.server.clients) client.close(1001);
  }

  #request(client, text) {
    const request = parsed(text);
    if (request?.op !== "subscribe" || !Array.isArray(request.symbols)) {
      return client.send('{"type":"error","code":"bad_request"}');
    }
    const { id, symbols } = request;
    for (const symbol of symbols) this.#join(client, symbol);
    client.send(JSON.stringify({ type: "ack", id, op: "subscribe", symbols, rejected: [] }));
  }

  #join(client, symbol) {
    let clients = this.#bySymbol.get(symbol);
    if (!clients) this.#bySymbol.set(symbol, (clients = new Set()));
    clients.add(client);
    client.symbols.add(symbol);
  }

  #leave(client) {
    for (const symbol of client.symbols) {
      const clients = this.#bySymbol.get(symbol);
      clients.delete(client);
      if (clients.size === 0) this.#bySymbol.delete(symbol);
    }
  }
}

/** Whether `client` can take more. One that has fallen too far behind is cut off. */
export function takesMore(client) {
  if (client.readyState !== WebSocket.OPEN) return false;
  if (client.bufferedAmount <= BUFFERED_BYTES_MAX) return true;
  client.terminate();
  return false;
}

/** The JSON value of a message, `undefined` if it is none. */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function beat(client) {
  if (!client.isAlive) return client.terminate();
  client.isAlive = false;
  client.ping();
}

function alive() {
  this.isAlive = true;
}

function ignore() {}
