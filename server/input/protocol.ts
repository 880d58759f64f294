/** Numbers and layouts of virtio-input (virtio 1.3, 5.8), and of Linux's input events, which it carries. */
import { array, bytes, pad, struct, u8, u16, u32 } from '../wire.ts';

export const VIRTIO_ID_INPUT = 18;
export const EVENT_QUEUE = 0;
export const STATUS_QUEUE = 1;

/** 5.8.4: what the driver asks for with `select`; `subsel` is an event type or an axis. */
export const VIRTIO_INPUT_CFG_UNSET = 0x00;
export const VIRTIO_INPUT_CFG_ID_NAME = 0x01;
export const VIRTIO_INPUT_CFG_ID_SERIAL = 0x02;
export const VIRTIO_INPUT_CFG_ID_DEVIDS = 0x03;
export const VIRTIO_INPUT_CFG_PROP_BITS = 0x10;
export const VIRTIO_INPUT_CFG_EV_BITS = 0x11;
export const VIRTIO_INPUT_CFG_ABS_INFO = 0x12;

/** `u` is a string, a bit set, or one of the two structures below, `size` bytes of it. */
export const inputConfig = struct(136, {
  select: u8,
  subsel: u8,
  size: u8,
  _reserved: pad(5),
  u: bytes(128),
});
/** The part of it that the driver writes. */
export const CONFIG_WRITABLE_BYTES = 2;
/** min, max, fuzz, flat, res. */
export const inputAbsInfo = array(u32, 5);
/** bustype, vendor, product, version. */
export const inputDevIds = array(u16, 4);
export const inputEvent = struct(8, { type: u16, code: u16, value: u32 });

/** PCI classes of input devices, as QEMU gives them: only keyboards and mice have a sub class of their own. */
export const PCI_CLASS_INPUT_KEYBOARD = 0x09_0000;
export const PCI_CLASS_INPUT_OTHER = 0x09_8000;

export const BUS_VIRTUAL = 0x06;

export const EV_SYN = 0x00;
export const EV_KEY = 0x01;
export const EV_REL = 0x02;
export const EV_ABS = 0x03;
export const EV_LED = 0x11;
export const EV_REP = 0x14;

export const SYN_REPORT = 0;

export const BTN_LEFT = 0x110;
export const BTN_RIGHT = 0x111;
export const BTN_MIDDLE = 0x112;
export const BTN_SIDE = 0x113;
export const BTN_EXTRA = 0x114;
export const BTN_TOUCH = 0x14a;

export const REL_HWHEEL = 0x06;
export const REL_WHEEL = 0x08;
export const REL_WHEEL_HI_RES = 0x0b;
export const REL_HWHEEL_HI_RES = 0x0c;

export const ABS_X = 0x00;
export const ABS_Y = 0x01;
export const ABS_MT_SLOT = 0x2f;
export const ABS_MT_POSITION_X = 0x35;
export const ABS_MT_POSITION_Y = 0x36;
export const ABS_MT_TRACKING_ID = 0x39;

export const LED_NUML = 0x00;
export const LED_CAPSL = 0x01;
export const LED_SCROLLL = 0x02;

export const REP_DELAY = 0x00;
export const REP_PERIOD = 0x01;

export const INPUT_PROP_DIRECT = 0x01;

/** Positions go from 0 to this, whatever the displays are. */
export const MAX_POSITION = 32767;
/** Of `ABS_MT_TRACKING_ID`: nothing touches there. */
export const NO_CONTACT = -1;
