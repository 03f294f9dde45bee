/** How long to wait before connecting again. In: failures in a row; out: milliseconds, with jitter. */

const BACKOFF_FIRST_MS = 200;
/** Jitter adds up to half, hence 30 s at most. Capping after it would gather half of all clients at 30 s. */
const BACKOFF_BASE_MAX_MS = 20_000;

export function backoffMs(failures, random = Math.random) {
  return Math.min(BACKOFF_FIRST_MS * 2 ** failures, BACKOFF_BASE_MAX_MS) * (0.5 + random());
}
