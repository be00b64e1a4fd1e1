// SPDX-License-Identifier: Apache-2.0
// SET and GET as fast as a Node program can send them over one connection with so many in flight, and nothing else: no library, no checks of the values.
// node pipelined_client.mjs PORT set|get COUNT IN_FLIGHT VALUE_BYTES
import net from 'node:net';

const [port, what, count, inFlight, bytes] = process.argv.slice(2).map((word, at) => (at === 1 ? word : Number(word)));
const KEYS = 10000;
const value = 'x'.repeat(bytes);
const commands = Array.from({ length: KEYS }, (_, at) => {
  const key = `raw:${at}`;
  const words = what === 'set' ? ['SET', key, value] : ['GET', key];
  return Buffer.from(`*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`);
});
// Every answer has the same length, so that counting bytes counts answers.
const answer = what === 'set' ? 5 : `$${bytes}\r\n`.length + bytes + 2;
let sent = 0;
let got = 0;
let started = 0n;

const socket = net.connect({ port, host: '127.0.0.1', noDelay: true }, () => {
  started = process.hrtime.bigint();
  send();
});

function send() {
  const some = [];
  while (sent < count && sent - Math.floor(got / answer) < inFlight) some.push(commands[sent++ % KEYS]);
  if (some.length > 0) socket.write(some.length === 1 ? some[0] : Buffer.concat(some));
}

socket.on('data', (piece) => {
  got += piece.length;
  if (got < count * answer) return send();
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  const { user, system } = process.cpuUsage();
  console.log(JSON.stringify({ rate: count / seconds, cpu_us: (user + system) / count }));
  socket.end();
});
