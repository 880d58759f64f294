/** Requests of the two queues: decode, execute, complete. Here guest mistakes become answers. */
import type { Chain, SplitQueue } from '../../pci/index.ts';
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
import { executeControl, executeCursor } from './execute.ts';
import { GpuFault } from './fault.ts';
import type { Fences, Work } from './fences.ts';
import {
  type CtrlHeader,
  ctrlHeader,
  VIRTIO_GPU_CMD_CTX_DESTROY,
  VIRTIO_GPU_F_CONTEXT_INIT,
  VIRTIO_GPU_FLAG_FENCE,
  VIRTIO_GPU_FLAG_INFO_RING_IDX,
  VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
  VIRTIO_GPU_RESP_ERR_UNSPEC,
} from './protocol.ts';
import { type GpuState, hasFeature, type Later } from './state.ts';

export interface PumpObserver {
  /** A request was answered; `response` is the code, 0 where none could be given. */
  command(type: number, response: number): void;
  /** A request of this type (0: it had none) was refused. */
  refused(type: number, fault: GpuFault): void;
}

/** Executes one request of the control queue, and answers it unless that has to wait. */
export function runControl(
  state: GpuState,
  fences: Fences,
  queue: SplitQueue,
  chain: Chain,
  observer: PumpObserver,
): void {
  const header = readHeader(chain);
  const result = attempt(observer, header, () => {
    if (!header) {
      const code =
        chain.readableBytes === 0 ? VIRTIO_GPU_RESP_ERR_UNSPEC : VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
      throw new GpuFault(code, `request of ${chain.readableBytes} bytes`);
    }
    if (header.flags & VIRTIO_GPU_FLAG_INFO_RING_IDX) checkRing(state, header);
    const { maxEntriesPerResource } = state.limits;
    return executeControl(state, readControlCommand(header, chain, maxEntriesPerResource, state.features));
  });
  const response = result.type === 'later' ? result.response : result;
  observer.command(header?.type ?? 0, responseCode(response));
  const answer = () => {
    // A request that is no request is answered only where the answer fits whole.
    const isAnswered = chain.readableBytes > 0 || chain.writableBytes >= ctrlHeader.size;
    queue.complete(chain, isAnswered ? chain.write(encodeResponse(header, response)) : 0);
  };
  if (header?.type === VIRTIO_GPU_CMD_CTX_DESTROY && response.type !== 'error') {
    fences.finishContext(header.ctxId);
  }
  fences.answerReady();
  if (!header || fences.pass(header, workOf(state, header, result), answer)) answer();
  else fences.answerReady();
}

/** A ring belongs to a context that the driver has made. */
function checkRing(state: GpuState, { ctxId, ringIdx }: CtrlHeader): void {
  const ringCount = state.contexts.has(ctxId) ? state.contexts.get(ctxId).context.ringCount : 0;
  if (!hasFeature(state, VIRTIO_GPU_F_CONTEXT_INIT) || ringIdx >= ringCount) {
    throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER, `ring ${ringIdx} of context ${ctxId}`);
  }
}

/** What an answer waits for. What was refused is answered in its turn. */
function workOf({ contexts }: GpuState, header: CtrlHeader, result: Response | Later): Work | undefined {
  if (result.type === 'later') return (done) => result.job.whenDone(done);
  const isOnRing = (header.flags & RING_FENCE) === RING_FENCE;
  if (!isOnRing || result.type === 'error' || !contexts.has(header.ctxId)) return undefined;
  const { context } = contexts.get(header.ctxId);
  return (done) => context.fence(header.ringIdx, done);
}

const RING_FENCE = VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX;

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

function attempt<T>(
  observer: PumpObserver,
  header: CtrlHeader | undefined,
  execute: () => T,
): T | Extract<Response, { type: 'error' }> {
  try {
    return execute();
  } catch (error) {
    if (!(error instanceof GpuFault)) throw error;
    observer.refused(header?.type ?? 0, error);
    return { type: 'error', code: error.code };
  }
}
