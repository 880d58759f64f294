/**
 * A Debian archive on this machine, for `tools/testbed/assemble` and apt's own client: small packages whose programs are
 * shell scripts, an index and a signature per suite, and faults on demand. Its key is thrown away with it.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';

const run = promisify(execFile);

/**
 * What is wrong with a path: it is not there; its content is another one than the index says; half of it is missing; the
 * request is never answered; the server has trouble.
 */
export type Fault = 'not there' | 'stale' | 'truncated' | 'silent' | 'in trouble';

/** A package by name, its files by path, what it depends on. */
interface Package {
  readonly name: string;
  readonly version?: string;
  readonly depends?: string;
  readonly files: Readonly<Record<string, string | Uint8Array>>;
}

const libraries = '/usr/lib/x86_64-linux-gnu';
const script = (body: string) => `#!/bin/sh\n${body}\n`;

/** Stands for the loader of a tree, which is told libraries and then what to run. */
const loader = script(`
  while :; do
    case $1 in
      --inhibit-cache) shift ;;
      --*) shift 2 ;;
      *) break ;;
    esac
  done
  exec "$@"`);

/** A kernel image is a boot header that says where the compressed kernel is (Documentation/arch/x86/boot.rst). */
function kernelImage(): Uint8Array {
  const compressed = gzipSync('the kernel');
  const image = Buffer.alloc(0x400 + compressed.length + 4);
  image.writeUInt32LE(0x200, 0x248);
  image.writeUInt32LE(compressed.length + 4, 0x24c);
  image.set(compressed, 0x400);
  return image;
}

function kernel(name: string, version: string): Package {
  const modules = ['virtio-gpu', 'evdev', 'virtio_input', 'ext4', 'virtio_blk'].map((module) => [
    `/lib/modules/${version}/${module}.ko`,
    'depends=\0',
  ]);
  return { name, files: { '/boot/vmlinuz': kernelImage(), ...Object.fromEntries(modules) } };
}

const qemu = (version: string): Package => ({
  name: 'qemu-system-x86',
  version: `1:${version}`,
  depends: 'libc6',
  files: {
    '/usr/bin/qemu-system-x86_64': script(
      `case "$*" in *help) echo 'name "vfio-user-pci"' ;; *) echo 'QEMU emulator version ${version}' ;; esac`,
    ),
  },
});
const newQemu = qemu('11.0.0');

const ordinary: readonly Package[] = [
  { name: 'libc6', files: { [`${libraries}/ld-linux-x86-64.so.2`]: loader } },
  { name: 'busybox-static', files: { '/usr/bin/busybox': script('echo true') } },
  { name: 'libdrm-tests', files: { '/usr/bin/modetest': script('') } },
  { name: 'libdrm-dev', files: { '/usr/include/libdrm/drm.h': '' } },
  {
    name: 'ovmf',
    files: { '/usr/share/OVMF/OVMF_CODE_4M.fd': 'code', '/usr/share/OVMF/OVMF_VARS_4M.fd': '' },
  },
  { name: 'igt-gpu-tools-tests', files: { '/usr/libexec/igt-gpu-tools/core_auth': script('') } },
  { name: 'weston', depends: 'libc6', files: { '/usr/bin/weston': script('echo weston 14.0.0') } },
  { name: 'sway', depends: 'libc6', files: { '/usr/bin/sway': script('echo sway version 1.10') } },
  { name: 'libglib2.0-bin', files: { [`${libraries}/glib-2.0/glib-compile-schemas`]: script('') } },
  {
    name: 'galculator',
    files: {
      '/usr/bin/galculator': script(''),
      '/usr/bin/fc-cache': script(''),
      '/usr/bin/update-mime-database': script(''),
      '/usr/share/mime/packages/freedesktop.xml': '',
    },
  },
  ...[
    'grim',
    'wl-clipboard',
    'libc-bin',
    'libgbm1',
    'bash',
    'udev',
    'seatd',
    'swaybg',
    'sway-backgrounds',
  ].map((name) => ({ name, files: { [`/usr/share/${name}`]: '' } })),
  { name: 'foot', files: { '/usr/bin/foot': script('') } },
  { name: 'libwayland-dev', files: { '/usr/share/wayland/wayland.xml': '' } },
  {
    name: 'wayland-protocols',
    files: { '/usr/share/wayland-protocols/stable/viewporter/viewporter.xml': '' },
  },
  ...['plasma-wayland-protocols', 'librust-wayland-protocols-wlr-dev'].map((name) => ({
    name,
    files: { [`/usr/share/${name}/one.xml`]: '' },
  })),
];

