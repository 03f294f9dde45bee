import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Age, percentile } from '../demo/age.js';
import { fitRange, niceStep, priceTicks, timeTicks } from '../demo/axis.js';
import { Clock } from '../demo/clock.js';
import { changePercent, compare, fractionDigits } from '../demo/decimal.js';
import { count, duration, milliseconds, percent } from '../demo/format.js';
import { INSTRUMENTS_MAX, Market } from '../demo/market.js';
import { Outage } from '../demo/outage.js';
import { Points } from '../demo/points.js';
import { Ring } from '../demo/ring.js';
import { BUY, NO_TRADE, SELL, Series, SLOT_MS, SLOTS, UNSIDED } from '../demo/series.js';
import { chooseSettings, visitorToken } from '../demo/settings.js';
import { View } from '../demo/view.js';
import { gapLine, outageLine, stateLine } from '../demo/wording.js';

const NOW_MS = 1_763_776_800_000;

test('a ring keeps the newest values in order', () => {
  const ring = new Ring(3);
  assert.equal(ring.length, 0);
  assert.equal(ring.at(0), undefined);
  for (const value of [1, 2, 3, 4, 5]) ring.push(value);
  assert.equal(ring.length, 3);
  assert.deepEqual([0, 1, 2, 3].map((index) => ring.at(index)), [3, 4, 5, undefined]);
});

test('percentiles are ages that occurred', () => {
  const ages = Float64Array.from({ length: 100 }, (_, index) => index + 1);
  assert.equal(percentile(ages, 50), 50);
  assert.equal(percentile(ages, 99), 99);
  assert.equal(percentile([7], 50), 7);
  assert.ok(Number.isNaN(percentile([], 99)));
});

test('ages older than the window do not count', () => {
  const age = new Age();
  age.add(0, 1_000);
  age.add(6_000, 3);
  age.add(6_001, -1);
  assert.deepEqual(age.percentiles(6_001, 50, 99), [-1, 3]);
  assert.deepEqual(age.percentiles(20_000, 50), [NaN]);
});

test('ages are bounded, and the newest stay', () => {
  const age = new Age();
  for (let n = 0; n < 20_000; n += 1) age.add(1, n < 10_000 ? 1 : 2);
  const [low, high] = age.percentiles(1, 1, 99);
  assert.equal(low, 1);
  assert.equal(high, 2);
});

test('the clock finds the fraction that the time of day lacks, and follows it when it is set', () => {
  let trueMs = NOW_MS + 0.7;
  let elapsedMs = 50;
  const clock = new Clock(() => Math.floor(trueMs), () => elapsedMs);
  const pass = (ms) => {
    trueMs += ms;
    elapsedMs += ms;
    return clock.now();
  };
  for (let n = 0; n < 100; n += 1) pass(0.33);
  assert.ok(Math.abs(clock.now() - trueMs) < 0.05);
  trueMs += 3_600_000;
  assert.ok(Math.abs(pass(0.33) - trueMs) < 1);
  trueMs -= 1_800_000;
  for (let n = 0; n < 100; n += 1) pass(1_000.33);
  assert.ok(Math.abs(clock.now() - trueMs) < 1);
});

test('decimals are compared as text, beyond what doubles tell apart', () => {
  const ascending = ['-10', '-9.5', '-0.1', '0', '0.3', '0.3000000000000000001', '9.99', '10', '100.5'];
  for (const [i, a] of ascending.entries()) {
    for (const [j, b] of ascending.entries()) {
      assert.equal(Math.sign(compare(a, b)), Math.sign(i - j), `${a} and ${b}`);
    }
  }
  assert.equal(compare('187.2', '187.200'), 0);
});

test('fraction digits and change', () => {
  assert.equal(fractionDigits('187'), 0);
  assert.equal(fractionDigits('0.00120'), 5);
  assert.equal(changePercent('200', '201'), 0.5);
  assert.equal(changePercent('-2', '-1'), 50);
  assert.ok(Number.isNaN(changePercent('0', '1')));
});

test('numbers read well', () => {
  assert.equal(count(999), '999');
  assert.equal(count(1_234_567), '1\u202f234\u202f567');
  assert.equal(milliseconds(0.414), '0.41');
  assert.equal(milliseconds(-3), '\u22123.00');
  assert.equal(milliseconds(41.23), '41.2');
  assert.equal(milliseconds(1_204.4), '1\u202f204');
  assert.equal(milliseconds(NaN), '—');
  assert.equal(percent(0.123), '+0.12\u202f%');
  assert.equal(percent(-0.001), '\u22120.00\u202f%');
  assert.equal(percent(0), '0.00\u202f%');
  assert.equal(duration(311.6), '312 ms');
  assert.equal(duration(999.6), '1.00 s');
  assert.equal(duration(1_240), '1.24 s');
  assert.equal(duration(185_000), '3 min 5 s');
});

