const STORAGE_KEY = 'tickwire.theme';
const COLOURS = ['ground', 'panel', 'line', 'text', 'muted', 'up', 'down', 'accent', 'band'];

const root = document.documentElement;
const light = matchMedia('(prefers-color-scheme: light)');
const listeners = [];
let colours = null;

/** The colours of the style sheet, for canvases. */
export function palette() {
  if (colours === null) {
    const style = getComputedStyle(root);
    colours = Object.fromEntries(
      COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
    );
  }
  return colours;
}

export function onThemeChange(listener) {
  listeners.push(listener);
}

/** The other theme, which is then kept on this machine. */
export function toggleTheme() {
  const theme = root.dataset.theme === 'light' ? 'dark' : 'light';
  apply(theme);
  try {
    localStorage.setItem(STORAGE_KEY, theme);
  } catch {
    // Storage may be forbidden; the choice then lasts as long as the page.
  }
}

function chosen() {
  try {
    return localStorage.getItem(STORAGE_KEY);
  } catch {
    return null;
  }
}

function apply(theme) {
  root.dataset.theme = theme;
  colours = null;
  for (const listener of listeners) listener();
}

function preferred() {
  return chosen() ?? (light.matches ? 'light' : 'dark');
}

light.addEventListener('change', () => apply(preferred()));
apply(preferred());
