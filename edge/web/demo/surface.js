/** The drawing context of `canvas`, empty, in CSS pixels and as sharp as the screen. */
export function surface(canvas, width, height) {
  const ratio = devicePixelRatio;
  const columns = Math.round(width * ratio);
  const rows = Math.round(height * ratio);
  // Setting the size throws the bitmap away even where it is the same.
  if (canvas.width !== columns || canvas.height !== rows) {
    canvas.width = columns;
    canvas.height = rows;
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
