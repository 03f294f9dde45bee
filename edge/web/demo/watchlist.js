import { count } from './format.js';
import { everyMs, paintSoon } from './frame.js';
import { Row } from './row.js';
import { onThemeChange } from './theme.js';

// A sparkline moves one pixel in 0.7 s.
const SLOW_PAINT_MS = 400;

/** The list of instruments: which rows there are, are seen, are selected, and are drawn next. */
export class Watchlist {
  #grid;
  #filter;
  #clock;
  #onChoose;
  #order;
  #more;

  #rows = [];
  #rowOf = new Map();
  #visible = new Set();
  #changed = new Set();
  #selected = null;
  #charted = null;
  #observer = new IntersectionObserver((entries) => this.#see(entries));

  /** `order` are the symbols that were asked for by name; they come first. */
  constructor({ grid, filter, more, clock, order, onChoose }) {
    this.#grid = grid;
    this.#filter = filter;
    this.#more = more;
    this.#clock = clock;
    this.#order = new Map(order.map((symbol, index) => [symbol, index]));
    this.#onChoose = onChoose;
    filter.addEventListener('input', () => this.#applyFilter());
    grid.addEventListener('click', (event) => this.#click(event));
    const paintSlowly = () => paintSoon(this.#paintSlowly);
    everyMs(SLOW_PAINT_MS, paintSlowly);
    onThemeChange(paintSlowly);
  }

  add(instrument) {
    const row = new Row(instrument, `row-${this.#rows.length}`);
    const found = this.#rows.findIndex((other) => this.#precedes(instrument, other.instrument));
    const index = found < 0 ? this.#rows.length : found;
    this.#grid.insertBefore(row.element, this.#rows[index]?.element ?? null);
    this.#rows.splice(index, 0, row);
    this.#rowOf.set(instrument, row).set(row.element, row);
    this.#observer.observe(row.element);
    row.element.hidden = !this.#matches(row);
    if (this.#charted === null) this.#choose(row);
  }

  #precedes(a, b) {
    const rankA = this.#order.get(a.symbol) ?? Infinity;
    const rankB = this.#order.get(b.symbol) ?? Infinity;
    return rankA === rankB ? a.symbol < b.symbol : rankA < rankB;
  }

  /** Something of the instrument changed. */
  touch(instrument) {
    const row = this.#rowOf.get(instrument);
    if (!this.#visible.has(row)) return;
    this.#changed.add(row);
    paintSoon(this.#paint);
  }

  showUnlisted({ count: unlisted, more }) {
    this.#more.hidden = unlisted === 0;
    if (unlisted === 0) return;
    const text = `and ${count(unlisted)}${more ? ' or more' : ''} further symbols`;
    if (this.#more.textContent !== text) this.#more.textContent = text;
  }

  /** Moves the selection by so many of the rows shown. */
  move(step) {
    const shown = this.#rows.filter((row) => !row.element.hidden);
    if (shown.length === 0) return;
    const at = shown.indexOf(this.#selected);
    const next = at < 0 ? 0 : Math.min(Math.max(at + step, 0), shown.length - 1);
    this.#select(shown[next]);
    shown[next].element.scrollIntoView({ block: 'nearest' });
  }

  /** Shows the selected row in the chart; under a filter that hides it, the first one shown. */
  chooseSelected() {
    if (this.#selected === null || this.#selected.element.hidden) this.move(0);
    if (this.#selected !== null && !this.#selected.element.hidden) this.#choose(this.#selected);
  }

  clearFilter() {
    this.#filter.value = '';
    this.#applyFilter();
  }

  #applyFilter() {
    for (const row of this.#rows) row.element.hidden = !this.#matches(row);
  }

  #matches(row) {
    return row.instrument.symbol.toUpperCase().includes(this.#filter.value.trim().toUpperCase());
  }

  #click(event) {
    const row = this.#rowOf.get(event.target.closest('.row'));
    if (row) this.#choose(row);
  }

  #select(row) {
    this.#selected?.element.setAttribute('aria-selected', 'false');
    this.#selected = row;
    row.element.setAttribute('aria-selected', 'true');
    this.#grid.setAttribute('aria-activedescendant', row.element.id);
  }

  #choose(row) {
    this.#select(row);
    this.#charted?.element.removeAttribute('aria-current');
    this.#charted = row;
    row.element.setAttribute('aria-current', 'true');
    this.#onChoose(row.instrument);
  }

  #see(entries) {
    for (const { target, isIntersecting } of entries) {
      const row = this.#rowOf.get(target);
      if (isIntersecting) {
        this.#visible.add(row);
        this.#changed.add(row);
      } else {
        this.#visible.delete(row);
        this.#changed.delete(row);
      }
    }
    paintSoon(this.#paint);
  }

  #paint = (timeMs) => {
    for (const row of this.#changed) row.paint(timeMs);
    this.#changed.clear();
  };

  #paintSlowly = (timeMs) => {
    const nowMs = this.#clock.now();
    for (const row of this.#visible) row.paintSlowly(timeMs, nowMs);
  };
}
