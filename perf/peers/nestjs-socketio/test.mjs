// Starts the peer as the harness does and speaks the wire's exact bytes to it: `node --test test.mjs`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import WebSocket from "ws";

const { JwtService } = createRequire(import.meta.url)("@nestjs/jwt");

const SECRET = "0123456789abcdef0123456789abcdef";
const EXP = Math.floor(Date.now() / 1000) + 3600;
const SUBSCRIBER = signed({ sub: "s", exp: EXP, symbols: ["*"] });
const PUBLISHER = signed({ sub: "p", exp: EXP, publish: ["*"] });

for (const signal of ["SIGTERM", "SIGKILL"]) {
  describe(`a peer that ends by ${signal}`, () => {
    const folder = mkdtempSync(join(tmpdir(), "nestjs-socketio-"));
    let port, peer, ended;

    before(async () => {
      port = await freePort();
      const secret = join(folder, "secret.txt");
      writeFileSync(secret, SECRET + "\n");
      const start = join(import.meta.dirname, "start");
      const line = ["--port", port, "--secret", secret, "--workdir", folder];
      peer = spawn(start, line.map(String), { stdio: "inherit" });
      ended = once(peer, "exit");
      await accepting(port);
    });
    after(() => {
      peer.kill("SIGKILL");
      rmSync(folder, { recursive: true });
    });

    test("refuses_whoever_has_no_valid_token", async () => {
      const tokens = ["", "e30.e30.e30", signed({ exp: EXP }, "another secret"), signed({ exp: 1 })];
      for (const token of tokens) {
        assert.equal(await connected(port, token).then((c) => c.answer), '44{"message":"unauthorized"}');
      }
    });

    test("takes_ticks_from_publishers_only", async () => {
      const subscriber = await connected(port, SUBSCRIBER);
      subscriber.send(`42["publish",[${tick("A", 1)}]]`);
      assert.match(await subscriber.next(), /^42\["exception",{"status":"error","message":"forbidden"/);
    });

    test("passes_ticks_on_unchanged_in_order_and_through_redis", async () => {
      const redis = await monitor(port + 1);
      const a = await connected(port, SUBSCRIBER);
      const both = await connected(port, SUBSCRIBER);
      const publisher = await connected(port, PUBLISHER);
      a.send('421["subscribe",{"symbols":["A"]}]');
      both.send('421["subscribe",{"symbols":["A","B"]}]');
      assert.equal(await a.next(), '431[{"symbols":["A"],"rejected":[]}]');
      assert.equal(await both.next(), '431[{"symbols":["A","B"],"rejected":[]}]');

      const ticks = Array.from({ length: 10 }, (_, i) => tick("ABC"[i % 3], i + 1));
      publisher.send(`42["publish",[${ticks[0]}]]`);
      publisher.send(`42["publish",[${ticks.slice(1).join(",")}]]`);
      publisher.send('422["flush"]');
      assert.equal(await publisher.next(), '432[{"accepted":10}]');
      const events = ticks.map((text) => `42["tick",${text}]`);
      const of = (symbol, texts) => texts.filter((text) => text.includes(`"symbol":"${symbol}"`));
      assert.deepEqual(await a.take(4), of("A", events));
      assert.deepEqual(await both.take(7), events.filter((text) => !text.includes('"symbol":"C"')));
      a.send('423["flush"]');
      assert.equal(await a.next(), '433[{"accepted":0}]');
      assert.deepEqual([a.inbox, both.inbox, publisher.inbox], [[], [], []]);
      while (redis.published() < 10) await once(redis, "data");
    });

    test("leaves_nothing_behind", async () => {
      const client = await connected(port, SUBSCRIBER);
      const closed = once(client, "close");
      const [redis] = children(peer.pid);
      assert.equal(commandOf(redis), "redis-server");
      peer.kill(signal);
      await Promise.all([closed, ended]);
      while (commandOf(redis) !== null) await sleep(5);
      for (const gone of [port, port + 1]) {
        await assert.rejects(once(connect(gone, "127.0.0.1"), "connect"));
      }
    });
  });
}

function signed(claims, secret = SECRET) {
  return new JwtService({ secret }).sign(claims);
}

function tick(symbol, seq) {
  return `{"type":"trade","symbol":"${symbol}","epoch":1763776800000,"seq":${seq},"ts":1763776800000123,"price":"187.20","size":"100","side":"buy"}`;
}

/** A connection whose packets wait in `inbox`, after the answer to its token. */
async function connected(port, token) {
  const url = `ws://127.0.0.1:${port}/socket.io/?EIO=4&transport=websocket`;
  const client = new WebSocket(url, { perMessageDeflate: false });
  client.inbox = [];
  client.on("message", (data) => client.inbox.push(data.toString()));
  client.next = async () => {
    while (client.inbox.length === 0) await once(client, "message");
    return client.inbox.shift();
  };
  client.take = async (count) => {
    const texts = [];
    while (texts.length < count) texts.push(await client.next());
    return texts;
  };
  assert.match(await client.next(), /^0{"sid":.*"upgrades":\[\]/);
  client.send(`40${JSON.stringify({ token })}`);
  client.answer = await client.next();
  return client;
}

/** Hears what goes through Redis on behalf of Socket.IO. */
async function monitor(port) {
  const redis = connect(port, "127.0.0.1");
  let text = "";
  redis.setEncoding("latin1").on("data", (chunk) => (text += chunk));
  redis.published = () => text.match(/pmessage/g)?.length ?? 0;
  redis.write("PSUBSCRIBE socket.io#/#*\r\n");
  await once(redis, "data");
  redis.unref();
  return redis;
}

function children(pid) {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
}

/** What the process is called; null if it has ended, whether or not somebody has noticed (state Z). */
function commandOf(pid) {
  try {
    const [, command, state] = readFileSync(`/proc/${pid}/stat`, "utf8").match(/\((.*)\) (.)/);
    return state === "Z" ? null : command;
  } catch {
    return null;
  }
}

/** A port with a free one after it. */
async function freePort() {
  for (;;) {
    const first = createServer().listen(0, "127.0.0.1");
    await once(first, "listening");
    const { port } = first.address();
    const second = createServer().listen(port + 1, "127.0.0.1");
    const free = await once(second, "listening").then(() => true, () => false);
    first.close();
    second.close();
    if (free) return port;
  }
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
