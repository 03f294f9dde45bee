// Starts the peer as the harness does and speaks the wire's exact bytes to it: `node --test test.mjs`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import jwt from "jsonwebtoken";
import WebSocket from "ws";

const SECRET = "0123456789abcdef0123456789abcdef";
const EXP = Math.floor(Date.now() / 1000) + 3600;
const SUBSCRIBER = jwt.sign({ sub: "s", exp: EXP, symbols: ["*"] }, SECRET);
const PUBLISHER = jwt.sign({ sub: "p", exp: EXP, publish: ["*"] }, SECRET);

for (const args of [[], ["--delivery", "send"]]) {
  describe(`start ${args.join(" ")}`, async () => {
    const folder = mkdtempSync(join(tmpdir(), "npm-ws-"));
    const secret = join(folder, "secret.txt");
    writeFileSync(secret, SECRET + "\n");
    const port = await freePort();
    const url = `ws://127.0.0.1:${port}`;
    const start = join(import.meta.dirname, "start");
    const line = ["--port", port, "--secret", secret, "--workdir", folder, ...args];
    const peer = spawn(start, line.map(String), { stdio: "inherit" });
    const ended = once(peer, "exit");
    await accepting(port);
    after(() => {
      peer.kill("SIGKILL");
      rmSync(folder, { recursive: true });
    });

    test("refuses_whoever_has_no_valid_token", async () => {
      assert.equal(await refusal(`${url}/v1/ws`), 401);
      assert.equal(await refusal(`${url}/v1/ws`, "e30.e30.e30"), 401);
      assert.equal(await refusal(`${url}/v1/ws`, jwt.sign({ exp: EXP }, "another secret")), 401);
      assert.equal(await refusal(`${url}/v1/ws`, jwt.sign({ exp: 1 }, SECRET)), 401);
      assert.equal(await refusal(`${url}/v1/ws`, jwt.sign({ exp: EXP }, SECRET, { algorithm: "HS512" })), 401);
      assert.equal(await refusal(`${url}/v1/publish`, SUBSCRIBER), 403);
      assert.equal(await refusal(`${url}/elsewhere`, SUBSCRIBER), 404);
    });

    test("passes_ticks_on_unchanged_and_in_order", async () => {
      const a = await opened(`${url}/v1/ws`, SUBSCRIBER);
      const both = await opened(`${url}/v1/ws`, SUBSCRIBER);
      const publisher = await opened(`${url}/v1/publish`, PUBLISHER);
      a.send('{"op":"subscribe","id":1,"symbols":["A"],"snapshot":false}');
      both.send('{"op":"subscribe","id":1,"symbols":["A","B"],"snapshot":false}');
      assert.equal(await a.next(), '{"type":"ack","id":1,"op":"subscribe","symbols":["A"],"rejected":[]}');
      assert.equal(await both.next(), '{"type":"ack","id":1,"op":"subscribe","symbols":["A","B"],"rejected":[]}');

      const ticks = Array.from({ length: 10 }, (_, i) => tick("ABC"[i % 3], i + 1));
      publisher.send(ticks[0]);
      publisher.send(`[${ticks.slice(1).join(",")}]`);
      publisher.send('{"op":"flush","id":1}');
      const ack = '{"type":"ack","id":1,"accepted":10,"rejected":0,"duplicates":0,"messages":2}';
      assert.equal(await publisher.next(), ack);
      const of = (symbol, texts) => texts.filter((text) => text.includes(`"symbol":"${symbol}"`));
      assert.deepEqual(await a.take(4), of("A", ticks));
      const received = await both.take(7);
      for (const symbol of ["A", "B"]) assert.deepEqual(of(symbol, received), of(symbol, ticks));
      a.ping();
      await once(a, "pong");
      assert.deepEqual([a.inbox, both.inbox, publisher.inbox], [[], [], []]);
    });

    test("cuts_off_a_subscriber_that_does_not_read", async () => {
      const idle = await opened(`${url}/v1/ws`, SUBSCRIBER);
      const publisher = await opened(`${url}/v1/publish`, PUBLISHER);
      idle.send('{"op":"subscribe","id":1,"symbols":["A"],"snapshot":false}');
      await idle.next();
      idle._socket.pause();
      // Some 30 MB: 8 MiB in the server, and what the kernel takes.
      const ticks = `[${Array(10_000).fill(tick("A", 1)).join(",")}]`;
      for (let i = 0; i < 25; i += 1) publisher.send(ticks);
      publisher.send('{"op":"flush","id":2}');
      assert.match(await publisher.next(), /"accepted":250000,/);
      const closed = once(idle, "close");
      idle._socket.resume();
      assert.equal((await closed)[0], 1006);
      assert.ok(idle.inbox.length < 250_000);
    });

    test("ends_cleanly_on_sigterm", async () => {
      const client = await opened(`${url}/v1/ws`, SUBSCRIBER);
      const closed = once(client, "close");
      peer.kill("SIGTERM");
      assert.equal((await closed)[0], 1001);
      assert.deepEqual(await ended, [0, null]);
      await assert.rejects(once(connect(port, "127.0.0.1"), "connect"));
    });
  });
}

function tick(symbol, seq) {
  return `{"type":"trade","symbol":"${symbol}","epoch":1763776800000,"seq":${seq},"ts":1763776800000123,"price":"187.20","size":"100","side":"buy"}`;
}

function dial(url, token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  return new WebSocket(url, { headers, perMessageDeflate: false });
}

async function refusal(url, token) {
  const client = dial(url, token);
  const [, response] = await once(client, "unexpected-response");
  response.resume();
  return response.statusCode;
}

/** A connection whose messages wait in `inbox`. */
async function opened(url, token) {
  const client = dial(url, token);
  client.inbox = [];
  client.on("message", (data, isBinary) => {
    assert.equal(isBinary, false);
    client.inbox.push(data.toString());
  });
  client.next = async () => {
    while (client.inbox.length === 0) await once(client, "message");
    return client.inbox.shift();
  };
  client.take = async (count) => {
    const texts = [];
    while (texts.length < count) texts.push(await client.next());
    return texts;
  };
  await once(client, "open");
  return client;
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  return port;
}

async function accepting(port) {
  for (;;) {
    const socket = connect(port, "127.0.0.1");
    const up = await once(socket, "connect").then(() => true, () => false);
    socket.destroy();
    if (up) return;
    await sleep(20);
  }
}
