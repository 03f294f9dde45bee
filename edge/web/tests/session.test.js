import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';

import {
  ack, after, cursor, fakeWebSocket, freeze, gap, json, listening, overSse, overWebSocket, settle, start, thaw, trade,
} from './fakes.js';

const ENGINE = 'wss://engine/v1/ws';
const seqs = (heard) => heard.tick.map(({ seq }) => seq);
const gaps = (heard) => heard.gap.map(({ epoch, from, to, reason }) => `${epoch}: ${from}..${to} ${reason}`);

beforeEach(freeze);
afterEach(thaw);

describe('requests', () => {
  test('a fresh subscription has the selection of the options, and no since', async () => {
    const WebSocket = fakeWebSocket();
    listening({ engine: ENGINE, WebSocket, maxDelayMs: 20, mode: 'conflate', channels: ['quote'], snapshot: false });
    await settle();
    WebSocket.last.welcome();
    assert.deepEqual(WebSocket.last.sent, [
      { op: 'options', id: 1, max_delay_ms: 20 },
      { op: 'subscribe', id: 2, symbols: ['A'], channels: ['quote'], mode: 'conflate', interval_ms: 250, snapshot: false },
    ]);
  });

  test('many changes in one turn are one request; what comes and goes is none', async () => {
    const { client, WebSocket } = await overWebSocket();
    for (const symbol of ['B', 'C', 'D']) client.subscribe([symbol]);
    client.unsubscribe(['A', 'D']);
    client.subscribe(['A']);
    await settle();
    assert.deepEqual(WebSocket.last.sent.map(({ op, symbols }) => [op, symbols]), [['subscribe', ['B', 'C']]]);
    WebSocket.last.grant();
    client.unsubscribe(['B']);
    client.subscribe(['C'], { mode: 'conflate' });
    await settle();
    assert.deepEqual(WebSocket.last.sent.map(({ op, symbols, since }) => [op, symbols, since]), [
      ['unsubscribe', ['B'], undefined],
      ['subscribe', ['C'], undefined],
    ]);
  });

  test('subscriptions fit the limits of welcome, and its rate', async () => {
    const symbols = Array.from({ length: 100 }, (_, number) => `S${number}`);
    for (const limits of [{ symbols: 4, message_bytes: 65_536 }, { symbols: 1024, message_bytes: 424 }]) {
      const WebSocket = fakeWebSocket();
      const { client } = listening({ engine: ENGINE, WebSocket, symbols });
      await settle();
      WebSocket.last.welcome({ ...limits, ops_per_s: 10 });
      assert.equal(WebSocket.last.sent.length, 20);
      await after(99);
      assert.equal(WebSocket.last.sent.length, 20);
      await after(1);
      assert.equal(WebSocket.last.sent.length, 21);
      for (let ms = 0; ms < 1_000; ms += 100) await after(100);
      const { sent } = WebSocket.last;
      assert.equal(sent.length, 25);
      assert.ok(sent.every((request) => JSON.stringify(request).length <= limits.message_bytes));
      assert.deepEqual(sent.flatMap((request) => request.symbols), symbols);
      assert.equal(client.state, 'resuming');
      WebSocket.last.grant();
      assert.equal(client.state, 'live');
      client.close();
    }
  });

  test('an operation over the rate is asked for again, a second later', async () => {
    const WebSocket = fakeWebSocket();
    const heard = listening({ engine: ENGINE, WebSocket });
    await settle();
    WebSocket.last.welcome();
    WebSocket.last.say({ type: 'error', id: 1, code: 'rate_limited', message: '' });
    await after(999);
    assert.equal(WebSocket.last.sent.length, 1);
    await after(1);
    assert.deepEqual(WebSocket.last.sent[1], { ...WebSocket.last.sent[0], id: 2 });
    assert.deepEqual(heard.error, []);
  });

  test('what is refused is told once, though every connection repeats it', async () => {
    const heard = await overWebSocket({ symbols: ['A', 'X'] });
    for (const ms of [200, 400]) {
      heard.WebSocket.last.say(ack(['A'], [], [{ symbol: 'X', code: 'not_entitled' }]));
      heard.WebSocket.last.drop(4410);
      await after(ms);
    }
    assert.deepEqual(heard.rejected, [{ symbol: 'X', code: 'not_entitled' }]);
  });

  test('what is no symbol is refused at once', async () => {
    const heard = await overWebSocket({ symbols: ['A', 'A B', 'B*C', '', 'x'.repeat(33)] });
    assert.deepEqual(heard.rejected.map(({ symbol, code }) => [symbol, code]), [
      ['A B', 'bad_symbol'], ['B*C', 'bad_symbol'], ['', 'bad_symbol'], ['x'.repeat(33), 'bad_symbol'],
    ]);
  });

  test('nothing to subscribe to, no connection', async () => {
    const WebSocket = fakeWebSocket();
    const { client } = listening({ engine: ENGINE, WebSocket, symbols: [] });
    await settle();
    assert.deepEqual([client.state, client.transport, WebSocket.all.length], ['idle', null, 0]);
    client.subscribe(['A']);
    await settle();
    assert.equal(WebSocket.all.length, 1);
  });
});

