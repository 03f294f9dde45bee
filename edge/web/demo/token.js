const dialog = document.getElementById('token-dialog');
const input = document.getElementById('token');

/** Asks for a token; null when the dialog was dismissed. It lives in memory only. */
export function askToken() {
  input.value = '';
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      'close',
      () => {
        const token = dialog.returnValue === 'connect' ? input.value.trim() : '';
        input.value = '';
        resolve(token || null);
      },
      { once: true },
    );
  });
}

// A button that submits would insist on a token; leaving without one must be possible.
document.getElementById('token-cancel').addEventListener('click', () => dialog.close());
