import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fstatSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import {
  acceptUnix,
  connectUnix,
  createEventfd,
  createMemfd,
  createPipe,
  drainEventfd,
  listenUnix,
  receive,
  SystemError,
  send,
  sendDatagram,
  signalEventfd,
  socketPair,
  WOULD_BLOCK,
} from '../../native/index.ts';
import { forTest, openFds, temporaryFolder } from './support.ts';

function pair(): [number, number] {
  const [left, right] = socketPair();
  return [forTest(left), forTest(right)];
}

/** Room for bytes, and for 16 descriptors. */
function room(capacity = 16): { bytes: Uint8Array; fds: Int32Array } {
  return { bytes: new Uint8Array(64), fds: new Int32Array(capacity + 1).fill(-7) };
}

function eventfds(count: number): number[] {
  return Array.from({ length: count }, () => forTest(createEventfd()));
}

function closeAll(fds: Int32Array): void {
  for (const fd of fds.subarray(1, 1 + fds[0]!)) closeSync(fd);
}

/** The flags line of /proc/self/fdinfo, in which 02000000 is close-on-exec and 04000 non-blocking. */
function fdFlags(fd: number): number {
  return Number.parseInt(/flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1]!, 8);
}
const closeOnExec = 0o2000000;
const nonBlocking = 0o4000;

test('bytes arrive where they were asked for', () => {
  const [left, right] = pair();
  const { bytes, fds } = room();
  expect(send(left, Buffer.from('--hello--'), 2, 5)).toBe(5);
  expect(receive(right, bytes, 3, 10, fds)).toBe(5);
  expect(Buffer.from(bytes.subarray(0, 10)).toString()).toBe('\0\0\0hello\0\0');
  expect(fds[0]).toBe(0);
});

test('a read takes no more than it was asked for', () => {
  const [left, right] = pair();
  const { bytes, fds } = room();
  send(left, Buffer.from('headbody'), 0, 8);
  expect(receive(right, bytes, 0, 4, fds)).toBe(4);
  expect(receive(right, bytes, 4, 60, fds)).toBe(4);
  expect(Buffer.from(bytes.subarray(0, 8)).toString()).toBe('headbody');
});

test('an empty socket would block, and says that no descriptor came', () => {
  const [, right] = pair();
  const { bytes, fds } = room();
  expect(receive(right, bytes, 0, 16, fds)).toBe(WOULD_BLOCK);
  expect(fds[0]).toBe(0);
});

test('the end of the stream is 0, after the bytes that were under way', () => {
  const [left, right] = socketPair();
  forTest(right);
  const { bytes, fds } = room();
  send(left, Buffer.from('bye'), 0, 3);
  closeSync(left);
  expect(receive(right, bytes, 0, 16, fds)).toBe(3);
  expect(receive(right, bytes, 0, 16, fds)).toBe(0);
});

test('a descriptor travels and works on the other side', () => {
  const [left, right] = pair();
  const { bytes, fds } = room();
  const [sent] = eventfds(1) as [number];
  send(left, Buffer.from('x'), 0, 1, [sent]);
  expect(receive(right, bytes, 0, 16, fds)).toBe(1);
  expect(fds[0]).toBe(1);
  const received = forTest(fds[1]!);
  expect(received).not.toBe(sent);
  signalEventfd(sent);
  expect(drainEventfd(received)).toBe(1);
});

test('received descriptors are close-on-exec', () => {
  const [left, right] = pair();
  const { bytes, fds } = room();
  send(left, Buffer.from('x'), 0, 1, eventfds(1));
  receive(right, bytes, 0, 16, fds);
  expect(fdFlags(forTest(fds[1]!)) & closeOnExec).toBe(closeOnExec);
});

test('16 descriptors fit in room for 16, in order', () => {
  const [left, right] = pair();
  const { bytes, fds } = room(16);
  const sent = Array.from({ length: 16 }, (_, i) => forTest(createMemfd(`fd-${i}`, 100 + i)));
  send(left, Buffer.from('x'), 0, 1, sent);
  receive(right, bytes, 0, 16, fds);
  expect(fds[0]).toBe(16);
  expect(Array.from(fds.subarray(1), (fd) => fstatSync(fd).size)).toEqual(sent.map((_, i) => 100 + i));
  closeAll(fds);
});

