//! A tiny virtio-input driver (virtio 1.3, 5.8): a keyboard's name, events, one lamp.

use vm_memory::{Bytes, GuestAddress};

use crate::report::{ensure_eq, Result};
use crate::virtio::{Queue, Transport};
use crate::vmm::{Vmm, HIGH_RAM, LOW_RAM};
use crate::Driver;

const CONFIG_VECTOR: u16 = 0;
const EVENT_QUEUE: u16 = 0;
const STATUS_QUEUE: u16 = 1;

const CONFIG_SIZE: u64 = 2;
const CONFIG_STRING: u64 = 8;
const CFG_ID_NAME: u64 = 1;

const EV_LED: u16 = 0x11;
const LED_CAPSL: u16 = 1;
const EVENT_BYTES: u32 = 8;

// Every part of a queue is in the other half of RAM than its neighbour.
const EVENT_RINGS: [GuestAddress; 3] = [
    GuestAddress(HIGH_RAM + 0x1000),
    GuestAddress(LOW_RAM + 0x1000),
    GuestAddress(HIGH_RAM + 0x2000),
];
const STATUS_RINGS: [GuestAddress; 3] = [
    GuestAddress(LOW_RAM + 0x2000),
    GuestAddress(HIGH_RAM + 0x3000),
    GuestAddress(LOW_RAM + 0x3000),
];
const STATUS: GuestAddress = GuestAddress(LOW_RAM + 0x1_0000);
const EVENTS: GuestAddress = GuestAddress(HIGH_RAM + 0x1_0000);

/// Type, code and value.
pub type Event = (u16, u16, u32);

pub struct Input {
    transport: Transport,
    events: Queue,
    status: Queue,
}

impl Input {
    /// From reset to DRIVER_OK, with an interrupt vector for each source.
    pub fn bring_up(vmm: &mut Vmm, transport: Transport) -> Result<Self> {
        transport.negotiate(vmm)?;
        ensure_eq!(transport.queue_count(vmm)?, 2, "number of queues");
        transport.set_config_vector(vmm, CONFIG_VECTOR)?;
        let events = transport.queue(vmm, EVENT_QUEUE, 1, EVENT_RINGS)?;
        let status = transport.queue(vmm, STATUS_QUEUE, 2, STATUS_RINGS)?;
        transport.driver_ok(vmm)?;
        Ok(Input {
            transport,
            events,
            status,
        })
    }

    pub fn name(&self, vmm: &mut Vmm) -> Result<String> {
        let config = self.transport.device;
        vmm.write(config.bar, config.offset, 2, CFG_ID_NAME)?;
        let size = vmm.read(config.bar, config.offset + CONFIG_SIZE, 1)?;
        let bytes: Vec<_> = (0..size)
            .map(|at| {
                let byte = vmm.read(config.bar, config.offset + CONFIG_STRING + at, 1)?;
                Ok(u8::try_from(byte)?)
            })
            .collect::<Result<_>>()?;
        Ok(String::from_utf8(bytes)?)
    }

    /// Gives the device room for so many events.
    pub fn offer(&mut self, vmm: &mut Vmm, count: u32) -> Result {
        for slot in 0..count {
            let at = EVENTS.0 + u64::from(slot * EVENT_BYTES);
            self.events.offer(vmm, (GuestAddress(at), EVENT_BYTES))?;
        }
        Ok(())
    }

    /// Sleeps until all the room is used, and returns what is there.
    pub fn take(&mut self, vmm: &mut Vmm, count: u32) -> Result<Vec<Event>> {
        self.events.wait_for_all(vmm)?;
        (0..count)
            .map(|slot| {
                let at = EVENTS.0 + u64::from(slot * EVENT_BYTES);
                Ok((
                    vmm.ram.read_obj(GuestAddress(at))?,
                    vmm.ram.read_obj(GuestAddress(at + 2))?,
                    vmm.ram.read_obj(GuestAddress(at + 4))?,
                ))
            })
            .collect()
    }

    pub fn set_lamp(&mut self, vmm: &mut Vmm, on: bool) -> Result {
        vmm.ram.write_obj(EV_LED, STATUS)?;
        vmm.ram.write_obj(LED_CAPSL, GuestAddress(STATUS.0 + 2))?;
        vmm.ram
            .write_obj(u32::from(on), GuestAddress(STATUS.0 + 4))?;
        let written = self
            .status
            .exchange(vmm, (STATUS, EVENT_BYTES), (STATUS, 0))?;
        ensure_eq!(written, 0, "bytes written for a lamp");
        Ok(())
    }
}

impl Driver for Input {
    fn status(&self, vmm: &mut Vmm) -> Result<u64> {
        self.transport.status(vmm)
    }

    fn check(&mut self, vmm: &mut Vmm) -> Result {
        self.set_lamp(vmm, false)
    }
}
