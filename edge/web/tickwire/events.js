/**
 * How events reach the caller. In: what the client and its session tell; out: calls of listeners, and
 * a queue for each `for await` loop.
 */

const EVENTS_QUEUED_MAX = 10_000;

export class Events {
  #isOver;
  #listeners = new Map();
  #queues = new Set();

  /** Loops end after what they have queued once `isOver()`. */
  constructor(isOver) {
    this.#isOver = isOver;
  }

  on(name, listener) {
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(listener);
    return () => this.#listeners.get(name).delete(listener);
  }

  /** Not a generator itself: it queues from now on, not from the first `next`. */
  iterate() {
    const queue = { events: [], dropped: 0, wake: () => {} };
    this.#queues.add(queue);
    return this.#drain(queue);
  }

  async *#drain(queue) {
    try {
      for (;;) {
        if (queue.dropped) {
          const detail = { dropped: queue.dropped };
          queue.dropped = 0;
          this.#call('overflow', detail);
          yield { type: 'overflow', detail };
        } else if (queue.events.length) {
          yield queue.events.shift();
        } else if (this.#isOver()) {
          return;
        } else {
          await new Promise((wake) => (queue.wake = wake));
        }
      }
    } finally {
      this.#queues.delete(queue);
    }
  }

  tell(name, detail) {
    this.#call(name, detail);
    for (const queue of this.#queues) {
      if (queue.events.push({ type: name, detail }) > EVENTS_QUEUED_MAX) {
        queue.events.shift();
        queue.dropped += 1;
      }
      queue.wake();
    }
  }

  #call(name, detail) {
    for (const listener of this.#listeners.get(name) ?? []) {
      try {
        listener(detail);
      } catch (error) {
        // A listener's fault is not the connection's: it is reported as uncaught, and ticks go on.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
