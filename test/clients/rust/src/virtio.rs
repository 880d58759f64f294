//! The guest's half: the virtio-pci transport by register accesses (virtio 1.3, 4.1), and a split
//! ring whose answers are announced by interrupts only.

use std::sync::atomic::Ordering;

use vm_memory::{Address, Bytes, GuestAddress};

use crate::report::{ensure, ensure_eq, Result};
use crate::vmm::{Vmm, CONFIG, PCI_COMMAND};

const PCI_COMMAND_MEMORY_MASTER: u64 = 0x6;
const PCI_CAPABILITY_LIST: u64 = 0x34;
const PCI_CAP_ID_VNDR: u64 = 0x09;

const VIRTIO_PCI_CAP_COMMON_CFG: u64 = 1;
const VIRTIO_PCI_CAP_NOTIFY_CFG: u64 = 2;
const VIRTIO_PCI_CAP_DEVICE_CFG: u64 = 4;
const VIRTIO_PCI_CAP_SHARED_MEMORY_CFG: u64 = 8;

// Offsets in struct virtio_pci_common_cfg (4.1.4.3).
const DEVICE_FEATURE_SELECT: u64 = 0x00;
const DEVICE_FEATURE: u64 = 0x04;
const DRIVER_FEATURE_SELECT: u64 = 0x08;
const DRIVER_FEATURE: u64 = 0x0c;
const CONFIG_MSIX_VECTOR: u64 = 0x10;
const NUM_QUEUES: u64 = 0x12;
const DEVICE_STATUS: u64 = 0x14;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_MSIX_VECTOR: u64 = 0x1a;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_NOTIFY_OFF: u64 = 0x1e;
const QUEUE_DESC: u64 = 0x20;
const QUEUE_DRIVER: u64 = 0x28;
const QUEUE_DEVICE: u64 = 0x30;

const STATUS_ACKNOWLEDGE: u64 = 1;
const STATUS_DRIVER: u64 = 2;
const STATUS_DRIVER_OK: u64 = 4;
const STATUS_FEATURES_OK: u64 = 8;

const VIRTIO_F_VERSION_1: u32 = 32;

const VIRTQ_DESC_F_NEXT: u16 = 1;
const VIRTQ_DESC_F_WRITE: u16 = 2;
const DESC_BYTES: u64 = 16;

/// Shorter than any queue of the device, and so that the rings wrap within a test.
const RING_SIZE: u16 = 8;

/// A structure of registers in a BAR.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub bar: u32,
    pub offset: u64,
    pub length: u64,
}

pub struct Transport {
    common: Place,
    notify: Place,
    notify_multiplier: u64,
    pub device: Place,
    /// The host-visible window.
    pub shared_memory: Option<Place>,
}

impl Transport {
    pub fn find(vmm: &mut Vmm) -> Result<Self> {
        let (mut common, mut notify, mut device, mut shared_memory) = (None, None, None, None);
        let mut notify_multiplier = 0;
        let mut at = vmm.guest_config_byte(PCI_CAPABILITY_LIST)?;
        while at != 0 {
            let head = vmm.guest_config_dword(at)?;
            if head & 0xff == PCI_CAP_ID_VNDR {
                let mut place = Place {
                    bar: u32::try_from(vmm.guest_config_byte(at + 4)?)?,
                    offset: vmm.guest_config_dword(at + 8)?,
                    length: vmm.guest_config_dword(at + 12)?,
                };
                match head >> 24 {
                    VIRTIO_PCI_CAP_COMMON_CFG => common = Some(place),
                    VIRTIO_PCI_CAP_NOTIFY_CFG => {
                        notify = Some(place);
                        notify_multiplier = vmm.guest_config_dword(at + 16)?;
                    }
                    VIRTIO_PCI_CAP_DEVICE_CFG => device = Some(place),
                    VIRTIO_PCI_CAP_SHARED_MEMORY_CFG => {
                        place.offset |= vmm.guest_config_dword(at + 16)? << 32;
                        place.length |= vmm.guest_config_dword(at + 20)? << 32;
                        shared_memory = Some(place);
                    }
                    _ => {}
                }
            }
            at = head >> 8 & 0xff;
        }
        Ok(Transport {
            common: common.ok_or("no COMMON capability")?,
            notify: notify.ok_or("no NOTIFY capability")?,
            notify_multiplier,
            device: device.ok_or("no DEVICE capability")?,
            shared_memory,
        })
    }

