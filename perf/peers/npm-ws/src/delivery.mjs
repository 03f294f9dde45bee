// How a tick reaches the sockets of its subscribers.

import { Sender } from "ws";

import { takesMore } from "./subscribers.mjs";

const TEXT_FRAME = { fin: true, rsv1: false, opcode: 1, mask: false, readOnly: true };
const TEXT = { binary: false };

/** One `send` for each tick and subscriber, as the documentation of ws shows it. */
export function sendEach(subscribers) {
  return (symbol, text) => {
    const bytes = Buffer.from(text);
    for (const client of subscribers.of(symbol)) {
      if (takesMore(client)) client.send(bytes, TEXT);
    }
  };
}

/**
 * Frames each tick once, and writes what one turn of the event loop has brought at once.
 *
 * `Sender.frame` is the way that the authors of ws name for broadcasts (websockets/ws issue 617),
 * and what Socket.IO does. The frames go straight to the TCP socket: nothing of ws can come between, for
 * without compression it never holds a frame back.
 */
export function coalesced(subscribers) {
  let framesBySymbol = new Map();

  function flush() {
    const batch = framesBySymbol;
    framesBySymbol = new Map();
    const corked = [];
    for (const [symbol, frames] of batch) {
      const bytes = frames.length === 1 ? frames[0] : Buffer.concat(frames);
      for (const client of subscribers.of(symbol)) {
        if (!takesMore(client)) continue;
        const socket = client._socket;
        // A subscriber of several symbols gets them in one writev.
        if (batch.size > 1 && socket.writableCorked === 0) {
          socket.cork();
          corked.push(socket);
        }
        socket.write(bytes);
      }
    }
    for (const socket of corked) socket.uncork();
  }

  return (symbol, text) => {
    if (subscribers.of(symbol).size === 0) return;
    // After the sockets that are readable now, before the loop waits again: no tick waits for a later one.
    if (framesBySymbol.size === 0) setImmediate(flush);
    const frame = Buffer.concat(Sender.frame(Buffer.from(text), TEXT_FRAME));
    const frames = framesBySymbol.get(symbol);
    if (frames) frames.push(frame);
    else framesBySymbol.set(symbol, [frame]);
  };
}
