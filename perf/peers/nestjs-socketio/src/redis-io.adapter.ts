// Socket.IO's rooms across processes by way of Redis, as NestJS documents it under "Adapters".

import { IoAdapter } from '@nestjs/platform-socket.io';
import { createAdapter } from '@socket.io/redis-adapter';
import { Redis } from 'ioredis';
import type { Server, ServerOptions } from 'socket.io';

export class RedisIoAdapter extends IoAdapter {
  private adapterConstructor!: ReturnType<typeof createAdapter>;

  async connectToRedis(port: number): Promise<void> {
    const pubClient = new Redis({ host: '127.0.0.1', port, enableAutoPipelining: true });
    const subClient = pubClient.duplicate();
    // Both connect again by themselves. Without a listener ioredis prints each failure.
    const clients = [pubClient, subClient];
    for (const client of clients) client.on('error', () => {});
    // Commands wait for the connection: Redis may still be starting, and whoever connects to us shall find it there.
    await Promise.all(clients.map((client) => client.ping()));
    this.adapterConstructor = createAdapter(pubClient, subClient);
  }

  override createIOServer(port: number, options?: ServerOptions): Server {
    const server: Server = super.createIOServer(port, options);
    server.adapter(this.adapterConstructor);
    return server;
  }
}