test('17 descriptors in room for 16 are an error, and none stays open', () => {
  const [left, right] = pair();
  const { bytes, fds } = room(16);
  const sent = eventfds(17);
  const before = openFds();
  send(left, Buffer.from('x'), 0, 1, sent);
  expect(() => receive(right, bytes, 0, 16, fds)).toThrow(
    expect.objectContaining({ errno: 90, code: 'EMSGSIZE', syscall: 'recvmsg' }),
  );
  expect(fds[0]).toBe(0);
  expect(openFds()).toBe(before);
});

test('one descriptor more than an odd capacity is an error too, in spite of the padding of control data', () => {
  const [left, right] = pair();
  const { bytes, fds } = room(1);
  send(left, Buffer.from('x'), 0, 1, eventfds(2));
  expect(() => receive(right, bytes, 0, 16, fds)).toThrow(SystemError);
});

test('a descriptor for somebody without room is an error, and does not stay open', () => {
  const [left, right] = pair();
  const { bytes, fds } = room(0);
  const sent = eventfds(1);
  const before = openFds();
  send(left, Buffer.from('x'), 0, 1, sent);
  expect(() => receive(right, bytes, 0, 16, fds)).toThrow(expect.objectContaining({ code: 'EMSGSIZE' }));
  expect(openFds()).toBe(before);
});

test('253 descriptors travel, the most that the kernel carries', () => {
  const [left, right] = pair();
  const { bytes, fds } = room(300);
  const before = openFds();
  const [one] = eventfds(1) as [number];
  send(left, Buffer.from('x'), 0, 1, new Array(253).fill(one));
  receive(right, bytes, 0, 16, fds);
  expect(fds[0]).toBe(253);
  closeAll(fds);
  expect(openFds()).toBe(before + 1);
  expect(() => send(left, Buffer.from('x'), 0, 1, new Array(254).fill(one))).toThrow(RangeError);
});

test('sending keeps the descriptors open here', () => {
  const [left] = pair();
  const [sent] = eventfds(1) as [number];
  send(left, Buffer.from('x'), 0, 1, [sent]);
  expect(() => signalEventfd(sent)).not.toThrow();
});

test('a full socket takes a part, then would block, and takes the rest after a read', () => {
  const [left, right] = pair();
  const message = new Uint8Array(4 << 20).map((_, i) => i % 251);
  const accepted = send(left, message, 0, message.length);
  expect(accepted).toBeGreaterThan(0);
  expect(accepted).toBeLessThan(message.length);
  expect(send(left, message, accepted, message.length - accepted)).toBe(WOULD_BLOCK);

  const received = new Uint8Array(message.length);
  const fds = new Int32Array(1);
  let at = 0;
  let sent = accepted;
  while (at < message.length) {
    at += Math.max(0, receive(right, received, at, message.length - at, fds));
    if (sent < message.length) sent += Math.max(0, send(left, message, sent, message.length - sent));
  }
  expect(Buffer.compare(received, message)).toBe(0);
});

test('sending to a peer that is gone is EPIPE, not a signal', () => {
  const [left, right] = socketPair();
  forTest(left);
  closeSync(right);
  expect(() => send(left, Buffer.from('x'), 0, 1)).toThrow(
    expect.objectContaining({ code: 'EPIPE', syscall: 'sendmsg' }),
  );
});

test('sending a descriptor that is none is EBADF', () => {
  const [left] = pair();
  expect(() => send(left, Buffer.from('x'), 0, 1, [999_999])).toThrow(
    expect.objectContaining({ code: 'EBADF' }),
  );
});

test('a listener is private, non-blocking and close-on-exec whatever the umask is', () => {
  const path = join(temporaryFolder(), 'socket');
  const umask = process.umask(0);
  onTestFinished(() => void process.umask(umask));
  const listener = forTest(listenUnix(path));
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(fdFlags(listener) & (closeOnExec | nonBlocking)).toBe(closeOnExec | nonBlocking);
});

