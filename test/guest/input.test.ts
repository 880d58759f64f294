/**
 * Keyboard, tablet and touch screen under Linux's own drivers: what they are, that every event comes once and in
 * order, lamps, and what becomes of them when drivers and guests come and go. The devices are served by this process.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { KEY_CODES } from '../../server/input/keys.ts';
import type { SeatClient } from '../../server/input/seat.ts';
import { InputServer } from '../../server/input-server.ts';
import { startDesktop } from '../../tools/testbed/desktop.ts';
import { type Device, type Guest, startGuest } from '../../tools/testbed/qemu.ts';
import { askSocket } from '../support/api-here.ts';
import { recordingLog } from '../support/fake-client.ts';
import { expectNoComplaints, kernels, soon, startServer } from './support.ts';

const KEYBOARD = 'vfio-user-gpu keyboard';
const TABLET = 'vfio-user-gpu tablet';
const TOUCH = 'vfio-user-gpu touch screen';
const A = 30;
const KEY_Q = 16;
const LEFT_SHIFT = 42;

const folder = mkdtempSync(join(tmpdir(), 'input-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The devices, one pixel of the only display for each position. */
class Input implements Disposable {
  readonly lines = recordingLog();
  readonly server = new InputServer({
    sockets: {
      keyboard: join(folder, 'keyboard.sock'),
      tablet: join(folder, 'tablet.sock'),
      touch: join(folder, 'touch.sock'),
    },
    displays: () => [{ width: 32768, height: 32768 }],
    log: this.lines.log,
  });

  get seat() {
    return this.server.seat;
  }

  get devices(): Device[] {
    return this.server.functions.map(({ served }) => ({
      kind: 'vfio-user',
      socketPath: served.vfioUser.socketPath,
    }));
  }

  device(kind: string) {
    const found = this.server.functions.find((one) => one.kind === kind);
    if (!found) throw new Error(`no ${kind}`);
    return found.device;
  }

  /** Nothing was said that well-behaved guests and VMMs should not cause. */
  expectNoComplaints(): void {
    expect(this.lines.lines.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([]);
  }

  [Symbol.dispose](): void {
    this.server.close();
  }
}

/** Of both streams together. */
const EVENTS = 1_000_000;
/** What may be on its way: Linux keeps 63 events for a program that does not read, and drops them all then. */
const WINDOW = 48;
/** As in evdev.c. */
const ACKNOWLEDGED = 16;

/** A sequence of numbers that the guest computes as well. */
function numbers(seed: number): () => number {
  return () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed >>> 8;
  };
}

interface Report {
  readonly events: number;
  send(client: SeatClient): void;
}

/** A letter goes down or up. */
function* keyboardReports(): Generator<Report, void> {
  const next = numbers(1);
  const down = new Set<number>();
  for (let events = 0; events < EVENTS / 2; events += 2) {
    const code = KEY_Q + (next() % 10);
    if (!down.delete(code)) down.add(code);
    const isDown = down.has(code);
    yield { events: 2, send: (client) => client.key(code, isDown) };
  }
}

/** Always somewhere else; sometimes with a button or a notch of the wheel. */
function* tabletReports(): Generator<Report, void> {
  const next = numbers(2);
  const bits = [1, 4, 2];
  let [x, y, buttons, sent] = [0, 0, 0, 0];
  while (sent < EVENTS / 2) {
    const number = next();
    x = (x + 1 + (number % 30000)) & 32767;
    y = (y + 1 + (Math.floor(number / 8) % 30000)) & 32767;
    const kind = next() % 8;
    buttons ^= bits[kind] ?? 0;
    const notch = kind === 7 ? (next() % 2 ? 1 : -1) : 0;
    const report = { display: 0, x, y, buttons, wheelY: 120 * notch };
    const events = 3 + (kind < 3 ? 1 : 0) + (notch ? 2 : 0);
    sent += events;
    yield { events, send: (client) => client.pointer(report) };
  }
}

const countOf = (reports: () => Iterable<Report>) => {
  let count = 0;
  for (const { events } of reports()) count += events;
  return count;
};

/** What the guest has acknowledged, from what it says. */
class Acknowledgements {
  events = 0;
  #wake = () => {};

