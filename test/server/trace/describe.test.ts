import { expect, test } from 'vitest';
import { Describer, type TracedMessage } from '../../../server/trace/describe.ts';
import * as protocol from '../../../server/vfio-user/protocol.ts';
import { bodies, Served } from '../../support/fake-client.ts';

const message = (command: number, body: Uint8Array, rest: Partial<TracedMessage> = {}): TracedMessage => ({
  dir: 'c2s',
  id: 7,
  command,
  flags: 0,
  error: 0,
  body,
  fdCount: 0,
  ...rest,
});
const describeOne = (command: number, body: Uint8Array, rest: Partial<TracedMessage> = {}) =>
  new Describer().describe(message(command, body, rest));

test('requests and replies are one line each, with what matters in it', () => {
  const reply = { dir: 's2c', flags: 1 } as const;
  expect([
    describeOne(protocol.VERSION, bodies.version('{"capabilities":{}}')),
    describeOne(protocol.DMA_MAP, bodies.dmaMap({ address: 0x1000, size: 0x2000, offset: 0x3000 }), {
      fdCount: 1,
    }),
    describeOne(protocol.DMA_UNMAP, bodies.dmaUnmap({ flags: 2, address: 0, size: 0 })),
    describeOne(protocol.DEVICE_GET_INFO, bodies.deviceInfo(), reply),
    describeOne(protocol.DEVICE_GET_REGION_INFO, bodies.regionInfo(4)),
    describeOne(protocol.DEVICE_GET_REGION_IO_FDS, bodies.regionIoFds(0, { count: 2 }), reply),
    describeOne(protocol.DEVICE_GET_IRQ_INFO, bodies.irqInfo(2), reply),
    describeOne(protocol.DEVICE_SET_IRQS, bodies.setIrqs(0x24, 2, 0, 3), { fdCount: 3 }),
    describeOne(protocol.REGION_READ, bodies.access(7, 4, 2)),
    describeOne(protocol.REGION_WRITE, bodies.access(0, 0x3000, 2, [1, 0]), { flags: 0x10 }),
    describeOne(protocol.REGION_WRITE_MULTI, bodies.writeMulti([])),
    describeOne(protocol.DEVICE_RESET, new Uint8Array(0), { ...reply, flags: 0x21, error: 22 }),
    describeOne(99, Uint8Array.of(1, 2)),
  ]).toEqual([
    '>     7 VERSION 0.0 {"capabilities":{}}',
    '>     7 DMA_MAP 1 fd 0x1000+0x2000 rw file offset 0x3000',
    '>     7 DMA_UNMAP 0x0+0x0 flags 0x2',
    '<     7 DEVICE_GET_INFO reply flags 0x0, 0 regions, 0 interrupt indexes',
    '>     7 DEVICE_GET_REGION_INFO BAR4 argsz 32',
    '<     7 DEVICE_GET_REGION_IO_FDS reply BAR0 2 sub-regions',
    '<     7 DEVICE_GET_IRQ_INFO reply MSIX 0 vectors, flags 0x0',
    '>     7 DEVICE_SET_IRQS 3 fds MSIX eventfd TRIGGER 0+3',
    '>     7 REGION_READ CONFIG+0x4 command 2 bytes',
    '>     7 REGION_WRITE posted BAR0+0x3000 = 0x1',
    '>     7 REGION_WRITE_MULTI 0 writes',
    '<     7 DEVICE_RESET reply error 22',
    '>     7 command 99 0x201',
  ]);
});

test('registers get their names from the config space that went by', async () => {
  using served = await Served.start();
  const describer = new Describer();
  const config = await served.client.readRegion(7, 0, 256);
  const read = bodies.access(7, 0, 256, [...config]);
  describer.describe(message(protocol.REGION_READ, read, { dir: 's2c', flags: 1 }));
  const names = [0x14, 0x1000, 0x2004, 0x3004].map((offset) =>
    describer
      .describe(message(protocol.REGION_WRITE, bodies.access(0, offset, 1, [3])))
      .split(' ')
      .slice(-3)
      .join(' '),
  );
  expect(names.map((words) => words.replace(/^\S*\+\S+ /, ''))).toEqual([
    'device_status = 0x3',
    'ISR = 0x3',
    '4 = 0x3',
    '1 = 0x3',
  ]);
});

test('bodies that do not fit their command are shown as bytes, whatever they are', () => {
  for (const command of [...Object.keys(protocol.COMMAND_NAMES).map(Number), 0, 500]) {
    for (const length of [1, 3, 15, 100]) {
      expect(describeOne(command, new Uint8Array(length).fill(0xff))).toMatch(/^> {5}7 /);
    }
  }
});