test('connect and accept make a stream in both directions', () => {
  const path = join(temporaryFolder(), 'socket');
  const listener = forTest(listenUnix(path));
  expect(acceptUnix(listener)).toBe(undefined);
  const client = forTest(connectUnix(path));
  const server = forTest(acceptUnix(listener)!);
  expect(acceptUnix(listener)).toBe(undefined);

  const { bytes, fds } = room();
  send(client, Buffer.from('ping'), 0, 4);
  expect(receive(server, bytes, 0, 64, fds)).toBe(4);
  send(server, Buffer.from('pong!'), 0, 5);
  expect(receive(client, bytes, 0, 64, fds)).toBe(5);
  for (const end of [client, server]) {
    expect(fdFlags(end) & (closeOnExec | nonBlocking)).toBe(closeOnExec | nonBlocking);
  }
});

test('a path in use is refused, its file stays, and nothing stays open', () => {
  const path = join(temporaryFolder(), 'taken');
  writeFileSync(path, 'mine');
  const before = openFds();
  expect(() => listenUnix(path)).toThrow(expect.objectContaining({ code: 'EADDRINUSE', syscall: 'bind' }));
  expect(readFileSync(path, 'utf8')).toBe('mine');
  expect(openFds()).toBe(before);
});

test('paths of 107 bytes fit, of 108 do not', () => {
  const folder = temporaryFolder();
  const longest = join(folder, 'x'.repeat(107 - folder.length - 1));
  forTest(listenUnix(longest));
  expect(existsSync(longest)).toBe(true);
  expect(() => listenUnix(`${longest}x`)).toThrow(expect.objectContaining({ code: 'ENAMETOOLONG' }));
  expect(() => connectUnix(`${longest}x`)).toThrow(expect.objectContaining({ code: 'ENAMETOOLONG' }));
});

test('failed connections say why, and leave nothing open', () => {
  const folder = temporaryFolder();
  const before = openFds();
  expect(() => connectUnix(join(folder, 'nobody'))).toThrow(
    expect.objectContaining({ errno: 2, code: 'ENOENT', syscall: 'connect' }),
  );
  const path = join(folder, 'left');
  closeSync(listenUnix(path));
  expect(() => connectUnix(path)).toThrow(expect.objectContaining({ code: 'ECONNREFUSED' }));
  expect(openFds()).toBe(before);
});

test('a datagram that nobody waits for fails, by path and by abstract name', () => {
  const before = openFds();
  const bytes = Buffer.from('READY=1');
  expect(() => sendDatagram(join(temporaryFolder(), 'none'), bytes)).toThrow(
    expect.objectContaining({ code: 'ENOENT', syscall: 'sendto' }),
  );
  expect(() => sendDatagram('@nobody-listens-here', bytes)).toThrow(
    expect.objectContaining({ code: 'ECONNREFUSED' }),
  );
  expect(openFds()).toBe(before);
});

/** Perl, as Node has no datagram sockets of this kind: prints what arrives, after a line that says it listens. */
const receiver = String.raw`
  use Socket; $| = 1; my $name = $ARGV[0]; $name =~ s/^@/\0/;
  socket(S, AF_UNIX, SOCK_DGRAM, 0) or die; bind(S, pack_sockaddr_un($name)) or die "bind: $!";
  print "listening\n"; recv(S, my $text, 100, 0); print $text`;