    /// From reset to FEATURES_OK, with VERSION_1 and nothing else (3.1.1).
    pub fn negotiate(&self, vmm: &mut Vmm) -> Result {
        vmm.write(CONFIG, PCI_COMMAND, 2, PCI_COMMAND_MEMORY_MASTER)?;
        self.set(vmm, DEVICE_STATUS, 1, 0)?;
        ensure_eq!(self.status(vmm)?, 0, "status after reset");
        self.set(vmm, DEVICE_STATUS, 1, STATUS_ACKNOWLEDGE)?;
        self.set(vmm, DEVICE_STATUS, 1, STATUS_ACKNOWLEDGE | STATUS_DRIVER)?;
        for select in 0..2 {
            let bit = 1u64 << (VIRTIO_F_VERSION_1 % 32);
            let wanted = if select == VIRTIO_F_VERSION_1 / 32 {
                bit
            } else {
                0
            };
            self.set(vmm, DEVICE_FEATURE_SELECT, 4, select.into())?;
            let offered = self.get(vmm, DEVICE_FEATURE, 4)?;
            ensure_eq!(
                offered & wanted,
                wanted,
                "feature word {select}: {offered:#x}"
            );
            self.set(vmm, DRIVER_FEATURE_SELECT, 4, select.into())?;
            self.set(vmm, DRIVER_FEATURE, 4, wanted)?;
        }
        let status = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
        self.set(vmm, DEVICE_STATUS, 1, status)?;
        ensure_eq!(self.status(vmm)?, status, "status with FEATURES_OK");
        Ok(())
    }

    pub fn driver_ok(&self, vmm: &mut Vmm) -> Result {
        let status = self.status(vmm)? | STATUS_DRIVER_OK;
        self.set(vmm, DEVICE_STATUS, 1, status)?;
        ensure_eq!(self.status(vmm)?, status, "status with DRIVER_OK");
        Ok(())
    }

    pub fn status(&self, vmm: &mut Vmm) -> Result<u64> {
        self.get(vmm, DEVICE_STATUS, 1)
    }

    pub fn set_config_vector(&self, vmm: &mut Vmm, vector: u16) -> Result {
        self.set(vmm, CONFIG_MSIX_VECTOR, 2, vector.into())?;
        let taken = self.get(vmm, CONFIG_MSIX_VECTOR, 2)?;
        ensure_eq!(taken, u64::from(vector), "vector of config changes");
        Ok(())
    }

    pub fn queue_count(&self, vmm: &mut Vmm) -> Result<u64> {
        self.get(vmm, NUM_QUEUES, 2)
    }

    /// Sets a queue up with its three parts in these places.
    pub fn queue(
        &self,
        vmm: &mut Vmm,
        index: u16,
        vector: u16,
        [desc, driver, device]: [GuestAddress; 3],
    ) -> Result<Queue> {
        self.set(vmm, QUEUE_SELECT, 2, index.into())?;
        let size = self.get(vmm, QUEUE_SIZE, 2)?;
        ensure!(size >= RING_SIZE.into(), "queue {index} has size {size}");
        self.set(vmm, QUEUE_SIZE, 2, RING_SIZE.into())?;
        self.set(vmm, QUEUE_MSIX_VECTOR, 2, vector.into())?;
        let taken = self.get(vmm, QUEUE_MSIX_VECTOR, 2)?;
        ensure_eq!(taken, u64::from(vector), "vector of queue {index}");
        for (register, address) in [
            (QUEUE_DESC, desc),
            (QUEUE_DRIVER, driver),
            (QUEUE_DEVICE, device),
        ] {
            self.set(vmm, register, 4, address.raw_value() & 0xffff_ffff)?;
            self.set(vmm, register + 4, 4, address.raw_value() >> 32)?;
        }
        let notify_off = self.get(vmm, QUEUE_NOTIFY_OFF, 2)?;
        self.set(vmm, QUEUE_ENABLE, 2, 1)?;
        ensure_eq!(self.get(vmm, QUEUE_ENABLE, 2)?, 1, "queue {index} enabled");
        Ok(Queue {
            index,
            vector,
            doorbell: (
                self.notify.bar,
                self.notify.offset + notify_off * self.notify_multiplier,
            ),
            desc,
            driver,
            device,
            added: 0,
        })
    }

