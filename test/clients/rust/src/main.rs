//! Guest after guest on one server, through the vfio-user crate that cloud-hypervisor links and in
//! the order in which cloud-hypervisor calls it.
//!
//!     vfio-user-client SOCKET GUESTS WINDOW_BYTES gpu|keyboard
//!
//! Standard output is described in `report.rs`. At every HOLD the caller looks at the server and
//! answers with a line: the bytes it left in the window, the size it gave the display, or the code
//! of the key that it pressed and released. The exit status is 0 only when everything was as
//! expected; 3 means that an answer did not come.
//!
//! | file        | who                                                             |
//! | ----------- | --------------------------------------------------------------- |
//! | `vmm.rs`    | cloud-hypervisor: connection, config space, RAM, BARs, vectors  |
//! | `virtio.rs` | the guest: virtio-pci and a split ring                          |
//! | `gpu.rs`    | the guest: virtio-gpu                                           |
//! | `input.rs`  | the guest: virtio-input                                         |
//! | `odd.rs`    | the guest: accesses no driver means                             |
//! | `report.rs` | what is printed; the time limit                                 |

mod gpu;
mod input;
mod odd;
mod report;
mod virtio;
mod vmm;

use std::env;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use vfio_user::Client;
use vm_memory::{Bytes, MmapRegion, VolatileMemory};

use gpu::Gpu;
use input::Input;
use report::{ensure, ensure_eq, Report, Result};
use virtio::Transport;
use vmm::{set_eventfds, Bar, Vector, Vmm, CONFIG, PCI_BASE_ADDRESS_0, PCI_COMMAND};

const PAGE: usize = 0x1000;

struct Arguments {
    socket: PathBuf,
    guests: u32,
    window_bytes: u64,
    device: Device,
}

/// What the server serves.
#[derive(Debug)]
enum Device {
    Gpu,
    Keyboard,
}

/// The guest's driver, whatever the device.
pub trait Driver {
    /// The device's status register.
    fn status(&self, vmm: &mut Vmm) -> Result<u64>;
    /// An error unless the device still answers.
    fn check(&mut self, vmm: &mut Vmm) -> Result;
}

/// How a guest ends.
#[derive(Debug)]
enum Ending {
    /// cloud-hypervisor's reboot: the next connection is made at once, the old one is shut down
    /// but not closed.
    Reboot,
    /// The same after DEVICE_RESET, and the next connection is waiting before the old one ends.
    Overlap,
    /// cloud-hypervisor's `remove-device`.
    Unplug,
    /// The process ends in the middle of everything.
    Vanish,
}

fn main() {
    let mut report = Report::new();
    let result = arguments().and_then(|arguments| run(&mut report, &arguments));
    if let Err(error) = &result {
        report.failed(error.as_ref());
    }
    process::exit(result.is_err().into());
}

fn arguments() -> Result<Arguments> {
    let [_, socket, guests, window_bytes, device] = &env::args().collect::<Vec<_>>()[..] else {
        return Err("usage: vfio-user-client SOCKET GUESTS WINDOW_BYTES gpu|keyboard".into());
    };
    Ok(Arguments {
        socket: socket.into(),
        guests: guests.parse()?,
        window_bytes: window_bytes.parse()?,
        device: match device.as_str() {
            "gpu" => Device::Gpu,
            "keyboard" => Device::Keyboard,
            _ => return Err(format!("{device} is no device").into()),
        },
    })
}

