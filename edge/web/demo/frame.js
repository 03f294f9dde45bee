// Ticks only change state. Whatever has to be drawn for them is drawn once, in the next animation
// frame, and in a hidden tab the browser gives none: there nothing is drawn at all.

const due = new Set();
let requested = false;

/** Calls `paint(timeMs)` in the next frame, once however often it was asked for. */
export function paintSoon(paint) {
  due.add(paint);
  if (requested) return;
  requested = true;
  requestAnimationFrame(paintAll);
}

function paintAll(timeMs) {
  const painters = [...due];
  due.clear();
  requested = false;
  for (const paint of painters) paint(timeMs);
}

/** Calls `work` at that pace as long as the tab is seen. */
export function everyMs(ms, work) {
  setInterval(() => {
    if (!document.hidden) work();
  }, ms);
}
