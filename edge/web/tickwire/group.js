/**
 * Symbols that come in the same way, and how far their common cursor is: what one `subscribe` can
 * ask for, or one stream of an edge. In: symbols, and from the links the cursor; out: both.
 */

/** Characters that a group's symbols may take in a URL, since servers bound the head of a request. */
const GROUP_QUERY_MAX = 4_096;

export class Group {
  symbols = new Set();
  #queryLength = 0;

  constructor(key, selection, cursor) {
    this.key = key;
    this.selection = selection;
    this.cursor = cursor;
  }

  hasRoomFor(symbol) {
    return this.#queryLength + lengthInQuery(symbol) <= GROUP_QUERY_MAX;
  }

  add(symbol) {
    this.symbols.add(symbol);
    this.#queryLength += lengthInQuery(symbol);
  }

  remove(symbol) {
    this.symbols.delete(symbol);
    this.#queryLength -= lengthInQuery(symbol);
  }
}

function lengthInQuery(symbol) {
  return encodeURIComponent(symbol).length + 1;
}
