/** Our host side as a program: `npx tsx test/conformance/cross-domain/our-host.ts COMPOSITOR_SOCKET`. */
import { ourHost, serveCalls } from './hosts.ts';

const [, , compositorPath = ''] = process.argv;
await serveCalls(ourHost(compositorPath));
