// What clients and publishers say, and what they get.

import { JwtService } from '@nestjs/jwt';
import {
  ConnectedSocket,
  MessageBody,
  OnGatewayInit,
  SubscribeMessage,
  WebSocketGateway,
  WebSocketServer,
  WsException,
} from '@nestjs/websockets';
import type { Server, Socket } from 'socket.io';

interface Tick {
  symbol: string;
}

/** What a connection carries in `socket.data`. */
interface Session {
  mayPublish: boolean;
  accepted: number;
}

@WebSocketGateway({
  transports: ['websocket'],
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
  maxHttpBufferSize: 16 * 1024 * 1024, // publishers send many ticks at once
})
export class TicksGateway implements OnGatewayInit {
  @WebSocketServer()
  private readonly server!: Server;

  constructor(private readonly jwt: JwtService) {}

  afterInit(server: Server): void {
    server.use((socket, next) => {
      try {
        const claims = this.jwt.verify(socket.handshake.auth.token);
        socket.data = { mayPublish: Boolean(claims.publish), accepted: 0 } satisfies Session;
        next();
      } catch {
        next(new Error('unauthorized'));
      }
    });
    // Socket.IO's page "Memory usage": nothing here needs the request that opened a connection.
    server.engine.on('connection', (connection: { request: unknown }) => {
      connection.request = null;
    });
  }

  @SubscribeMessage('subscribe')
  async subscribe(@ConnectedSocket() socket: Socket, @MessageBody('symbols') symbols: string[]) {
    await socket.join(symbols);
    return { symbols, rejected: [] };
  }

  @SubscribeMessage('publish')
  publish(@ConnectedSocket() socket: Socket, @MessageBody() ticks: Tick[]): void {
    const session: Session = socket.data;
    if (!session.mayPublish) throw new WsException('forbidden');
    for (const tick of ticks) this.server.to(tick.symbol).emit('tick', tick);
    session.accepted += ticks.length;
  }

  @SubscribeMessage('flush')
  flush(@ConnectedSocket() socket: Socket) {
    return { accepted: (socket.data as Session).accepted };
  }
}
