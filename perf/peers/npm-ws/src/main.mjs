// The command line, and what is wired to what.

import { createSecretKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { parseArgs } from "node:util";

import { openDoor } from "./door.mjs";
import { coalesced, sendEach } from "./delivery.mjs";
import { Publishers } from "./publishers.mjs";
import { Subscribers } from "./subscribers.mjs";

/** Connections that may wait to be accepted; Node's default of 511 is short for a crowd that comes back. */
const BACKLOG = 4096;
/** How long close frames may take to leave. */
const GOODBYE_MS = 200;

const { values } = parseArgs({
  options: {
    port: { type: "string" },
    secret: { type: "string" },
    workdir: { type: "string" }, // nothing is written
    delivery: { type: "string", default: "coalesced" },
  },
});
const deliveries = { coalesced, send: sendEach };
if (!values.port || !values.secret || !(values.delivery in deliveries)) {
  console.error("usage: start --port P --secret FILE [--workdir DIR] [--delivery coalesced|send]");
  process.exit(2);
}

// Latin-1 keeps every byte of the secret as it is.
const secret = createSecretKey(readFileSync(values.secret, "latin1").trimEnd(), "latin1");
const subscribers = new Subscribers();
const publishers = new Publishers(deliveries[values.delivery](subscribers));

const server = createServer((_request, response) => response.writeHead(404).end());
openDoor(server, secret, subscribers, publishers);
server.listen({ port: Number(values.port), host: "127.0.0.1", backlog: BACKLOG });

process.once("SIGTERM", () => {
  server.close();
  subscribers.close();
  publishers.close();
  setTimeout(() => process.exit(), GOODBYE_MS);
});
