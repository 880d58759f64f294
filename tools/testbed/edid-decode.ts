/** edid-decode, which knows the rules for EDIDs better than any code of ours, as a function. */
import { spawnSync } from 'node:child_process';

/**
 * It may say this and nothing else:
 *
 * - Dubious image size. It suspects a missing or wrong size below 10 cm. A window of 300 pixels at 100 dpi is
 *   8 cm, and a larger figure would make the guest take the screen for a coarser one.
 * - Unknown OUI. DisplayID 1.3 identifies the manufacturer by three ASCII letters as block 0 does; version
 *   2022 of the checker wants to find them among a handful of registered ones. Leaving the product
 *   identification out is a failure in its eyes. Later versions accept both.
 */
const allowedComplaints = [
  /: Dubious (maximum )?image size \(\d+x\d+ /,
  /, PNP ID 'VUG': Unknown OUI 56-55-47 \(possible PNP VUG\)\.$/,
];

/** Why edid-decode cannot be used here; undefined where it can. */
export function edidDecodeMissing(): string | undefined {
  const { error } = spawnSync('edid-decode', ['--version']);
  return error && `${error.message}; it is in the package of that name`;
}

/** What it finds, and its verdict unless that is PASS. */
export function edidComplaints(edid: Uint8Array): string[] {
  const { stdout } = spawnSync('edid-decode', ['--check'], { input: edid, encoding: 'utf8' });
  const findings = /^(?:Warnings|Failures):$.*(?=^EDID conformity)/ms.exec(stdout)?.[0] ?? '';
  const verdict = /^EDID conformity: .*$/m.exec(stdout)?.[0] ?? 'no verdict';
  return [...findings.split('\n').filter((line) => line.startsWith('  ')), verdict]
    .filter((line) => !allowedComplaints.some((allowed) => allowed.test(line)))
    .filter((line) => line !== 'EDID conformity: PASS');
}