fn run(report: &mut Report, arguments: &Arguments) -> Result {
    let mut connected = None;
    for guest in 1..=arguments.guests {
        report.guest(guest);
        let client = match connected.take() {
            Some(client) => client,
            None => connect(report, &arguments.socket)?,
        };
        let mut vmm = Vmm::new(client)?;
        let bars = create_device(report, &mut vmm)?;
        let window = map_window(report, &vmm, &bars, arguments.window_bytes)?;
        let transport = start_guest(report, &mut vmm, window.as_ref())?;
        if let Some((region, window)) = &window {
            use_window(report, &mut vmm, *region, window)?;
        }
        let mut driver: Box<dyn Driver> = match arguments.device {
            Device::Gpu => Box::new(use_gpu(report, &mut vmm, transport, guest)?),
            Device::Keyboard => Box::new(use_keyboard(report, &mut vmm, transport)?),
        };
        refuse_vectors(report, &mut vmm)?;
        access_oddly(report, &mut vmm, driver.as_mut(), &bars)?;
        plug_memory(report, &mut vmm, driver.as_mut(), guest)?;
        let ending = match guest {
            _ if guest == arguments.guests => Ending::Vanish,
            _ if guest % 3 == 1 => Ending::Reboot,
            _ if guest % 3 == 2 => Ending::Overlap,
            _ => Ending::Unplug,
        };
        connected = end_guest(report, vmm, driver.as_ref(), &arguments.socket, &ending)?;
    }
    println!("DONE guests={}", arguments.guests);
    Ok(())
}

fn connect(report: &Report, socket: &Path) -> Result<Client> {
    report.step("connect");
    let client = Vmm::connect(socket)?;
    report.ok("");
    Ok(client)
}

/// Regions, capabilities, guest memory and BARs, as when cloud-hypervisor creates the device.
fn create_device(report: &Report, vmm: &mut Vmm) -> Result<Vec<Bar>> {
    report.step("regions");
    let regions: Vec<_> = (0..9)
        .filter_map(|index| vmm.client.region(index))
        .map(|region| {
            let file = if region.file_offset.is_some() {
                "+fd"
            } else {
                ""
            };
            format!("{:#x}/{}{file}", region.size, region.flags)
        })
        .collect();
    ensure_eq!(regions.len(), 9, "number of regions");
    report.ok(regions.join(" "));

    report.step("reset");
    let was_reset = vmm.reset_if_resettable()?;
    ensure!(
        !was_reset,
        "the crate sent DEVICE_RESET: the flag is absent"
    );
    report.ok("not sent");

    report.step("capabilities");
    let ids = vmm.parse_capabilities()?;
    let intx = vmm.intx_count()?;
    ensure_eq!(intx, 0, "count of the INTx index");
    let (msix, ids) = (&vmm.msix, ids.len());
    report.ok(format_args!(
        "count={ids} vectors={} table={:#x} pba={:#x} intx={intx}",
        msix.table_size, msix.table, msix.pba
    ));

    report.step("memory");
    vmm.map_ram()?;
    report.ok("windows=2");

    report.step("bars");
    let bars = vmm.measure_bars()?;
    for bar in &bars {
        let size = vmm.client.region(bar.region).map(|region| region.size);
        ensure_eq!(
            Some(bar.size),
            size,
            "size of BAR {} and region",
            bar.region
        );
    }
    let sizes = bars
        .iter()
        .map(|bar| format!("bar{}={:#x}", bar.region, bar.size));
    report.ok(sizes.collect::<Vec<_>>().join(" "));
    Ok(bars)
}

fn map_window(
    report: &Report,
    vmm: &Vmm,
    bars: &[Bar],
    bytes: u64,
) -> Result<Option<(u32, MmapRegion)>> {
    report.step("map-window");
    let window = vmm.map_window(bars)?;
    let size = window.as_ref().map_or(0, |(_, window)| window.len() as u64);
    ensure_eq!(size, bytes, "bytes of window mapped");
    report.ok(format_args!("bytes={size:#x}"));
    Ok(window)
}

/// What a driver does before it touches the device: structures, MSI-X.
fn start_guest(
    report: &Report,
    vmm: &mut Vmm,
    window: Option<&(u32, MmapRegion)>,
) -> Result<Transport> {
    report.step("structures");
    let transport = Transport::find(vmm)?;
    let found = transport
        .shared_memory
        .map(|place| (place.bar, place.offset, place.length));
    let mapped = window.map(|(region, window)| (*region, 0, window.len() as u64));
    ensure_eq!(found, mapped, "BAR, offset and length of the window");
    report.ok("");

    report.step("msix");
    vmm.guest_enables_msix()?;
    let early: u64 = vmm.vectors.iter().map(Vector::take).sum();
    ensure_eq!(early, 0, "signals before there is a driver");
    report.ok(format_args!("vectors={}", vmm.vectors.len()));
    Ok(transport)
}

