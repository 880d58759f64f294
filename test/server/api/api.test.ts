/** The control API over its socket, and the document that describes it. */
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Validator } from '@seriousme/openapi-schema-validator';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type Api, serveApi } from '../../../server/api/server.ts';
import { Viewing } from '../../../server/displays/viewing/viewing.ts';
import { GpuServer } from '../../../server/gpu-server.ts';
import { InputServer } from '../../../server/input-server.ts';
import { SILENT_LOG } from '../../../server/log.ts';
import { decodePng } from '../../../tools/testbed/pictures.ts';
import { askSocket } from '../../support/api-here.ts';
import { viewingHere } from '../../support/viewing.ts';

const folder = mkdtempSync(join(tmpdir(), 'api-'));
const socketPath = join(folder, 'api.sock');
let gpu: GpuServer;
let input: InputServer;
let api: Api;
let viewing: Viewing;

beforeAll(async () => {
  gpu = new GpuServer({
    socketPath: join(folder, 'gpu.sock'),
    displays: [
      { width: 640, height: 480, refreshHz: 60 },
      { width: 800, height: 600, refreshHz: 75 },
    ],
  });
  viewing = new Viewing({ screens: gpu.screens, log: SILENT_LOG, start: () => viewingHere(2) });
  input = new InputServer({
    sockets: { keyboard: join(folder, 'keyboard.sock') },
    displays: () => gpu.screens.map(({ mode }) => mode),
  });
  api = await serveApi({
    socketPath,
    version: '1.2.3',
    screens: gpu.screens,
    viewing,
    input: { seat: input.seat, layout: 'us' as const },
    info: () => ({ ...gpu.info('1.2.3'), input: input.info() }),
    metricsSource: () => ({ ...gpu.metrics(), inputs: input.metrics() }),
  });
});
afterAll(async () => {
  await api.close();
  await viewing.close();
  input.close();
  gpu.close();
  rmSync(folder, { recursive: true });
});

const ask = (method: string, path: string, body?: string | object, type?: string) =>
  askSocket(socketPath, method, path, body, type === undefined ? {} : { type });

describe('the document', () => {
  test('is valid OpenAPI', async () => {
    const { json } = await ask('GET', '/openapi.json');
    const result = await new Validator().validate(json as Record<string, unknown>);
    expect(result.errors ?? []).toEqual([]);
    expect(result.valid).toBe(true);
  });

  test('describes every route there is', async () => {
    const { json } = await ask('GET', '/openapi.json');
    expect(Object.keys((json as { paths: object }).paths)).toEqual([
      '/v1/info',
      '/v1/displays',
      '/v1/displays/{display}',
      '/v1/displays/{display}/screenshot',
      '/v1/displays/{display}/wait',
      '/v1/displays/{display}/changes',
      '/v1/input/keys',
      '/v1/input/text',
      '/v1/input/pointer',
      '/v1/input/touch',
      '/metrics',
      '/healthz',
    ]);
  });

  test('and the answers agree, field by field', async () => {
    type Schema = z.core.JSONSchema.BaseSchema;
    const { json } = await ask('GET', '/openapi.json');
    const document = json as { components: { schemas: Record<string, Schema> } };
    const check = (name: string, value: unknown) => {
      const schema = {
        ...resolveRefs(document.components.schemas[name], document),
        additionalProperties: false,
      };
      z.fromJSONSchema(schema as Schema).parse(value);
    };
    check('Info', (await ask('GET', '/v1/info')).json);
    check('DisplayList', (await ask('GET', '/v1/displays')).json);
    check('WaitResult', (await ask('GET', '/v1/displays/0/wait?until=stable&quietMs=0')).json);
    check('Health', (await ask('GET', '/healthz')).json);
    check('Error', (await ask('GET', '/nothing')).json);
  });
});

/** Puts the schemas that are referred to where they are referred to. */
function resolveRefs(
  schema: unknown,
  document: { components: { schemas: Record<string, unknown> } },
): object {
  const text = JSON.stringify(schema, (_, value) => {
    const ref: unknown = value?.$ref;
    if (typeof ref !== 'string') return value;
    return resolveRefs(document.components.schemas[ref.split('/').at(-1) as string], document);
  });
  return JSON.parse(text);
}

