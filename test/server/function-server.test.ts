/** What a function on its socket finds out about memory that the VMM does not share, and whom it turns away. */
import { closeSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createMemfd } from '../../native/index.ts';
import { FunctionServer } from '../../server/function-server.ts';
import { REGION_CONFIG } from '../../server/host/contract.ts';
import { type Received, VfioUserClient } from '../../server/vfio-user/client.ts';
import {
  DMA_MAP,
  DMA_READ,
  dmaAccess,
  earlyDmaAccess,
  FLAG_ERROR,
  TYPE_REPLY,
  VERSION,
} from '../../server/vfio-user/protocol.ts';
import { decode, encode } from '../../server/wire.ts';
import { EchoDevice } from '../support/echo-device.ts';
import { bodies, type LogLine, messageBytes, recordingLog } from '../support/fake-client.ts';
import { soon } from '../support/soon.ts';

const RAM_BYTES = 1 << 20;
const FEATURES_OK = 8;

let folder: string;
let served: FunctionServer;
let lines: LogLine[];
const clients: VfioUserClient[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'function-server-'));
  const recording = recordingLog();
  lines = recording.lines;
  served = new FunctionServer({
    socketPath: join(folder, 'socket'),
    device: new EchoDevice(),
    classCode: 0x038000,
    log: recording.log,
  });
});
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
  served.close();
  rmSync(folder, { recursive: true });
});

interface ClientOptions {
  /** What the guest sees from address 0 on, if the client tells; it shares a file of zeros unless `shared`. */
  readonly guestSees?: Uint8Array;
  readonly shared?: boolean;
  readonly file?: boolean;
  /** Answers in the layout of early QEMU releases. */
  readonly early?: boolean;
  readonly answer?: 'error' | 'never';
}

/** A client whose guest has some RAM at 0, and what the server asked it for. */
async function connect(options: ClientOptions = {}) {
  const client = VfioUserClient.connect(served.vfioUser.socketPath);
  clients.push(client);
  const asked: Received[] = [];
  const sees = new Uint8Array(RAM_BYTES);
  sees.set(options.guestSees ?? []);
  client.onCommand = (command) => {
    asked.push(command);
    if (options.answer === 'never') return;
    const { id } = command;
    const { address, count } = decode(dmaAccess, command.body);
    const layout = options.early ? earlyDmaAccess : dmaAccess;
    const body = [...encode(layout, { address, count }), ...sees.subarray(address, address + count)];
    const header = { id, command: command.command, flags: TYPE_REPLY };
    client.sendBytes(
      options.answer === 'error'
        ? messageBytes({ ...header, flags: TYPE_REPLY | FLAG_ERROR, error: 19 }, new Uint8Array(0))
        : messageBytes(header, Uint8Array.from(body)),
    );
  };
  // By this key a client is known to answer commands.
  await client.ask(VERSION, bodies.version('{"capabilities":{"pgsizes":4096}}'));
  const fd = createMemfd('ram', RAM_BYTES);
  const map = bodies.dmaMap({ address: 0, size: RAM_BYTES });
  await client.request(DMA_MAP, map, options.file === false ? [] : [fd]);
  if (options.shared && options.guestSees) served.memory.write(0, options.guestSees);
  closeSync(fd);
  return { client, asked };
}

/** Firmware turns the function on. */
const turnOn = (client: VfioUserClient) => client.writeRegion(REGION_CONFIG, 4, Uint8Array.of(6, 0));

/** A driver goes as far as FEATURES_OK; true when the device accepted. */
async function negotiate(client: VfioUserClient): Promise<boolean> {
  const set = (offset: number, ...bytes: number[]) => client.writeRegion(0, offset, Uint8Array.from(bytes));
  await set(0x14, 0);
  await set(0x14, 3);
  await set(0x08, 1, 0, 0, 0);
  await set(0x0c, 1, 0, 0, 0);
  await set(0x14, 3 | FEATURES_OK);
  const [status] = await client.readRegion(0, 0x14, 1);
  return ((status as number) & FEATURES_OK) !== 0;
}

const warnings = () => lines.filter(({ level }) => level === 'warn' || level === 'error');
const sharing = () => served.info().guest.memorySharing;
const bios = Uint8Array.of(0xf0, 0x53);

describe('a guest whose memory has no file', () => {
  test('is turned away with one line, however often it tries', async () => {
    const { client, asked } = await connect({ file: false });
    await turnOn(client);
    for (let time = 0; time < 3; time++) expect(await negotiate(client)).toBe(false);
    expect(sharing()).toBe('no-file');
    expect(asked).toEqual([]);
    expect(served.metrics().guestErrors).toEqual({ memory: 3 });
    expect(warnings()).toEqual([
      {
        level: 'warn',
        message:
          'guest memory is not shared with this device: its driver was turned away, and the guest goes on without it',
        fields: {
          socketPath: served.vfioUser.socketPath,
          hint: 'share guest memory: QEMU memory-backend-memfd,share=on; cloud-hypervisor --memory shared=on',
        },
      },
    ]);
  });
});

describe('a guest whose client keeps the file to itself', () => {
  test.each([
    ['', false],
    [' in the layout of early QEMU releases', true],
  ])('is turned away once the client has said what the guest sees%s', async (_, early) => {
    const { client, asked } = await connect({ guestSees: bios, early });
    await turnOn(client);
    await soon(() => expect(sharing()).toBe('private'));
    expect(asked.map(({ command }) => command)).toEqual([DMA_READ]);
    expect(await negotiate(client)).toBe(false);
    expect(asked).toHaveLength(1);
    expect(warnings()).toHaveLength(1);
  });

  test('leaves nothing behind for the next client', async () => {
    const first = await connect({ guestSees: bios });
    await turnOn(first.client);
    await soon(() => expect(sharing()).toBe('private'));
    expect(await negotiate(first.client)).toBe(false);
    first.client.close();
    await soon(() => expect(served.vfioUser.connection).toBeUndefined());
    expect(sharing()).toBe('unknown');

    const second = await connect({ guestSees: bios, shared: true });
    await turnOn(second.client);
    expect(sharing()).toBe('shared');
    expect(await negotiate(second.client)).toBe(true);
    second.client.close();
    await soon(() => expect(served.vfioUser.connection).toBeUndefined());

    const third = await connect({ file: false });
    expect(await negotiate(third.client)).toBe(false);
    expect(warnings()).toHaveLength(2);
  });
});

