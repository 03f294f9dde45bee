import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';

import { Client, backoffMs } from '../tickwire.js';
import {
  ack, after, cursor, fakeEdge, fakeWebSocket, freeze, gap, json, listening, overSse, overWebSocket, settle, start,
  streams, thaw, trade,
} from './fakes.js';

const EDGE = 'https://edge';
const ENGINE = 'wss://engine/v1/ws';
const waits = (heard) => heard.state.filter(({ state }) => state === 'waiting').map(({ retryInMs }) => retryInMs);

beforeEach(freeze);
afterEach(thaw);

describe('backoff', () => {
  test('grows from 200 ms to 30 s at most, half to one and a half', () => {
    for (let failures = 0; failures < 2_000; failures++) {
      const base = Math.min(200 * 2 ** failures, 20_000);
      assert.equal(backoffMs(failures, () => 0), base / 2);
      assert.ok(backoffMs(failures, () => 0.999_999) <= Math.min(base * 1.5, 30_000));
      assert.ok(backoffMs(failures) <= 30_000);
    }
  });

  test('is reset by 60 s of ticks or heartbeats, not by connecting', async () => {
    const heard = await overWebSocket();
    for (const ms of [200, 400]) {
      heard.WebSocket.last.drop(4410);
      await after(ms);
      heard.WebSocket.last.welcome();
      heard.WebSocket.last.grant();
    }
    heard.WebSocket.last.say({ type: 'heartbeat', ts: 1 });
    for (let beats = 0; beats < 11; beats++) {
      await after(5_000);
      heard.WebSocket.last.say(trade('A', 1, beats + 1));
    }
    heard.WebSocket.last.drop(4410);
    await after(800);
    heard.WebSocket.last.welcome();
    heard.WebSocket.last.say({ type: 'heartbeat', ts: 1 });
    for (let beats = 0; beats < 12; beats++) {
      await after(5_000);
      heard.WebSocket.last.say({ type: 'heartbeat', ts: 1 });
    }
    heard.WebSocket.last.drop(4410);
    await settle();
    assert.deepEqual(waits(heard), [200, 400, 800, 200]);
  });

  test('is one first step after an interrupt, which counts for nothing', async () => {
    const heard = await overWebSocket({ edge: EDGE });
    // One more failure would lead to the next transport.
    for (const ms of [200, 400]) {
      heard.WebSocket.last.drop();
      await after(ms);
    }
    for (const isConnected of [true, false, true, false]) {
      if (isConnected) heard.WebSocket.last.welcome();
      const sockets = heard.WebSocket.all.length;
      heard.client.interrupt();
      await after(100);
      // There is nothing to break; neither is the wait begun anew.
      heard.client.interrupt();
      await after(99);
      assert.equal(heard.WebSocket.all.length, sockets);
      await after(1);
      assert.equal(heard.WebSocket.all.length, sockets + 1);
    }
    heard.WebSocket.last.drop(4410);
    await settle();
    assert.deepEqual(waits(heard), [200, 400, 200, 200, 200, 200, 800]);
    assert.equal(heard.client.transport, 'websocket');
  });

  test('waits no shorter than a goodbye asks for', async () => {
    const heard = await overWebSocket();
    heard.WebSocket.last.say({ type: 'goodbye', reason: 'draining', reconnect_after_ms: 5_000 });
    heard.WebSocket.last.drop(1001);
    await settle();
    assert.deepEqual(waits(heard), [5_000]);
    await after(4_999);
    assert.equal(heard.WebSocket.all.length, 1);
    await after(1);
    assert.equal(heard.WebSocket.all.length, 2);
  });

  test('waits no shorter than Retry-After, and never longer than a timer can', async () => {
    const answers = ['7', '99999999999', 'soon'];
    const edge = fakeEdge({ '/v1/sse': () => json({ code: 'at_capacity' }, 503, { 'retry-after': answers.shift() }) });
    const heard = listening({ edge: EDGE, fetch: edge.fetch, transports: ['sse'] });
    await after(7_000);
    await after(2 ** 31 - 1);
    assert.deepEqual(waits(heard), [7_000, 2 ** 31 - 1, 800]);
    assert.equal(heard.state.find(({ state }) => state === 'waiting').reason, '503 at_capacity');
  });

  test('waits no shorter than the retry of a stream', async () => {
    const heard = await overSse();
    heard.opened.all[0].say('retry: 3000\n\n');
    await settle();
    heard.opened.all[0].end();
    await settle();
    assert.deepEqual(waits(heard), [3_000]);
  });
});