/// The mapping, REGION_READ and REGION_WRITE, and the host see the same bytes.
fn use_window(report: &Report, vmm: &mut Vmm, region: u32, window: &MmapRegion) -> Result {
    report.step("window");
    let mapped = window.as_volatile_slice();
    let pages = [0, PAGE, window.len() / 2, window.len() - PAGE];
    for at in pages {
        for at in [at, at + 8, at + 16] {
            let left: u64 = mapped.read_obj(at)?;
            ensure_eq!(left, 0, "at {at:#x} of the window, from the guest before");
        }
    }
    for at in pages {
        mapped.write_obj(at as u64 ^ 0x1122_3344_5566_7788, at)?;
        let read = vmm.read(region, at as u64, 8)?;
        ensure_eq!(
            read,
            at as u64 ^ 0x1122_3344_5566_7788,
            "REGION_READ at {at:#x}"
        );
        vmm.write(region, at as u64 + 8, 8, !read)?;
        let seen: u64 = mapped.read_obj(at + 8)?;
        ensure_eq!(seen, !read, "mapping after REGION_WRITE at {at:#x} + 8");
    }
    report.ok(format_args!("pages={}", pages.len()));

    let offsets = pages.map(|at| at.to_string()).join(",");
    let word = report.hold("window", format_args!("offsets={offsets}"))?;
    report.step("window-from-host");
    let word: u64 = word.parse()?;
    for at in pages {
        let seen: u64 = mapped.read_obj(at + 16)?;
        ensure_eq!(seen, word, "mapping at {at:#x} + 16");
        let read = vmm.read(region, at as u64 + 16, 8)?;
        ensure_eq!(read, word, "REGION_READ at {at:#x} + 16");
    }
    report.ok(format_args!("word={word:#x}"));
    Ok(())
}

fn use_gpu(report: &Report, vmm: &mut Vmm, transport: Transport, guest: u32) -> Result<Gpu> {
    report.step("driver");
    let mut gpu = Gpu::bring_up(vmm, transport)?;
    let (width, height) = gpu.display_size(vmm)?;
    report.ok(format_args!("display={width}x{height}"));

    let size = report.hold("resize", "")?;
    report.step("resized");
    let (width, height) = gpu.wait_for_resize(vmm)?;
    ensure_eq!(format!("{width}x{height}"), size, "size of the display");
    report.ok(&size);

    report.step("picture");
    let pieces = gpu.show(vmm, (width, height), |x, y| {
        0xa500_0000 | (y << 12 | x) ^ (guest * 0x01_0305)
    })?;
    gpu.move_cursor(vmm, 10 * guest, 20 * guest)?;
    report.ok(format_args!("pieces={pieces}"));
    report.hold("picture", format_args!("size={size}"))?;
    Ok(gpu)
}

fn use_keyboard(report: &Report, vmm: &mut Vmm, transport: Transport) -> Result<Input> {
    report.step("driver");
    let mut input = Input::bring_up(vmm, transport)?;
    let name = input.name(vmm)?;
    input.offer(vmm, 4)?;
    report.ok(format_args!("name={}", name.replace(' ', "-")));

    let key: u16 = report.hold("key", "")?.parse()?;
    report.step("events");
    let events = input.take(vmm, 4)?;
    let expected = vec![(1, key, 1), (0, 0, 0), (1, key, 0), (0, 0, 0)];
    ensure_eq!(events, expected, "events of one key");
    report.ok(format_args!("key={key}"));

    report.step("lamp");
    input.set_lamp(vmm, true)?;
    report.ok("");
    report.hold("lamp", "")?;
    Ok(input)
}

