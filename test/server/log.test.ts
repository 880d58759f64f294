import { expect, test } from 'vitest';
import { RateLimitedLog } from '../../server/log.ts';
import { recordingLog } from '../support/fake-client.ts';

function setUp() {
  const { log, lines } = recordingLog();
  const clock = { ms: 0 };
  return { limited: new RateLimitedLog(log, () => clock.ms), lines, clock };
}

test('ten lines of a kind in ten seconds, then silence', () => {
  const { limited, lines } = setUp();
  for (let i = 0; i < 1000; i++) limited.write('warn', 'kind', { i }, 'text');
  expect(lines).toHaveLength(10);
  expect(lines[9]?.fields).toEqual({ kind: 'kind', i: 9 });
});

test('kinds do not silence each other', () => {
  const { limited, lines } = setUp();
  for (let i = 0; i < 20; i++) limited.write('warn', 'one', {}, 'text');
  limited.write('warn', 'other', {}, 'text');
  expect(lines).toHaveLength(11);
});

test('after ten seconds the next line says how many were left out', () => {
  const { limited, lines, clock } = setUp();
  for (let i = 0; i < 15; i++) limited.write('debug', 'kind', {}, 'text');
  clock.ms = 10_000;
  limited.write('debug', 'kind', {}, 'text');
  expect(lines.at(-1)).toEqual({ level: 'debug', message: 'text', fields: { kind: 'kind', suppressed: 5 } });
});
