/** The cross-domain kind of context, as the device offers it. */
import type { Component, Context, ContextHost } from '../gpu/backend.ts';
import { encode } from '../wire.ts';
import { CrossDomainContext } from './context.ts';
import { CROSS_DOMAIN_VERSION, crossDomainCapset, VIRTIO_GPU_CAPSET_CROSS_DOMAIN } from './protocol.ts';

export class CrossDomain implements Component {
  readonly capsetId = VIRTIO_GPU_CAPSET_CROSS_DOMAIN;
  readonly maxVersion = 0;
  readonly capset = encode(crossDomainCapset, {
    version: CROSS_DOMAIN_VERSION,
    supportedChannels: 0,
    supportsDmabuf: 0,
    supportsExternalGpuMemory: 0,
  });

  createContext(_host: ContextHost): Context {
    return new CrossDomainContext();
  }
}
