// A real Chromium's own EventSource with the session cookie: prints each event's data as a line, and
// `open` whenever it has (re)connected.
//
// usage: event_source.mjs ORIGIN TOKEN QUERY   ends with its standard input

import { createRequire } from 'node:module';

const require = createRequire(new URL('../../../.deps/npm/', import.meta.url));
const { chromium } = require('playwright-core');

const [origin, token, query] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  // In a container there is no sandbox to be had, and little shared memory.
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});
const page = await browser.newPage();
await page.exposeFunction('told', (line) => console.log(line));
// Anything of the edge that a browser shows will do.
await page.goto(`${origin}/demo.json`);
await page.evaluate(
  async ([token, query]) => {
    const opened = await fetch('/v1/session', { method: 'POST', headers: { Authorization: `Bearer ${token}` } });
    if (opened.status !== 204) throw new Error(`session: ${opened.status}`);
    const source = new EventSource(`/v1/sse?${query}`);
    source.onopen = () => window.told('open');
    for (const kind of ['start', 'trade', 'gap', 'replayed', 'goodbye']) {
      source.addEventListener(kind, (event) => window.told(event.data));
    }
  },
  [token, query],
);
process.stdin.resume();
process.stdin.on('end', async () => {
  await browser.close();
  process.exit(0);
});