describe('transports', () => {
  test('the token travels as a subprotocol, and never in a URL', async () => {
    const { WebSocket } = await overWebSocket({ token: async () => ' jwt\n' });
    assert.equal(WebSocket.last.url, ENGINE);
    assert.deepEqual(WebSocket.last.protocols, ['tickwire.v1.json', 'tickwire.bearer.jwt']);
  });

  test('three failures each lead from WebSocket to SSE to long poll and round, asking admit before', async () => {
    const WebSocket = fakeWebSocket();
    const edge = fakeEdge({
      '/v1/admit': () => json({ admitted: false, status: 429, code: 'rate_limited', retry_after_ms: 9_000 }),
    });
    const heard = listening({ engine: ENGINE, edge: EDGE, WebSocket, fetch: edge.fetch });
    for (let failures = 0; failures < 3; failures++) {
      await settle();
      assert.equal(edge.to('/v1/admit').length, 0);
      WebSocket.last.drop();
      await after(failures < 2 ? 200 << failures : 0);
    }
    assert.equal(edge.requests.length, 1);
    assert.equal(edge.requests[0].headers.Authorization, 'Bearer jwt');
    assert.deepEqual(waits(heard), [200, 400, 9_000]);
    assert.equal(heard.client.transport, 'sse');
    await after(8_999);
    assert.equal(edge.to('/v1/sse').length, 0);
    await after(1);
    for (const ms of [1_600, 3_200, 9_000]) await after(ms);
    assert.equal(edge.to('/v1/sse').length, 3);
    for (const ms of [12_800, 20_000, 20_000]) await after(ms);
    assert.equal(edge.to('/v1/poll').length, 3);
    assert.equal(edge.to('/v1/admit').length, 3);
    assert.equal(heard.client.transport, 'websocket');
  });

  test('what admit says decides: stop, a fresh token, or the next transport', async () => {
    const verdicts = [
      [{ admitted: false, status: 403, code: 'not_entitled' }, 'closed', null],
      [{ admitted: false, status: 401, code: 'bad_token' }, 'waiting', 'websocket'],
      [{ admitted: false, status: 404, code: 'not_found' }, 'waiting', 'sse'],
      [{ admitted: false, status: 426, code: 'upgrade_required' }, 'waiting', 'sse'],
      [{ admitted: true }, 'waiting', 'sse'],
    ];
    for (const [verdict, state, transport] of verdicts) {
      const WebSocket = fakeWebSocket();
      const { fetch } = fakeEdge({ '/v1/admit': () => json(verdict) });
      const { client } = listening({ engine: ENGINE, edge: EDGE, WebSocket, fetch });
      for (const ms of [200, 400, 0]) {
        await settle();
        WebSocket.last.drop();
        await after(ms);
      }
      assert.deepEqual([client.state, client.transport], [state, transport], JSON.stringify(verdict));
      client.close();
    }
  });

  test('WebSocket is tried again every 5 minutes, and left after one failure', async () => {
    const WebSocket = fakeWebSocket();
    const opened = streams();
    const edge = fakeEdge({ '/v1/sse': opened.answer });
    const heard = listening({ engine: ENGINE, edge: EDGE, WebSocket, fetch: edge.fetch });
    for (const ms of [200, 400, 800]) {
      await settle();
      WebSocket.last.drop();
      await after(ms);
    }
    const comments = async (ms) => {
      for (let at = 0; at < ms; at += 10_000) {
        opened.all.at(-1).say(':\n');
        await after(10_000);
      }
    };
    opened.all[0].tell(ack(['A']));
    await comments(290_000);
    assert.equal(WebSocket.all.length, 3);
    await comments(10_000);
    assert.equal(WebSocket.all.length, 4);
    assert.equal(opened.all[0].isOpen, false);
    WebSocket.last.drop();
    await after(200);
    assert.equal(heard.client.transport, 'sse');
    await comments(300_000);
    assert.equal(WebSocket.all.length, 5);
    WebSocket.last.welcome();
    WebSocket.last.grant();
    assert.deepEqual([heard.client.state, heard.client.transport], ['live', 'websocket']);
  });

  test('a cursor taken from one transport works on another', async () => {
    const opened = streams();
    const { WebSocket, client } = await overWebSocket({ edge: EDGE, fetch: fakeEdge({ '/v1/sse': opened.answer }).fetch });
    WebSocket.last.say(start('A', 7, 41), trade('A', 7, 42), cursor('c1'));
    for (const ms of [200, 400, 800]) {
      WebSocket.last.drop();
      await after(ms);
    }
    assert.equal(opened.all[0].request.headers['Last-Event-ID'], 'c1');
    opened.all[0].say('id: c2\n\n');
    await after(0);
    assert.equal(client.transport, 'sse');
    opened.all[0].tell({ type: 'replayed' });
    for (let beats = 0; beats < 30; beats++) {
      opened.all[0].say(':\n');
      await after(10_000);
    }
    WebSocket.last.welcome();
    assert.deepEqual(WebSocket.last.sent[0].since, { A: { epoch: 7, trade: 42 }, cursor: 'c2' });
  });

  test('without any address there is an error', () => {
    assert.throws(() => new Client({ token: 'jwt', symbols: [] }), /no transport/);
  });

  test('several addresses are tried in turn', async () => {
    const { WebSocket } = await overWebSocket({ engine: ['wss://a/v1/ws', 'wss://b/v1/ws'] });
    WebSocket.last.drop();
    await after(200);
    assert.deepEqual(WebSocket.all.map(({ url }) => url), ['wss://a/v1/ws', 'wss://b/v1/ws']);
  });
});

