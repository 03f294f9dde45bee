const STEP = 0.01;
const STRIDE = 0.1;

/** Which part of the chart is pointed at, by mouse, touch or keys: a share of its width, or null. */
export class Crosshair {
  share = null;

  #plotWidth;
  #onMove;

  /** `plotWidth()` is the width in CSS pixels that shares are of. */
  constructor(canvas, plotWidth, onMove) {
    this.#plotWidth = plotWidth;
    this.#onMove = onMove;
    canvas.addEventListener('pointermove', (event) => this.#point(event));
    canvas.addEventListener('pointerdown', (event) => this.#point(event));
    canvas.addEventListener('pointerleave', (event) => {
      // A finger that is lifted leaves, too; what it pointed at should stay to be read.
      if (event.pointerType === 'mouse') this.#move(null);
    });
    canvas.addEventListener('blur', () => this.#move(null));
    canvas.addEventListener('keydown', (event) => this.#key(event));
  }

  #point(event) {
    this.#move(event.offsetX / this.#plotWidth());
  }

  #key(event) {
    const step = event.shiftKey ? STRIDE : STEP;
    const share = this.share ?? 1;
    const target = {
      ArrowLeft: share - step,
      ArrowDown: share - step,
      ArrowRight: share + step,
      ArrowUp: share + step,
      Home: 0,
      End: 1,
      Escape: null,
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    // Up and down would move the selection of the watch list as well.
    event.stopPropagation();
    this.#move(target);
  }

  #move(share) {
    this.share = share === null ? null : Math.min(Math.max(share, 0), 1);
    this.#onMove();
  }
}
