/**
 * Why connections end. In: close codes, goodbyes, HTTP statuses; out: an `Ending`, by which the
 * client decides whether and when it connects again.
 */

/** What a `goodbye` announces in place of the close codes 4500–4999. */
const STOPPING_GOODBYES = ['malformed_requests', 'not_entitled', 'replaced'];

/** Why a connection ended, or there was none, and what to do: `again`, with a fresh `token`, or `stop`. */
export class Ending extends Error {
  constructor(reason, { verdict = 'again', atLeastMs = 0, blamesTransport = true, status, code } = {}) {
    super(reason);
    Object.assign(this, { reason, verdict, atLeastMs, blamesTransport, status, code });
  }
}

/** A close frame or its announcement: the frame may be lost where the `goodbye` was not. */
export function closeEnding(closeCode, reason, goodbye) {
  const is = (label) => goodbye?.reason === label;
  let verdict = 'again';
  if (closeCode === 4401 || is('token_expired')) verdict = 'token';
  else if ((closeCode >= 4500 && closeCode <= 4999) || STOPPING_GOODBYES.some(is)) verdict = 'stop';
  return new Ending(goodbye?.reason || reason || String(closeCode), {
    verdict,
    atLeastMs: goodbye?.reconnect_after_ms ?? 0,
    // A server that says why it closes can be reached.
    blamesTransport: !goodbye && !(closeCode >= 4000),
  });
}

export function isNotEntitled({ status, code }) {
  return status === 403 && code !== undefined;
}

/**
 * What an HTTP status asks for. Only an answer with tickwire's own `code` is a reason to stay
 * away: without it a proxy speaks, and another transport may get past that.
 */
export function verdictOf(status, code, isWebSocket) {
  if (status === 401) return 'token';
  const isTransient = status < 400 || status === 408 || status === 429 || status >= 500 || code === 'bad_cursor';
  const isAboutWebSocket = isWebSocket && (status === 404 || status === 426);
  return isTransient || isAboutWebSocket || !code ? 'again' : 'stop';
}
