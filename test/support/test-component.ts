/**
 * A kind of context whose every step the test decides: blobs of any id, fences that pass when the test says so, and a
 * record of what the device asked of it.
 */
import type {
  AttachedResource,
  Component,
  Context,
  ContextBlob,
  ContextHost,
} from '../../server/gpu/contracts/context.ts';
import { GpuFault } from '../../server/gpu/fault.ts';

/** Command streams that begin with this word are refused. */
export const REFUSED_WORD = 0xbad;
/** Blobs of this id are refused. */
export const REFUSED_BLOB = 0xbad;

export class TestContext implements Context {
  readonly ringCount = 4;
  get counters() {
    return { submitted: this.submitted.length };
  }
  readonly host: ContextHost;
  readonly submitted: number[][] = [];
  readonly attached = new Map<number, AttachedResource>();
  /** Fences that have not passed, by ring. */
  readonly fences: (() => void)[][] = [[], [], [], []];
  /** By blob id: what a blob has in it when it is mapped. */
  readonly initial = new Map<number, Uint8Array>();
  openBlobs = 0;
  closed = false;
  /** Why the device ended it, each time. */
  readonly ends: string[] = [];
  /** Whether fences pass at once. */
  passesAtOnce = true;

  constructor(host: ContextHost) {
    this.host = host;
  }

  submit(commands: Uint8Array): void {
    const words = [...new Uint32Array(commands.buffer, commands.byteOffset, commands.length >> 2)];
    if (words[0] === REFUSED_WORD) throw new GpuFault(0x1200, 'refused, as asked');
    this.submitted.push(words);
  }

  fence(ringIdx: number, passed: () => void): void {
    if (this.passesAtOnce) passed();
    else this.fences[ringIdx]!.push(passed);
  }

  createBlob(blobId: bigint): ContextBlob {
    if (blobId === BigInt(REFUSED_BLOB)) throw new GpuFault(0x1200, 'refused, as asked');
    this.openBlobs++;
    const initial = this.initial.get(Number(blobId));
    return { ...(initial ? { initial } : {}), close: () => this.openBlobs-- };
  }

  attach(resource: AttachedResource): void {
    this.attached.set(resource.id, resource);
  }

  detach(resourceId: number): void {
    this.attached.delete(resourceId);
  }

  end(reason: string): void {
    this.ends.push(reason);
  }

  close(): void {
    this.closed = true;
  }
}

export class TestComponent implements Component {
  readonly name = 'test';
  readonly pastCounters = { submitted: 1000 };
  readonly capsetId = 7;
  readonly maxVersion = 3;
  readonly capset = Uint8Array.from({ length: 20 }, (_, i) => i + 1);
  /** Every context ever made, by id; the last one where an id was used again. */
  readonly contexts = new Map<number, TestContext>();

  createContext(host: ContextHost): Context {
    const context = new TestContext(host);
    this.contexts.set(host.contextId, context);
    return context;
  }
}
