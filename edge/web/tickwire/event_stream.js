/**
 * Reads `text/event-stream` as the HTML standard says (§ 9.2.6). In: text, in pieces of any size; out:
 * events, the id to resume after, and the wait that the server asks for.
 */

import { Ending } from './ending.js';

/** Characters of a line of an event stream, and of the data of one event. */
const LINE_MAX = 1 << 20;

export class EventStream {
  lastEventId = '';
  retryMs = 0;
  #onEvent;
  #rest = '';
  #afterCr = false;
  #event = '';
  #data = '';
  #id = '';

  constructor(onEvent) {
    this.#onEvent = onEvent;
  }

  push(text) {
    if (!text) return;
    // A CRLF may be cut in two.
    if (this.#afterCr && text.startsWith('\n')) text = text.slice(1);
    this.#afterCr = text.endsWith('\r');
    const lines = (this.#rest + text).split(/\r\n|\n|\r/);
    this.#rest = lines.pop();
    for (const line of lines) this.#take(line);
    if (this.#rest.length > LINE_MAX) throw new Ending(`a line of more than ${LINE_MAX} characters`);
  }

  #take(line) {
    if (!line) {
      this.#dispatch();
      return;
    }
    if (line.length + this.#data.length > LINE_MAX) throw new Ending(`an event of more than ${LINE_MAX} characters`);
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') this.#data += `${value}\n`;
    else if (field === 'event') this.#event = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
    else if (field === 'retry' && /^[0-9]+$/.test(value)) this.retryMs = Number(value);
  }

  #dispatch() {
    // Also without data: that is how a cursor comes alone.
    this.lastEventId = this.#id;
    const event = { type: this.#event || 'message', data: this.#data.slice(0, -1) };
    const isEmpty = this.#data === '';
    this.#event = '';
    this.#data = '';
    if (!isEmpty) this.#onEvent(event);
  }
}
