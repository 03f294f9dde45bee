// A client by the npm package `ws`, as it comes.
//
// usage: client.mjs URL SUBPROTOCOL CAPTURE
//
// The token is in TICKWIRE_TOKEN and is offered as a subprotocol, as browsers do. Lines of stdin are
// sent as they are; `close` closes with 1000. Prints every text message, a line each, then
// {"closed": code}; binary messages are appended to CAPTURE, each behind its length (u32,
// little-endian).

import { appendFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// Packages are installed apart from this file (`make deps`).
const require = createRequire(new URL("../../../.deps/npm/", import.meta.url));
const { WebSocket } = require("ws");

const [url, subprotocol, capture] = process.argv.slice(2);
const socket = new WebSocket(url, [subprotocol, `tickwire.bearer.${process.env.TICKWIRE_TOKEN}`]);

socket.on("open", () => {
  if (socket.protocol !== subprotocol) throw new Error(`the engine chose ${socket.protocol}`);
  createInterface({ input: process.stdin }).on("line", (line) => {
    if (line === "close") socket.close(1000);
    else socket.send(line);
  });
});

socket.on("message", (message, isBinary) => {
  if (!isBinary) {
    console.log(message.toString());
    return;
  }
  const length = Buffer.alloc(4);
  length.writeUInt32LE(message.length);
  appendFileSync(capture, Buffer.concat([length, message]));
});

socket.on("close", (code) => {
  console.log(JSON.stringify({ closed: code }));
  process.exit(0);
});
