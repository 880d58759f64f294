/** DEVICE_SET_IRQS: one message with sixty ways to be wrong, parsed whole before anything is done. */
import { readlinkSync } from 'node:fs';
import { EINVAL, ProtocolError } from '../errors.ts';
import { IRQ_ERR, type IrqIndex } from '../host/contract.ts';
import { decode } from '../wire.ts';
import type { ReceivedFds } from './framing.ts';
import {
  IRQ_SET_ACTION_MASK,
  IRQ_SET_ACTION_TRIGGER,
  IRQ_SET_ACTION_UNMASK,
  IRQ_SET_DATA_BOOL,
  IRQ_SET_DATA_EVENTFD,
  IRQ_SET_DATA_NONE,
  setIrqs,
} from './protocol.ts';

const DATA_MASK = IRQ_SET_DATA_NONE | IRQ_SET_DATA_BOOL | IRQ_SET_DATA_EVENTFD;
const ACTION_MASK = IRQ_SET_ACTION_MASK | IRQ_SET_ACTION_UNMASK | IRQ_SET_ACTION_TRIGGER;

export type SetIrqs =
  | {
      readonly kind: 'attach';
      readonly index: number;
      readonly start: number;
      readonly fds: readonly number[];
    }
  | { readonly kind: 'detach'; readonly index: number; readonly start: number; readonly count: number }
  | { readonly kind: 'trigger'; readonly index: number; readonly vectors: readonly number[] };

/**
 * Checks a request against the interrupts there are. Takes the descriptors out of `fds` only when all is well.
 * Throws `ProtocolError` with EINVAL otherwise. Masking is refused: no interrupt is announced as maskable.
 */
export function parseSetIrqs(body: Uint8Array, fds: ReceivedFds, irqs: readonly IrqIndex[]): SetIrqs {
  const refuse = (message: string): never => {
    throw new ProtocolError(EINVAL, `SET_IRQS: ${message}`);
  };
  if (body.length < setIrqs.size) return refuse(`body of ${body.length} bytes`);
  const { argsz, flags, index, start, count } = decode(setIrqs, body);
  if (argsz < setIrqs.size) return refuse(`argsz ${argsz}`);
  const data = flags & DATA_MASK;
  const action = flags & ACTION_MASK;
  if (flags & ~(DATA_MASK | ACTION_MASK) || !isOneBit(data) || !isOneBit(action))
    return refuse(`flags 0x${flags.toString(16)}`);
  const irq = irqs[index];
  if (!irq) return refuse(`index ${index}`);
  if (data !== IRQ_SET_DATA_EVENTFD && fds.count > 0)
    return refuse(`${fds.count} descriptors without DATA_EVENTFD`);

  if (count === 0) {
    const disable = data === IRQ_SET_DATA_NONE && action === IRQ_SET_ACTION_TRIGGER && start === 0;
    return disable
      ? { kind: 'detach', index, start: 0, count: irq.count }
      : refuse(`no vectors from ${start}`);
  }
  if (start + count > irq.count) return refuse(`vectors ${start}+${count} of ${irq.count}`);
  if (action !== IRQ_SET_ACTION_TRIGGER)
    return refuse(index >= IRQ_ERR ? 'masks ERR or REQ' : 'is not maskable');

  if (data === IRQ_SET_DATA_EVENTFD) {
    if (fds.count === 0) return { kind: 'detach', index, start, count };
    if (fds.count !== count) return refuse(`${fds.count} descriptors for ${count} vectors`);
    if (!fds.every(isEventfd)) return refuse('a descriptor is not an eventfd');
    return { kind: 'attach', index, start, fds: fds.takeAll() };
  }
  const all = Array.from({ length: count }, (_, i) => start + i);
  if (data === IRQ_SET_DATA_NONE) return { kind: 'trigger', index, vectors: all };
  const bools = body.subarray(setIrqs.size);
  if (bools.length !== count) return refuse(`${bools.length} booleans for ${count} vectors`);
  return { kind: 'trigger', index, vectors: all.filter((vector) => bools[vector - start] !== 0) };
}

const isOneBit = (value: number) => value !== 0 && (value & (value - 1)) === 0;

/** A write to anything else could block, or damage a file. */
const isEventfd = (fd: number) => readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]';