  hear(text: string): void {
    this.events += [...text].filter((character) => character === '+').length * ACKNOWLEDGED;
    this.#wake();
  }

  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** Sends both streams, as fast as the guest acknowledges them. */
async function stream({ seat }: Input, acknowledged: Acknowledgements): Promise<void> {
  let sent = 0;
  const client = seat.open('stream');
  const streams = [keyboardReports(), tabletReports()];
  for (let ended = 0; ended < 2; ) {
    ended = 0;
    for (const reports of streams) {
      const { value } = reports.next();
      if (!value) {
        ended++;
        continue;
      }
      while (sent + value.events - acknowledged.events > WINDOW) await acknowledged.next();
      value.send(client);
      sent += value.events;
    }
  }
}

/** The lines that `evdev list` printed, by name of the device. */
function parseList(serial: string): Map<string, Map<string, string>> {
  const lines = [...serial.matchAll(/^EVDEV device name=([^;]*);id=([^;]*);unique=([^;]*);(.*)$/gm)];
  return new Map(
    lines.map(([, name, id, unique, rest]) => {
      const fields = (rest as string)
        .trim()
        .split(' ')
        .map((field) => field.split('=') as [string, string]);
      return [name as string, new Map([['id', id as string], ['unique', unique as string], ...fields])];
    }),
  );
}
/** Runs `script` in a guest with the devices of `input`, and some of QEMU's. */
const startWith = (
  input: Input,
  script: string,
  options: Partial<Parameters<typeof startGuest>[0]> & { readonly more?: readonly string[] } = {},
): Promise<Guest> => {
  const { more = [], ...rest } = options;
  return startGuest({
    modules: ['input'],
    devices: [...input.devices, { kind: 'raw', arguments: more.flatMap((name) => ['-device', name]) }],
    script,
    ...rest,
  });
};

describe.each(kernels)('Linux %s', (kernel) => {
  test('sees what QEMU has too, with the same PCI classes', async () => {
    using input = new Input();
    const more = ['virtio-keyboard-pci', 'virtio-tablet-pci', 'virtio-multitouch-pci'];
    const classes =
      'for slot in /sys/bus/pci/devices/*; do echo "PCI $(cat $slot/device $slot/class | xargs)"; done';
    await using guest = await startWith(input, `evdev list; ${classes}`, { kernel, more });
    await guest.scriptSucceeds();

    const found = [...guest.serial.matchAll(/^PCI 0x1052 (0x\w+)$/gm)].map(([, value]) => value);
    // Ours come first.
    expect(found).toHaveLength(6);
    expect(found.slice(0, 3)).toEqual(found.slice(3));

    const devices = parseList(guest.serial);
    const fields = (name: string) => Object.fromEntries(devices.get(name) ?? []);
    const without = (list: string | undefined, codes: readonly number[]) =>
      (list ?? '')
        .split(',')
        .map(Number)
        .filter((code) => !codes.includes(code))
        .join();
    const codes = (name: string, type: number) => (fields(name)[`codes${type}`] ?? '').split(',').map(Number);

    expect(fields(KEYBOARD)).toEqual({
      ...fields('QEMU Virtio Keyboard'),
      id: '0006:1af4:0001:0001',
      unique: 'keyboard-0',
      codes1: [...KEY_CODES.values()].join(),
    });
    // QEMU claims every number up to 231; we have one key more.
    expect(codes(KEYBOARD, 1).filter((code) => !codes('QEMU Virtio Keyboard', 1).includes(code))).toEqual([
      248,
    ]);

    const qemuTablet = fields('QEMU Virtio Tablet');
    expect(fields(TABLET)).toEqual({
      ...qemuTablet,
      id: '0006:1af4:0002:0001',
      unique: 'tablet-0',
      // Our wheel is no button, and turns both ways, in parts.
      codes1: without(qemuTablet.codes1, [0x14a, 0x150, 0x151]),
      codes2: '6,8,11,12',
    });

    const qemuTouch = fields('QEMU Virtio MultiTouch');
    expect(fields(TOUCH)).toEqual({
      ...qemuTouch,
      id: '0006:1af4:0003:0001',
      unique: 'touch-0',
      // No mouse.
      codes1: '330',
      axis47: '0..9,0,0,0',
    });
    input.expectNoComplaints();
  });

  test(`gets ${EVENTS} events of two devices, each once and in order`, { timeout: 600_000 }, async () => {
    using input = new Input();
    const counts = [countOf(keyboardReports), countOf(tabletReports)];
    const script = `evdev stream "${KEYBOARD}" ${counts[0]} "${TABLET}" ${counts[1]}`;
    const acknowledged = new Acknowledgements();
    const onSerial = (text: string) => acknowledged.hear(text);
    await using guest = await startWith(input, script, { kernel, onSerial });
    await guest.waitFor('EVDEV streaming\n');
    // Kernels have a + in their names.
    acknowledged.events = 0;
    await Promise.race([stream(input, acknowledged), guest.exited]);
    await guest.scriptSucceeds();
    expect(guest.serial).toContain(`EVDEV stream keyboard=${counts[0]} tablet=${counts[1]} `);
    for (const kind of ['keyboard', 'tablet']) {
      expect(input.device(kind).counters).toMatchObject({ refused: 0, unheard: 0, uselessBuffers: 0 });
    }
    input.expectNoComplaints();
  });

  test('sets lamps, types, points and touches, and forgets who has left', async () => {
    using input = new Input();
    const script = `
      evdev led "${KEYBOARD}" 1 1
      echo LAMP; read _
      evdev led "${KEYBOARD}" 1 0
      evdev watch "${TOUCH}" 12
      echo HOLD; read _
      evdev keys "${KEYBOARD}"; evdev keys "${TABLET}"
      echo HELD; read _
      evdev keys "${KEYBOARD}"; evdev keys "${TABLET}"`;
    await using guest = await startWith(input, script, { kernel });
    await guest.waitFor('LAMP\n');
    const { seat } = input;
    expect(
      (
        await soon(
          async () => seat.leds,
          (leds) => leds?.capsLock === true,
        )
      )?.capsLock,
    ).toBe(true);
    guest.write('\n');
    await guest.waitFor('EVDEV watching\n');
    expect(
      (
        await soon(
          async () => seat.leds,
          (leds) => leds?.capsLock === false,
        )
      )?.capsLock,
    ).toBe(false);
    const [one, two] = [seat.open('one'), seat.open('two')];
    one.touch([{ id: 5, display: 0, x: 100, y: 200 }]);
    one.touch([
      { id: 5, display: 0, x: 101, y: 200 },
      { id: 6, display: 0, x: 7, y: 8 },
    ]);
    one.touch([]);
    await guest.waitFor('HOLD\n');
    const touched = [...guest.serial.matchAll(/^EVDEV event (.*)$/gm)].map(([, event]) => event);
    // Slot 0 is where a driver begins.
    expect(touched).toEqual([
      ...['3 57 0', '3 53 100', '3 54 200', '1 330 1', '0 0 0'],
      ...['3 53 101', '3 47 1', '3 57 1', '3 53 7', '3 54 8', '0 0 0'],
      '3 47 0',
    ]);
    one.key(A, true);
    one.key(LEFT_SHIFT, true);
    two.key(LEFT_SHIFT, true);
    one.pointer({ display: 0, x: 1, y: 1, buttons: 3 });
    guest.write('\n');
    await guest.waitFor(/^EVDEV keys down=30,42\nEVDEV keys down=272,274\nHELD\n/m);
    one.close();
    guest.write('\n');
    await guest.waitFor(/^EVDEV keys down=42\nEVDEV keys\n/m);
    await guest.scriptSucceeds();
    input.expectNoComplaints();
  });

  test('is tapped over the control API', async () => {
    await using server = await startServer({ inputs: ['touch'], displays: ['640x480'] });
    const script = `evdev watch "${TOUCH}" 7`;
    await using guest = await startGuest({ kernel, modules: ['input'], devices: server.devices, script });
    await guest.waitFor('EVDEV watching\n');
    const tap = { action: 'tap', x: 320, y: 120 };
    expect(await askSocket(server.apiSocketPath, 'POST', '/v1/input/touch', tap)).toMatchObject({
      status: 204,
    });
    await guest.scriptSucceeds();
    const touched = [...guest.serial.matchAll(/^EVDEV event (.*)$/gm)].map(([, event]) => event);
    const at = (pixel: number, size: number) => Math.floor(((pixel + 0.5) * 32768) / size);
    expect(touched).toEqual([
      ...['3 57 0', `3 53 ${at(320, 640)}`, `3 54 ${at(120, 480)}`, '1 330 1', '0 0 0'],
      ...['3 57 -1', '1 330 0'],
    ]);
    expectNoComplaints(server);
  });

  test('is not typed to while it is paused: a retry types once', async () => {
    await using server = await startServer({ inputs: ['keyboard'] });
    const script = `evdev watch "${KEYBOARD}" 4`;
    await using guest = await startGuest({ kernel, modules: ['input'], devices: server.devices, script });
    await guest.waitFor('EVDEV watching\n');
    const type = () => askSocket(server.apiSocketPath, 'POST', '/v1/input/text', { text: 'a', delayMs: 0 });
    await guest.qmp('stop');
    const refused = await type();
    expect(refused.status).toBe(503);
    expect(JSON.parse(refused.body.toString())).toMatchObject({
      error: { code: 'not_taken', done: 0, of: 1 },
    });
    await guest.qmp('cont');
    expect((await type()).status).toBe(204);
    await guest.scriptSucceeds();
    const typed = [...guest.serial.matchAll(/^EVDEV event (.*)$/gm)].map(([, event]) => event);
    expect(typed).toEqual([`1 ${A} 1`, '0 0 0', `1 ${A} 0`, '0 0 0']);
    expectNoComplaints(server);
  });

  test('finds the devices again after its driver, or the whole guest, came anew', async () => {
    using input = new Input();
    const script = `
      type() { echo TYPE; evdev watch "${KEYBOARD}" 2; }
      driver=/sys/bus/virtio/drivers/virtio_input
      devices=$(cd $driver; echo virtio*)
      type
      for round in 1 2 3; do
        for device in $devices; do echo $device >$driver/unbind || exit 1; done
        echo UNBOUND; read _
        for device in $devices; do echo $device >$driver/bind || exit 2; done
        type
      done
      reboot -f`;
    await using guest = await startWith(input, script, { kernel, reboots: true });
    const client = input.seat.open('one');
    const press = async (code: number) => {
      await guest.waitFor('EVDEV watching\n');
      client.key(code, true);
      await guest.waitFor(`EVDEV event 1 ${code} 1\nEVDEV event 0 0 0\n`);
      client.key(code, false);
    };
    for (let boot = 0; boot < 3; boot++) {
      await press(A + boot);
      for (let round = 1; round <= 3; round++) {
        await guest.waitFor('UNBOUND\n');
        const { unheard } = input.device('keyboard').counters;
        client.key(LEFT_SHIFT, true);
        client.key(LEFT_SHIFT, false);
        expect(input.device('keyboard').counters.unheard).toBe(unheard + 2);
        guest.write('\n');
        await press(A + boot + round);
      }
    }
    input.expectNoComplaints();
  });
});

test('udev and libinput take them for a keyboard, a pointer and a touch screen', async () => {
  await using server = await startServer({ inputs: ['keyboard', 'tablet', 'touch'] });
  await using desktop = await startDesktop({ devices: server.devices });
  await desktop.ready();
  const { output } = await desktop.run('swaymsg -rt get_inputs');
  const types = (JSON.parse(output) as { name: string; type: string }[]).map(({ name, type }) => [
    name,
    type,
  ]);
  expect(Object.fromEntries(types)).toMatchObject({
    [KEYBOARD]: 'keyboard',
    [TABLET]: 'pointer',
    [TOUCH]: 'touch',
  });
  const { output: database } = await desktop.run('udevadm info --export-db');
  const tags = (name: string) =>
    database
      .split('\n\n')
      .find((entry) => entry.includes(`E: NAME="${name}"`))
      ?.match(/^E: ID_INPUT_\w+(?==1$)/gm)
      ?.map((line) => line.slice('E: ID_INPUT_'.length));
  expect(tags(KEYBOARD)).toEqual(['KEY', 'KEYBOARD']);
  expect(tags(TABLET)).toEqual(['MOUSE']);
  expect(tags(TOUCH)).toEqual(['TOUCHSCREEN']);
  expectNoComplaints(server);
});