/** By suite and component. */
const contents: Readonly<Record<string, readonly Package[]>> = {
  'bookworm main': [],
  'bookworm-backports main': [kernel('linux-image-6.12.3+deb12-amd64', '6.12.3+deb12-amd64')],
  'trixie main': [
    qemu('10.0.0'),
    ...ordinary,
    kernel('linux-image-6.12.4+deb13-amd64', '6.12.4+deb13-amd64'),
  ],
  'trixie main/debian-installer': [kernel('kernel-image-6.12.4+deb13-amd64-di', '6.12.4+deb13-amd64')],
  ...Object.fromEntries(
    ['trixie-backports', 'forky', 'sid'].flatMap((suite) => [
      [`${suite} main`, [newQemu, ...ordinary, kernel('linux-image-7.2.1-amd64', '7.2.1-amd64')]],
      [`${suite} main/debian-installer`, [kernel('kernel-image-7.2.1-amd64-di', '7.2.1-amd64')]],
    ]),
  ),
};

/** Why there can be no such archive on this machine, or nothing. */
export async function whyNoFakeArchive(): Promise<string | undefined> {
  for (const program of ['apt-get', 'dpkg-deb', 'gpg', 'gpg-agent', 'cpio', 'mke2fs']) {
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
    const found = await run('sh', ['-c', `command -v ${program}`], { env }).catch(() => undefined);
    if (!found) return `there is no ${program} on this machine`;
  }
  return undefined;
}

/** The archive as one of its users meets it: with faults of its own. */
export class Mirror {
  readonly url: string;
  /** The path of everything that was asked for. */
  readonly requests: string[] = [];
  /** What is wrong, with what paths, and how many times. The first that fits counts. */
  faults: readonly { readonly path: RegExp; readonly fault: Fault; times?: number }[] = [];

  constructor(url: string) {
    this.url = url;
  }
}

export class FakeArchive implements AsyncDisposable {
  readonly #folder: string;
  readonly #server: Server;
  readonly #files = new Map<string, Uint8Array>();
  readonly #mirrors: Mirror[] = [];

