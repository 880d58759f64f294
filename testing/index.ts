/**
 * `vfio-user-gpu/testing`: the other sides of a device, for tests of devices that others make. docs/api.md says of each
 * name what it is.
 */

export { FakeClient } from './fake-client.ts';
export {
  type CommonRegister,
  type Descriptor,
  type DriverMemory,
  FakeDriver,
  FakeQueue,
  type FoundCapability,
  type Used,
} from './fake-driver.ts';
export { FlatMemory } from './flat-memory.ts';
export { type PowerOnOptions, powerOn } from './power-on.ts';
export { SharedMemory } from './shared-memory.ts';
