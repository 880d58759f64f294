/** PNG encoding off the device thread: a worker that is started when needed and let go when idle. */
import { Worker } from 'node:worker_threads';
import type { Snapshot } from './screen.ts';

const IDLE_MS = 10_000;

interface Job {
  resolve(png: Uint8Array): void;
  reject(error: Error): void;
}

export class PngEncoder {
  readonly #jobs = new Map<number, Job>();
  #worker: Worker | undefined;
  #idle: NodeJS.Timeout | undefined;
  #nextId = 0;

  /** Takes the snapshot's memory over; it is empty afterwards. */
  encode({ width, height, rgba }: Snapshot): Promise<Uint8Array> {
    clearTimeout(this.#idle);
    const worker = this.#worker ?? this.#start();
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#jobs.set(id, { resolve, reject });
      worker.postMessage({ id, width, height, rgba }, [rgba.buffer as ArrayBuffer]);
    });
  }

  async close(): Promise<void> {
    clearTimeout(this.#idle);
    const worker = this.#worker;
    this.#fail(new Error('the encoder was closed'));
    await worker?.terminate();
  }

  #start(): Worker {
    const worker = new Worker(new URL('./png-worker.mjs', import.meta.url));
    worker.unref();
    worker.on('message', ({ id, png }: { id: number; png: Uint8Array }) => this.#finish(id, png));
    worker.on('error', (error) => this.#fail(error as Error));
    this.#worker = worker;
    return worker;
  }

  #finish(id: number, png: Uint8Array): void {
    this.#jobs.get(id)?.resolve(png);
    this.#jobs.delete(id);
    if (this.#jobs.size > 0) return;
    this.#idle = setTimeout(() => void this.close(), IDLE_MS);
    this.#idle.unref();
  }

  /** The worker is gone; the next picture starts another one. */
  #fail(error: Error): void {
    this.#worker = undefined;
    for (const job of this.#jobs.values()) job.reject(error);
    this.#jobs.clear();
  }
}
