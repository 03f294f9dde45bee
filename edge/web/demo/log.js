import { timeOfDayTenths } from './format.js';
import { paintSoon } from './frame.js';

const LINES_MAX = 100;

/** The newest 100 lines, newest first. The elements of the oldest are used again. */
export class Log {
  #list;
  #pending = [];

  constructor(list) {
    this.#list = list;
  }

  add(kind, text) {
    this.#pending.push({ ms: Date.now(), kind, text });
    // A flood of gaps between two frames must not become a flood of elements.
    if (this.#pending.length > LINES_MAX) this.#pending.shift();
    paintSoon(this.#paint);
  }

  #paint = () => {
    for (const { ms, kind, text } of this.#pending) {
      const line = this.#line();
      line.dataset.kind = kind;
      line.firstElementChild.textContent = timeOfDayTenths(ms);
      line.lastElementChild.textContent = text;
      this.#list.prepend(line);
    }
    this.#pending.length = 0;
  };

  #line() {
    if (this.#list.childElementCount >= LINES_MAX) return this.#list.lastElementChild;
    const line = document.createElement('li');
    line.append(document.createElement('time'), document.createElement('span'));
    return line;
  }
}
