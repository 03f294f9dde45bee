/** Where times and prices lie on the plot, in CSS pixels from its upper left corner. */
export class View {
  constructor({ fromMs, toMs, low, high, width, height }) {
    Object.assign(this, { fromMs, toMs, low, high, width, height });
  }

  x(ms) {
    return ((ms - this.fromMs) / (this.toMs - this.fromMs)) * this.width;
  }

  y(price) {
    return ((this.high - price) / (this.high - this.low)) * this.height;
  }

  /** The time at a share of the width, 0 being the left edge. */
  msAt(share) {
    return this.fromMs + (this.toMs - this.fromMs) * share;
  }
}