/// More vectors than there are: refused as a whole, whatever the crate says, and those of before
/// stay.
fn refuse_vectors(report: &Report, vmm: &mut Vmm) -> Result {
    report.step("too-many-vectors");
    let others: Vec<_> = (0..16).map(|_| Vector::new()).collect::<Result<_>>()?;
    let table_size = usize::try_from(vmm.msix.table_size)?;
    set_eventfds(&mut vmm.client, 0, &others)?;
    set_eventfds(&mut vmm.client, 0, &others[..=table_size])?;
    set_eventfds(&mut vmm.client, u32::try_from(table_size)?, &others[..1])?;
    vmm.trigger_all()?;
    let signals: Vec<_> = vmm.vectors.iter().map(Vector::take).collect();
    ensure_eq!(
        signals,
        vec![1; table_size],
        "signals of the vectors of before"
    );
    let refused: u64 = others.iter().map(Vector::take).sum();
    ensure_eq!(refused, 0, "signals of the vectors that are refused");
    report.ok("refused=3");
    Ok(())
}

fn access_oddly(report: &Report, vmm: &mut Vmm, driver: &mut dyn Driver, bars: &[Bar]) -> Result {
    report.step("odd-accesses");
    let count = odd::access_everything(vmm, bars)?;
    driver.check(vmm)?;
    report.ok(format_args!("count={count}"));
    Ok(())
}

/// The first guest's memory changes a thousand times, the others' once. A client of this crate waits
/// for ever when a range of it is refused.
fn plug_memory(report: &Report, vmm: &mut Vmm, driver: &mut dyn Driver, guest: u32) -> Result {
    report.step("memory-plugged");
    let requests = vmm.plug_and_unplug(if guest == 1 { 20 } else { 1 })?;
    driver.check(vmm)?;
    report.ok(format_args!("requests={requests}"));
    Ok(())
}

/// Returns the connection for the next guest, where there is to be one already.
fn end_guest(
    report: &Report,
    mut vmm: Vmm,
    driver: &dyn Driver,
    socket: &Path,
    ending: &Ending,
) -> Result<Option<Client>> {
    let next = match ending {
        Ending::Reboot => {
            report.step("reboot");
            vmm.detach_vectors()?;
            vmm.client.shutdown()?;
            let next = Vmm::connect(socket)?;
            ensure!(
                vmm.read(CONFIG, 0, 4).is_err(),
                "the old connection is alive"
            );
            Some(next)
        }
        Ending::Overlap => {
            let socket = socket.to_path_buf();
            let next = thread::spawn(move || Client::new(&socket));
            thread::sleep(Duration::from_millis(100));
            reset(report, &mut vmm, driver)?;
            report.step("overlap");
            vmm.guest_disables_msix()?;
            ensure!(
                !next.is_finished(),
                "two clients are served at the same time"
            );
            vmm.client.shutdown()?;
            Some(next.join().map_err(|_| "the next client panicked")??)
        }
        Ending::Unplug => {
            report.step("unplug");
            vmm.unmap_ram()?;
            vmm.detach_vectors()?;
            report.hold("unplugged", "")?;
            report.step("unplug");
            vmm.client.shutdown()?;
            None
        }
        Ending::Vanish => {
            report.step("vanish");
            None
        }
    };
    report.ok("");
    Ok(next)
}

/// DEVICE_RESET: registers and driver state go, windows and eventfds stay.
fn reset(report: &Report, vmm: &mut Vmm, driver: &dyn Driver) -> Result {
    report.step("device-reset");
    vmm.client.reset()?;
    ensure_eq!(driver.status(vmm)?, 0, "virtio status");
    ensure_eq!(vmm.read(CONFIG, PCI_COMMAND, 2)?, 0, "command register");
    ensure_eq!(vmm.read(CONFIG, PCI_BASE_ADDRESS_0, 4)?, 0, "BAR 0");
    vmm.trigger_all()?;
    let signals: Vec<_> = vmm.vectors.iter().map(Vector::take).collect();
    ensure_eq!(signals, vec![1; signals.len()], "signals by trigger");
    report.ok("");
    report.hold("reset", "")?;
    Ok(())
}
