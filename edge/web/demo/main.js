import { Client } from '../tickwire.js';
import { Age } from './age.js';
import { Chart } from './chart.js';
import { Clock } from './clock.js';
import { everyMs } from './frame.js';
import { bindKeys } from './keys.js';
import { Log } from './log.js';
import { INSTRUMENTS_MAX, Market } from './market.js';
import { Outage } from './outage.js';
import { loadSettings, visitorToken } from './settings.js';
import { Status } from './status.js';
import { toggleTheme } from './theme.js';
import { askToken } from './token.js';
import { Watchlist } from './watchlist.js';
import { gapLine, outageLine, stateLine } from './wording.js';

const TRAFFIC_MS = 1_000;

const byId = (id) => document.getElementById(id);
const status = new Status(byId('head'));

/** Everything the page shows, fed by one client after the other. */
class Page {
  #settings;
  #clock = new Clock();
  #age = new Age();
  #outage = new Outage();
  #log = new Log(byId('log'));
  #chart;
  #watchlist;
  #market;
  #client = null;
  #gaps = 0;
  #counted = { ticks: 0, atMs: performance.now() };

  constructor(settings) {
    this.#settings = settings;
    const clock = this.#clock;
    this.#chart = new Chart({
      canvas: byId('chart'), title: byId('chart-title'), readout: byId('readout'), clock,
    });
    this.#watchlist = new Watchlist({
      grid: byId('watchlist'),
      filter: byId('filter'),
      more: byId('more'),
      clock,
      order: settings.symbols,
      onChoose: (instrument) => this.#chart.show(instrument),
    });
    this.#market = new Market((instrument) => this.#watchlist.add(instrument));
    const named = settings.symbols.filter((symbol) => !symbol.endsWith('*'));
    for (const symbol of named.slice(0, INSTRUMENTS_MAX)) this.#market.add(symbol);
    this.#bindControls();
    everyMs(TRAFFIC_MS, () => this.#showTraffic());
  }

  /** `token` is one, or the function that fetches one. */
  connect(token) {
    const former = this.#client;
    this.#outage = new Outage();
    this.#gaps = 0;
    this.#counted = { ticks: 0, atMs: performance.now() };
    const { engine, edge, symbols, transports } = this.#settings;
    const client = new Client({ engine, edge, symbols, transports, token, autoStart: false });
    this.#client = client;
    former?.close();

    // What the former client still says of its end is not about this connection.
    const on = (name, listener) => {
      client.on(name, (detail) => {
        if (client === this.#client) listener(detail);
      });
    };
    on('tick', (tick) => this.#take(tick));
    on('state', (change) => this.#follow(change));
    on('gap', (gap) => {
      this.#gaps += 1;
      this.#log.add('gap', gapLine(gap));
    });
    on('feed', (feed) => this.#feed(feed));
    on('rejected', ({ symbol, code }) => this.#log.add('error', `${symbol} refused: ${code}`));
    on('error', ({ code, message }) => this.#log.add('error', `${code}: ${message}`));
    client.start();
  }

  async askToken() {
    const token = await askToken();
    if (token !== null) this.connect(token);
  }

  #take(tick) {
    const nowMs = this.#clock.now();
    // A snapshot is as old as the market is quiet, which says nothing of the way here.
    if (!tick.snapshot) this.#age.add(nowMs, nowMs - tick.ts / 1_000);
    const instrument = this.#market.add(tick.symbol);
    if (instrument === undefined) return;
    instrument.take(tick, nowMs);
    this.#watchlist.touch(instrument);
    this.#chart.touch(instrument);
  }

  #follow(change) {
    status.showState(change);
    this.#log.add('state', stateLine(change));
    // Not `disabled`: whoever pressed it by keyboard would lose the focus.
    byId('break').setAttribute('aria-disabled', String(change.state !== 'live'));
    if (change.state === 'closed') byId('recovery').textContent = '';
    const ended = this.#outage.follow(change.state, performance.now(), this.#client.totals);
    if (ended === null) return;
    byId('recovery').textContent = outageLine(ended);
    this.#log.add('outage', outageLine(ended));
  }

  #feed({ symbol, state }) {
    if (symbol === '*') this.#log.add('state', `The edge's way to the engine is ${state}`);
    const instrument = this.#market.get(symbol);
    if (instrument === undefined) return;
    instrument.stale = state === 'stale';
    this.#watchlist.touch(instrument);
  }

  #break() {
    if (this.#client?.state !== 'live') return;
    byId('recovery').textContent = 'Broken, coming back …';
    this.#outage.begin(performance.now(), this.#client.totals);
    this.#client.interrupt();
  }

  #showTraffic() {
    if (this.#client === null) return;
    const { totals } = this.#client;
    const atMs = performance.now();
    const elapsedS = (atMs - this.#counted.atMs) / 1_000;
    const ticksPerSecond = (totals.ticks - this.#counted.ticks) / elapsedS;
    this.#counted = { ticks: totals.ticks, atMs };
    const [ageP50, ageP99] = this.#age.percentiles(this.#clock.now(), 50, 99);
    status.showTraffic({ ticksPerSecond, ageP50, ageP99, gaps: this.#gaps, totals });
    this.#watchlist.showUnlisted(this.#market.unlisted);
  }

  #bindControls() {
    const list = this.#watchlist;
    const filter = byId('filter');
    const breakConnection = () => this.#break();
    const showKeys = () => byId('keys-dialog').showModal();
    byId('break').addEventListener('click', breakConnection);
    byId('theme').addEventListener('click', toggleTheme);
    byId('keys').addEventListener('click', showKeys);
    byId('windows').addEventListener('click', ({ target }) => this.#pickWindow(target));

    const moves = { ArrowDown: () => list.move(1), ArrowUp: () => list.move(-1) };
    const choose = () => list.chooseSelected();
    bindKeys(
      {
        ...moves,
        j: moves.ArrowDown,
        k: moves.ArrowUp,
        Enter: choose,
        '/': () => filter.focus(),
        b: breakConnection,
        t: toggleTheme,
        '?': showKeys,
      },
      {
        ...moves,
        Enter: choose,
        Escape: () => {
          list.clearFilter();
          byId('watchlist').focus();
        },
      },
    );
  }

  #pickWindow(button) {
    const seconds = Number(button.dataset.seconds);
    if (!seconds) return;
    for (const other of byId('windows').children) {
      other.setAttribute('aria-pressed', String(other === button));
    }
    this.#chart.showWindow(seconds * 1_000);
  }
}

async function start() {
  const settings = await loadSettings();
  const page = new Page(settings);
  if (settings.token !== null) {
    page.connect(visitorToken(settings.token));
    return;
  }
  const button = byId('token-button');
  button.hidden = false;
  button.addEventListener('click', () => page.askToken());
  await page.askToken();
}

start().catch((error) => status.showFailure(error.message));
