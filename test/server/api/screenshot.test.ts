/** Screenshots over the API: exact where they are said to be, of the part and the size that were asked for. */
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { MAX_SCREENSHOTS } from '../../../server/api/limits.ts';
import { decodePng } from '../../../tools/testbed/pictures.ts';
import { type ApiHere, apiHere } from '../../support/api-here.ts';
import { makeScreen, Painted, texture } from '../../support/screens.ts';
import { soon } from '../../support/soon.ts';

const [WIDTH, HEIGHT] = [200, 120];
let here: ApiHere;
let painted: Painted;
beforeEach(async () => {
  here = await apiHere({ displays: [{ width: 640, height: 480 }] });
  painted = new Painted(here.screens[0] ?? makeScreen(1, 1), WIDTH, HEIGHT);
  painted.draw(painted.whole, texture).flush();
});
afterEach(() => here[Symbol.asyncDispose]());

const shot = (query = '', headers: Record<string, string> = {}) =>
  here.ask('GET', `/v1/displays/0/screenshot${query}`, undefined, { headers });
const rgbOf = (rgba: Buffer) => Buffer.from(rgba.filter((_, i) => i % 4 !== 3));
const rawOf = (image: Buffer) => sharp(image).raw().toBuffer({ resolveWithObject: true });
/** The largest difference of a channel. */
const difference = (a: Buffer, b: Buffer) =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] ?? 999))), 0);

describe('a screenshot', () => {
  test('as PNG is exactly what the guest shows, 8 bits a channel and no alpha', async () => {
    const { status, type, body } = await shot();
    expect([status, type]).toEqual([200, 'image/png']);
    expect([body.readUInt32BE(16), body.readUInt32BE(20), body[24], body[25]]).toEqual([WIDTH, HEIGHT, 8, 2]);
    expect(decodePng(body).rgb.equals(rgbOf(painted.rgba))).toBe(true);
  });

  test('of a region is exactly that region', async () => {
    const { body } = await shot('?region=17,33,50,21');
    const { width, height, rgb } = decodePng(body);
    expect([width, height]).toEqual([50, 21]);
    const expected = Buffer.concat(
      Array.from({ length: 21 }, (_, row) =>
        rgbOf(painted.rgba).subarray(((33 + row) * WIDTH + 17) * 3, ((33 + row) * WIDTH + 67) * 3),
      ),
    );
    expect(rgb.equals(expected)).toBe(true);
  });

  test('as JPEG looks like it, and is smaller where the quality is', async () => {
    painted.draw(painted.whole, (x, y) => [x, y, 100]).flush();
    const [good, bad] = [await shot('?format=jpeg&quality=95'), await shot('?format=jpeg&quality=10')];
    expect([good.type, bad.type]).toEqual(['image/jpeg', 'image/jpeg']);
    expect(bad.body.length).toBeLessThan(good.body.length);
    const { data, info } = await rawOf(good.body);
    expect([info.width, info.height]).toEqual([WIDTH, HEIGHT]);
    expect(difference(data, rgbOf(painted.rgba))).toBeLessThan(16);
  });

  test.each([
    ['0.5', 100, 60],
    ['2', 400, 240],
    ['0.333', 67, 40],
    ['0.0001', 1, 1],
  ])('scaled by %s is so large', async (scale, width, height) => {
    const { body } = await shot(`?scale=${scale}`);
    expect(decodePng(body)).toMatchObject({ width, height });
  });

  test('scaled shows the same thing', async () => {
    painted.draw(painted.whole, (x) => (x < 100 ? [200, 10, 10] : [10, 10, 200])).flush();
    const { rgb, width } = decodePng((await shot('?scale=0.5&region=50,0,100,100')).body);
    expect(width).toBe(50);
    expect([...rgb.subarray(0, 3)]).toEqual([200, 10, 10]);
    expect([...rgb.subarray(49 * 3, 50 * 3)]).toEqual([10, 10, 200]);
  });

  test('has the cursor in it when that is asked for', async () => {
    const pixels = Buffer.alloc(4 * 4 * 4, 255);
    const image = new Painted(makeScreen(32, 32), 4, 4);
    image.bytes.set(pixels);
    painted.screen.setCursorImage({ ...image.picture, order: { b: 0, g: 1, r: 2, a: 3 }, hotX: 0, hotY: 0 });
    painted.screen.moveCursor(10, 10);
    painted.screen.showCursor(true);
    const at = (rgb: Buffer, x: number, y: number) => [
      ...rgb.subarray((y * WIDTH + x) * 3, (y * WIDTH + x) * 3 + 3),
    ];
    const [without, withIt] = [decodePng((await shot()).body), decodePng((await shot('?cursor=1')).body)];
    expect(at(without.rgb, 11, 11)).toEqual([...texture(11, 11)]);
    expect(at(withIt.rgb, 11, 11)).toEqual([255, 255, 255]);
    const { rgb } = decodePng((await shot('?cursor=1&region=12,12,8,8')).body);
    expect([...rgb.subarray(0, 3)]).toEqual([255, 255, 255]);
    expect([...rgb.subarray(7 * 3, 8 * 3)]).toEqual([...texture(19, 12)]);
  });

  test.each([
    'format=gif',
    'quality=0',
    'quality=101',
    'quality=1.5',
    'scale=0',
    'scale=-1',
    'scale=5',
    'scale=NaN',
    'cursor=yes',
    'region=0,0,0,10',
    'region=0,0,201,1',
    'region=-1,0,10,10',
    'region=1,2,3',
    'region=1,2,3,4,5',
    'region=99999,99999,99999,99999',
  ])('with %s is refused with a reason', async (query) => {
    const { status, json } = await shot(`?${query}`);
    expect(status).toBe(400);
    expect(json).toMatchObject({ error: { code: 'bad_request', message: expect.stringMatching(/\S/) } });
  });

  test('that would be enormous is refused', async () => {
    new Painted(painted.screen, 8192, 4096);
    const { status, json } = await shot('?scale=4');
    expect(status).toBe(400);
    expect(json).toMatchObject({ error: { message: 'an image of 32768x16384 is too large' } });
  });
});

