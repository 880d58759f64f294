import { closeSync, existsSync, readSync } from 'node:fs';
import { dirname } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { acceptUnix } from '../../../native/index.ts';
import { SecurityContext } from '../../../server/cross-domain/security-context.ts';
import { openFds } from '../../support/fake-client.ts';
import { FakeCompositor } from '../../support/guest-channel.ts';
import { soon } from '../../support/soon.ts';
import { event, join } from './wayland/talk.ts';

const MANAGER = 'wp_security_context_manager_v1';

/** What it does when the compositor has spoken: says something, or leaves. */
function reaction(socket: number) {
  return soon(() => {
    const taken = FakeCompositor.take(socket);
    expect(taken.data.length > 0 || taken.hasLeft).toBe(true);
    return taken;
  });
}

/** The connection on which the compositor is asked, and has read the question. */
function asked(compositor: FakeCompositor): number {
  const socket = compositor.accept()!;
  // get_registry and sync.
  expect(FakeCompositor.take(socket).data.toString('hex')).toBe(
    '0100000001000c0002000000' + '0100000000000c0003000000',
  );
  return socket;
}

async function answered(compositor: FakeCompositor, globals: readonly string[]) {
  const socket = asked(compositor);
  FakeCompositor.send(
    socket,
    join(
      ...globals.map((name, i) => event('wl_registry.global', 2, i + 1, name, 1)),
      event('wl_callback.done', 3, 0),
    ),
  );
  return await reaction(socket);
}

function start(compositor: FakeCompositor): SecurityContext {
  const context = new SecurityContext(compositor.path, () => {});
  onTestFinished(() => context[Symbol.dispose]());
  return context;
}

test('a compositor that has the protocol gets a listener, who the guests are, and a way to hear of the end', async () => {
  const before = openFds();
  const compositor = new FakeCompositor();
  const context = new SecurityContext(compositor.path, () => {});
  const { data, fds } = await answered(compositor, ['wl_compositor', MANAGER]);
  const text = data.toString('latin1');
  for (const word of [MANAGER, 'vfio-user-gpu', String(process.pid)]) expect(text).toContain(word);
  expect(context.isOpen).toBe(true);
  const [listener, closing] = fds as [number, number];
  const guest = context.connect();
  const end = acceptUnix(listener);
  expect(end).not.toBe(undefined);
  expect(compositor.accept()).toBe(undefined);
  context[Symbol.dispose]();
  // The other end of the pipe has hung up.
  expect(readSync(closing, Buffer.alloc(1))).toBe(0);
  for (const fd of [guest, end!, listener, closing]) closeSync(fd);
  compositor[Symbol.dispose]();
  expect(openFds()).toBe(before);
});

test('a compositor that has it not is connected to directly', async () => {
  using compositor = new FakeCompositor();
  const context = start(compositor);
  await answered(compositor, ['wl_compositor']);
  expect(context.isOpen).toBe(false);
  closeSync(context.connect());
  expect(compositor.accept()).not.toBe(undefined);
});

test('a door that nobody stands behind any more is given up, and asked for again', async () => {
  using compositor = new FakeCompositor();
  const context = start(compositor);
  const { fds } = await answered(compositor, [MANAGER]);
  for (const fd of fds) closeSync(fd);
  closeSync(context.connect());
  expect(context.isOpen).toBe(false);
  // The question, and the guest.
  const { fds: again } = await answered(compositor, [MANAGER]);
  expect(context.isOpen).toBe(true);
  for (const fd of again) closeSync(fd);
});

test('a door with a queue before it is not gone around', async () => {
  using compositor = new FakeCompositor();
  const context = start(compositor);
  const { fds } = await answered(compositor, [MANAGER]);
  const guests: number[] = [];
  const fill = () => {
    for (let i = 0; i < 1000; i++) guests.push(context.connect());
  };
  expect(fill).toThrow('EAGAIN');
  expect(context.isOpen).toBe(true);
  expect(compositor.accept()).toBe(undefined);
  closeSync(acceptUnix(fds[0]!)!);
  guests.push(context.connect());
  for (const fd of [...fds, ...guests]) closeSync(fd);
});

test('the compositor is left when it has answered for the door, and not before', async () => {
  using compositor = new FakeCompositor();
  start(compositor);
  const socket = asked(compositor);
  const globals = event('wl_registry.global', 2, 1, MANAGER, 1);
  FakeCompositor.send(
    socket,
    join(globals, event('wl_callback.done', 3, 0), event('wl_display.delete_id', 1, 3)),
  );
  for (const fd of (await reaction(socket)).fds) closeSync(fd);
  // It would throw if nobody were there.
  FakeCompositor.send(socket, event('wl_callback.done', 6, 0));
  await soon(() => expect(() => FakeCompositor.send(socket, globals)).toThrow('EPIPE'));
});

test.each([
  ['announces it twice', [event('wl_registry.global', 2, 2, MANAGER, 1)], true],
  ['refuses it', [event('wl_display.error', 1, 4, 1, 'nested')], false],
  [
    'has said the last word before',
    [event('wl_callback.done', 6, 0), event('wl_registry.global', 2, 2, MANAGER, 1)],
    true,
  ],
  ['cannot be understood', [Uint8Array.of(2, 0, 0, 0, 0, 0, 7, 0)], false],
])('a compositor that %s gets one listener, and nothing is left behind', async (_, more, isOpen) => {
  const before = openFds();
  const compositor = new FakeCompositor();
  const context = new SecurityContext(compositor.path, () => {});
  const socket = asked(compositor);
  FakeCompositor.send(socket, join(event('wl_registry.global', 2, 1, MANAGER, 1), ...more));
  const { fds } = await reaction(socket);
  expect(context.isOpen).toBe(isOpen);
  expect(fds.length).toBe(2);
  for (const fd of fds) closeSync(fd);
  context[Symbol.dispose]();
  compositor[Symbol.dispose]();
  expect(openFds()).toBe(before);
});

test('without a compositor there is nothing to ask, until a guest comes', async () => {
  const compositor = new FakeCompositor();
  const { path } = compositor;
  compositor[Symbol.dispose]();
  expect(existsSync(dirname(path))).toBe(false);
  const context = new SecurityContext(path, () => {});
  expect(() => context.connect()).toThrow('ENOENT');
  context[Symbol.dispose]();
});