test('price ticks are round, inside, and told apart by their digits', () => {
  assert.equal(niceStep(10, 5), 2);
  assert.equal(niceStep(0.9, 3), 0.5);
  const { values, digits } = priceTicks(187.21, 187.29, 5);
  const labels = values.map((price) => price.toFixed(digits));
  assert.deepEqual(labels, ['187.22', '187.24', '187.26', '187.28']);
  assert.deepEqual(priceTicks(-7, 7, 4), { values: [-5, 0, 5], digits: 0 });
  assert.equal(priceTicks(0.0011, 0.0049, 4).digits, 3);
});

test('price ticks end even where a double has no room for the step', () => {
  assert.ok(priceTicks(9e18, 9e18 + 2_048, 5).values.length <= 6);
});

test('time ticks are round seconds, at most as many as fit', () => {
  const ticks = timeTicks(NOW_MS - 30_000 - 1, NOW_MS - 1, 8);
  assert.deepEqual(ticks, [-30, -25, -20, -15, -10, -5].map((s) => NOW_MS + s * 1_000));
  assert.ok(timeTicks(NOW_MS - 300_000, NOW_MS, 3).length <= 4);
});

test('the price range stays while the data fill it well', () => {
  const range = fitRange(null, 100, 110);
  assert.deepEqual(range, { low: 98.5, high: 111.5 });
  assert.equal(fitRange(range, 99, 111), range);
  assert.notEqual(fitRange(range, 98, 110), range);
  assert.notEqual(fitRange(range, 104, 106), range);
  const flat = fitRange(null, 0, 0);
  assert.ok(flat.low < 0 && flat.high > 0);
});

test('a view maps corners to corners', () => {
  const view = new View({ fromMs: 1_000, toMs: 2_000, low: 10, high: 20, width: 500, height: 100 });
  assert.deepEqual([view.x(1_000), view.x(2_000), view.y(20), view.y(10)], [0, 500, 0, 100]);
  assert.equal(view.msAt(0.25), 1_250);
});

function slots(series, fromMs, toMs) {
  const found = [];
  series.each(fromMs, toMs, (...slot) => found.push(slot));
  return found;
}

test('a series keeps the last of each slot, in whatever order they come', () => {
  const series = new Series();
  series.trade(NOW_MS + 500, 3, SELL);
  series.trade(NOW_MS, 1, BUY);
  series.trade(NOW_MS + 50, 2, UNSIDED);
  series.quote(NOW_MS + 70, 1, 4);
  assert.deepEqual(slots(series, NOW_MS, NOW_MS + 1_000), [
    [NOW_MS, 2, 1, 4, UNSIDED],
    [NOW_MS + 500, 3, NaN, NaN, SELL],
  ]);
  assert.deepEqual(series.before(NOW_MS + 1_000), { price: 3, bid: 1, ask: 4 });
  assert.deepEqual(series.before(NOW_MS), { price: NaN, bid: NaN, ask: NaN });
});

test('a series forgets what is older than its span, and refuses it', () => {
  const series = new Series();
  const laterMs = NOW_MS + SLOTS * SLOT_MS;
  series.trade(NOW_MS, 1, BUY);
  series.trade(laterMs, 2, BUY);
  series.trade(NOW_MS, 3, BUY);
  assert.deepEqual(slots(series, NOW_MS, laterMs), [[laterMs, 2, NaN, NaN, BUY]]);
});

test('points carry values forward and fall together by time', () => {
  const series = new Series();
  series.trade(NOW_MS - 2_000, 10, BUY);
  series.quote(NOW_MS + 100, 9, 11);
  series.trade(NOW_MS + 200, 12, SELL);
  series.quote(NOW_MS + 1_100, 11, 13);
  const points = new Points();
  points.gather(series, NOW_MS, NOW_MS + 2_000, 1_000);

  const column = (values) => [...values.subarray(0, points.length)];
  assert.deepEqual(column(points.ms), [NOW_MS, NOW_MS + 200, NOW_MS + 1_100]);
  assert.deepEqual(column(points.price), [10, 12, 12]);
  assert.deepEqual(column(points.bid), [NaN, 9, 11]);
  assert.deepEqual(column(points.trade), [NO_TRADE, SELL, NO_TRADE]);
  assert.equal(points.known(points.bid), 1);
  assert.deepEqual(points.extent(points.price, points.bid, points.ask), { low: 9, high: 13 });
  assert.deepEqual([-1, 0, 199, 200, 5_000].map((ms) => points.indexAt(NOW_MS + ms)), [-1, 0, 0, 1, 2]);
});

