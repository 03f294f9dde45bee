/**
 * Asks the server what a browser hides: why it did not let a connection in. In: the link that failed,
 * and how it ended; out: the same ending, or the one that `/v1/admit` gives the reason for.
 */

import { boundedText } from './answer.js';
import { Ending, verdictOf } from './ending.js';

const ADMIT_WAIT_MS = 5_000;

export async function askAdmit(fetch, link, ending) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), ADMIT_WAIT_MS);
  try {
    const headers = { Authorization: `Bearer ${link.token}` };
    const response = await fetch(link.admitUrl, { headers, signal: abort.signal, cache: 'no-store' });
    const { admitted, status, code, retry_after_ms = 0 } = JSON.parse(await boundedText(response));
    if (admitted !== false) return ending;
    const atLeastMs = Math.max(ending.atLeastMs, retry_after_ms);
    return new Ending(`${status} ${code}`, { verdict: verdictOf(status, code, link.isWebSocket), atLeastMs });
  } catch {
    // Not even that came through, which is what the next transport is for.
    return ending;
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
}