describe('GET /v1/info', () => {
  test('says who and what', async () => {
    expect((await ask('GET', '/v1/info')).json).toMatchObject({
      name: 'vfio-user-gpu',
      version: '1.2.3',
      pid: process.pid,
      client: { connected: false },
      guest: { status: 0, features: null, memoryBytes: 0, memorySharing: 'unknown', strayDoorbells: 0 },
      resources: { count: 0, bytes: 0, maxCount: 4096, maxBytes: 536870912 },
      hostVisibleBytes: 0,
      blobs: {
        contexts: 0,
        bytes: 0,
        populatedBytes: 0,
        exportedBytes: 0,
        maxContexts: 256,
        maxBytes: 1073741824,
        refused: 0,
        contextsEnded: 0,
      },
      input: {
        leds: null,
        clients: [],
        devices: [
          {
            kind: 'keyboard',
            socketPath: join(folder, 'keyboard.sock'),
            client: { connected: false },
            guest: { status: 0 },
          },
        ],
      },
    });
  });
});

describe('displays', () => {
  test('are listed with mode, picture and cursor', async () => {
    const { json } = await ask('GET', '/v1/displays');
    expect(json).toMatchObject({
      displays: [
        { index: 0, mode: { width: 640, height: 480, refreshHz: 60 }, picture: null, flushes: 0 },
        { index: 1, mode: { width: 800, height: 600, refreshHz: 75 }, cursor: { visible: false } },
      ],
    });
  });

  test('take another mode, and keep their refresh rate unless told otherwise', async () => {
    const { status, json } = await ask('PUT', '/v1/displays/1', { width: 1024, height: 768 });
    expect(status).toBe(200);
    expect(json).toMatchObject({ index: 1, mode: { width: 1024, height: 768, refreshHz: 75 } });
    expect(gpu.screens[1]?.mode).toEqual({ width: 1024, height: 768, refreshHz: 75 });
    await ask('PUT', '/v1/displays/1', { width: 1024, height: 768, refreshHz: 59.94 });
    expect(gpu.screens[1]?.mode.refreshHz).toBe(59.94);
  });

  test.each([
    ['too small', { width: 1, height: 768 }],
    ['too large', { width: 100000, height: 768 }],
    ['not whole', { width: 1024.5, height: 768 }],
    ['text', { width: '1024', height: 768 }],
    ['incomplete', { width: 1024 }],
    ['too fast for its size', { width: 8192, height: 8192, refreshHz: 400 }],
    ['with something unknown', { width: 1024, height: 768, depth: 24 }],
    ['an array', []],
    ['no JSON', '{"width":'],
  ])('refuse a mode that is %s with 400 and a reason', async (_, body) => {
    const before = gpu.screens[0]?.mode;
    const { status, json } = await ask('PUT', '/v1/displays/0', body);
    expect(status).toBe(400);
    expect(json).toMatchObject({ error: { code: 'bad_request', message: expect.stringMatching(/\S/) } });
    expect(gpu.screens[0]?.mode).toEqual(before);
  });

  test('refuse a mode that is not declared as JSON', async () => {
    const { status } = await ask('PUT', '/v1/displays/0', 'width=1024', 'text/plain');
    expect(status).toBe(400);
  });

  test.each(['2', '99'])('number %s is 404', async (index) => {
    for (const answer of [
      await ask('PUT', `/v1/displays/${index}`, { width: 1024, height: 768 }),
      await ask('GET', `/v1/displays/${index}/screenshot`),
    ]) {
      expect(answer.status).toBe(404);
      expect(answer.json).toMatchObject({ error: { code: 'not_found' } });
    }
  });

  test.each(['-1', 'x', '1.5', '1e9999'])('number %s is 400', async (index) => {
    expect((await ask('GET', `/v1/displays/${index}/screenshot`)).status).toBe(400);
  });
});

