//! cloud-hypervisor's half: what its `vmm/src/device_manager.rs`, `pci/src/vfio_user.rs` and
//! `pci/src/vfio.rs` do with the crate, in their order.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_ROM_REGION_INDEX, VFIO_REGION_INFO_FLAG_MMAP,
};
use vfio_user::Client;
use vm_memory::{
    Address, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    MmapRegion,
};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::poll::PollContext;

use crate::report::{ensure, ensure_eq, Result};

pub const CONFIG: u32 = VFIO_PCI_CONFIG_REGION_INDEX;

pub const PCI_COMMAND: u64 = 0x04;
const PCI_STATUS: u64 = 0x06;
const PCI_STATUS_CAP_LIST: u64 = 0x10;
pub const PCI_BASE_ADDRESS_0: u64 = 0x10;
const PCI_BASE_ADDRESS_SPACE_IO: u64 = 0x1;
const PCI_BASE_ADDRESS_MEM_TYPE_64: u64 = 0x4;
const PCI_BASE_ADDRESS_TYPE_BITS: u64 = 0xf;
const PCI_ROM_ADDRESS: u64 = 0x30;
const PCI_CAPABILITY_LIST: u64 = 0x34;
const PCI_CAP_ID_MSIX: u64 = 0x11;

const MSIX_ENABLE: u64 = 0x8000;
const MSIX_FUNCTION_MASK: u64 = 0x4000;
const MSIX_TABLE_SIZE_MASK: u64 = 0x7ff;

/// Most descriptors cloud-hypervisor puts in one message.
const SET_IRQS_BLOCK: usize = 16;

pub const RAM_BYTES: usize = 32 << 20;
pub const LOW_RAM: u64 = 0;
pub const HIGH_RAM: u64 = 1 << 32;
/// Memory that comes and goes, in virtio-mem's blocks.
const PLUGGED_RAM: u64 = 1 << 33;
const PLUGGED_BLOCKS: u64 = 64;
const BLOCK_BYTES: u64 = 2 << 20;

const INTERRUPT_TIME: Duration = Duration::from_secs(10);

/// An MSI-X vector as the VMM sees it.
pub struct Vector {
    event: EventFd,
    poll: PollContext<()>,
}

impl Vector {
    pub fn new() -> Result<Self> {
        let event = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        let poll = PollContext::new()?;
        poll.add(&event, ())?;
        Ok(Vector { event, poll })
    }

    /// How often it was signalled since the last look.
    pub fn take(&self) -> u64 {
        self.event.read().unwrap_or(0)
    }

    pub fn wait(&self) -> Result<u64> {
        self.poll.wait_timeout(INTERRUPT_TIME)?;
        let count = self.take();
        ensure!(count > 0, "no interrupt in {INTERRUPT_TIME:?}");
        Ok(count)
    }
}

#[derive(Default)]
pub struct Msix {
    pub at: u64,
    pub table_size: u64,
    pub table: u64,
    pub pba: u64,
    control: u64,
}

/// A BAR or the ROM, measured.
#[derive(Debug, PartialEq)]
pub struct Bar {
    pub region: u32,
    pub size: u64,
    pub is_64_bit: bool,
}

pub struct Vmm {
    pub client: Client,
    pub ram: GuestMemoryMmap,
    pub msix: Msix,
    pub vectors: Vec<Vector>,
}

impl Vmm {
    pub fn new(client: Client) -> Result<Self> {
        Ok(Vmm {
            client,
            ram: make_ram()?,
            msix: Msix::default(),
            vectors: Vec::new(),
        })
    }

    /// VERSION, GET_INFO, and GET_REGION_INFO for every region.
    pub fn connect(path: &Path) -> Result<Client> {
        Ok(Client::new(path)?)
    }