describe('resume', () => {
  test('symbols by their points, patterns and the rest by the cursor', async () => {
    const { WebSocket } = await overWebSocket({ symbols: ['A', 'B*', 'C'] });
    WebSocket.last.say(start('A', 7, 41), trade('A', 7, 42), start('B1', 8, 5), start('C', 9, 0), cursor('c1'));
    WebSocket.last.drop();
    await after(200);
    WebSocket.last.welcome();
    const [{ symbols, since }] = WebSocket.last.sent;
    assert.deepEqual(symbols, ['A', 'B*', 'C']);
    // Seq 0 is no tick: from the base.
    assert.deepEqual(since, { cursor: 'c1', A: { epoch: 7, trade: 42 }, C: { epoch: 9 } });
  });

  test('without a cursor what has no point begins afresh, in a request of its own', async () => {
    const { WebSocket } = await overWebSocket({ symbols: ['A', 'B'] });
    WebSocket.last.say(start('A', 7, 41));
    WebSocket.last.drop();
    await after(200);
    WebSocket.last.welcome();
    const asked = WebSocket.last.sent.map(({ symbols, since }) => [symbols, since]);
    assert.deepEqual(asked, [[['A'], { A: { epoch: 7, trade: 41 } }], [['B'], undefined]]);
  });

  test('a cursor amid a replay is not kept', async () => {
    const { WebSocket, client } = await overWebSocket();
    WebSocket.last.say(cursor('c1'));
    WebSocket.last.drop();
    await after(200);
    WebSocket.last.welcome();
    assert.equal(client.state, 'resuming');
    WebSocket.last.say(cursor('c2'));
    WebSocket.last.drop();
    await after(400);
    WebSocket.last.welcome();
    assert.equal(WebSocket.last.sent[0].since.cursor, 'c1');
    WebSocket.last.grant();
    assert.equal(client.state, 'live');
    WebSocket.last.say(cursor('c3'));
    client.interrupt();
    await after(200);
    WebSocket.last.welcome();
    assert.equal(WebSocket.last.sent[0].since.cursor, 'c3');
  });

  test('a resume of which nothing is taken ends all the same', async () => {
    const { WebSocket, client } = await overWebSocket();
    WebSocket.last.say(cursor('c1'));
    client.interrupt();
    await after(200);
    WebSocket.last.welcome();
    WebSocket.last.say({ ...ack([], [], [{ symbol: 'A', code: 'not_entitled' }]), id: 1 });
    assert.equal(client.state, 'live');
  });

  test('a cursor that a server cannot read is dropped', async () => {
    const { WebSocket, client, error } = await overWebSocket();
    WebSocket.last.say(start('A', 7, 41), cursor('c1'));
    client.interrupt();
    await after(200);
    WebSocket.last.welcome();
    WebSocket.last.say({ type: 'error', id: 1, code: 'bad_cursor', message: '' });
    assert.deepEqual(WebSocket.last.sent[1].since, { A: { epoch: 7, trade: 41 } });
    assert.deepEqual(error, []);
    client.close();

    const heard = await overSse();
    heard.opened.all[0].tell(ack(['A']));
    heard.opened.all[0].say('id: c1\n\n');
    await settle();
    heard.edge.answers['/v1/sse'] = () => json({ code: 'bad_cursor' }, 400);
    heard.client.interrupt();
    await after(200);
    heard.edge.answers['/v1/sse'] = heard.opened.answer;
    await after(200);
    assert.equal(heard.opened.all[1].request.headers['Last-Event-ID'], undefined);
  });
});

