/** What tests of others can do with a device on its socket, shown with an example; real guests use it, too. */
import { expect, test } from 'vitest';
import { FakeClient } from '../../testing/index.ts';
import { startExample } from '../support/example.ts';

const [STATUS, ADDRESS, OFFSET, LENGTH, COMMAND] = [0x04, 0x08, 0x10, 0x14, 0x18];
const MEMORY_BAR = 2;
const [IDLE, DONE, FAILED] = [0, 2, 3];

test('the scratchpad copies between guest memory and its own, interrupts, and forgets all at a reset', async () => {
  await using example = await startExample('scratchpad');
  using client = await FakeClient.connect(example.socketPath);
  const run = async (command: number, address: number, offset: number) => {
    await client.write(0, ADDRESS, 4, address);
    await client.write(0, OFFSET, 4, offset);
    await client.write(0, LENGTH, 4, 4);
    await client.write(0, COMMAND, 4, command);
    await client.interrupt(0);
    return await client.read(0, STATUS, 4);
  };
  const address = client.memory.allocate(8);
  client.memory.bytes(address, 4).set([1, 2, 3, 4]);
  expect(await client.read(0, STATUS, 4)).toBe(IDLE);
  // Nothing before the guest allows it.
  expect(await run(1, address, 0x20)).toBe(FAILED);
  await client.enable();
  expect(await run(1, address, 0x20)).toBe(DONE);
  expect(await client.read(MEMORY_BAR, 0x20, 4)).toBe(0x0403_0201);
  expect(await run(2, address + 4, 0x22)).toBe(DONE);
  expect([...client.memory.bytes(address, 8)]).toEqual([1, 2, 3, 4, 3, 4, 0, 0]);
  expect(await run(2, address, 0xfffd)).toBe(FAILED);
  expect(await run(1, address - 1, 0)).toBe(FAILED);
  expect(client.pendingInterrupts(0)).toBe(0);
  await client.reset();
  expect(await client.read(0, STATUS, 4)).toBe(IDLE);
  expect(await client.read(MEMORY_BAR, 0x20, 4)).toBe(0);
});
