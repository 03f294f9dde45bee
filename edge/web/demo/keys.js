// What may be held down. Toggling thirty times a second helps nobody.
const REPEATED = new Set(['ArrowDown', 'ArrowUp', 'j', 'k']);

/**
 * Runs the action that `event.key` names: `actions` in general, `typing` while a field has the
 * focus. Keys that mean something to the browser or to a dialog are left alone.
 */
export function bindKeys(actions, typing) {
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.repeat && !REPEATED.has(event.key)) return;
    if (document.querySelector('dialog[open]')) return;
    if (event.key === 'Enter' && event.target.closest('button, a')) return;
    const action = (event.target.matches('input') ? typing : actions)[event.key];
    if (action === undefined) return;
    event.preventDefault();
    action();
  });
}
