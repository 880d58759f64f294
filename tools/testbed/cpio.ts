/**
 * Writes cpio archives in the "newc" format, which the Linux kernel unpacks as initramfs
 * (Documentation/driver-api/early-userspace/buffer-format.rst). Archives can be joined end to end.
 */

/** Packs files by absolute guest path. Everything is readable and executable; folders are made as needed. */
export function packCpio(files: Readonly<Record<string, string | Uint8Array>>): Buffer {
  const chunks: Buffer[] = [];
  let inode = 1;

  const add = (name: string, mode: number, data: Buffer) => {
    const fields = [
      inode++,
      mode,
      0, // uid
      0, // gid
      mode === folderMode ? 2 : 1, // links
      0, // time
      data.length,
      0, // device, twice major and minor
      0,
      0,
      0,
      name.length + 1,
      0, // checksum, unused
    ];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}\0`;
    chunks.push(padTo4(Buffer.from(header, 'latin1')), padTo4(data));
  };

  const seen = new Set<string>();
  for (const [path, content] of Object.entries(files)) {
    const parts = path.split('/').filter((part) => part !== '');
    for (let depth = 1; depth < parts.length; depth++) {
      const folder = parts.slice(0, depth).join('/');
      if (!seen.has(folder)) add(folder, folderMode, Buffer.alloc(0));
      seen.add(folder);
    }
    add(parts.join('/'), fileMode, Buffer.from(content));
  }
  add('TRAILER!!!', 0, Buffer.alloc(0));
  return Buffer.concat(chunks);
}

const fileMode = 0o100755;
const folderMode = 0o040755;

function padTo4(data: Buffer): Buffer {
  const padding = -data.length & 3;
  return padding === 0 ? data : Buffer.concat([data, Buffer.alloc(padding)]);
}
