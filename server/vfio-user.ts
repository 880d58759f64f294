/**
 * `vfio-user-gpu/vfio-user`: a PCI function or a virtio device of your own on a socket, and the client side of the
 * protocol. docs/api.md says of each name what it is.
 */

export { createMemfd, type MemfdOptions } from '../native/index.ts';
export { ProtocolError } from './errors.ts';
export { FunctionServer, type FunctionServerOptions } from './function-server.ts';
export type { DeviceHost, DmaWindow, Doorbell, IrqIndex, Region } from './host/contract.ts';
export type { BarMemory } from './host/device-host.ts';
export { type Log, SILENT_LOG } from './log.ts';
export { PciServer, type PciServerOptions, type Surroundings } from './pci-server.ts';
export { type Received, VfioUserClient } from './vfio-user/client.ts';
export { type ServerEvents, VfioUserServer } from './vfio-user/server.ts';
