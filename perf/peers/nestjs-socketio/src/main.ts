// The command line, and the application's start.

import 'reflect-metadata';

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { NestFactory } from '@nestjs/core';

import { AppModule } from './app.module.js';
import { RedisIoAdapter } from './redis-io.adapter.js';

/** Connections that may wait to be accepted; Node's default of 511 is short for a crowd that comes back. */
const BACKLOG = 4096;
/** How long clients may take to answer a close frame. */
const GOODBYE_MS = 500;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      port: { type: 'string' },
      secret: { type: 'string' },
      workdir: { type: 'string' }, // Redis's
      'redis-port': { type: 'string' }, // one that other processes share
    },
  });
  const port = Number(values.port);
  // Latin-1 keeps every byte of the secret as it is.
  const secret = Buffer.from(readFileSync(values.secret!, 'latin1').trimEnd(), 'latin1');

  const app = await NestFactory.create(AppModule.with(secret), { logger: ['error', 'fatal'] });
  const adapter = new RedisIoAdapter(app);
  await adapter.connectToRedis(Number(values['redis-port'] ?? port + 1));
  app.useWebSocketAdapter(adapter);
  await app.init();
  app.getHttpServer().listen({ port, host: '127.0.0.1', backlog: BACKLOG });

  // `enableShutdownHooks` would wait half a minute for each client that does not answer.
  process.once('SIGTERM', () => {
    setTimeout(() => process.exit(), GOODBYE_MS);
    void app.close().then(() => process.exit());
  });
}

void main();
