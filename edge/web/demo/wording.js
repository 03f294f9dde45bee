import { count, duration } from './format.js';

export const STATES = {
  idle: 'Idle',
  connecting: 'Connecting',
  resuming: 'Resuming',
  live: 'Live',
  waiting: 'Waiting',
  closed: 'Closed',
};

export const TRANSPORTS = { websocket: 'WebSocket', sse: 'SSE', poll: 'Long poll' };

const GAP_REASONS = {
  slow_consumer: 'this page was too slow',
  history: 'beyond the history',
  overrun: 'the engine overran',
  source: 'the source skipped them',
  bridge: 'the bridge lost them',
  unseen: 'not seen while away',
};

/** Why the state is what it is, and what comes next; may be empty. */
export function stateDetail({ reason, retryInMs }) {
  const retry = retryInMs === undefined ? '' : `next try in ${duration(retryInMs)}`;
  return [reason, retry].filter(Boolean).join(', ');
}

export function stateLine(change) {
  const over = change.transport ? ` over ${TRANSPORTS[change.transport]}` : '';
  const detail = stateDetail(change);
  return STATES[change.state] + over + (detail && `: ${detail}`);
}

export function gapLine({ symbol, channel, epoch, from, to, reason }) {
  return `Gap in ${symbol}, ${channel}: ${missing(epoch, from, to)}, ${GAP_REASONS[reason] ?? reason}`;
}

function missing(epoch, from, to) {
  if (to === null) return `the rest of epoch ${epoch}`;
  if (from === null) return `an unknown number up to ${to}`;
  return from === to ? `tick ${from}` : `${count(to - from + 1)} ticks, ${from}–${to}`;
}

/** How an outage ended. */
export function outageLine({ tookMs, resumed, lost, caughtUp }) {
  const how = resumed ? 'resumed' : 'reconnected';
  const ticks = caughtUp === 1 ? 'tick' : 'ticks';
  const account = `${count(lost)} lost, ${count(caughtUp)} ${ticks} caught up`;
  return `Back after ${duration(tookMs)}, ${how}, ${account}`;
}