function trade(symbol, price, ms = NOW_MS) {
  return { type: 'trade', symbol, epoch: 1, seq: 1, ts: ms * 1_000, price };
}

test('a market lists so many symbols and counts the others once', () => {
  const added = [];
  const market = new Market((instrument) => added.push(instrument.symbol));
  for (let n = 0; n < INSTRUMENTS_MAX + 2; n += 1) market.add(`S${n}`);
  assert.equal(market.add(`S${INSTRUMENTS_MAX}`), undefined);
  assert.equal(added.length, INSTRUMENTS_MAX);
  assert.deepEqual(market.unlisted, { count: 2, more: false });
  assert.equal(market.add('S7'), market.get('S7'));
});

test('an instrument remembers its first price and which way the last change went', () => {
  const instrument = new Market(() => {}).add('AAPL');
  for (const price of ['187.20', '187.2', '187.19', '187.19']) {
    instrument.take(trade('AAPL', price), NOW_MS);
  }
  assert.equal(instrument.opened, '187.20');
  assert.equal(instrument.last, '187.19');
  assert.equal(instrument.direction, -1);
  assert.equal(instrument.digits, 2);
});

test('the present of a recording is where it plays', () => {
  const instrument = new Market(() => {}).add('AAPL');
  const yearMs = 365 * 86_400_000;
  instrument.take(trade('AAPL', '1', NOW_MS - yearMs), NOW_MS);
  assert.equal(instrument.presentMs(NOW_MS + 5), NOW_MS - yearMs + 5);
  instrument.take(trade('AAPL', '1', NOW_MS - 40), NOW_MS);
  assert.equal(instrument.presentMs(NOW_MS), NOW_MS);
});

test('an outage is counted from live to live', () => {
  const outage = new Outage();
  const totals = { ticks: 0, gapped: 0 };
  assert.equal(outage.follow('connecting', 0, totals), null);
  assert.equal(outage.follow('live', 10, totals), null);
  outage.begin(100, { ticks: 500, gapped: 2 });
  assert.equal(outage.follow('waiting', 101, { ticks: 501, gapped: 2 }), null);
  assert.equal(outage.follow('resuming', 400, { ticks: 501, gapped: 2 }), null);
  const ended = outage.follow('live', 412, { ticks: 541, gapped: 2 });
  assert.deepEqual(ended, { tookMs: 312, resumed: true, lost: 0, caughtUp: 41 });
  assert.equal(outageLine(ended), 'Back after 312 ms, resumed, 0 lost, 41 ticks caught up');
  assert.equal(outage.follow('live', 500, totals), null);
});

test('sentences of the log', () => {
  const gap = { symbol: 'AAPL', channel: 'trade', epoch: 7, from: 44, to: 57, reason: 'source' };
  assert.equal(gapLine(gap), 'Gap in AAPL, trade: 14 ticks, 44–57, the source skipped them');
  assert.equal(gapLine({ ...gap, to: 44 }), 'Gap in AAPL, trade: tick 44, the source skipped them');
  assert.match(gapLine({ ...gap, to: null }), /the rest of epoch 7/);
  assert.match(gapLine({ ...gap, from: null }), /an unknown number up to 57/);
  assert.equal(stateLine({ state: 'live', transport: 'sse' }), 'Live over SSE');
  assert.equal(
    stateLine({ state: 'waiting', transport: null, reason: 'silent', retryInMs: 400 }),
    'Waiting: silent, next try in 400 ms',
  );
});

test('the token is fetched anew, and the last one serves while the edge is away', async (t) => {
  t.mock.method(globalThis, 'fetch', async () => Response.json({ token: 'second', symbols: [] }));
  const token = visitorToken('first');
  assert.equal(await token(), 'second');
  globalThis.fetch.mock.mockImplementation(async () => {
    throw new TypeError('away');
  });
  assert.equal(await token(), 'second');
});

test('the address of the page overrides what the edge proposes', () => {
  const demo = { engine: null, edge: '', token: 't', symbols: [] };
  const plain = chooseSettings(demo, new URL('https://edge.example/'));
  assert.deepEqual(plain, {
    engine: undefined, edge: 'https://edge.example', token: 't', symbols: ['*'], transports: undefined,
  });
  const url = new URL('https://edge.example/?symbols=A,%20B&transports=sse,poll');
  const chosen = chooseSettings({ ...demo, symbols: ['C'] }, url);
  assert.deepEqual(chosen.symbols, ['A', 'B']);
  assert.deepEqual(chosen.transports, ['sse', 'poll']);
  assert.throws(() => chooseSettings(demo, new URL('https://edge.example/?transports=pigeon')));
});
