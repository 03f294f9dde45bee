/** The newest `capacity` values, oldest first; beyond that each new one pushes the oldest out. */
export class Ring {
  #values;
  #next = 0;
  #length = 0;

  /** `Storage` is `Array`, or a typed array where the values are numbers. */
  constructor(capacity, Storage = Array) {
    this.#values = new Storage(capacity);
  }

  get length() {
    return this.#length;
  }

  push(value) {
    const capacity = this.#values.length;
    this.#values[this.#next] = value;
    this.#next = (this.#next + 1) % capacity;
    if (this.#length < capacity) this.#length += 1;
  }

  /** The value at `index`, 0 being the oldest; `undefined` outside. */
  at(index) {
    if (index < 0 || index >= this.#length) return undefined;
    const capacity = this.#values.length;
    return this.#values[(this.#next - this.#length + index + capacity) % capacity];
  }
}
