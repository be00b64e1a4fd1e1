#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// Request heads, read by our parser and by node's: compare_node.mjs FUZZ_HTTP_HEAD FOLDER...
//
// Fails where node refuses what we accept, and where both accept but disagree on method, target, number of fields or the body's framing.
// Where we are stricter there must be a reason in the table; a refusal that no row explains fails too.
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { METHODS } from 'node:http';
import { join } from 'node:path';

process.removeAllListeners('warning');
process.on('warning', () => {});
const { HTTPParser, methods } = process.binding('http_parser');

const text = (bytes) => bytes.toString('latin1');
const head = (bytes) => text(bytes).split('\r\n\r\n')[0];
const lines = (bytes) => head(bytes).replace(/^\r\n/, '').split('\r\n').slice(1);
const values = (bytes, name) => lines(bytes).filter((l) => l.toLowerCase().startsWith(`${name}:`)).map((l) => l.slice(name.length + 1).trim());
const target = (bytes) => head(bytes).replace(/^\r\n/, '').split(' ')[1] ?? '';

// What node lets pass and we do not: the status we give, when it applies, why.
const stricter = [
  [400, (b) => values(b, 'host').length !== 1, 'RFC 9112 3.2: exactly one Host (node checks above its parser, and only that there is one)'],
  [400, (b) => values(b, 'host').some((v) => !/^[A-Za-z0-9._~%!$&'()*+;=:[\]-]+$/.test(v)), 'RFC 9112 3.2: a Host that is none'],
  [400, (b) => /^(\r\n){2}/.test(text(b)), 'one empty line before a request is enough'],
  [400, (b) => target(b).includes('#'), 'RFC 9112 3.2: a target has no fragment'],
  [400, (b) => /[^!-~]/.test(target(b)), 'a target is visible ASCII'],
  [400, (b) => !/^(\/|https?:\/\/[^/?])/i.test(target(b)), 'RFC 9112 3.2: neither origin form nor http URI, or * without OPTIONS'],
  [400, (b) => /^https?:\/\/[^/?]*[^A-Za-z0-9._~%!$&'()*+;=:[\]/?-]/i.test(target(b)), 'an authority that is none'],
  [400, (b) => /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/.test(head(b)), 'RFC 9110 5.5: control characters in a value'],
  [400, (b) => /\r\n[ \t]/.test(head(b)), 'RFC 9112 5.2: folded lines are refused'],
  [400, (b) => /(^|[^\r])\n/.test(head(b)) || /\r(?!\n)/.test(head(b)), 'RFC 9112 2.2: bare LF or CR'],
  [400, (b) => /^\S+ +\S+ +HTTP\/1\.\d +\r\n/.test(text(b)) || /^\S+(  +\S+ +| +\S+  +)HTTP/.test(text(b).replace(/^\r\n/, '')), 'RFC 9112 3: single spaces'],
  [400, (b) => values(b, 'transfer-encoding').length > 0 && values(b, 'content-length').length > 0, 'RFC 9112 6.1: both framings'],
  [400, (b) => values(b, 'transfer-encoding').length > 0 && /HTTP\/1\.0/.test(head(b)), 'RFC 9112 6.1: no codings in HTTP/1.0'],
  [400, (b) => values(b, 'transfer-encoding').length > 1 || values(b, 'transfer-encoding').some((v) => /chunked/i.test(v) || !/^[\w!#$%&'*+.^`|~-]+/.test(v) || /[^ -~\t]/.test(v)), 'chunked twice, not last, or quoted; a coding that is no token'],
  [400, (b) => values(b, 'content-length').some((v) => !/^\d+$/.test(v) || BigInt(v) > 2n ** 63n - 1n) || values(b, 'content-length').length > 1, 'one length, digits only, below 2^63'],
  [501, (b) => values(b, 'transfer-encoding').length > 0, 'no coding but chunked'],
  [501, (b) => /^(\r\n)?CONNECT /.test(text(b)), 'no tunnels'],
  [417, (b) => values(b, 'expect').some((v) => v.toLowerCase() !== '100-continue'), 'RFC 9110 10.1.1'],
  [431, (b) => lines(b).length > 64 || head(b).length > 8192 - 4, 'limits: 64 fields, 8 KiB'],
  [414, (b) => target(b).length > 2048, 'limit: 2 KiB'],
  [505, (b) => !/^(\r\n)?\S+ \S+ HTTP\/1\.[01]\r\n/.test(text(b)), 'HTTP/1.0 and 1.1 only'],
];
// What we let pass and node does not.
const looser = [
  [(b, ours) => !METHODS.includes(ours.method), 'a method of its own is a token like any other (RFC 9110 16.1): routed to 405'],
];

// A fresh parser over some bytes: what it found, how many messages it completed, whether it refused.
function node(bytes, more = Buffer.alloc(0)) {
  const seen = { refused: null, complete: 0, body: 0 };
  const parser = new HTTPParser();
  const fields = [];
  parser.initialize(HTTPParser.REQUEST, {}, 16384, 0);
  parser[HTTPParser.kOnHeaders | 0] = (headers, url) => { // in portions, when there are many
    fields.push(...headers);
    seen.target = (seen.target ?? '') + url;
  };
  parser[HTTPParser.kOnHeadersComplete | 0] = (major, minor, headers, method, url, status, message, upgrade) => {
    seen.method = methods[method];
    seen.target = url ?? seen.target;
    seen.fields = (headers ?? fields).length / 2;
    seen.upgrade = upgrade;
  };
  parser[HTTPParser.kOnBody | 0] = (b) => { seen.body += b.length; };
  parser[HTTPParser.kOnMessageComplete | 0] = () => { seen.complete++; };
  for (const part of [bytes, more]) {
    if (part.length === 0 || seen.refused) continue;
    const r = parser.execute(part);
    if (r instanceof Error) seen.refused = r.code ?? r.message;
  }
  return seen;
}

// Does node expect the body that we do? Asked by giving it one.
function framing(bytes, ours) {
  if (ours.chunked) {
    const r = node(bytes, Buffer.from('3\r\nabc\r\n0\r\n\r\n'));
    return r.complete === 1 && r.body === 3 && !r.refused;
  }
  if (ours.length > 100000) {
    const r = node(bytes, Buffer.alloc(100000, 'x'));
    return r.complete === 0 && !r.refused && r.body === 100000;
  }
  if (ours.length === 0) return node(bytes).complete === 1;
  const full = node(bytes, Buffer.alloc(ours.length, 'x'));
  const short = node(bytes, Buffer.alloc(ours.length - 1, 'x'));
  return full.complete === 1 && full.body === ours.length && !full.refused && short.complete === 0;
}

const [program, ...folders] = process.argv.slice(2);
const counts = { same: 0, both_refuse: 0, stricter: 0, looser: 0, incomplete: 0 };
const reasons = new Map();
let failed = 0;

function fail(file, why, ...details) {
  failed++;
  console.log(`FAIL ${file}: ${why}`, ...details.map((d) => JSON.stringify(d)));
}

function because(file, rows, bytes, ours, kind, what) {
  const row = rows.find((r) => r.at(-2)(bytes, ours) && (r.length === 2 || r[0] === ours.status));
  if (!row) return fail(file, what, ours);
  counts[kind]++;
  reasons.set(row.at(-1), (reasons.get(row.at(-1)) ?? 0) + 1);
}

for (const folder of folders) {
  for (const name of readdirSync(folder)) {
    const file = join(folder, name);
    const bytes = readFileSync(file);
    const out = execFileSync(program, [file], { env: { ...process.env, HTTP_VERDICT: '1' }, encoding: 'latin1' });
    const ours = JSON.parse(out.split('\n')[0]);
    if (ours.status === 0) {
      counts.incomplete++;
      continue;
    }
    if (ours.status) {
      const theirs = node(bytes);
      if (theirs.refused) counts.both_refuse++;
      else because(file, stricter, bytes, ours, 'stricter', 'refused without a reason in the table');
      continue;
    }
    const used = bytes.subarray(0, ours.used);
    const theirs = node(used);
    if (theirs.refused) because(file, looser, bytes, ours, 'looser', `node refuses (${theirs.refused}) what we accept`);
    else if (theirs.method !== ours.method || theirs.target !== ours.target || theirs.fields !== ours.fields) fail(file, 'read differently', ours, theirs);
    else if (!theirs.upgrade && !framing(used, ours)) fail(file, 'another body', ours, theirs);
    else counts.same++;
  }
}

console.log(JSON.stringify(counts));
for (const [reason, n] of reasons) console.log(`  ${n} x ${reason}`);
if (failed || counts.same === 0) {
  console.log(`${failed} differences`);
  process.exit(1);
}