    fn get(&self, vmm: &mut Vmm, register: u64, width: usize) -> Result<u64> {
        vmm.read(self.common.bar, self.common.offset + register, width)
    }

    fn set(&self, vmm: &mut Vmm, register: u64, width: usize, value: u64) -> Result {
        vmm.write(self.common.bar, self.common.offset + register, width, value)
    }
}

/// A split ring: with one request at a time in it, or with room that the device uses when it wants.
pub struct Queue {
    index: u16,
    vector: u16,
    doorbell: (u32, u64),
    desc: GuestAddress,
    driver: GuestAddress,
    device: GuestAddress,
    added: u16,
}

impl Queue {
    /// Sends a request, sleeps until the interrupt, and returns how many bytes were written to
    /// `answer`. The answer may have length 0; then there is no descriptor for it.
    pub fn exchange(
        &mut self,
        vmm: &mut Vmm,
        request: (GuestAddress, u32),
        answer: (GuestAddress, u32),
    ) -> Result<u32> {
        // Descriptors in rotation, so that the head says which request an answer belongs to.
        let head = 2 * (self.added % (RING_SIZE / 2));
        let slot = u64::from(self.added % RING_SIZE);
        let next = if answer.1 > 0 { VIRTQ_DESC_F_NEXT } else { 0 };
        self.describe(vmm, head, request, next)?;
        self.describe(vmm, head + 1, answer, VIRTQ_DESC_F_WRITE)?;
        self.make_available(vmm, head)?;

        let index = self.index;
        let early = vmm.vectors[usize::from(self.vector)].take();
        ensure_eq!(early, 0, "signals of queue {index} before the doorbell");
        vmm.write(self.doorbell.0, self.doorbell.1, 2, index.into())?;
        let signals = vmm.vectors[usize::from(self.vector)].wait()?;
        ensure_eq!(signals, 1, "signals of queue {index} for one request");

        let device_index = self.device.unchecked_add(2);
        let used: u16 = vmm.ram.load(device_index, Ordering::Acquire)?;
        ensure_eq!(used, self.added, "used index of queue {index}");
        let element = self.device.unchecked_add(4 + 8 * slot);
        let id: u32 = vmm.ram.read_obj(element)?;
        ensure_eq!(id, u32::from(head), "used element of queue {index}");
        Ok(vmm.ram.read_obj(element.unchecked_add(4))?)
    }

    /// Gives the device room, as much as the ring has descriptors.
    pub fn offer(&mut self, vmm: &mut Vmm, room: (GuestAddress, u32)) -> Result {
        let head = self.added % RING_SIZE;
        self.describe(vmm, head, room, VIRTQ_DESC_F_WRITE)?;
        self.make_available(vmm, head)?;
        vmm.write(self.doorbell.0, self.doorbell.1, 2, self.index.into())
    }

    /// Sleeps from interrupt to interrupt until the device has used all the room.
    pub fn wait_for_all(&mut self, vmm: &mut Vmm) -> Result {
        let device_index = self.device.unchecked_add(2);
        while vmm.ram.load::<u16>(device_index, Ordering::Acquire)? != self.added {
            vmm.vectors[usize::from(self.vector)].wait()?;
        }
        vmm.vectors[usize::from(self.vector)].take();
        Ok(())
    }

    fn make_available(&mut self, vmm: &Vmm, head: u16) -> Result {
        let slot = u64::from(self.added % RING_SIZE);
        vmm.ram
            .write_obj(head, self.driver.unchecked_add(4 + 2 * slot))?;
        self.added = self.added.wrapping_add(1);
        let driver_index = self.driver.unchecked_add(2);
        Ok(vmm.ram.store(self.added, driver_index, Ordering::Release)?)
    }

    fn describe(
        &self,
        vmm: &Vmm,
        index: u16,
        (address, length): (GuestAddress, u32),
        flags: u16,
    ) -> Result {
        let next = if flags & VIRTQ_DESC_F_NEXT != 0 {
            index + 1
        } else {
            0
        };
        let at = self.desc.unchecked_add(DESC_BYTES * u64::from(index));
        vmm.ram.write_obj(address.raw_value(), at)?;
        vmm.ram.write_obj(length, at.unchecked_add(8))?;
        vmm.ram.write_obj(flags, at.unchecked_add(12))?;
        Ok(vmm.ram.write_obj(next, at.unchecked_add(14))?)
    }
}
