/** Host sides to play vectors against: ours in this process, and any program that speaks the adapter's protocol. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { connectUnix } from '../../../native/index.ts';
import type { SentBlob } from '../../../server/cross-domain/context.ts';
import { CrossDomainContext } from '../../../server/cross-domain/context.ts';
import { LingeringPipes } from '../../../server/cross-domain/pipes.ts';
import { WaylandConnection } from '../../../server/cross-domain/wayland/connection.ts';
import { OPEN_POLICY } from '../../../server/cross-domain/wayland/policy.ts';
import { GpuFault } from '../../../server/gpu/fault.ts';
import { fakeResource } from '../../support/fake-resource.ts';
import { fakeBuffer } from '../../support/guest-channel.ts';
import { type HostSide, PATIENCE_MS } from './kit.ts';

/** Our host side, without a device around it. */
export function ourHost(compositorPath: string): HostSide {
  const context = new CrossDomainContext({
    shared: { images: 0, objects: 0, lingering: new LingeringPipes() },
    host: { contextId: 1, name: 'vector' },
    wayland: {
      connect: () => connectUnix(compositorPath),
      makeStream: () => new WaylandConnection<SentBlob>(OPEN_POLICY),
    },
    ended: () => {},
    note: () => {},
    refused: () => {},
  });
  const rings = new Map<number, Uint8Array>();
  return {
    async attachRing(id, sizeBytes) {
      const ring = fakeResource(id, sizeBytes);
      rings.set(id, ring.bytes);
      context.attach(ring);
    },
    async attachBuffer(id, sizeBytes, fill) {
      context.attach(fakeBuffer(id, new Uint8Array(sizeBytes).fill(fill)));
    },
    async submit(bytes) {
      try {
        context.submit(bytes);
        return true;
      } catch (error) {
        if (!(error instanceof GpuFault)) throw error;
        return false;
      }
    },
    fence: (ringIdx, ringId) =>
      new Promise((resolve) => context.fence(ringIdx, () => resolve(rings.get(ringId)!.slice()))),
    async createBlob(blobId, sizeBytes) {
      try {
        const blob = context.createBlob(BigInt(blobId), sizeBytes);
        const bytes = new Uint8Array(sizeBytes);
        if (blob.initial) bytes.set(blob.initial.subarray(0, sizeBytes));
        blob.close();
        return bytes;
      } catch (error) {
        if (!(error instanceof GpuFault)) throw error;
        return undefined;
      }
    },
    async close() {
      context.close();
    },
  };
}

type Call = Exclude<keyof HostSide, 'close'>;

/** A host side in a program: one JSON object a line, both ways. See README.md. */
export function programHost(command: readonly string[], compositorPath: string): HostSide {
  const child = spawn(command[0]!, [...command.slice(1), compositorPath], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const calls = new Map<
    number,
    { readonly answered: (result: unknown) => void; readonly failed: (error: Error) => void }
  >();
  createInterface(child.stdout).on('line', (line) => {
    const { id, result } = JSON.parse(line);
    calls.get(id)?.answered(result);
    calls.delete(id);
  });
  let gone: Error | undefined;
  const end = (error: Error) => {
    gone ??= error;
    for (const { failed } of calls.values()) failed(gone);
    calls.clear();
  };
  child.on('error', end);
  // What it did not read any more. Why is told by one of the others.
  child.stdin.on('error', () => {});
  child.on('close', (status) => end(new Error(`the program has left with ${status}`)));
  const closed = new Promise((resolve) => child.on('close', resolve));
  let next = 1;
  const call = (name: Call, args: readonly unknown[]) =>
    new Promise<unknown>((answered, failed) => {
      if (gone) throw gone;
      const id = next++;
      calls.set(id, { answered, failed });
      child.stdin.write(`${JSON.stringify({ id, call: name, args })}\n`);
    });
  const bytes = (hex: unknown) => new Uint8Array(Buffer.from(hex as string, 'hex'));
  return {
    attachRing: async (...args) => void (await call('attachRing', args)),
    attachBuffer: async (...args) => void (await call('attachBuffer', args)),
    submit: async (data) => (await call('submit', [Buffer.from(data).toString('hex')])) as boolean,
    fence: async (...args) => bytes(await call('fence', args)),
    createBlob: async (...args) => {
      const hex = await call('createBlob', args);
      return hex === null ? undefined : bytes(hex);
    },
    async close() {
      child.stdin.end();
      // One that is caught in a command does not notice.
      const late = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS);
      await closed;
      clearTimeout(late);
    },
  };
}

/** The other end of `programHost`: answers calls from standard input with a host side. */
export async function serveCalls(host: HostSide): Promise<void> {
  for await (const line of createInterface(process.stdin)) {
    const { id, call, args } = JSON.parse(line);
    const answer = (result: unknown) => process.stdout.write(`${JSON.stringify({ id, result })}\n`);
    // Fences pass when they pass: the next call is not kept waiting.
    void callHost(host, call, args).then(answer);
  }
  await host.close();
}

async function callHost(host: HostSide, call: Call, args: readonly never[]): Promise<unknown> {
  const hex = (bytes: Uint8Array | undefined) => (bytes ? Buffer.from(bytes).toString('hex') : null);
  switch (call) {
    case 'attachRing':
      return (await host.attachRing(args[0]!, args[1]!)) ?? null;
    case 'attachBuffer':
      return (await host.attachBuffer(args[0]!, args[1]!, args[2]!)) ?? null;
    case 'submit':
      return await host.submit(new Uint8Array(Buffer.from(args[0]!, 'hex')));
    case 'fence':
      return hex(await host.fence(args[0]!, args[1]!));
    case 'createBlob':
      return hex(await host.createBlob(args[0]!, args[1]!));
    default:
      return call satisfies never;
  }
}
