import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';

import { EventStream } from '../tickwire.js';
import {
  ack, after, fakeEdge, freeze, json, listening, overSse, pending, settle, start, streams, thaw, trade,
} from './fakes.js';

const EDGE = 'https://edge';
const seqs = (heard) => heard.tick.map(({ seq }) => seq);

beforeEach(freeze);
afterEach(thaw);

describe('server-sent events', () => {
  const EVENTS = [
    '\ufeff: comment\r\n', 'event: trade\r\n', 'data: {"a":\r', 'data:"é€😀"}\n', 'unknown: x\n', 'data\n', 'id: c1\r\n', '\r\n', 'retry: 5\n',
    'retry: x\n', 'data:  two spaces\r', '\r', 'event: nothing\n', 'id: c2\n', '\n', 'data: y\n', '\n', 'id: nul\0\n', '\n', 'data: cut off\n',
  ].join('');

  test('are read the same wherever a chunk is split', () => {
    const bytes = new TextEncoder().encode(EVENTS);
    for (let first = 0; first <= bytes.length; first++) {
      for (const second of [first, Math.min(first + 1, bytes.length), bytes.length]) {
        const events = [];
        const decoder = new TextDecoder();
        const stream = new EventStream(({ type, data }) => events.push([type, data, stream.lastEventId]));
        for (const chunk of [bytes.slice(0, first), bytes.slice(first, second), bytes.slice(second)]) {
          stream.push(decoder.decode(chunk, { stream: true }));
        }
        assert.deepEqual(events, [['trade', '{"a":\n"é€😀"}\n', 'c1'], ['message', ' two spaces', 'c1'], ['message', 'y', 'c2']]);
        assert.deepEqual([stream.lastEventId, stream.retryMs], ['c2', 5]);
      }
    }
  });

  test('an empty line of data is an event without data', () => {
    const events = [];
    const stream = new EventStream(({ data }) => events.push(data));
    stream.push('data\n\ndata:\ndata:\n\n\n');
    assert.deepEqual(events, ['', '\n']);
  });

  test('have a bound on lines and on data', () => {
    const mib = 1 << 20;
    new EventStream(() => {}).push(':'.repeat(mib));
    assert.throws(() => new EventStream(() => {}).push(':'.repeat(mib + 1)), /more than 1048576/);
    assert.throws(() => new EventStream(() => {}).push(`${':'.repeat(mib + 1)}\n`), /more than 1048576/);
    assert.throws(() => new EventStream(() => {}).push(`data:${'x'.repeat(mib / 2)}\n`.repeat(3)), /more than 1048576/);
  });

  test('each selection has a stream, and a change reopens only its own, where it was', async () => {
    const { client, opened, edge } = await overSse({ symbols: ['A', 'B/C'] });
    client.subscribe(['D*'], { mode: 'conflate', intervalMs: 500, channels: ['quote'], snapshot: false });
    await settle();
    assert.deepEqual(opened.all.map(({ request }) => request.query), [
      { symbols: 'A,B/C', channels: 'trade,quote', mode: 'stream', snapshot: 'true' },
      { symbols: 'D*', channels: 'quote', mode: 'conflate', interval_ms: '500', snapshot: 'false' },
    ]);
    assert.equal(opened.all[0].request.headers.Authorization, 'Bearer jwt');
    opened.all[0].tell(ack(['A', 'B/C']));
    assert.equal(client.state, 'resuming');
    opened.all[1].tell(ack([], ['D*']));
    await settle();
    assert.equal(client.state, 'live');
    opened.all[0].say('id: c1\n\n');
    await settle();

    client.unsubscribe(['A']);
    await settle();
    assert.deepEqual(opened.all.map(({ isOpen }) => isOpen), [false, true, true]);
    assert.equal(opened.all[2].request.query.symbols, 'B/C');
    assert.equal(opened.all[2].request.headers['Last-Event-ID'], 'c1');
    assert.equal(edge.requests.length, 3);
  });

  test('what follows an interrupt in the same chunk is left to the resume', async () => {
    const heard = await overSse();
    const [stream] = heard.opened.all;
    stream.tell(ack(['A']), start('A', 7, 0));
    stream.say('id: c1\n\n');
    await settle();
    heard.client.on('tick', ({ seq }) => seq === 1 && heard.client.interrupt());
    const event = (seq) => `data: ${JSON.stringify(trade('A', 7, seq))}\n\n`;
    stream.say(`${event(1)}${event(2)}id: c2\n\n`);
    await after(200);
    assert.deepEqual(seqs(heard), [1]);
    assert.equal(heard.opened.all[1].request.headers['Last-Event-ID'], 'c1');
  });

  test('symbols that join a stream get their snapshot by a poll', async () => {
    const heard = await overSse();
    heard.opened.all[0].tell(ack(['A']), start('A', 7, 1));
    heard.opened.all[0].say('id: c1\n\n');
    await settle();
    heard.edge.answers['/v1/poll'] = () => json({ cursor: 'c9', ticks: [start('B', 7, 5), trade('B', 7, 5, { snapshot: true })], more: false });
    heard.client.subscribe(['B']);
    await settle();
    assert.equal(heard.edge.to('/v1/poll')[0].query.symbols, 'B');
    assert.equal(heard.edge.to('/v1/poll')[0].query.cursor, undefined);
    assert.equal(heard.opened.all[1].request.query.symbols, 'A,B');
    assert.equal(heard.opened.all[1].request.headers['Last-Event-ID'], 'c1');
    heard.opened.all[1].tell(start('B', 7, 3), trade('B', 7, 4), trade('B', 7, 5), trade('B', 7, 6));
    await settle();
    assert.deepEqual(seqs(heard), [5, 6]);
    assert.deepEqual(heard.gap, []);
  });

  test('a symbol comes from the stream of its own selection, not from that of a pattern', async () => {
    const heard = await overSse({ symbols: ['*'] });
    heard.client.subscribe(['A'], { mode: 'conflate' });
    await settle();
    for (const stream of heard.opened.all) stream.tell(start('A', 7, 0), start('B', 7, 0));
    await settle();
    heard.opened.all[0].tell(trade('A', 7, 1), trade('B', 7, 1));
    await settle();
    heard.opened.all[1].tell(trade('A', 7, 2, { skipped: 1 }));
    await settle();
    assert.deepEqual(heard.tick.map(({ symbol, seq }) => `${symbol} ${seq}`), ['B 1', 'A 2']);
  });

  test('long lists are split over streams', async () => {
    const symbols = Array.from({ length: 500 }, (_, number) => `EXCHANGE-${number}`);
    const { opened } = await overSse({ symbols });
    assert.equal(opened.all.length, 2);
    assert.ok(opened.all.every(({ request }) => request.query.symbols.length <= 4_096));
    assert.deepEqual(opened.all.flatMap(({ request }) => request.query.symbols.split(',')), symbols);
  });

  test('a selection that is not entitled does not end the others', async () => {
    const opened = streams();
    const answer = (request) => (request.query.symbols === 'X' ? json({ code: 'not_entitled' }, 403) : opened.answer(request));
    const heard = listening({ edge: EDGE, fetch: fakeEdge({ '/v1/sse': answer }).fetch });
    heard.client.subscribe(['X'], { mode: 'conflate' });
    await settle();
    opened.all[0].tell(ack(['A']));
    await settle();
    assert.deepEqual(heard.rejected, [{ symbol: 'X', code: 'not_entitled' }]);
    assert.equal(heard.client.state, 'live');
  });

  test('the state of the edge itself is passed on once', async () => {
    const heard = await overSse();
    heard.client.subscribe(['B'], { mode: 'conflate' });
    await settle();
    const feed = (state) => ({ type: 'feed', symbol: '*', state });
    for (const stream of heard.opened.all) stream.tell(ack([stream.request.query.symbols]), feed('stale'));
    await settle();
    for (const stream of heard.opened.all) stream.tell(feed('live'));
    await settle();
    assert.deepEqual(heard.feed, [{ symbol: '*', state: 'stale' }, { symbol: '*', state: 'live' }]);
  });

  test('a page that is no event stream is a failure', async () => {
    const heard = listening({ edge: EDGE, fetch: fakeEdge({ '/v1/sse': () => new Response('<html>') }).fetch });
    await settle();
    assert.match(heard.state.at(-1).reason, /no event stream/);
  });
});