    pub fn read(&mut self, region: u32, offset: u64, width: usize) -> Result<u64> {
        let mut bytes = [0; 8];
        self.client
            .region_read(region, offset, &mut bytes[..width])?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub fn write(&mut self, region: u32, offset: u64, width: usize, value: u64) -> Result {
        let bytes = &value.to_le_bytes()[..width];
        Ok(self.client.region_write(region, offset, bytes)?)
    }

    /// The flag RESET is read the wrong way round by the crate, so a device that can be reset is
    /// not. Returns whether it was.
    pub fn reset_if_resettable(&mut self) -> Result<bool> {
        let resettable = self.client.resettable();
        if resettable {
            self.client.reset()?;
        }
        Ok(resettable)
    }

    /// Walks the capability list once, at the creation of the device. Returns the ids in it.
    pub fn parse_capabilities(&mut self) -> Result<Vec<u64>> {
        let status = self.read(CONFIG, PCI_STATUS, 2)?;
        ensure!(
            status & PCI_STATUS_CAP_LIST != 0,
            "status {status:#x} has no CAP_LIST"
        );
        let mut ids = Vec::new();
        let mut at = self.read(CONFIG, PCI_CAPABILITY_LIST, 1)?;
        while at != 0 {
            ensure!(
                ids.len() < 48 && at >= 0x40 && at % 4 == 0,
                "capability {} is at {at:#x}",
                ids.len()
            );
            let id = self.read(CONFIG, at, 1)?;
            ids.push(id);
            if id == PCI_CAP_ID_MSIX {
                self.parse_msix(at)?;
            }
            at = self.read(CONFIG, at + 1, 1)?;
        }
        ensure_eq!(
            ids.first(),
            Some(&PCI_CAP_ID_MSIX),
            "first capability, which is looked for on every config read"
        );
        Ok(ids)
    }

    fn parse_msix(&mut self, at: u64) -> Result {
        let irq = self.client.get_irq_info(VFIO_PCI_MSIX_IRQ_INDEX)?;
        let control = self.read(CONFIG, at + 2, 2)?;
        self.msix = Msix {
            at,
            control,
            table_size: (control & MSIX_TABLE_SIZE_MASK) + 1,
            table: self.read(CONFIG, at + 4, 4)?,
            pba: self.read(CONFIG, at + 8, 4)?,
        };
        ensure_eq!(
            u64::from(irq.count),
            self.msix.table_size,
            "count of the MSI-X index, and the size of the table"
        );
        ensure_eq!(self.msix.control & MSIX_ENABLE, 0, "MSI-X at the start");
        Ok(())
    }

    pub fn intx_count(&mut self) -> Result<u32> {
        Ok(self.client.get_irq_info(VFIO_PCI_INTX_IRQ_INDEX)?.count)
    }

    pub fn map_ram(&mut self) -> Result {
        for region in self.ram.iter() {
            if let Some(file) = region.file_offset() {
                self.client.dma_map(
                    file.start(),
                    region.start_addr().raw_value(),
                    region.len(),
                    file.file().as_raw_fd(),
                )?;
            }
        }
        Ok(())
    }

    pub fn unmap_ram(&mut self) -> Result {
        for region in self.ram.iter() {
            self.client
                .dma_unmap(region.start_addr().raw_value(), region.len())?;
        }
        Ok(())
    }

    /// What virtio-mem has the VMM do when the guest takes memory and gives it back: blocks are
    /// mapped one by one, not all of them and in no order, and a range with all of them is unmapped
    /// at once, as is one that never held any. Returns how many requests that were.
    pub fn plug_and_unplug(&mut self, rounds: u64) -> Result<u64> {
        let file = memory_file(c"rust-plugged-ram", PLUGGED_BLOCKS * BLOCK_BYTES)?;
        let mut requests = 0;
        for round in 0..rounds {
            for block in (0..PLUGGED_BLOCKS).map(|i| (i * 37 + round) % PLUGGED_BLOCKS) {
                if (block + round) % 6 == 0 {
                    continue;
                }
                let offset = block * BLOCK_BYTES;
                let address = PLUGGED_RAM + offset;
                self.client
                    .dma_map(offset, address, BLOCK_BYTES, file.as_raw_fd())?;
                requests += 1;
            }
            for start in [PLUGGED_RAM, PLUGGED_RAM + PLUGGED_BLOCKS * BLOCK_BYTES] {
                self.client.dma_unmap(start, PLUGGED_BLOCKS * BLOCK_BYTES)?;
                requests += 1;
            }
        }
        Ok(requests)
    }

    /// Sizes BARs and ROM by writing ones. The registers are left at that.
    pub fn measure_bars(&mut self) -> Result<Vec<Bar>> {
        let mut bars = Vec::new();
        let mut region = 0;
        while region <= VFIO_PCI_ROM_REGION_INDEX {
            let bar = self.measure_bar(region)?;
            region += if bar.is_64_bit { 2 } else { 1 };
            if bar.size > 0 {
                bars.push(bar);
            }
        }
        Ok(bars)
    }

    fn measure_bar(&mut self, region: u32) -> Result<Bar> {
        let is_rom = region == VFIO_PCI_ROM_REGION_INDEX;
        let at = if is_rom {
            PCI_ROM_ADDRESS
        } else {
            PCI_BASE_ADDRESS_0 + 4 * u64::from(region)
        };
        let flags = self.read(CONFIG, at, 4)?;
        ensure!(
            is_rom || flags & PCI_BASE_ADDRESS_SPACE_IO == 0,
            "BAR {region} is for ports"
        );
        let is_64_bit = !is_rom && flags & PCI_BASE_ADDRESS_MEM_TYPE_64 != 0;
        let mut mask = self.probe(at)?;
        if is_64_bit {
            mask |= self.probe(at + 4)? << 32;
        } else if mask != 0 {
            mask |= 0xffff_ffff << 32;
        }
        let size = match mask & !PCI_BASE_ADDRESS_TYPE_BITS {
            0 => 0,
            mask => !mask + 1,
        };
        Ok(Bar {
            region,
            size,
            is_64_bit,
        })
    }

    fn probe(&mut self, at: u64) -> Result<u64> {
        self.write(CONFIG, at, 4, 0xffff_ffff)?;
        self.read(CONFIG, at, 4)
    }

    /// Maps what can be mapped: here the whole of one region, or nothing.
    pub fn map_window(&self, bars: &[Bar]) -> Result<Option<(u32, MmapRegion)>> {
        for bar in bars {
            let Some(region) = self.client.region(bar.region) else {
                continue;
            };
            if region.flags & VFIO_REGION_INFO_FLAG_MMAP == 0 {
                continue;
            }
            ensure_eq!(region.sparse_areas.len(), 0, "sparse areas of the window");
            let Some(file) = region.file_offset.clone() else {
                return Err("the window came without a file".into());
            };
            let mapping = MmapRegion::from_file(file, usize::try_from(region.size)?)?;
            return Ok(Some((bar.region, mapping)));
        }
        Ok(None)
    }

    /// A read by the guest: whole dwords, and each time a walk for the MSI-X capability before.
    pub fn guest_config_dword(&mut self, offset: u64) -> Result<u64> {
        self.read(CONFIG, PCI_STATUS, 2)?;
        let mut at = self.read(CONFIG, PCI_CAPABILITY_LIST, 1)?;
        while at != 0 && self.read(CONFIG, at, 1)? != PCI_CAP_ID_MSIX {
            at = self.read(CONFIG, at + 1, 1)?;
        }
        self.read(CONFIG, offset & !3, 4)
    }

    pub fn guest_config_byte(&mut self, offset: u64) -> Result<u64> {
        Ok(self.guest_config_dword(offset)? >> (8 * (offset & 3)) & 0xff)
    }

    /// What Linux writes, masked first; the eventfds go out before the write that enables.
    pub fn guest_enables_msix(&mut self) -> Result {
        self.guest_writes_msix_control(MSIX_ENABLE | MSIX_FUNCTION_MASK)?;
        self.guest_writes_msix_control(MSIX_ENABLE)
    }

    pub fn guest_disables_msix(&mut self) -> Result {
        self.guest_writes_msix_control(0)
    }

    fn guest_writes_msix_control(&mut self, control: u64) -> Result {
        let was_enabled = self.msix.control & MSIX_ENABLE != 0;
        let is_enabled = control & MSIX_ENABLE != 0;
        if is_enabled && !was_enabled {
            self.vectors = (0..self.msix.table_size)
                .map(|_| Vector::new())
                .collect::<Result<_>>()?;
            self.attach_vectors()?;
        }
        if was_enabled && !is_enabled {
            self.detach_vectors()?;
        }
        self.msix.control = control;
        self.write(CONFIG, self.msix.at + 2, 2, control)
    }

    fn attach_vectors(&mut self) -> Result {
        for (block, vectors) in self.vectors.chunks(SET_IRQS_BLOCK).enumerate() {
            let start = u32::try_from(block * SET_IRQS_BLOCK)?;
            set_eventfds(&mut self.client, start, vectors)?;
        }
        Ok(())
    }

    /// Also what is left of an enabled MSI-X when the device object is dropped.
    pub fn detach_vectors(&mut self) -> Result {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
        Ok(self
            .client
            .set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, flags, 0, 0, &[])?)
    }