  static async start(): Promise<FakeArchive> {
    const archive = new FakeArchive(await mkdtemp(join(tmpdir(), 'fake-archive-')));
    try {
      await archive.#make();
      archive.#server.listen(0, '127.0.0.1');
      await once(archive.#server, 'listening');
      return archive;
    } catch (error) {
      await archive[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(folder: string) {
    this.#folder = folder;
    this.#server = createServer((request, response) => {
      const [, number, path] = /^\/(\d+)(\/.*)/.exec(decodeURIComponent(request.url ?? ''))!;
      const mirror = this.#mirrors[Number(number)]!;
      mirror.requests.push(path!);
      this.#answer(mirror, path!, response);
    });
  }

  /** A mirror of it without faults. */
  mirror(): Mirror {
    const { port } = this.#server.address() as AddressInfo;
    const mirror = new Mirror(`http://127.0.0.1:${port}/${this.#mirrors.length}`);
    this.#mirrors.push(mirror);
    return mirror;
  }

  /** The key that its packages are signed with. */
  get keyring(): string {
    return join(this.#folder, 'keyring.gpg');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server.listening) {
      this.#server.closeAllConnections();
      this.#server.close();
      await once(this.#server, 'close');
    }
    await run('gpgconf', ['--homedir', join(this.#folder, 'gpg'), '--kill', 'all']).catch(() => {});
    await rm(this.#folder, { recursive: true, force: true });
  }

  #answer(mirror: Mirror, path: string, response: ServerResponse): void {
    const known = this.#files.get(path);
    const found = mirror.faults.find((one) => one.path.test(path) && one.times !== 0);
    if (found?.times !== undefined) found.times--;
    if (!known || found?.fault === 'not there') {
      response.writeHead(404).end();
      return;
    }
    if (found?.fault === 'silent') return;
    if (found?.fault === 'in trouble') {
      response.writeHead(503).end();
      return;
    }
    const content =
      found?.fault === 'stale'
        ? Buffer.concat([known, Buffer.from('\n')])
        : found?.fault === 'truncated'
          ? known.subarray(0, known.length / 2)
          : known;
    response.writeHead(200, { 'Content-Length': content.length }).end(content);
  }

  async #make(): Promise<void> {
    const packages = new Map<Package, string>();
    const suites = new Map<string, Map<string, string>>();
    for (const [place, list] of Object.entries(contents)) {
      const [suite, component] = place.split(' ') as [string, string];
      let index = '';
      for (const one of list) {
        const file = packages.get(one) ?? (await this.#build(one, packages.size));
        packages.set(one, file);
        const content = await readFile(file);
        const extension = component === 'main' ? 'deb' : 'udeb';
        const path = `pool/${suite}/${one.name}.${extension}`;
        this.#files.set(`/${path}`, content);
        index += `${control(one)}Filename: ${path}\nSize: ${content.length}\nSHA256: ${sha256(content)}\n\n`;
      }
      const indexes = suites.get(suite) ?? new Map<string, string>();
      suites.set(suite, indexes.set(component, index));
    }
    const home = join(this.#folder, 'gpg');
    await mkdir(home, { mode: 0o700 });
    const gpg = (...rest: string[]) =>
      run('gpg', ['--homedir', home, '--batch', '--passphrase', '', ...rest]);
    await gpg('--quick-gen-key', 'archive', 'ed25519', 'sign');
    await gpg('--output', this.keyring, '--export');
    for (const [suite, indexes] of suites) {
      let release = `Origin: Debian\nSuite: ${suite}\nCodename: ${suite}\nDate: ${new Date().toUTCString()}\n`;
      release += `Architectures: amd64\nComponents: ${[...indexes.keys()].join(' ')}\nSHA256:\n`;
      for (const [component, index] of indexes) {
        const path = `${component}/binary-amd64/Packages`;
        const content = Buffer.from(index);
        this.#files.set(`/dists/${suite}/${path}`, content);
        release += ` ${sha256(content)} ${content.length} ${path}\n`;
      }
      const file = join(this.#folder, suite);
      await writeFile(file, release);
      await gpg('--clearsign', file);
      this.#files.set(`/dists/${suite}/InRelease`, await readFile(`${file}.asc`));
    }
  }

  async #build(one: Package, number: number): Promise<string> {
    const tree = join(this.#folder, `package-${number}`);
    await mkdir(join(tree, 'DEBIAN'), { recursive: true });
    await writeFile(join(tree, 'DEBIAN/control'), control(one));
    for (const [path, content] of Object.entries(one.files)) {
      const file = join(tree, path);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, content);
      await chmod(file, 0o755);
    }
    await run('dpkg-deb', ['-Znone', '--root-owner-group', '--build', tree, `${tree}.deb`]);
    return `${tree}.deb`;
  }
}

function control({ name, version = '1', depends }: Package): string {
  const needs = depends === undefined ? '' : `Depends: ${depends}\n`;
  return `Package: ${name}\nVersion: ${version}\nArchitecture: amd64\nMaintainer: nobody\n${needs}Description: small\n`;
}

function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}