describe('long poll', () => {
  test('goes on from its cursor, at once where there is more', async () => {
    const answers = [
      { cursor: 'c1', ticks: [start('A', 7, 0), trade('A', 7, 1)], more: true },
      { cursor: 'c2', ticks: [trade('A', 7, 2)], more: false },
    ];
    const edge = fakeEdge({ '/v1/poll': (request) => (answers.length ? json(answers.shift()) : pending(request)) });
    const heard = listening({ edge: EDGE, transports: ['poll'], fetch: edge.fetch });
    await settle();
    assert.deepEqual(seqs(heard), [1, 2]);
    assert.equal(heard.client.state, 'live');
    await after(100);
    assert.deepEqual(edge.requests.map(({ query }) => [query.cursor, query.wait]), [[undefined, undefined], ['c1', '25'], ['c2', '25']]);
    await after(29_999);
    assert.equal(heard.client.state, 'live');
    await after(1);
    assert.equal(heard.state.at(-1).reason, 'silent');
    assert.ok(edge.requests[2].signal.aborted);
  });

  test('has a bound on what it reads', async () => {
    const edge = fakeEdge({ '/v1/poll': () => new Response(' '.repeat((1 << 22) + 1)) });
    const heard = listening({ edge: EDGE, transports: ['poll'], fetch: edge.fetch });
    await settle();
    assert.match(heard.state.at(-1).reason, /more than 4194304/);
  });
});
