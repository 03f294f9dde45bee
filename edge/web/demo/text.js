/** The text of an element, in one node that is written only when the text changes. */
export class Label {
  #node;

  constructor(element) {
    this.#node = new Text(element.textContent);
    element.replaceChildren(this.#node);
  }

  get text() {
    return this.#node.data;
  }

  show(text) {
    if (this.#node.data !== text) this.#node.data = text;
  }
}

/** A `<data>` element: text for people, the plain number in `value`, which is empty for none. */
export class Figure {
  #element;
  #label;

  constructor(element) {
    this.#element = element;
    this.#label = new Label(element);
  }

  show(value, text) {
    this.#element.value = Number.isNaN(value) ? '' : String(value);
    this.#label.show(text);
  }
}
