/**
 * The pumps of the two queues: pop, decode, execute, complete; one flush at the end. Here guest mistakes become
 * answers.
 */
import type { Chain, SplitQueue, WorkBudget } from '../../pci/index.ts';
import {
  encodeResponse,
  isCursorCommand,
  OK,
  type Response,
  readControlCommand,
  readCursorCommand,
  readHeader,
  responseCode,
} from './codec.ts';
import { executeControl, executeCursor, type GpuState } from './execute.ts';
import { GpuFault } from './fault.ts';
import {
  type CtrlHeader,
  ctrlHeader,
  VIRTIO_GPU_FLAG_INFO_RING_IDX,
  VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
  VIRTIO_GPU_RESP_ERR_UNSPEC,
} from './protocol.ts';

export interface PumpObserver {
  /** A request was answered; `response` is the code, 0 where none could be given. */
  command(type: number, response: number): void;
  /** A request of this type (0: it had none) was refused. */
  refused(type: number, fault: GpuFault): void;
}

/** Runs a queue until it is empty (true) or the budget is used up (false). */
export function pump(queue: SplitQueue, budget: WorkBudget, execute: (chain: Chain) => number): boolean {
  try {
    while (budget.spend()) {
      const chain = queue.pop();
      if (!chain) return true;
      queue.complete(chain, execute(chain));
    }
    return false;
  } finally {
    queue.flush();
  }
}

/** Answers one request of the control queue; returns the bytes written. */
export function answerControl(state: GpuState, chain: Chain, observer: PumpObserver): number {
  const header = readHeader(chain);
  const response = attempt(observer, header, () => {
    if (!header) {
      const code =
        chain.readableBytes === 0 ? VIRTIO_GPU_RESP_ERR_UNSPEC : VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
      throw new GpuFault(code, `request of ${chain.readableBytes} bytes`);
    }
    if (header.flags & VIRTIO_GPU_FLAG_INFO_RING_IDX) {
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER, 'a context ring without CONTEXT_INIT');
    }
    return executeControl(state, readControlCommand(header, chain, state.limits.maxEntriesPerResource));
  });
  observer.command(header?.type ?? 0, responseCode(response));
  // A request that is no request is answered only where the answer fits whole.
  if (chain.readableBytes === 0 && chain.writableBytes < ctrlHeader.size) return 0;
  return chain.write(encodeResponse(header, response));
}

/** Answers one request of the cursor queue, where Linux leaves no room for an answer. */
export function answerCursor(state: GpuState, chain: Chain, observer: PumpObserver): number {
  const header = readHeader(chain);
  const response = attempt(observer, header, () => {
    if (!header)
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER, `request of ${chain.readableBytes} bytes`);
    executeCursor(state, readCursorCommand(header, chain));
    return OK;
  });
  observer.command(header?.type ?? 0, responseCode(response));
  const answerable = chain.writableBytes >= ctrlHeader.size && isCursorCommand(header);
  return answerable ? chain.write(encodeResponse(header, response)) : 0;
}

function attempt(observer: PumpObserver, header: CtrlHeader | undefined, execute: () => Response): Response {
  try {
    return execute();
  } catch (error) {
    if (!(error instanceof GpuFault)) throw error;
    observer.refused(header?.type ?? 0, error);
    return { type: 'error', code: error.code };
  }
}