test.for(['a path', 'an abstract name'])('a datagram arrives at %s', async (kind) => {
  const name = kind === 'a path' ? join(temporaryFolder(), 'notify') : `@native-test-${process.pid}`;
  const perl = spawn('perl', ['-e', receiver, name], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = perl.stdout.setEncoding('utf8')[Symbol.asyncIterator]();
  expect((await lines.next()).value).toBe('listening\n');
  sendDatagram(name, Buffer.from('READY=1'));
  expect((await lines.next()).value).toBe('READY=1');
});

test('wrong types and ranges are refused before the system is asked', () => {
  const [left, right] = pair();
  const { bytes, fds } = room();
  const wrong = undefined as never;
  expect(() => receive(right, bytes, 0, 65, fds)).toThrow(RangeError);
  expect(() => receive(right, bytes, 64, 1, fds)).toThrow(RangeError);
  expect(() => receive(right, bytes, -1, 1, fds)).toThrow(RangeError);
  expect(() => receive(right, bytes, 0.5, 1, fds)).toThrow(RangeError);
  expect(() => receive(right, bytes, Number.NaN, 1, fds)).toThrow(RangeError);
  expect(() => receive(right, bytes, 0, 2 ** 53, fds)).toThrow(RangeError);
  expect(() => receive(right, bytes, 0, 0, fds)).toThrow(RangeError);
  expect(() => receive(right, bytes, 0, 1, new Int32Array(0))).toThrow(RangeError);
  expect(() => receive(-1, bytes, 0, 1, fds)).toThrow(RangeError);
  expect(() => receive(2 ** 31, bytes, 0, 1, fds)).toThrow(RangeError);
  expect(() => receive('0' as never, bytes, 0, 1, fds)).toThrow(TypeError);
  expect(() => receive(right, fds as never, 0, 1, fds)).toThrow(TypeError);
  expect(() => receive(right, bytes, 0, 1, bytes as never)).toThrow(TypeError);
  expect(() => receive(right, bytes.buffer as never, 0, 1, fds)).toThrow(TypeError);
  expect(() => send(left, bytes, 1, 64)).toThrow(RangeError);
  expect(() => send(left, bytes, 0, 0, [1])).toThrow(RangeError);
  expect(() => send(left, bytes, 0, 1, [-1])).toThrow(RangeError);
  expect(() => send(left, bytes, 0, 1, ['0' as never])).toThrow(TypeError);
  expect(() => send(left, bytes, 0, 1, { length: 1 } as never)).toThrow(TypeError);
  expect(() => listenUnix(wrong)).toThrow(TypeError);
  expect(() => listenUnix('')).toThrow(expect.objectContaining({ code: 'ENOENT', syscall: 'bind' }));
  expect(() => connectUnix('')).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  expect(() => listenUnix('/tmp/with\0zero')).toThrow(TypeError);
  expect(() => sendDatagram('/tmp/x', 'text' as never)).toThrow(TypeError);
});

test('a detached buffer holds nothing', () => {
  const [left, right] = pair();
  const { bytes, fds } = room();
  send(left, Buffer.from('x'), 0, 1);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer as ArrayBuffer] });
  expect(() => receive(right, bytes, 0, 1, fds)).toThrow(RangeError);
});

test('a list of descriptors that empties the buffer while it is read does no harm', () => {
  const [left] = pair();
  const bytes = new Uint8Array(64);
  const trap: number[] = [];
  Object.defineProperty(trap, 0, {
    get() {
      structuredClone(bytes.buffer, { transfer: [bytes.buffer as ArrayBuffer] });
      return 0;
    },
  });
  expect(() => send(left, bytes, 0, 64, trap)).toThrow(RangeError);
});

test('an exception of a list of descriptors comes through', () => {
  const [left] = pair();
  const trap: number[] = [];
  Object.defineProperty(trap, 0, {
    get() {
      throw new Error('from the getter');
    },
  });
  expect(() => send(left, new Uint8Array(1), 0, 1, trap)).toThrow('from the getter');
});

test('a listener whose backlog is full is reported, not waited for, if so wanted', () => {
  const path = join(temporaryFolder(), 'full.sock');
  forTest(listenUnix(path, 0));
  const connect = () => forTest(connectUnix(path, { wait: false }));
  connect();
  expect(() => Array.from({ length: 10 }, connect)).toThrow(
    expect.objectContaining({ code: 'EAGAIN', syscall: 'connect' }),
  );
});

test('a pipe has two ends, close-on-exec, of which only the one to read from never waits', () => {
  const [read, write] = createPipe();
  for (const fd of [read, write]) expect(fdFlags(forTest(fd)) & closeOnExec).toBe(closeOnExec);
  expect([read, write].map((fd) => fdFlags(fd) & nonBlocking)).toEqual([nonBlocking, 0]);
  writeSync(write, 'through');
  const into = Buffer.alloc(10);
  expect(into.toString('utf8', 0, readSync(read, into))).toBe('through');
  expect(() => readSync(read, into)).toThrow(expect.objectContaining({ code: 'EAGAIN' }));
});