describe('a screenshot', () => {
  test('is a PNG of what is shown', async () => {
    const { status, type, body } = await ask('GET', '/v1/displays/0/screenshot');
    expect([status, type]).toEqual([200, 'image/png']);
    expect(decodePng(body)).toMatchObject({ width: 640, height: 480 });
  });

  test('with the cursor is asked for with 1, without it with 0, and nothing else is understood', async () => {
    expect((await ask('GET', '/v1/displays/0/screenshot?cursor=1')).status).toBe(200);
    expect((await ask('GET', '/v1/displays/0/screenshot?cursor=0')).status).toBe(200);
    expect((await ask('GET', '/v1/displays/0/screenshot?cursor=yes')).status).toBe(400);
  });
});

describe('the rest', () => {
  test('GET /healthz says ok', async () => {
    expect((await ask('GET', '/healthz')).json).toEqual({ status: 'ok' });
  });

  test('GET /metrics is Prometheus text, with HELP and TYPE for each metric', async () => {
    const { status, type, body } = await ask('GET', '/metrics');
    expect(status).toBe(200);
    expect(type).toMatch(/^text\/plain/);
    const names = [...body.toString().matchAll(/^# TYPE (\S+) (counter|gauge)$/gm)].map(([, name]) => name);
    expect(names).toEqual([
      'vfio_user_gpu_commands_total',
      'vfio_user_gpu_doorbells_total',
      'vfio_user_gpu_interrupts_total',
      'vfio_user_gpu_copied_bytes_total',
      'vfio_user_gpu_flushes_total',
      'vfio_user_gpu_guest_errors_total',
      'vfio_user_gpu_client_messages_total',
      'vfio_user_gpu_client_errors_total',
      'vfio_user_gpu_client_connected',
      'vfio_user_gpu_queue_depth',
      'vfio_user_gpu_resources',
      'vfio_user_gpu_resource_bytes',
      'vfio_user_gpu_resource_bytes_limit',
      'vfio_user_gpu_contexts',
      'vfio_user_gpu_channel_total',
      'vfio_user_gpu_context_channel',
      'vfio_user_gpu_blob_bytes',
      'vfio_user_gpu_blob_bytes_limit',
      'vfio_user_gpu_refused_total',
      'vfio_user_gpu_contexts_ended_total',
      'vfio_user_gpu_exported_bytes',
      'vfio_user_gpu_requests_waiting',
      'vfio_user_gpu_window_bytes',
      'vfio_user_gpu_memory_entries',
      'vfio_user_gpu_dma_windows',
      'vfio_user_gpu_dma_bytes',
      'vfio_user_gpu_input_total',
      'vfio_user_gpu_input_waiting',
      'vfio_user_gpu_input_client_connected',
      'vfio_user_gpu_viewers',
      'vfio_user_gpu_viewer_updates_total',
      'vfio_user_gpu_viewer_sent_bytes_total',
      'vfio_user_gpu_viewers_refused_total',
      'vfio_user_gpu_process_resident_bytes',
    ]);
    expect(body.toString()).toContain('vfio_user_gpu_input_total{device="keyboard",kind="delivered"} 0');
  });

  test('what does not exist is 404, the wrong method too', async () => {
    expect((await ask('GET', '/v2/info')).status).toBe(404);
    expect((await ask('DELETE', '/v1/displays/0')).status).toBe(404);
  });

  test('the socket is for its owner only', () => {
    expect(statSync(socketPath).mode & 0o777).toBe(0o600);
  });

  test('closing removes the socket, and does not wait for idle connections', async () => {
    const path = join(folder, 'short.sock');
    const short = await serveApi({
      socketPath: path,
      version: '0',
      screens: gpu.screens,
      viewing,
      input: { seat: input.seat, layout: 'us' as const },
      info: () => ({ ...gpu.info('0'), input: input.info() }),
      metricsSource: () => ({ ...gpu.metrics(), inputs: input.metrics() }),
    });
    expect(existsSync(path)).toBe(true);
    await short.close();
    expect(existsSync(path)).toBe(false);
  });

  test('a live socket is not taken over', async () => {
    const options = {
      version: '0',
      screens: [],
      viewing,
      input: { seat: input.seat, layout: 'us' as const },
      info: () => ({ ...gpu.info('0'), input: input.info() }),
      metricsSource: () => ({ ...gpu.metrics(), inputs: input.metrics() }),
    };
    await expect(serveApi({ ...options, socketPath })).rejects.toThrow('in use by a running server');
  });
});