    /// Asks the server to signal all vectors: shows who has which eventfd.
    pub fn trigger_all(&mut self) -> Result {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
        let count = u32::try_from(self.msix.table_size)?;
        Ok(self
            .client
            .set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, flags, 0, count, &[])?)
    }
}

/// Returns without an error when the server refuses: the crate does not look.
pub fn set_eventfds(client: &mut Client, start: u32, vectors: &[Vector]) -> Result {
    let fds: Vec<_> = vectors.iter().map(|v| v.event.as_raw_fd()).collect();
    let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    let count = u32::try_from(fds.len())?;
    Ok(client.set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, flags, start, count, &fds)?)
}

/// One file, its second half above 4 GiB.
fn memory_file(name: &CStr, size: u64) -> Result<File> {
    // SAFETY: the name is a C string, and the descriptor is nobody else's.
    let file = unsafe {
        let fd = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC);
        ensure!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
        File::from_raw_fd(fd)
    };
    file.set_len(size)?;
    Ok(file)
}

fn make_ram() -> Result<GuestMemoryMmap> {
    let file = Arc::new(memory_file(c"rust-guest-ram", 2 * RAM_BYTES as u64)?);
    let part = |start| Some(FileOffset::from_arc(file.clone(), start));
    Ok(GuestMemoryMmap::from_ranges_with_files([
        (GuestAddress(LOW_RAM), RAM_BYTES, part(0)),
        (GuestAddress(HIGH_RAM), RAM_BYTES, part(RAM_BYTES as u64)),
    ])?)
}