describe('a guest that rings where nothing is to be seen', () => {
  /** A driver that is as far as its first doorbell, with its avail ring at 0x5000. */
  async function ring(client: VfioUserClient): Promise<void> {
    expect(await negotiate(client)).toBe(true);
    const set = (offset: number, ...bytes: number[]) => client.writeRegion(0, offset, Uint8Array.from(bytes));
    await set(0x16, 0, 0);
    await set(0x20, 0, 0x40, 0, 0);
    await set(0x28, 0, 0x50, 0, 0);
    await set(0x30, 0, 0x60, 0, 0);
    await set(0x1c, 1, 0);
    await client.writeRegion(REGION_CONFIG, 4, Uint8Array.of(6, 0));
    await set(0x14, 15);
    await set(0x3000, 0, 0);
  }
  const index = (value: number) => {
    const memory = new Uint8Array(0x6000);
    memory[0x5002] = value;
    return memory;
  };

  test('waits for ever when its client keeps the file to itself, and only that once', async () => {
    // Left behind by somebody, so that the beginning is no help.
    const { client } = await connect({ guestSees: index(1) });
    served.memory.write(0, bios);
    await ring(client);
    await soon(() => expect(sharing()).toBe('private'));
    expect(warnings().map(({ message }) => message)).toEqual([
      'guest memory is not shared with this device: it will not work',
    ]);
    expect(await negotiate(client)).toBe(false);
    expect(warnings()).toHaveLength(1);
  });

  test('is an odd one when its client sees nothing either', async () => {
    const { client, asked } = await connect({ guestSees: bios, shared: true });
    await ring(client);
    await soon(() => expect(asked).toHaveLength(1));
    expect(await negotiate(client)).toBe(true);
    expect(warnings()).toEqual([]);
  });

  test('may be another matter when its client does not tell', async () => {
    const { client } = await connect({ guestSees: bios, shared: true, answer: 'error' });
    await ring(client);
    await soon(() => expect(warnings()).toHaveLength(1));
    expect(warnings()[0]?.message).toContain('is its memory shared with this device?');
    expect(await negotiate(client)).toBe(true);
  });

  test('and leaves with its client before that has told, is nobody any more', async () => {
    const { client, asked } = await connect({ guestSees: bios, shared: true, answer: 'never' });
    await ring(client);
    await soon(() => expect(asked).toHaveLength(1));
    client.close();
    await soon(() => expect(served.vfioUser.connection).toBeUndefined());
    served.close();
    await new Promise(setImmediate);
    expect(warnings()).toEqual([]);
  });
});

describe('a guest is let in', () => {
  test('when its memory is seen, and the client is asked nothing', async () => {
    const { client, asked } = await connect({ guestSees: bios, shared: true });
    await turnOn(client);
    expect(sharing()).toBe('shared');
    expect(await negotiate(client)).toBe(true);
    expect(asked).toEqual([]);
  });

  test('when it has written nothing yet: a driver without a machine around it', async () => {
    const { client, asked } = await connect();
    await turnOn(client);
    await soon(() => expect(asked).toHaveLength(1));
    expect(await negotiate(client)).toBe(true);
    expect(warnings()).toEqual([]);
  });

  test('when it began to write while the client was asked', async () => {
    const { client } = await connect({ guestSees: bios, answer: 'never' });
    let asked: Received | undefined;
    client.onCommand = (command) => {
      asked = command;
    };
    await turnOn(client);
    await soon(() => expect(asked).toBeDefined());
    served.memory.write(0, bios);
    const { address, count } = decode(dmaAccess, asked!.body);
    const data = new Uint8Array(count);
    data.set(bios);
    const body = Uint8Array.from([...encode(dmaAccess, { address, count }), ...data]);
    client.sendBytes(messageBytes({ id: asked!.id, command: DMA_READ, flags: TYPE_REPLY }, body));
    expect(await negotiate(client)).toBe(true);
    expect(sharing()).toBe('shared');
  });

  test.each(['error', 'never'] as const)('when the client answers with %s', async (answer) => {
    const { client } = await connect({ guestSees: bios, answer });
    await turnOn(client);
    expect(await negotiate(client)).toBe(true);
    expect(sharing()).toBe('unknown');
  });
});

test('a guest that rings a device it never set up is one line, and a number until its client has gone', async () => {
  const { client } = await connect({ guestSees: bios, shared: true });
  for (const queue of [0, 1, 0]) await client.writeRegion(0, 0x3000 + 4 * queue, Uint8Array.of(queue, 0));
  expect(served.info().guest).toMatchObject({ status: 0, strayDoorbells: 3 });
  expect(warnings()).toEqual([
    {
      level: 'warn',
      message: 'the guest rings a device that it has not set up: it gets no answer',
      fields: {
        socketPath: served.vfioUser.socketPath,
        hint: 'reboot the guest, or have its driver look for the device anew',
      },
    },
  ]);
  client.close();
  await soon(() => expect(served.vfioUser.connection).toBeUndefined());
  expect(served.info().guest.strayDoorbells).toBe(0);
});
