//! A tiny virtio-gpu driver (virtio 1.3, 5.7): one display, one picture, one cursor position.

use vm_memory::{Bytes, GuestAddress};

use crate::report::{ensure_eq, Result};
use crate::virtio::{Queue, Transport};
use crate::vmm::{Vmm, HIGH_RAM, LOW_RAM, RAM_BYTES};
use crate::Driver;

const CONFIG_VECTOR: u16 = 0;
const CONTROL_QUEUE: u16 = 0;
const CURSOR_QUEUE: u16 = 1;

const EVENTS_READ: u64 = 0;
const EVENTS_CLEAR: u64 = 4;
const EVENT_DISPLAY: u64 = 1;

const GET_DISPLAY_INFO: u32 = 0x0100;
const RESOURCE_CREATE_2D: u32 = 0x0101;
const SET_SCANOUT: u32 = 0x0103;
const RESOURCE_FLUSH: u32 = 0x0104;
const TRANSFER_TO_HOST_2D: u32 = 0x0105;
const RESOURCE_ATTACH_BACKING: u32 = 0x0106;
const MOVE_CURSOR: u32 = 0x0301;
const RESP_OK_NODATA: u32 = 0x1100;
const RESP_OK_DISPLAY_INFO: u32 = 0x1101;

const FLAG_FENCE: u32 = 1;
const HEADER_BYTES: u32 = 24;
const DISPLAY_INFO_BYTES: u32 = HEADER_BYTES + 16 * 24;
const FORMAT_B8G8R8X8: u32 = 2;
const PICTURE: u32 = 1;

// Every part of a queue is in the other half of RAM than its neighbour.
const CONTROL_RINGS: [GuestAddress; 3] = [
    GuestAddress(HIGH_RAM + 0x1000),
    GuestAddress(LOW_RAM + 0x1000),
    GuestAddress(HIGH_RAM + 0x2000),
];
const CURSOR_RINGS: [GuestAddress; 3] = [
    GuestAddress(LOW_RAM + 0x2000),
    GuestAddress(HIGH_RAM + 0x3000),
    GuestAddress(LOW_RAM + 0x3000),
];
const REQUEST: GuestAddress = GuestAddress(LOW_RAM + 0x1_0000);
const ANSWER: GuestAddress = GuestAddress(HIGH_RAM + 0x1_0000);

/// Lengths of the pieces of the backing, in turn. Not all are pages.
const PIECE_LENGTHS: [usize; 3] = [4096, 8192, 1996];
const PIECE_SLOT: u64 = 8192;

pub struct Gpu {
    transport: Transport,
    control: Queue,
    cursor: Queue,
    fences: u32,
}

impl Gpu {
    /// From reset to DRIVER_OK, with an interrupt vector for each source.
    pub fn bring_up(vmm: &mut Vmm, transport: Transport) -> Result<Self> {
        transport.negotiate(vmm)?;
        ensure_eq!(transport.queue_count(vmm)?, 2, "number of queues");
        transport.set_config_vector(vmm, CONFIG_VECTOR)?;
        let control = transport.queue(vmm, CONTROL_QUEUE, 1, CONTROL_RINGS)?;
        let cursor = transport.queue(vmm, CURSOR_QUEUE, 2, CURSOR_RINGS)?;
        transport.driver_ok(vmm)?;
        Ok(Gpu {
            transport,
            control,
            cursor,
            fences: 0,
        })
    }

    pub fn display_size(&mut self, vmm: &mut Vmm) -> Result<(u32, u32)> {
        let info = self.ask(
            vmm,
            GET_DISPLAY_INFO,
            &[],
            (RESP_OK_DISPLAY_INFO, DISPLAY_INFO_BYTES),
        )?;
        ensure_eq!(word(&info, 4), 1, "display 0 enabled");
        Ok((word(&info, 2), word(&info, 3)))
    }

    /// Sleeps until the device says that its displays have changed, and fetches the new size. The
    /// event is cleared after that, as Linux does: cleared earlier, it is raised again.
    pub fn wait_for_resize(&mut self, vmm: &mut Vmm) -> Result<(u32, u32)> {
        vmm.vectors[usize::from(CONFIG_VECTOR)].wait()?;
        let config = self.transport.device;
        let events = vmm.read(config.bar, config.offset + EVENTS_READ, 4)?;
        ensure_eq!(events, EVENT_DISPLAY, "events_read");
        let size = self.display_size(vmm)?;
        vmm.write(config.bar, config.offset + EVENTS_CLEAR, 4, events)?;
        let events = vmm.read(config.bar, config.offset + EVENTS_READ, 4)?;
        ensure_eq!(events, 0, "events_read after events_clear");
        Ok(size)
    }

