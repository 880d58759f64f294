#!/usr/bin/env node
/** The program: understands its arguments, runs the command, turns the outcome into an exit status. */
import { readFileSync } from 'node:fs';
import { type Config, parseCommandLine, UsageError } from './cli.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** This file is `dist/server/main.js` in a package and `server/main.ts` in a checkout. */
function packageVersion(): string {
  for (const path of ['../../package.json', '../package.json']) {
    try {
      return JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')).version;
    } catch {
      // The other place, then.
    }
  }
  return 'unknown';
}

/** Commands are loaded when they run: `serve` should listen before the eye notices. */
async function run(config: Config, version: string): Promise<number> {
  switch (config.command) {
    case 'serve':
      return (await import('./commands/serve.ts')).serve(config, version);
    case 'screenshot':
      return (await import('./commands/look.ts')).screenshot(config);
    case 'resize':
      return (await import('./commands/look.ts')).resize(config);
    case 'record':
      return (await import('./commands/record.ts')).record(config);
    case 'mcp':
      return (await import('./commands/mcp.ts')).mcp(config, version);
    case 'inspect':
      return (await import('./commands/inspect.ts')).inspect(config);
    case 'trace':
      return (await import('./commands/trace.ts')).trace(config);
    default:
      return config satisfies never;
  }
}

async function main(): Promise<number> {
  const version = packageVersion();
  let config: Config | undefined;
  try {
    config = await parseCommandLine(process.argv.slice(2), version);
  } catch (error) {
    const hint = error instanceof UsageError ? '\nTry "vfio-user-gpu --help".' : '';
    process.stderr.write(`vfio-user-gpu: ${(error as Error).message}${hint}\n`);
    return EXIT_USAGE;
  }
  try {
    return config ? await run(config, version) : 0;
  } catch (error) {
    process.stderr.write(`vfio-user-gpu: ${(error as Error).message}\n`);
    // What an argument names may turn out to be no good only when the command looks at it.
    return error instanceof UsageError ? EXIT_USAGE : EXIT_FAILED;
  }
}

process.exitCode = await main();
