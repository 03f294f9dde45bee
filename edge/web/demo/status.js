import { count, milliseconds, NONE } from './format.js';
import { Figure, Label } from './text.js';
import { STATES, stateDetail, TRANSPORTS } from './wording.js';

const FIGURES = [
  'ticks-per-second', 'age-p50', 'age-p99', 'ticks', 'gaps', 'lost', 'reconnects', 'repeats',
];

/** The head of the page: the connection in words, the traffic in figures. */
export class Status {
  #element;
  #state;
  #transport;
  #detail;
  #figures;

  constructor(root) {
    const find = (name) => root.querySelector(`[data-testid="${name}"]`);
    this.#element = root.querySelector('.connection');
    this.#state = new Label(find('state'));
    this.#transport = new Label(find('transport'));
    this.#detail = new Label(find('state-detail'));
    this.#figures = new Map(FIGURES.map((name) => [name, new Figure(find(name))]));
  }

  showState(change) {
    this.#element.dataset.state = change.state;
    this.#element.dataset.transport = change.transport ?? '';
    this.#state.show(STATES[change.state]);
    this.#transport.show(TRANSPORTS[change.transport] ?? NONE);
    this.#detail.show(stateDetail(change));
  }

  /** The page itself cannot go on. */
  showFailure(message) {
    this.#element.dataset.state = 'closed';
    this.#state.show('Failed');
    this.#detail.show(message);
  }

  showTraffic({ ticksPerSecond, ageP50, ageP99, gaps, totals }) {
    this.#show('ticks-per-second', Math.round(ticksPerSecond));
    this.#show('age-p50', ageP50, milliseconds);
    this.#show('age-p99', ageP99, milliseconds);
    this.#show('ticks', totals.ticks);
    this.#show('gaps', gaps);
    this.#show('lost', totals.gapped);
    this.#show('reconnects', Math.max(totals.connects - 1, 0));
    this.#show('repeats', totals.repeats);
  }

  #show(name, value, format = count) {
    this.#figures.get(name).show(value, format(value));
  }
}
