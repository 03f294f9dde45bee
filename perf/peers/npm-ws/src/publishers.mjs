// Where ticks come in.

import { WebSocketServer } from "ws";

import { parsed } from "./subscribers.mjs";

const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;

/** The connections of `/v1/publish`. */
export class Publishers {
  server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: MESSAGE_BYTES_MAX,
    skipUTF8Validation: true, // publishers are trusted, the case that ws documents it for
  });
  #deliver;

  /** `deliver(symbol, text)` brings the text of one tick to the subscribers of its symbol. */
  constructor(deliver) {
    this.#deliver = deliver;
  }

  welcome(client) {
    const count = { accepted: 0, rejected: 0, messages: 0 };
    client.on("error", () => {}); // "close" follows
    client.on("message", (text) => {
      const message = parsed(text);
      if (message?.op === "flush") return client.send(ack(message.id, count));
      count.messages += 1;
      for (const tick of Array.isArray(message) ? message : [message]) {
        const accepted = this.#publish(tick);
        count[accepted ? "accepted" : "rejected"] += 1;
      }
    });
  }

  close() {
    for (const client of this.server.clients) client.close(1001);
  }

  #publish(tick) {
    if (typeof tick?.symbol !== "string") return false;
    // Keys keep their order and numbers are below 2^53, so the text comes out as it came in.
    this.#deliver(tick.symbol, JSON.stringify(tick));
    return true;
  }
}

function ack(id, { accepted, rejected, messages }) {
  return JSON.stringify({ type: "ack", id, accepted, rejected, duplicates: 0, messages });
}
