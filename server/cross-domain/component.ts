/** The cross-domain kind of context, as the device offers it. */
import type { Component, Context, ContextHost } from '../gpu/contracts/context.ts';
import { type Counters, sumOf } from '../gpu/contracts/counters.ts';
import { type Log, RateLimitedLog, SILENT_LOG } from '../log.ts';
import { encode } from '../wire.ts';
import { CrossDomainContext, type Shared, type WaylandChannel } from './context.ts';
import { LingeringPipes } from './pipes.ts';
import {
  CROSS_DOMAIN_CHANNEL_WAYLAND,
  CROSS_DOMAIN_VERSION,
  crossDomainCapset,
  VIRTIO_GPU_CAPSET_CROSS_DOMAIN,
} from './protocol.ts';

export interface CrossDomainOptions {
  /** Without it there is no channel to anybody. */
  readonly wayland?: WaylandChannel;
  readonly log?: Log;
  /** Sees what goes over the channels: commands of guests, and messages to them. */
  readonly observe?: (context: ContextHost, message: Uint8Array) => void;
}

export class CrossDomain implements Component {
  readonly name = 'cross-domain';
  readonly capsetId = VIRTIO_GPU_CAPSET_CROSS_DOMAIN;
  readonly maxVersion = 0;
  /** Guests read it once: it says what is configured, whether a compositor runs at this moment or not. */
  readonly capset: Uint8Array;
  #past: Counters = {};
  readonly #shared: Shared = { images: 0, objects: 0, lingering: new LingeringPipes() };
  readonly #wayland: WaylandChannel | undefined;
  readonly #log: RateLimitedLog;
  readonly #observe: CrossDomainOptions['observe'];

  constructor({ wayland, log = SILENT_LOG, observe }: CrossDomainOptions = {}) {
    this.#wayland = wayland;
    this.#observe = observe;
    this.#log = new RateLimitedLog(log);
    this.capset = encode(crossDomainCapset, {
      version: CROSS_DOMAIN_VERSION,
      supportedChannels: wayland === undefined ? 0 : 1 << CROSS_DOMAIN_CHANNEL_WAYLAND,
      supportsDmabuf: 0,
      supportsExternalGpuMemory: 0,
    });
  }

  get pastCounters(): Counters {
    return this.#past;
  }

  createContext(host: ContextHost): Context {
    const { contextId, name } = host;
    const observe = this.#observe;
    return new CrossDomainContext({
      host,
      shared: this.#shared,
      wayland: this.#wayland,
      ended: (counters) => {
        this.#past = sumOf([this.#past, counters]);
      },
      observe: observe && ((message) => observe(host, message)),
      refused: (channelType, reason) =>
        this.#log.write(
          'warn',
          'refused',
          { contextId, name, channelType, reason },
          'a guest program asked for a channel that it does not get',
        ),
      note: (message, fields) => this.#log.write('info', message, { contextId, name, ...fields }, message),
    });
  }
}