test('screenshots beyond a number at a time are refused; with room they are taken again', async () => {
  const gates: (() => void)[] = [];
  const capture = here.viewing.capture.bind(here.viewing);
  const held = vi.spyOn(here.viewing, 'capture').mockImplementation(async (...asked) => {
    await new Promise<void>((resolve) => gates.push(resolve));
    return await capture(...asked);
  });
  const taken = Array.from({ length: MAX_SCREENSHOTS }, () => shot());
  await soon(() => expect(gates.length).toBe(MAX_SCREENSHOTS));
  const { status, json } = await shot();
  expect([status, json]).toMatchObject([503, { error: { code: 'busy' } }]);
  for (const open of gates) open();
  const statuses = (await Promise.all(taken)).map((answer) => answer.status);
  expect(statuses).toEqual(Array(MAX_SCREENSHOTS).fill(200));
  held.mockRestore();
  // One that fails leaves its place too.
  for (let i = 0; i < MAX_SCREENSHOTS; i++) expect((await shot('?region=900,0,1,1')).status).toBe(400);
  expect((await shot()).status).toBe(200);
});

test('a screenshot of a server that is leaving is not the fault of who asks', async () => {
  await here.viewing.close();
  const { status, json } = await shot();
  expect([status, json]).toEqual([503, { error: { code: 'closed', message: 'the server is leaving' } }]);
});

describe('its headers', () => {
  test('name the image: who has it already is told so, and gets it anew when it is another one', async () => {
    const first = await shot();
    const tag = first.headers.etag as string;
    expect(tag).toMatch(/^"[^"]+"$/);
    const known = await shot('', { 'If-None-Match': `"other", ${tag}` });
    expect([known.status, known.body.length, known.headers.etag]).toEqual([304, 0, tag]);
    painted.draw({ x: 199, y: 119, width: 1, height: 1 }, [0, 0, 1]).flush();
    const changed = await shot('', { 'If-None-Match': tag });
    expect(changed.status).toBe(200);
    expect(changed.headers.etag).not.toBe(tag);
  });

  test('have a tag of its own for each form, and one hash for the same pixels', async () => {
    const forms = [
      '',
      '?scale=0.5',
      '?format=jpeg',
      '?format=jpeg&quality=5',
      '?region=0,0,10,10',
      '?cursor=1',
    ];
    const answers = await Promise.all(forms.map((form) => shot(form)));
    const [tags, hashes] = ['etag', 'pixels-hash'].map((name) => answers.map(({ headers }) => headers[name]));
    // There is no cursor to see.
    expect(new Set(tags).size).toBe(forms.length - 1);
    expect(hashes?.map((hash) => hash === hashes[0])).toEqual([true, true, true, true, false, true]);
  });

  test('are those of the pixels as they are, whoever asked for the same part before', async () => {
    const regions = Array.from({ length: 40 }, (_, i) => `?region=${i},0,${1 + (i % 7)},${1 + (i % 5)}`);
    const all = async () => {
      const hashes: unknown[] = [];
      for (const region of regions) hashes.push((await shot(region)).headers['pixels-hash']);
      return hashes;
    };
    const before = await all();
    expect(await all()).toEqual(before);
    painted.draw({ x: 20, y: 0, width: 1, height: 1 }, [1, 2, 3]).flush();
    const changed = await all();
    const covers = (i: number) => i <= 20 && 20 < i + 1 + (i % 7);
    expect(changed.map((hash, i) => hash !== before[i])).toEqual(regions.map((_, i) => covers(i)));
    expect(await all()).toEqual(changed);
  });

  test('count the versions of the picture', async () => {
    const before = Number((await shot()).headers['picture-version']);
    painted.draw({ x: 0, y: 0, width: 1, height: 1 }, [0, 0, 1]).flush();
    const { headers } = await shot();
    expect(Number(headers['picture-version'])).toBeGreaterThan(before);
  });

  test('that are too long are refused', async () => {
    expect((await shot('', { 'If-None-Match': `"${'a'.repeat(5000)}"` })).status).toBe(400);
  });
});
