import { DynamicModule, Module } from '@nestjs/common';
import { JwtModule } from '@nestjs/jwt';

import { TicksGateway } from './ticks.gateway.js';

@Module({})
export class AppModule {
  /** The application for tokens signed with `secret`. */
  static with(secret: Buffer): DynamicModule {
    const jwt = JwtModule.register({ secret, verifyOptions: { algorithms: ['HS256'] } });
    return { module: AppModule, imports: [jwt], providers: [TicksGateway] };
  }
}
