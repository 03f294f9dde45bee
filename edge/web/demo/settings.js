const TRANSPORTS = ['websocket', 'sse', 'poll'];
const ANSWER_WAIT_MS = 3_000;

/** What the edge says of itself in `/demo.json`, as the page's own address overrides it. */
export async function loadSettings() {
  return chooseSettings(await fetchDemo(), new URL(location.href));
}

/**
 * The token for visitors as the client asks for it: fetched anew, because a page may stay open for
 * longer than a token is valid. While the edge is away the last one serves, as the engine may not be.
 */
export function visitorToken(first) {
  let token = first;
  return async () => {
    try {
      token = (await fetchDemo()).token ?? token;
    } catch {
      // Whether the old one still holds is for the engine to say.
    }
    return token;
  };
}

async function fetchDemo() {
  const signal = AbortSignal.timeout(ANSWER_WAIT_MS);
  const answer = await fetch('/demo.json', { cache: 'no-store', signal });
  if (!answer.ok) throw new Error(`/demo.json answered ${answer.status}`);
  return answer.json();
}

/** `?symbols=A,B` and `?transports=sse,poll` come from `url`; the token never does. */
export function chooseSettings(demo, url) {
  const symbols = list(url.searchParams.get('symbols')) ?? demo.symbols;
  const transports = list(url.searchParams.get('transports'));
  const unknown = transports?.find((name) => !TRANSPORTS.includes(name));
  if (unknown) throw new Error(`?transports=${unknown}: only ${TRANSPORTS.join(', ')} are known`);
  return {
    engine: demo.engine ?? undefined,
    edge: demo.edge || url.origin,
    token: demo.token,
    symbols: symbols.length > 0 ? symbols : ['*'],
    transports: transports ?? undefined,
  };
}

function list(text) {
  const items = (text ?? '').split(',').map((item) => item.trim()).filter(Boolean);
  return items.length > 0 ? items : null;
}
