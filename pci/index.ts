/** `vfio-user-gpu/pci`: PCI functions and a virtio-pci transport that anyone can drive by registers. */
export * from './bars.ts';
export * from './bytes.ts';
export * from './capabilities.ts';
export * from './config-space.ts';
export * from './msix.ts';
export * from './ports.ts';
export * from './registers.ts';
export * from './virtio/chain.ts';
export * from './virtio/common-config.ts';
export * from './virtio/device.ts';
export * from './virtio/queue.ts';
export * from './virtio/transport.ts';
