import { Points } from './points.js';
import { surface } from './surface.js';
import { palette } from './theme.js';

const SPAN_MS = 60_000;

// As in the style sheet: measuring every canvas would cost a layout.
const WIDTH = 88;
const HEIGHT = 24;
const MARGIN = 2;
const GROUP_MS = 600;

// One is drawn after the other, so they can share it.
const points = new Points();

/** The last price over the last minute; coloured by where it ended relative to its beginning. */
export function drawSparkline(canvas, instrument, nowMs) {
  const context = surface(canvas, WIDTH, HEIGHT);
  const toMs = instrument.presentMs(nowMs);
  const fromMs = toMs - SPAN_MS;
  points.gather(instrument.series, fromMs, toMs, GROUP_MS);
  const first = points.known(points.price);
  if (first === points.length) return;

  const { low, high } = points.extent(points.price);
  const scale = high > low ? (HEIGHT - 2 * MARGIN) / (high - low) : 0;
  const x = (ms) => ((ms - fromMs) / SPAN_MS) * WIDTH;
  const y = (price) => (scale === 0 ? HEIGHT / 2 : MARGIN + (high - price) * scale);

  const last = points.price[points.length - 1];
  const change = last - points.price[first];
  const { up, down, muted } = palette();
  context.strokeStyle = change > 0 ? up : change < 0 ? down : muted;
  context.lineWidth = 1.25;
  context.beginPath();
  for (let i = first; i < points.length; i += 1) context.lineTo(x(points.ms[i]), y(points.price[i]));
  context.lineTo(WIDTH, y(last));
  context.stroke();
}
