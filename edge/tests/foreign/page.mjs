// Drives the live page in a real Chromium: ticks over WebSocket, with that blocked over SSE, with both
// blocked over long poll, and a broken connection that resumes. Leaves screenshots.
//
// usage: page.mjs URL FOLDER

import { mkdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(new URL('../../../.deps/npm/', import.meta.url));
const { chromium } = require('playwright-core');

const [url, folder] = process.argv.slice(2);
// The last transport comes after six failures and their backoff.
const PATIENCE_MS = 90_000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  // In a container there is no sandbox to be had, and little shared memory.
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});
await mkdir(folder, { recursive: true });

/** A page with what `block` takes away, and everything that went wrong in it. */
async function open(options, block) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => {
    // What is blocked is reported as an error of the network, which it is.
    if (message.type() === 'error' && !/ERR_|WebSocket|Failed to load/.test(message.text())) {
      errors.push(message.text());
    }
  });
  await block(page);
  await page.goto(url);
  return { context, page, errors };
}

const value = (page, id) => page.getByTestId(id).getAttribute('value').then(Number);

/** Waits until ticks come over `transport`. */
async function flows(page, transport) {
  await page
    .getByTestId('transport')
    .filter({ hasText: new RegExp(`^${transport}$`) })
    .waitFor({ timeout: PATIENCE_MS });
  const before = await value(page, 'ticks');
  await page.waitForFunction(
    (before) => Number(document.querySelector('[data-testid=ticks]').getAttribute('value')) > before + 50,
    before,
    { timeout: PATIENCE_MS },
  );
}

async function blockSockets(page) {
  await page.routeWebSocket(/\/v1\/ws/, (socket) => socket.close());
}

async function blockStreams(page) {
  await blockSockets(page);
  await page.route(/\/v1\/sse/, (route) => route.abort());
}

function check(holds, what) {
  if (!holds) throw new Error(what);
}

const ways = [
  ['WebSocket', async () => {}],
  ['SSE', blockSockets],
  ['Long poll', blockStreams],
];
for (const [transport, block] of ways) {
  const { context, page, errors } = await open({ colorScheme: 'dark', viewport: { width: 1280, height: 800 } }, block);
  await flows(page, transport);
  // Long enough for a line in the chart.
  await page.waitForTimeout(3_000);
  const name = transport.toLowerCase().replace(' ', '-');
  await page.screenshot({ path: join(folder, `page-${name}.png`) });
  check((await value(page, 'gaps')) === 0, `${transport}: gaps`);
  if (transport === 'WebSocket') {
    await page.getByTestId('break').click();
    const recovery = page.getByTestId('recovery').filter({ hasText: /resumed, 0 lost/ });
    await recovery.waitFor({ timeout: PATIENCE_MS });
    console.log(`recovery: ${await recovery.textContent()}`);
    await flows(page, transport);
  }
  check(errors.length === 0, `${transport}: ${errors.join('\n')}`);
  console.log(`${transport}: ${await value(page, 'ticks')} ticks, p50 ${await value(page, 'age-p50')} ms`);
  await context.close();
}

// A phone in daylight, and the keyboard.
const { context, page, errors } = await open({ colorScheme: 'light', viewport: { width: 360, height: 740 } }, async () => {});
await flows(page, 'WebSocket');
await page.screenshot({ path: join(folder, 'page-phone.png'), fullPage: true });
const wide = await page.evaluate(() => document.documentElement.scrollWidth);
check(wide <= 360, `the page is ${wide} px wide on a phone of 360`);
await page.keyboard.press('/');
check(await page.evaluate(() => document.activeElement?.tagName === 'INPUT'), '/ focuses the filter');
check(errors.length === 0, errors.join('\n'));
await context.close();
await browser.close();
console.log('done');