describe('endings', () => {
  test('4500–4999 stop, others do not', async () => {
    for (const [code, state] of [[4499, 'waiting'], [4500, 'closed'], [4999, 'closed'], [1001, 'waiting'], [4401, 'waiting']]) {
      const heard = await overWebSocket();
      heard.WebSocket.last.drop(code, 'because');
      await settle();
      assert.equal(heard.client.state, state, String(code));
      assert.equal(heard.state.at(-1).reason, 'because');
      heard.client.close();
    }
  });

  test('a goodbye stands in for a lost close frame', async () => {
    const heard = await overWebSocket();
    heard.WebSocket.last.say({ type: 'goodbye', reason: 'replaced' });
    heard.WebSocket.last.drop(1006);
    await settle();
    assert.deepEqual(heard.state.at(-1), { state: 'closed', transport: null, reason: 'replaced' });
  });

  test('400, 403, 404 and 426 of a server stop; those of a proxy do not', async () => {
    for (const status of [400, 403, 404, 426]) {
      for (const [body, state] of [[{ code: 'no' }, 'closed'], ['<html>', 'waiting']]) {
        const { fetch } = fakeEdge({ '/v1/sse': () => json(body, status) });
        const heard = listening({ edge: EDGE, fetch });
        await settle();
        assert.equal(heard.client.state, state, `${status} ${JSON.stringify(body)}`);
        heard.client.close();
      }
    }
  });

  test('a refused token is replaced a bounded number of times', async () => {
    let tokens = 0;
    const edge = fakeEdge({ '/v1/poll': () => json({ code: 'bad_token' }, 401) });
    const heard = listening({ edge: EDGE, transports: ['poll'], fetch: edge.fetch, token: () => `jwt${++tokens}` });
    for (const ms of [200, 400, 800, 1_600, 3_200]) await after(ms);
    assert.deepEqual(edge.requests.map(({ headers }) => headers.Authorization), ['Bearer jwt1', 'Bearer jwt2', 'Bearer jwt3', 'Bearer jwt4']);
    assert.match(heard.state.at(-1).reason, /4 tokens in a row were refused: 401 bad_token/);
  });

  test('a token callback that fails or hangs is a failure, and no fault of the transport', async () => {
    let calls = 0;
    const token = () => (++calls === 1 ? Promise.reject(new Error('offline')) : new Promise(() => {}));
    const WebSocket = fakeWebSocket();
    const heard = listening({ engine: ENGINE, WebSocket, token });
    await after(200);
    await after(30_000);
    assert.deepEqual(heard.state.map(({ reason }) => reason).filter(Boolean), ['token: offline', 'token: no answer within 30000 ms']);
    assert.equal(WebSocket.all.length, 0);
  });

  test('silence of a heartbeat and 5 s ends a WebSocket, 20 s a stream', async () => {
    const heard = await overWebSocket();
    await after(6_000);
    heard.WebSocket.last.say({ type: 'heartbeat', ts: 1 });
    await after(9_999);
    assert.equal(heard.client.state, 'live');
    await after(1);
    assert.equal(heard.state.at(-1).reason, 'silent');
    assert.equal(heard.WebSocket.last.closedWith, 1000);
    heard.client.close();

    const sse = await overSse();
    await after(15_000);
    sse.opened.all[0].say(': still here\n');
    await after(19_999);
    assert.equal(sse.client.state, 'resuming');
    await after(1);
    assert.equal(sse.state.at(-1).reason, 'silent');
  });

  test('interrupt reconnects and resumes; close ends for good', async () => {
    const heard = await overWebSocket();
    heard.WebSocket.last.say(start('A', 7, 41), trade('A', 7, 42));
    heard.client.interrupt();
    assert.equal(heard.state.at(-1).reason, 'interrupted');
    await after(200);
    heard.WebSocket.last.welcome();
    assert.deepEqual(heard.WebSocket.last.sent[0].since, { A: { epoch: 7, trade: 42 } });
    heard.client.close();
    heard.client.start();
    await after(60_000);
    assert.equal(heard.WebSocket.all.length, 2);
    assert.equal(heard.client.state, 'closed');
    assert.equal(heard.client.totals.connects, 2);
  });
});

