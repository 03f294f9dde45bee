const TIME_STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300];

/** The smallest of 1, 2, 5 × 10ⁿ that cuts `span` into at most `parts`. */
export function niceStep(span, parts) {
  const rough = span / parts;
  const power = 10 ** Math.floor(Math.log10(rough));
  const lead = [1, 2, 5].find((digit) => rough <= digit * power) ?? 10;
  return lead * power;
}

/** Round prices from `low` to `high`, and the digits after the point that tell them apart. */
export function priceTicks(low, high, parts) {
  const step = niceStep(high - low, parts);
  const first = Math.ceil(low / step);
  // Counted by a small number: beside a price of 10¹⁸, adding 1 to `first` may change nothing.
  const steps = Math.floor((high - low) / step);
  const values = Array.from({ length: steps + 1 }, (_, n) => (first + n) * step).filter(
    (price) => price <= high,
  );
  // A hair less, because the logarithm of 0.001 comes out a little above −3.
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  return { values, digits };
}

/** Round seconds between two times, at most `parts` + 1 of them, in ms. */
export function timeTicks(fromMs, toMs, parts) {
  const spanS = (toMs - fromMs) / 1_000;
  const stepS = TIME_STEPS_S.find((step) => spanS / step <= parts) ?? TIME_STEPS_S.at(-1);
  const stepMs = stepS * 1_000;
  const values = [];
  for (let ms = Math.ceil(fromMs / stepMs) * stepMs; ms <= toMs; ms += stepMs) values.push(ms);
  return values;
}

const MARGIN_SHARE = 0.15;
const FILLED_SHARE_MIN = 0.5;

/**
 * The price range to show. `range`, the one shown before, stays as long as it holds the data and
 * the data fill half of it: an axis that moves with every tick cannot be read.
 */
export function fitRange(range, low, high) {
  const span = high - low;
  const holds = range !== null && low >= range.low && high <= range.high;
  if (holds && span >= (range.high - range.low) * FILLED_SHARE_MIN) return range;
  const margin = span * MARGIN_SHARE || Math.abs(low) * 0.0005 || 1;
  return { low: low - margin, high: high + margin };
}
