/** HTTP answers. In: a `Response`; out: its text within bounds, or the ending that a refusal means. */

import { Ending, verdictOf } from './ending.js';

/** Characters of an HTTP answer: 1,000 ticks are some 300,000. */
const BODY_MAX = 1 << 22;

/** The text of an answer as it comes. */
export async function* textOf(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield decoder.decode(value, { stream: true });
  }
}

export async function boundedText(response) {
  let body = '';
  for await (const text of textOf(response)) {
    body += text;
    if (body.length > BODY_MAX) throw new Ending(`an answer of more than ${BODY_MAX} characters`);
  }
  return body;
}

export async function refusal(response) {
  const { status } = response;
  let code;
  try {
    ({ code } = JSON.parse(await boundedText(response)));
  } catch {
    // Some proxy's page.
  }
  return new Ending(code ? `${status} ${code}` : String(status), {
    verdict: verdictOf(status, code, false),
    atLeastMs: Number(response.headers.get('retry-after')) * 1_000 || 0,
    status,
    code,
  });
}
