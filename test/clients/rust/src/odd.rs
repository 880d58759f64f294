//! Accesses that a guest can cause and no driver means. A client of this crate waits for ever when
//! one of them is not answered, or answered with an error.

use crate::report::{ensure_eq, Result};
use crate::vmm::{Bar, Msix, Vmm, CONFIG};

/// cloud-hypervisor passes ECAM offsets on, whatever the size of the region.
const ECAM_BYTES: u64 = 0x1000;
const CONFIG_BYTES: u64 = 0x100;
const PAGE: u64 = 0x1000;
const WIDTHS: [usize; 4] = [1, 2, 4, 8];

/// Returns how many accesses were made.
pub fn access_everything(vmm: &mut Vmm, bars: &[Bar]) -> Result<u32> {
    let mut odd = Odd { vmm, count: 0 };
    odd.read_config()?;
    odd.write_config()?;
    for bar in bars {
        odd.access_end_of(bar)?;
    }
    odd.access_registers(bars[0].region, bars[0].size)?;
    Ok(odd.count)
}

struct Odd<'a> {
    vmm: &'a mut Vmm,
    count: u32,
}

impl Odd<'_> {
    /// Every width shows the same bytes, and there is nothing behind the end.
    fn read_config(&mut self) -> Result {
        let mut bytes = Vec::new();
        for offset in 0..CONFIG_BYTES {
            bytes.push(self.read(CONFIG, offset, 1)?);
        }
        let byte = |at: u64| bytes.get(at as usize).copied().unwrap_or(0);
        for width in [2, 4] {
            for offset in 0..CONFIG_BYTES {
                let expected = (0..width as u64)
                    .map(|i| byte(offset + i) << (8 * i))
                    .sum::<u64>();
                let value = self.read(CONFIG, offset, width)?;
                ensure_eq!(value, expected, "config {offset:#x}, {width} bytes");
            }
        }
        for offset in (CONFIG_BYTES..ECAM_BYTES).step_by(4) {
            let value = self.read(CONFIG, offset, 4)?;
            ensure_eq!(value, 0, "config {offset:#x}, beyond the end");
        }
        ensure_eq!(self.read(CONFIG, ECAM_BYTES - 1, 4)?, 0, "end of ECAM");
        Ok(())
    }

    /// Ids, class, absent BARs, pointers and what is not there cannot be written, in any width.
    fn write_config(&mut self) -> Result {
        let dwords = [0x00, 0x08, 0x14, 0x2c, 0x30, 0x34, 0x100, ECAM_BYTES - 4].map(|at| (at, 4));
        let msix_head = (self.vmm.msix.at, 2);
        for (start, length) in dwords.into_iter().chain([msix_head]) {
            let before = self.read(CONFIG, start, 4)?;
            for width in [1, 2, 4] {
                for at in (0..length).filter(|at| at + width <= length) {
                    self.write(CONFIG, start + at, width as usize)?;
                }
            }
            let after = self.read(CONFIG, start, 4)?;
            ensure_eq!(after, before, "config {start:#x} after writes");
        }
        Ok(())
    }

    /// Over the end and beyond: zeros, and writes that go nowhere.
    fn access_end_of(&mut self, bar: &Bar) -> Result {
        for start in [
            bar.size,
            bar.size + PAGE,
            2 * bar.size,
            0xffff_fff8,
            1 << 40,
        ] {
            if start < bar.size {
                continue;
            }
            for width in WIDTHS {
                for offset in [start, start + 1, start + 3] {
                    self.write(bar.region, offset, width)?;
                    let value = self.read(bar.region, offset, width)?;
                    ensure_eq!(value, 0, "BAR {} at {offset:#x}, {width} bytes", bar.region);
                }
            }
        }
        for width in &WIDTHS[1..] {
            let offset = bar.size - 1;
            let value = self.read(bar.region, offset, *width)?;
            ensure_eq!(
                value >> 8,
                0,
                "BAR {} over its end, {width} bytes",
                bar.region
            );
        }
        Ok(())
    }

    /// All widths at the first and last bytes of every page, and reads of whole registers at once.
    fn access_registers(&mut self, region: u32, size: u64) -> Result {
        for page in (0..size).step_by(PAGE as usize) {
            for width in WIDTHS {
                for offset in (0..0x48).chain(PAGE - 8..PAGE) {
                    self.read(region, page + offset, width)?;
                }
            }
        }
        let Msix { table, pba, .. } = self.vmm.msix;
        for part in [table, pba] {
            let region = u32::try_from(part & 7)?;
            for width in WIDTHS {
                self.write(region, part & !7, width)?;
            }
        }
        ensure_eq!(self.read(region, pba & !7, 8)?, 0, "pending bits");
        Ok(())
    }

    fn read(&mut self, region: u32, offset: u64, width: usize) -> Result<u64> {
        self.count += 1;
        self.vmm.read(region, offset, width)
    }

    fn write(&mut self, region: u32, offset: u64, width: usize) -> Result {
        self.count += 1;
        self.vmm.write(region, offset, width, u64::MAX)
    }
}
