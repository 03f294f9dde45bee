import { Ring } from './ring.js';

/** How far back the percentiles look. */
const WINDOW_MS = 5_000;

// 3,200 ticks/s over the whole window. Above that the percentiles cover the newest ticks only,
// which is the better part to keep.
const SAMPLES_MAX = 16_384;

/** How old ticks were when they came: now − ts, over the last 5 s. */
export class Age {
  #cameMs = new Ring(SAMPLES_MAX, Float64Array);
  #ageMs = new Ring(SAMPLES_MAX, Float64Array);
  #scratch = new Float64Array(SAMPLES_MAX);

  add(nowMs, ageMs) {
    this.#cameMs.push(nowMs);
    this.#ageMs.push(ageMs);
  }

  /** The ages that the given percents of the ticks did not exceed; NaN when none came. */
  percentiles(nowMs, ...percents) {
    let count = 0;
    for (let i = this.#ageMs.length - 1; i >= 0; i -= 1) {
      if (this.#cameMs.at(i) < nowMs - WINDOW_MS) break;
      this.#scratch[count] = this.#ageMs.at(i);
      count += 1;
    }
    const sorted = this.#scratch.subarray(0, count).sort();
    return percents.map((percent) => percentile(sorted, percent));
  }
}

/** Nearest rank: always an age that a tick really had. */
export function percentile(sorted, percent) {
  if (sorted.length === 0) return NaN;
  return sorted[Math.max(0, Math.ceil((percent * sorted.length) / 100) - 1)];
}
