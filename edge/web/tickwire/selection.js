/**
 * What a caller can ask for, and how the wire writes it. In: symbols and options as
 * `tickwire.d.ts` has them; out: the fields of a `subscribe`, which are also those of a query.
 */

export const CHANNELS = ['trade', 'quote'];
/** A symbol, or a pattern. */
export const SELECTOR = /^(?:[A-Za-z0-9._\-/:]{1,32}|[A-Za-z0-9._\-/:]{0,32}\*)$/;

/** A selection as requests and queries write it. */
export function wireSelection({ channels = CHANNELS, mode = 'stream', intervalMs = 250, snapshot = true }) {
  const selection = { channels: CHANNELS.filter((channel) => channels.includes(channel)), mode, snapshot };
  return mode === 'conflate' ? { ...selection, interval_ms: intervalMs } : selection;
}