describe('the account', () => {
  /** What a client tells that had everything up to 42, lost the connection, and then hears `messages`. */
  async function resumed(before, ...messages) {
    const heard = await overWebSocket();
    heard.WebSocket.last.say(start('A', 7, 41), ...before);
    heard.client.interrupt();
    await after(200);
    heard.WebSocket.last.welcome();
    heard.WebSocket.last.say(...messages);
    return heard;
  }

  test('drops what was seen, clips gaps and skipped', async () => {
    const heard = await resumed(
      [trade('A', 7, 42), gap('A', 7, 43, 45)],
      start('A', 7, 38), trade('A', 7, 42, { skipped: 3 }), gap('A', 7, 40, 41), gap('A', 7, 43, 50), gap('A', 7, null, 52),
      trade('A', 7, 60, { skipped: 9 }), trade('A', 7, 60), trade('A', 7, 61, { skipped: 5 }), trade('A', 6, 99),
    );
    assert.deepEqual(gaps(heard), ['7: 43..45 history', '7: 46..50 history', '7: 51..52 history']);
    assert.deepEqual(heard.tick.map(({ seq, skipped }) => [seq, skipped]), [[42, undefined], [60, 7], [61, undefined]]);
    const { ticks, repeats, skipped, gapped } = heard.client.totals;
    assert.deepEqual({ ticks, repeats, skipped, gapped }, { ticks: 3, repeats: 3, skipped: 7, gapped: 10 });
    assert.equal(ticks + skipped + gapped, 61 - 41);
  });

  test('what conflate left out before a gap comes with the next tick, even over a reconnect', async () => {
    const heard = await resumed([gap('A', 7, 50, 55)], start('A', 7, 55), trade('A', 7, 58, { skipped: 2 }));
    assert.deepEqual(heard.tick.map(({ seq, skipped }) => [seq, skipped]), [[58, 10]]);
  });

  test('a start beyond what came is a gap, and so is a hole', async () => {
    const heard = await resumed([trade('A', 7, 42)], start('A', 7, 50), trade('A', 7, 51), trade('A', 7, 55, { skipped: 1 }));
    assert.deepEqual(gaps(heard), ['7: 43..50 unseen', '7: 52..53 unseen']);
    assert.equal(heard.tick.at(-1).skipped, 1);
  });

  test('an epoch that ended meanwhile is closed once', async () => {
    const opening = [start('A', 8, 0), trade('A', 8, 1)];
    const closing = gap('A', 7, 43, null);
    const told = [
      [[closing, ...opening], '7: 43..null history'],
      [[opening[0], closing, opening[1]], '7: 43..null unseen'],
      [opening, '7: 43..null unseen'],
    ];
    for (const [messages, end] of told) {
      const heard = await resumed([trade('A', 7, 42)], ...messages);
      assert.deepEqual(gaps(heard), [end]);
      assert.deepEqual(seqs(heard), [42, 1]);
      heard.client.close();
    }
  });

  test('an epoch that ends within a connection loses nothing', async () => {
    const heard = await overWebSocket();
    heard.WebSocket.last.say(start('A', 7, 41), trade('A', 7, 42), start('A', 8, 0), trade('A', 8, 1));
    assert.deepEqual([seqs(heard), gaps(heard)], [[42, 1], []]);
  });

  test('a gap without a beginning opens an account', async () => {
    const heard = await overWebSocket();
    heard.WebSocket.last.say(start('A', 7), gap('A', 7, null, 57), trade('A', 7, 58));
    assert.deepEqual([gaps(heard), seqs(heard), heard.client.totals.gapped], [['7: null..57 history'], [58], 0]);
  });

  test('snapshots are passed on and not counted', async () => {
    const heard = await overWebSocket();
    heard.WebSocket.last.say(start('A', 7, 42), trade('A', 7, 42, { snapshot: true }), trade('A', 7, 43));
    assert.deepEqual([seqs(heard), heard.tick[0].snapshot, heard.client.totals.ticks], [[42, 43], true, 1]);
  });

  test('ticks that were queued before an unsubscribe are not passed on', async () => {
    const heard = await overWebSocket({ symbols: ['A', 'B'] });
    heard.client.unsubscribe(['A']);
    await settle();
    heard.WebSocket.last.say(trade('A', 7, 1), trade('B', 7, 1));
    assert.deepEqual(heard.tick.map(({ symbol }) => symbol), ['B']);
  });

  test('a symbol that comes back without `stale` is live', async () => {
    const stale = { type: 'feed', symbol: 'A', state: 'stale' };
    const heard = await resumed([stale, stale], start('A', 7, 41));
    assert.deepEqual(heard.feed, [{ symbol: 'A', state: 'stale' }, { symbol: 'A', state: 'live' }]);
  });
});
