import { timeOfDay } from './format.js';
import { BUY, SELL, UNSIDED } from './series.js';
import { palette } from './theme.js';

export const FONT = '11px ui-monospace, "SF Mono", Menlo, Consolas, monospace';

const FULL_TURN = 2 * Math.PI;
const DOT_RADIUS = 2;
const LABEL_HEIGHT = 16;
const LABEL_GAP = 6;

/** Grid lines with their prices on the right and times below. */
export function drawAxes(context, view, prices, times) {
  const { line, muted } = palette();
  context.strokeStyle = line;
  context.fillStyle = muted;
  context.lineWidth = 1;
  context.beginPath();
  context.textAlign = 'left';
  context.textBaseline = 'middle';
  for (const price of prices.values) {
    // Lines of one pixel are sharp only in the middle of a pixel.
    const y = Math.round(view.y(price)) + 0.5;
    context.moveTo(0, y);
    context.lineTo(view.width, y);
    context.fillText(price.toFixed(prices.digits), view.width + LABEL_GAP, y);
  }
  context.textAlign = 'center';
  context.textBaseline = 'top';
  for (const ms of times) {
    const x = Math.round(view.x(ms)) + 0.5;
    context.moveTo(x, 0);
    context.lineTo(x, view.height);
    context.fillText(timeOfDay(ms), x, view.height + LABEL_GAP);
  }
  context.stroke();
}

/** Bid below, ask above, and the spread filled. */
export function drawBand(context, view, points) {
  const first = points.known(points.bid);
  if (first === points.length) return;
  context.fillStyle = palette().band;
  context.beginPath();
  stepForward(context, view, points, points.ask, first);
  stepBack(context, view, points, points.bid, first);
  context.closePath();
  context.fill();
}

export function drawPrice(context, view, points) {
  const first = points.known(points.price);
  if (first === points.length) return;
  context.strokeStyle = palette().accent;
  context.lineWidth = 1.5;
  context.lineJoin = 'round';
  context.beginPath();
  stepForward(context, view, points, points.price, first);
  context.stroke();
}

// Prices hold until the next one: a slanted line would show prices that never were.
function stepForward(context, view, points, values, first) {
  for (let i = first; i < points.length; i += 1) {
    const x = view.x(points.ms[i]);
    if (i > first) context.lineTo(x, view.y(values[i - 1]));
    context.lineTo(x, view.y(values[i]));
  }
  context.lineTo(view.width, view.y(values[points.length - 1]));
}

function stepBack(context, view, points, values, first) {
  context.lineTo(view.width, view.y(values[points.length - 1]));
  for (let i = points.length - 1; i >= first; i -= 1) {
    const x = view.x(points.ms[i]);
    context.lineTo(x, view.y(values[i]));
    if (i > first) context.lineTo(x, view.y(values[i - 1]));
  }
}

/** Filled dots bought, hollow ones sold, so that colour is not the only sign; grey is unknown. */
export function drawTrades(context, view, points) {
  const { up, down, muted, panel } = palette();
  context.lineWidth = 1.25;

  traceDots(context, view, points, UNSIDED);
  context.fillStyle = muted;
  context.fill();

  traceDots(context, view, points, BUY);
  context.fillStyle = up;
  context.fill();

  traceDots(context, view, points, SELL);
  context.fillStyle = panel;
  context.fill();
  context.strokeStyle = down;
  context.stroke();
}

function traceDots(context, view, points, kind) {
  context.beginPath();
  for (let i = 0; i < points.length; i += 1) {
    if (points.trade[i] !== kind) continue;
    const x = view.x(points.ms[i]);
    const y = view.y(points.price[i]);
    context.moveTo(x + DOT_RADIUS, y);
    context.arc(x, y, DOT_RADIUS, 0, FULL_TURN);
  }
}

/** A price in a box on the price axis. */
export function drawPriceTag(context, view, price, text, colour) {
  const width = context.measureText(text).width + 2 * LABEL_GAP;
  box(context, view.width, view.y(price) - LABEL_HEIGHT / 2, width, text, colour);
}

/** Lines through a time and, where it is known (not null), the price that was in force. */
export function drawCrosshair(context, view, ms, timeText, priceText) {
  const { muted, text } = palette();
  const x = Math.round(view.x(ms)) + 0.5;
  context.strokeStyle = muted;
  context.lineWidth = 1;
  context.setLineDash([3, 3]);
  context.beginPath();
  context.moveTo(x, 0);
  context.lineTo(x, view.height);
  if (priceText !== null) {
    const y = Math.round(view.y(Number(priceText))) + 0.5;
    context.moveTo(0, y);
    context.lineTo(view.width, y);
  }
  context.stroke();
  context.setLineDash([]);

  if (priceText !== null) drawPriceTag(context, view, Number(priceText), priceText, text);
  const width = context.measureText(timeText).width + 2 * LABEL_GAP;
  const left = Math.min(Math.max(x - width / 2, 0), view.width - width);
  box(context, left, view.height + 2, width, timeText, text);
}

function box(context, x, y, width, text, colour) {
  context.fillStyle = colour;
  context.fillRect(x, y, width, LABEL_HEIGHT);
  context.fillStyle = palette().panel;
  context.textAlign = 'left';
  context.textBaseline = 'middle';
  context.fillText(text, x + LABEL_GAP, y + LABEL_HEIGHT / 2);
}

/** In place of a plot. */
export function drawMessage(context, width, height, message) {
  context.fillStyle = palette().muted;
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  context.fillText(message, width / 2, height / 2);
}