describe('tokens', () => {
  test('token_expiring is answered by auth over WebSocket', async () => {
    let tokens = 0;
    const heard = await overWebSocket({ token: () => `jwt${++tokens}` });
    heard.WebSocket.last.say({ type: 'token_expiring', in_s: 60 });
    await settle();
    const { op, token, id } = heard.WebSocket.last.sent[0];
    assert.deepEqual([op, token], ['auth', 'jwt2']);
    heard.WebSocket.last.say({ type: 'ack', id, op: 'auth', token_exp: 5, lost: ['A'], narrowed: {} });
    assert.deepEqual(heard.rejected, [{ symbol: 'A', code: 'not_entitled' }]);
  });

  test('token_expiring reopens every stream once, with the fresh token, where it was', async () => {
    let tokens = 0;
    const { client, opened } = await overSse({ token: () => `jwt${++tokens}` });
    client.subscribe(['B'], { mode: 'conflate' });
    await settle();
    for (const stream of opened.all) {
      stream.tell(ack([stream.request.query.symbols]));
      stream.say('id: c1\n\n');
      stream.tell({ type: 'token_expiring', in_s: 60 });
    }
    await settle();
    assert.equal(tokens, 2);
    const fresh = opened.all.slice(2).map(({ request: { headers } }) => [headers.Authorization, headers['Last-Event-ID']]);
    assert.deepEqual(fresh, [['Bearer jwt2', 'c1'], ['Bearer jwt2', 'c1']]);
    assert.deepEqual(opened.all.map(({ isOpen }) => isOpen), [false, false, true, true]);
  });

  test('a stream that ends with its token comes back with a fresh one', async () => {
    const heard = await overSse();
    heard.opened.all[0].tell({ type: 'goodbye', reason: 'token_expired' });
    heard.opened.all[0].end();
    await after(200);
    assert.equal(heard.state.find(({ reason }) => reason).reason, 'token_expired');
    assert.equal(heard.opened.all.length, 2);
  });
});

describe('async iteration', () => {
  test('gives all events in order, and ends after what is queued', async () => {
    const heard = await overWebSocket();
    const types = [];
    const loop = (async () => {
      for await (const { type, detail } of heard.client) types.push(detail.state ?? type);
    })();
    heard.WebSocket.last.say(start('A', 7, 0), trade('A', 7, 1), gap('A', 7, 2, 3));
    await settle();
    heard.WebSocket.last.say(trade('A', 7, 4));
    heard.client.close();
    await loop;
    assert.deepEqual(types, ['tick', 'gap', 'tick', 'closed']);
  });

  test('holds 10,000 events; above, the oldest go and are counted', async () => {
    const heard = await overWebSocket();
    const events = heard.client[Symbol.asyncIterator]();
    for (let seq = 1; seq <= 10_003; seq++) heard.WebSocket.last.say(trade('A', 7, seq));
    assert.deepEqual((await events.next()).value, { type: 'overflow', detail: { dropped: 3 } });
    assert.equal((await events.next()).value.detail.seq, 4);
    assert.equal(heard.tick.length, 10_003);
    assert.deepEqual(heard.overflow, [{ dropped: 3 }]);
    await events.return();
  });
});
