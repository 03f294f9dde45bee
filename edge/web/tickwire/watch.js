/** Notices silence, which is how a dead connection shows. In: signs of life; out: one call. */

/** How late a sign of life may be. */
export const SILENCE_GRACE_MS = 5_000;

/** Calls `silent` once nothing was heard for `limitMs`. */
export class Watch {
  #silent;
  #heardAtMs = 0;
  #timer;

  constructor(limitMs, silent) {
    this.limitMs = limitMs;
    this.#silent = silent;
    this.heard();
    this.#arm(limitMs);
  }

  heard() {
    this.#heardAtMs = performance.now();
  }

  stop() {
    clearTimeout(this.#timer);
  }

  /** One timer for many ticks: it looks at the clock when it fires, and is set again for the rest. */
  #arm(ms) {
    this.#timer = setTimeout(() => {
      const leftMs = this.#heardAtMs + this.limitMs - performance.now();
      if (leftMs > 0) this.#arm(Math.ceil(leftMs));
      else this.#silent();
    }, ms);
  }
}
