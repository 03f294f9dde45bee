import { changePercent } from './decimal.js';
import { NONE, percent } from './format.js';
import { drawSparkline } from './sparkline.js';
import { Label } from './text.js';

const FLASH_MS = 200;
// A price may change in every frame; a cell that changes colour as often is a strobe.
const FLASH_PAUSE_MS = 600;
const ARROWS = { '-1': '▼', 0: '\u2007', 1: '▲' };

const template = document.getElementById('row');

/** One instrument of the watch list. */
export class Row {
  instrument;
  element;

  #last;
  #spark;
  #labels;
  #shownPrice = null;
  #flashedMs = -Infinity;

  constructor(instrument, id) {
    this.instrument = instrument;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.id = id;
    this.element.dataset.testid = `row-${instrument.symbol}`;

    const part = (name) => this.element.querySelector(`.${name}`);
    const label = (name) => new Label(part(name));
    part('symbol').firstElementChild.textContent = instrument.symbol;
    part('price').dataset.testid = `last-${instrument.symbol}`;
    this.#last = part('last');
    this.#spark = part('spark');
    this.#labels = {
      feed: label('feed'),
      arrow: label('arrow'),
      price: label('price'),
      change: label('change'),
      bid: label('bid-price'),
      bidSize: label('bid-size'),
      ask: label('ask-price'),
      askSize: label('ask-size'),
    };
    this.paint(0);
  }

  paint(timeMs) {
    const { instrument } = this;
    const labels = this.#labels;
    labels.feed.show(instrument.stale ? 'stale' : '');
    labels.bid.show(instrument.bid ?? NONE);
    labels.bidSize.show(instrument.bidSize ?? '');
    labels.ask.show(instrument.ask ?? NONE);
    labels.askSize.show(instrument.askSize ?? '');
    labels.arrow.show(ARROWS[instrument.direction]);
    if (instrument.last === this.#shownPrice) return;

    labels.price.show(instrument.last);
    this.#paintChange(instrument);
    if (this.#shownPrice !== null) this.#flash(timeMs);
    this.#shownPrice = instrument.last;
  }

  #paintChange({ opened, last, direction }) {
    const change = changePercent(opened, last);
    this.#labels.change.show(percent(change));
    this.element.dataset.change = trend(change);
    this.#last.dataset.direction = trend(direction);
  }

  // On and off and no fading: to fade dozens of cells is what would make a slow machine miss frames.
  #flash(timeMs) {
    if (timeMs - this.#flashedMs < FLASH_PAUSE_MS) return;
    this.#last.dataset.flash = trend(this.instrument.direction);
    this.#flashedMs = timeMs;
  }

  /** What need not be drawn at once: the sparkline, and the end of a flash. */
  paintSlowly(timeMs, nowMs) {
    if (timeMs - this.#flashedMs > FLASH_MS) delete this.#last.dataset.flash;
    drawSparkline(this.#spark, this.instrument, nowMs);
  }
}

function trend(value) {
  return value > 0 ? 'up' : value < 0 ? 'down' : 'flat';
}
