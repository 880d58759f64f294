/**
 * `vfio-user-gpu/pci`: PCI functions and a virtio-pci transport that anyone can drive by registers. What stands here is
 * what others can build on; docs/api.md says of each what it is.
 */

export { type BarLayout, defineBars } from './bars.ts';
export { fromLittleEndian, le16, le32, toLittleEndian } from './bytes.ts';
export { type BarRange, msixCapability, powerManagementCapability } from './capabilities.ts';
export {
  type Capability,
  ConfigSpace,
  PCI_COMMAND,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  type PciIdentity,
} from './config-space.ts';
export { Msix, type MsixTableOwner } from './msix.ts';
export type {
  Access,
  BarInfo,
  GuestMemory,
  GuestView,
  InterruptSink,
  Observer,
  PciFunction,
  ResetCause,
  WorkBudget,
} from './ports.ts';
export { type Register, RegisterBlock } from './registers.ts';
export { type Chain, QueueBroken } from './virtio/chain.ts';
export {
  type DriverSession,
  VIRTIO_F_RING_EVENT_IDX,
  VIRTIO_F_RING_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  type VirtioDevice,
} from './virtio/device.ts';
export { pump, type SplitQueue } from './virtio/queue.ts';
export { VirtioPciFunction, type VirtioPciOptions } from './virtio/transport.ts';
