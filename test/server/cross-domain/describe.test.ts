import { expect, test } from 'vitest';
import { CrossDomain } from '../../../server/cross-domain/component.ts';
import { describe as inWords } from '../../../server/cross-domain/describe.ts';
import { fakeResource } from '../../support/fake-resource.ts';
import { command, sendCommand, words, writeCommand } from '../../support/guest-channel.ts';

test.each([
  [command(1, words(11, 12, 1)), 'INIT(rings resource#11 resource#12, wayland)'],
  [command(1, words(11, 9)), 'INIT(ring resource#11, channel type 9)'],
  [command(1, words(11)), 'INIT(cut after 4 bytes)'],
  [command(2, words(640, 480, 0x3432_5258, 0x11)), 'GET_IMAGE_REQUIREMENTS(640x480, XR24)'],
  [command(2, words(1, 1, 0x2020_3852, 0)), 'GET_IMAGE_REQUIREMENTS(1x1, R8)'],
  [command(2, words(1, 1, 7, 0)), 'GET_IMAGE_REQUIREMENTS(1x1, format 0x7)'],
  [command(3, words(0, 0)), 'POLL()'],
  [
    sendCommand(new Uint8Array(5), [
      [1, 7],
      [3, 0x8000_0001],
      [8, 9],
    ]),
    'SEND(5 bytes, blob#7, read pipe#2147483649, type 8#9)',
  ],
  [command(4, words(30, 2, ...new Array(84).fill(1))), `SEND(2 bytes${', blob#1'.repeat(28)}, 2 more)`],
  [writeCommand(6, new Uint8Array(3), 1), 'WRITE(pipe#6, 3 bytes, the end)'],
  [command(77, words(1)), 'command 77(4 bytes)'],
])('command %# in words', (bytes, line) => {
  expect(inWords(bytes)).toBe(line);
});

test('a trace has the commands of a guest in order, also those that are refused, and the messages to it', () => {
  const lines: string[] = [];
  const component = new CrossDomain({
    observe: ({ contextId }, message) => lines.push(`${contextId} ${inWords(message)}`),
  });
  const context = component.createContext({ contextId: 4, name: 'test' });
  context.attach(fakeResource(11));
  context.attach(fakeResource(12));
  const submit = (bytes: Uint8Array) => context.submit(bytes);
  submit(Buffer.concat([command(1, words(11, 12, 0)), command(3, words(0, 0))]));
  expect(() => submit(command(9, words()))).toThrow('command 9');
  context.close();
  expect(lines).toEqual([
    '4 INIT(rings resource#11 resource#12, no channel)',
    '4 POLL()',
    '4 command 9(0 bytes)',
  ]);
});
