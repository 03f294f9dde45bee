const WINDOW_MS = 10_000;

/**
 * The time of day in milliseconds since 1970, with a fraction.
 *
 * `Date.now()` cuts to whole milliseconds, too coarse for ages below one; `performance.now()` is
 * finer, but drifts from the time of day over hours and may stand still while the machine sleeps.
 * Cutting only ever makes their difference too small, so its maximum over the last seconds is right.
 */
export class Clock {
  #wallMs;
  #elapsedMs;
  #windowStartMs = -Infinity;
  #offsetBefore = -Infinity;
  #offset = -Infinity;

  constructor(wallMs = () => Date.now(), elapsedMs = () => performance.now()) {
    this.#wallMs = wallMs;
    this.#elapsedMs = elapsedMs;
  }

  now() {
    const elapsed = this.#elapsedMs();
    if (elapsed - this.#windowStartMs > WINDOW_MS) {
      this.#windowStartMs = elapsed;
      this.#offsetBefore = this.#offset;
      this.#offset = -Infinity;
    }
    this.#offset = Math.max(this.#offset, this.#wallMs() - elapsed);
    return elapsed + Math.max(this.#offset, this.#offsetBefore);
  }
}
