// The upgrade: path and token are checked before there is a WebSocket.

import jwt from "jsonwebtoken";

const REFUSALS = {
  401: "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
  403: "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
  404: "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
};

/** Lets bearers of valid tokens in: subscribers at `/v1/ws`, publishers at `/v1/publish`. */
export function openDoor(server, secret, subscribers, publishers) {
  server.on("upgrade", (request, socket, head) => {
    // Whoever hangs up during the handshake must not end the process.
    socket.on("error", drop);
    const [room, status] = admit(request, secret, subscribers, publishers);
    if (!room) return socket.end(REFUSALS[status]);
    socket.off("error", drop);
    room.server.handleUpgrade(request, socket, head, (client) => room.welcome(client));
  });
}

function admit(request, secret, subscribers, publishers) {
  const room = { "/v1/ws": subscribers, "/v1/publish": publishers }[request.url];
  if (!room) return [null, 404];
  const claims = verified(request.headers.authorization, secret);
  if (!claims) return [null, 401];
  if (room === publishers && !claims.publish) return [null, 403];
  return [room];
}

function verified(authorization, secret) {
  const [scheme, token] = (authorization ?? "").split(" ");
  if (scheme !== "Bearer" || !token) return null;
  try {
    return jwt.verify(token, secret, { algorithms: ["HS256"] });
  } catch {
    return null;
  }
}

function drop() {
  this.destroy();
}