    /// Shows `color(x, y)` on the whole display, out of a backing in many pieces. Returns how many.
    pub fn show(
        &mut self,
        vmm: &mut Vmm,
        (width, height): (u32, u32),
        color: impl Fn(u32, u32) -> u32,
    ) -> Result<usize> {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let bytes: Vec<u8> = pixels
            .flat_map(|(x, y)| color(x, y).to_le_bytes())
            .collect();
        let pieces = scatter(bytes.len());
        let mut rest = bytes.as_slice();
        let mut entries = Vec::new();
        for &(address, length) in &pieces {
            let (part, after) = rest.split_at(length);
            vmm.ram.write_slice(part, address)?;
            rest = after;
            let (low, high) = (address.0 as u32, (address.0 >> 32) as u32);
            entries.extend([low, high, u32::try_from(length)?, 0]);
        }
        let count = u32::try_from(pieces.len())?;
        let all = [0, 0, width, height];

        let create = [PICTURE, FORMAT_B8G8R8X8, width, height];
        self.command(vmm, RESOURCE_CREATE_2D, &create)?;
        let attach = [&[PICTURE, count], entries.as_slice()].concat();
        self.command(vmm, RESOURCE_ATTACH_BACKING, &attach)?;
        let transfer = [all.as_slice(), &[0, 0, PICTURE, 0]].concat();
        self.command(vmm, TRANSFER_TO_HOST_2D, &transfer)?;
        let scanout = [all.as_slice(), &[0, PICTURE]].concat();
        self.command(vmm, SET_SCANOUT, &scanout)?;
        let flush = [all.as_slice(), &[PICTURE, 0]].concat();
        self.command(vmm, RESOURCE_FLUSH, &flush)?;
        Ok(pieces.len())
    }

    pub fn move_cursor(&mut self, vmm: &mut Vmm, x: u32, y: u32) -> Result {
        let request = request(MOVE_CURSOR, 0, &[0, x, y, 0, 0, 0, 0, 0]);
        vmm.ram.write_slice(&request, REQUEST)?;
        let length = u32::try_from(request.len())?;
        let written = self.cursor.exchange(vmm, (REQUEST, length), (ANSWER, 0))?;
        ensure_eq!(written, 0, "bytes written for MOVE_CURSOR");
        Ok(())
    }

    fn command(&mut self, vmm: &mut Vmm, kind: u32, words: &[u32]) -> Result {
        self.ask(vmm, kind, words, (RESP_OK_NODATA, HEADER_BYTES))?;
        Ok(())
    }

    /// A fenced command; returns what follows the header of its answer.
    fn ask(
        &mut self,
        vmm: &mut Vmm,
        kind: u32,
        words: &[u32],
        (good, room): (u32, u32),
    ) -> Result<Vec<u8>> {
        self.fences += 1;
        let request = request(kind, self.fences, words);
        vmm.ram.write_slice(&request, REQUEST)?;
        vmm.ram.write_slice(&vec![0xee; room as usize], ANSWER)?;
        let length = u32::try_from(request.len())?;
        let written = self
            .control
            .exchange(vmm, (REQUEST, length), (ANSWER, room))?;
        let mut answer = vec![0; room as usize];
        vmm.ram.read_slice(&mut answer, ANSWER)?;
        let result = word(&answer, 0);
        ensure_eq!(result, good, "response to command {kind:#x}");
        ensure_eq!(written, room, "bytes written for command {kind:#x}");
        ensure_eq!(word(&answer, 1) & FLAG_FENCE, FLAG_FENCE, "response flags");
        ensure_eq!(word(&answer, 2), self.fences, "fence of command {kind:#x}");
        Ok(answer.split_off(HEADER_BYTES as usize))
    }
}

impl Driver for Gpu {
    fn status(&self, vmm: &mut Vmm) -> Result<u64> {
        self.transport.status(vmm)
    }

    fn check(&mut self, vmm: &mut Vmm) -> Result {
        self.display_size(vmm).map(drop)
    }
}

/// With a fence unless that is 0.
fn request(kind: u32, fence: u32, words: &[u32]) -> Vec<u8> {
    let flags = if fence == 0 { 0 } else { FLAG_FENCE };
    let header = [kind, flags, fence, 0, 0, 0];
    let all = header.iter().chain(words);
    all.flat_map(|word| word.to_le_bytes()).collect()
}

fn word(bytes: &[u8], index: usize) -> u32 {
    let at = 4 * index;
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Pieces for so many bytes: by turns in the low and in the high half of RAM, from the end down,
/// each at the end of its slot. Neighbours in the picture are far apart in memory.
fn scatter(bytes: usize) -> Vec<(GuestAddress, usize)> {
    let mut pieces = Vec::new();
    let mut left = bytes;
    for i in 0.. {
        if left == 0 {
            break;
        }
        let length = left.min(PIECE_LENGTHS[i % PIECE_LENGTHS.len()]);
        let half = [LOW_RAM, HIGH_RAM][i % 2];
        let end = half + RAM_BYTES as u64 - (i as u64 / 2) * PIECE_SLOT;
        pieces.push((GuestAddress(end - length as u64), length));
        left -= length;
    }
    pieces
}
