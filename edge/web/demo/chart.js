import { fitRange, priceTicks, timeTicks } from './axis.js';
import { Crosshair } from './crosshair.js';
import { NONE, timeOfDayTenths } from './format.js';
import { everyMs, paintSoon } from './frame.js';
import * as plot from './plot.js';
import { Points } from './points.js';
import { SLOT_MS } from './series.js';
import { surface } from './surface.js';
import { Label } from './text.js';
import { onThemeChange, palette } from './theme.js';
import { View } from './view.js';

// 30 frames a second look smooth and leave a slow machine half of its time.
const PAINT_MIN_MS = 30;
// Without ticks the window still slides.
const SLIDE_MS = 250;

const TIME_AXIS_HEIGHT = 22;
const CHARACTER_WIDTH = 6.7;
const PRICE_AXIS_PADDING = 22;
const PRICE_TICK_HEIGHT = 48;
const TIME_TICK_WIDTH = 84;

/** The large chart of one instrument. */
export class Chart {
  #canvas;
  #clock;
  #title;
  #readout;
  #crosshair;
  #points = new Points();
  #instrument = null;
  #windowMs = 60_000;
  #range = null;
  #width = 0;
  #height = 0;
  #paintedMs = -Infinity;
  #spokenShare = null;

  constructor({ canvas, title, readout, clock }) {
    this.#canvas = canvas;
    this.#clock = clock;
    this.#title = new Label(title);
    this.#readout = new Label(readout);
    this.#crosshair = new Crosshair(canvas, () => this.#plotWidth(), this.#redraw);
    new ResizeObserver(([{ contentRect }]) => {
      this.#width = contentRect.width;
      this.#height = contentRect.height;
      this.#redraw();
    }).observe(canvas);
    onThemeChange(this.#redraw);
    everyMs(SLIDE_MS, this.#redraw);
  }

  show(instrument) {
    this.#instrument = instrument;
    this.#range = null;
    this.#title.show(instrument.symbol);
    this.#redraw();
  }

  showWindow(ms) {
    this.#windowMs = ms;
    this.#range = null;
    this.#redraw();
  }

  /** Something of the instrument changed. */
  touch(instrument) {
    if (instrument === this.#instrument) this.#redraw();
  }

  #redraw = () => paintSoon(this.#paint);

  #paint = (timeMs) => {
    if (this.#instrument === null || this.#width === 0) return;
    if (timeMs - this.#paintedMs < PAINT_MIN_MS) {
      this.#redraw();
      return;
    }
    this.#paintedMs = timeMs;
    const context = surface(this.#canvas, this.#width, this.#height);
    context.font = plot.FONT;
    const view = this.#view();
    if (view === null) {
      plot.drawMessage(context, this.#width, this.#height, 'Waiting for ticks');
      this.#readout.show('');
      return;
    }
    this.#draw(context, view);
  };

  // The price axis is as wide as the instrument's prices are long.
  #plotWidth() {
    const { last, bid, ask } = this.#instrument ?? {};
    const characters = Math.max(...[last, bid, ask].map((price) => price?.length ?? 0), 6);
    return Math.max(this.#width - characters * CHARACTER_WIDTH - PRICE_AXIS_PADDING, 1);
  }

  /** Gathers what is to be seen; null when nothing is. */
  #view() {
    const width = this.#plotWidth();
    const toMs = this.#instrument.presentMs(this.#clock.now());
    const fromMs = toMs - this.#windowMs;
    const points = this.#points;
    const groupMs = Math.ceil(this.#windowMs / width / SLOT_MS) * SLOT_MS;
    points.gather(this.#instrument.series, fromMs, toMs, groupMs);
    if (points.length === 0) return null;

    const { low, high } = points.extent(points.price, points.bid, points.ask);
    this.#range = fitRange(this.#range, low, high);
    return new View({ fromMs, toMs, ...this.#range, width, height: this.#height - TIME_AXIS_HEIGHT });
  }

  #draw(context, view) {
    const points = this.#points;
    const prices = priceTicks(view.low, view.high, Math.max(view.height / PRICE_TICK_HEIGHT, 2));
    const times = timeTicks(view.fromMs, view.toMs, view.width / TIME_TICK_WIDTH);
    plot.drawAxes(context, view, prices, times);

    context.save();
    context.beginPath();
    context.rect(0, 0, view.width, view.height);
    context.clip();
    plot.drawBand(context, view, points);
    plot.drawPrice(context, view, points);
    plot.drawTrades(context, view, points);
    context.restore();

    const { last } = this.#instrument;
    const drawn = points.price[points.length - 1];
    if (!Number.isNaN(drawn)) plot.drawPriceTag(context, view, drawn, last, palette().accent);
    this.#drawPointedAt(context, view);
  }

  #drawPointedAt(context, view) {
    const { share } = this.#crosshair;
    if (share === null) {
      this.#readout.show(describe(this.#instrument));
    } else {
      const ms = view.msAt(share);
      const values = this.#valuesAt(ms);
      const time = timeOfDayTenths(ms);
      plot.drawCrosshair(context, view, ms, time, values.last);
      this.#readout.show(`${time}  ${describe(values)}`);
    }
    this.#speak(share);
  }

  #valuesAt(ms) {
    const points = this.#points;
    const index = points.indexAt(ms);
    // A double holds any 15 digits, so this gives back the very decimals that came.
    const text = (values) =>
      index < 0 || Number.isNaN(values[index]) ? null : values[index].toFixed(this.#instrument.digits);
    return { last: text(points.price), bid: text(points.bid), ask: text(points.ask) };
  }

  // Only when the crosshair was moved: a screen reader that followed the ticks would never end.
  #speak(share) {
    if (share === this.#spokenShare) return;
    this.#spokenShare = share;
    const secondsAgo = ((1 - (share ?? 1)) * this.#windowMs) / 1_000;
    const text = share === null ? 'now' : this.#readout.text;
    this.#canvas.setAttribute('aria-valuemin', String(-this.#windowMs / 1_000));
    this.#canvas.setAttribute('aria-valuenow', String(-Math.round(secondsAgo * 10) / 10));
    this.#canvas.setAttribute('aria-valuetext', text);
  }
}

function describe({ last, bid, ask }) {
  return `last ${last ?? NONE}  bid ${bid ?? NONE}  ask ${ask ?? NONE}`;
}
