const NARROW_SPACE = '\u202f';
const MINUS = '\u2212';

/** What stands where there is no value yet. */
export const NONE = '—';

/** 1234567 as "1 234 567". */
export function count(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, NARROW_SPACE);
}

/** Milliseconds with about three digits: "0.41", "41.2", "1 204". */
export function milliseconds(value) {
  if (Number.isNaN(value)) return NONE;
  const size = Math.abs(value);
  const text = size < 10 ? size.toFixed(2) : size < 100 ? size.toFixed(1) : count(Math.round(size));
  return value < 0 ? MINUS + text : text;
}

/** "+0.12 %", "−0.12 %", "0.00 %"; the sign is that of `value`, however small. */
export function percent(value) {
  if (Number.isNaN(value)) return NONE;
  const sign = value > 0 ? '+' : value < 0 ? MINUS : '';
  return `${sign}${Math.abs(value).toFixed(2)}${NARROW_SPACE}%`;
}

/** "312 ms", "1.24 s", "3 min 5 s". */
export function duration(ms) {
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 59_995) return `${(ms / 1_000).toFixed(2)} s`;
  const seconds = Math.round(ms / 1_000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** Local time of day, "14:03:07". */
export function timeOfDay(ms) {
  return new Date(ms).toTimeString().slice(0, 8);
}

/** Local time of day to a tenth, as fine as the chart's slots. */
export function timeOfDayTenths(ms) {
  return `${timeOfDay(ms)}.${Math.floor((ms % 1_000) / 100)}`;
}
