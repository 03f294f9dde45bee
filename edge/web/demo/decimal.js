// Prices and sizes stay the text that came: a double would call "0.30" and
// "0.3000000000000000001" equal, and would print digits that nobody published.

/** Negative, 0 or positive, as `a` is below, equal to or above `b`. */
export function compare(a, b) {
  if (a === b) return 0;
  const negative = a.startsWith('-');
  if (negative !== b.startsWith('-')) return negative ? -1 : 1;
  return negative ? compareMagnitudes(b.slice(1), a.slice(1)) : compareMagnitudes(a, b);
}

function compareMagnitudes(a, b) {
  const [wholeA, fractionA = ''] = a.split('.');
  const [wholeB, fractionB = ''] = b.split('.');
  // No leading zeros on the wire, so the longer whole part is the larger one.
  if (wholeA.length !== wholeB.length) return wholeA.length - wholeB.length;
  const digits = Math.max(fractionA.length, fractionB.length);
  const textA = wholeA + fractionA.padEnd(digits, '0');
  const textB = wholeB + fractionB.padEnd(digits, '0');
  if (textA === textB) return 0;
  return textA < textB ? -1 : 1;
}

/** How many digits follow the point. */
export function fractionDigits(decimal) {
  const point = decimal.indexOf('.');
  return point < 0 ? 0 : decimal.length - point - 1;
}

/** From `opened` to `last` in percent; NaN where there is no such share. */
export function changePercent(opened, last) {
  const from = Number(opened);
  return from === 0 ? NaN : ((Number(last) - from) / Math.abs(from)) * 100;
}
