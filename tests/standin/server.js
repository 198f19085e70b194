'use strict';
// A stand-in for a streaming server: it does what such a server asks of the kernel, and /selftest says
// whether all of it was granted. It installs no handler for SIGTERM: as PID 1 it ignores that signal.
const cp = require('node:child_process');
const crypto = require('node:crypto');
const dgram = require('node:dgram');
const dns = require('node:dns');
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const zlib = require('node:zlib');
const { once } = require('node:events');
const { pipeline } = require('node:stream/promises');
const { setTimeout: sleep } = require('node:timers/promises');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');

const HTTP_PORT = 11470;
const HTTPS_PORT = 12470;
const STORE = path.join(process.env.HOME || '/home/nonroot', '.stremio-server');
const FFMPEG = process.env.FFMPEG_BIN || 'ffmpeg';
const FFPROBE = process.env.FFPROBE_BIN || 'ffprobe';
const CLIP = path.join(STORE, 'cache', 'clip.mp4');

if (!isMainThread) {
  const cell = new Int32Array(workerData);
  Atomics.wait(cell, 0, 0, 5000);
  parentPort.postMessage(crypto.createHash('sha256').update('worker').digest('hex'));
} else if (process.send) {
  process.on('message', (word) => process.send(word.toUpperCase(), () => process.disconnect()));
} else {
  main();
}

function main() {
  fs.mkdirSync(path.join(STORE, 'cache'), { recursive: true });
  http.createServer(serve).listen(HTTP_PORT, () => console.log(`http on ${HTTP_PORT}`));
  https.createServer(selfSigned(), serve).listen(HTTPS_PORT, () => console.log(`https on ${HTTPS_PORT}`));
}

async function serve(request, response) {
  try {
    const url = new URL(request.url, 'http://localhost');
    const route = { '/': home, '/health': home, '/settings': settings, '/stream': stream,
      '/transcode': transcode, '/selftest': selftest }[url.pathname];
    await (route || missing)(request, response);
  } catch (fault) {
    console.error(fault);
    if (!response.headersSent) reply(response, 500, { error: describe(fault) });
    else response.destroy();
  }
}

function reply(response, status, value) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value, null, 2) + '\n');
}

const missing = (request, response) => reply(response, 404, { error: 'no such route' });

function home(request, response) {
  reply(response, 200, { uptime_s: process.uptime(), pid: process.pid, node: process.version });
}

async function settings(request, response) {
  const parts = [];
  for await (const part of request) parts.push(part);
  const value = parts.length ? JSON.parse(Buffer.concat(parts)) : {};
  reply(response, 200, { written: await writeAtomic('settings.json', JSON.stringify(value)) });
}

async function writeAtomic(name, text) {
  const target = path.join(STORE, name);
  const temporary = `${target}.${crypto.randomUUID()}.tmp`;
  const file = await fs.promises.open(temporary, 'wx', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await fs.promises.rename(temporary, target);
  return target;
}

async function stream(request, response) {
  await clip();
  const { size } = await fs.promises.stat(CLIP);
  const match = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range || '');
  const start = match ? Number(match[1]) : 0;
  const end = match && match[2] ? Math.min(Number(match[2]), size - 1) : size - 1;
  if (start > end) return reply(response, 416, { size });
  const headers = { 'content-type': 'video/mp4', 'accept-ranges': 'bytes', 'content-length': end - start + 1 };
  if (match) headers['content-range'] = `bytes ${start}-${end}/${size}`;
  response.writeHead(match ? 206 : 200, headers);
  await pipeline(fs.createReadStream(CLIP, { start, end }), response);
}

async function transcode(request, response) {
  await clip();
  const child = cp.spawn(FFMPEG, ['-v', 'error', '-nostdin', '-i', CLIP, '-c:v', 'libx264', '-preset',
    'ultrafast', '-vf', 'scale=160:-2', '-c:a', 'aac', '-f', 'mp4', '-movflags', 'frag_keyframe+empty_moov',
    'pipe:1'], { stdio: ['ignore', 'pipe', 'inherit'] });
  response.writeHead(200, { 'content-type': 'video/mp4' });
  await pipeline(child.stdout, response);
}

let clipMade;
function clip() {
  clipMade ||= run(FFMPEG, ['-v', 'error', '-nostdin', '-y', '-f', 'lavfi', '-i',
    'testsrc=duration=2:size=320x240:rate=25', '-f', 'lavfi', '-i', 'sine=frequency=440:duration=2',
    '-c:v', 'libx264', '-preset', 'ultrafast', '-c:a', 'aac', '-shortest', CLIP]);
  clipMade.catch(() => { clipMade = undefined; });
  return clipMade;
}

function run(program, argv) {
  return new Promise((resolve, reject) => {
    cp.execFile(program, argv, { maxBuffer: 1 << 24 }, (fault, stdout, stderr) => {
      if (fault) reject(Object.assign(fault, { message: `${fault.message}\n${stderr}` }));
      else resolve(stdout);
    });
  });
}

// What the kernel must grant. Each throws when something was refused.

const tests = {
  async http_client() {
    const answer = await (await fetch(`http://127.0.0.1:${HTTP_PORT}/health`)).json();
    expect(answer.pid === process.pid, 'an answer from this process');
    const agent = new http.Agent({ keepAlive: true });
    for (let i = 0; i < 3; i += 1) expect((await get(http, HTTP_PORT, '/', { agent })).status === 200, '200');
    agent.destroy();
  },

  async https_client() {
    const answer = await get(https, HTTPS_PORT, '/health', { rejectUnauthorized: false });
    expect(answer.status === 200, '200 over TLS');
  },

  async ranges() {
    await clip();
    const whole = await fs.promises.readFile(CLIP);
    const part = await get(http, HTTP_PORT, '/stream', { headers: { range: 'bytes=1000-1999' } });
    expect(part.status === 206 && part.body.equals(whole.subarray(1000, 2000)), 'bytes 1000 to 1999');
    const tail = await get(http, HTTP_PORT, '/stream', { headers: { range: 'bytes=2000-' } });
    expect(tail.body.equals(whole.subarray(2000)), 'the rest of the file');
  },

  async settings() {
    const folder = path.join(STORE, `watched-${crypto.randomUUID()}`);
    await fs.promises.mkdir(folder);
    const seen = new Promise((resolve) => { fs.watch(folder, resolve).unref(); });
    await writeAtomic(path.join(path.basename(folder), 'a.json'), '{}');
    await Promise.race([seen, sleep(5000).then(() => { throw new Error('fs.watch saw nothing'); })]);
    await fs.promises.unlink(path.join(folder, 'a.json'));
    await fs.promises.rmdir(folder);
  },

  async files() {
    const folder = await fs.promises.mkdtemp(path.join(os.tmpdir(), 'selftest-'));
    const a = path.join(folder, 'a');
    const file = await fs.promises.open(a, 'w+');
    await file.writev([Buffer.from('one'), Buffer.from('two')]);
    await file.write(Buffer.from('X'), 0, 1, 2);
    await file.writev([Buffer.from('Y'), Buffer.from('Z')], 3);
    const back = Buffer.alloc(6);
    await file.readv([back.subarray(0, 3), back.subarray(3)], 0);
    expect(String(back) === 'onXYZo', 'what was written');
    await file.read(back, 0, 2, 1);
    await file.truncate(100000);
    await file.datasync();
    await file.chmod(0o640);
    await file.utimes(1, 2);
    await file.stat();
    await file.close();
    await fs.promises.access(a, fs.constants.R_OK | fs.constants.W_OK);
    await fs.promises.copyFile(a, path.join(folder, 'b'));
    await fs.promises.symlink('a', path.join(folder, 'c'));
    await fs.promises.readlink(path.join(folder, 'c'));
    await fs.promises.link(a, path.join(folder, 'd'));
    await fs.promises.realpath(path.join(folder, 'c'));
    await fs.promises.lstat(path.join(folder, 'c'));
    await fs.promises.chmod(a, 0o600);
    await fs.promises.lutimes(path.join(folder, 'c'), 1, 2);
    await fs.promises.utimes(a, 1, 2);
    await fs.promises.truncate(a, 3);
    await fs.promises.appendFile(a, 'more');
    await fs.promises.statfs(folder);
    await fs.promises.cp(folder, `${folder}-copy`, { recursive: true });
    for await (const entry of await fs.promises.opendir(folder)) expect(entry.name, 'a name');
    fs.watchFile(a, { interval: 100 }, () => {});
    fs.unwatchFile(a);
    await fs.promises.rm(folder, { recursive: true });
    await fs.promises.rm(`${folder}-copy`, { recursive: true });
  },

  async many_reads() {
    const name = path.join(STORE, 'cache', 'piece');
    await fs.promises.writeFile(name, crypto.randomBytes(1 << 20));
    const reads = Array.from({ length: 32 }, (_, i) => fs.promises.open(name).then(async (file) => {
      await file.read(Buffer.alloc(4096), 0, 4096, i * 4096);
      await file.close();
    }));
    await Promise.all(reads);
    await fs.promises.unlink(name);
  },

  async transcode() {
    await clip();
    const probed = JSON.parse(await run(FFPROBE, ['-v', 'error', '-show_streams', '-of', 'json', CLIP]));
    expect(probed.streams.length === 2, 'a video and an audio stream');
    const { body } = await get(http, HTTP_PORT, '/transcode');
    expect(body.length > 1000 && body.subarray(4, 8).toString() === 'ftyp', 'an MP4 file');
    await run(FFMPEG, ['-hide_banner', '-hwaccels']);
    const folder = await fs.promises.mkdtemp(path.join(STORE, 'hls-'));
    await run(FFMPEG, ['-v', 'error', '-nostdin', '-i', CLIP, '-c', 'copy', '-f', 'hls', '-hls_time', '1',
      path.join(folder, 'index.m3u8')]);
    await run(FFMPEG, ['-v', 'error', '-nostdin', '-threads', '4', '-i', `http://127.0.0.1:${HTTP_PORT}/stream`,
      '-frames:v', '1', '-y', path.join(folder, 'thumb.png')]);
    await run(FFMPEG, ['-v', 'error', '-nostdin', '-i', CLIP, '-c:v', 'libx265', '-x265-params',
      'log-level=error', '-c:a', 'libopus', '-y', path.join(folder, 'other.mkv')]);
    await fs.promises.rm(folder, { recursive: true });
  },

  async stopped_child() {
    const child = cp.spawn(FFMPEG, ['-v', 'quiet', '-nostdin', '-re', '-f', 'lavfi', '-i', 'testsrc', '-f',
      'null', '-'], { stdio: 'ignore' });
    await once(child, 'spawn');
    await sleep(200);
    child.kill('SIGKILL');
    const [, signal] = await once(child, 'exit');
    expect(signal === 'SIGKILL', 'a child ended by SIGKILL');
  },

  async children() {
    const child = cp.fork(__filename);
    child.send('word');
    const [word] = await once(child, 'message');
    expect(word === 'WORD', 'a message over IPC');
    await once(child, 'exit');
    const listed = cp.spawnSync('ps', ['-e', '-o', 'pid,args'], { encoding: 'utf8' });
    expect(listed.status === 0, `ps: ${listed.error || listed.stderr}`);
    const piped = cp.spawn(process.execPath, ['-e', 'process.stdin.pipe(process.stdout)'], { detached: true });
    piped.stdin.end('through');
    const parts = [];
    for await (const part of piped.stdout) parts.push(part);
    expect(Buffer.concat(parts).toString() === 'through', 'what was piped');
  },

  async worker_threads() {
    const cell = new SharedArrayBuffer(4);
    const worker = new Worker(__filename, { workerData: cell });
    await once(worker, 'online');
    Atomics.store(new Int32Array(cell), 0, 1);
    Atomics.notify(new Int32Array(cell), 0);
    const [digest] = await once(worker, 'message');
    expect(digest.length === 64, 'a digest');
    await worker.terminate();
  },

  async crypto() {
    crypto.randomBytes(64);
    await new Promise((done, failed) => crypto.pbkdf2('p', 's', 1000, 32, 'sha256', (e) => (e ? failed(e) : done())));
    await new Promise((done, failed) => crypto.scrypt('p', 's', 32, (e) => (e ? failed(e) : done())));
    await new Promise((done, failed) => crypto.generateKeyPair('ed25519', {}, (e) => (e ? failed(e) : done())));
    await crypto.subtle.digest('SHA-1', Buffer.from('piece'));
  },

  async zlib() {
    const text = Buffer.alloc(200000, 'abc');
    for (const [pack, unpack] of [['gzip', 'gunzip'], ['brotliCompress', 'brotliDecompress']]) {
      const packed = await new Promise((done, failed) => zlib[pack](text, (e, r) => (e ? failed(e) : done(r))));
      const back = await new Promise((done, failed) => zlib[unpack](packed, (e, r) => (e ? failed(e) : done(r))));
      expect(back.equals(text), `${unpack} gives back what ${pack} was given`);
    }
  },

  async dns() {
    const refused = new Set(['EPERM', 'ENOSYS', 'EACCES']);
    const resolver = new dns.promises.Resolver({ timeout: 300, tries: 1 });
    const questions = {
      lookup: () => dns.promises.lookup('localhost', { all: true }),
      unknown: () => dns.promises.lookup('nowhere.invalid'),
      resolve: () => resolver.resolve4('nowhere.invalid'),
      reverse: () => resolver.reverse('127.0.0.1'),
    };
    const said = {};
    for (const [name, ask] of Object.entries(questions)) {
      said[name] = await ask().then(() => 'ok', (fault) => fault.code);
      expect(!refused.has(said[name]), `${name} is not refused: ${said[name]}`);
    }
    return said;
  },

  async udp() {
    for (const [type, address] of [['udp4', '127.0.0.1'], ['udp6', '::1']]) {
      const socket = dgram.createSocket({ type, reuseAddr: true, recvBufferSize: 65536 });
      socket.bind(0, address);
      await once(socket, 'listening').catch((fault) => { if (type === 'udp4') throw fault; });
      if (type === 'udp6' && !bound(socket)) continue;
      socket.setBroadcast(true);
      socket.setTTL(4);
      if (type === 'udp4') membership(socket);
      socket.send('ping', socket.address().port, address);
      const [message] = await once(socket, 'message');
      expect(String(message) === 'ping', 'the datagram');
      socket.close();
    }
  },

  async tcp() {
    for (const where of [{ port: 0, host: '127.0.0.1' }, { path: path.join(os.tmpdir(), `${process.pid}.sock`) },
      { path: '\0selftest' }]) {
      const server = net.createServer((peer) => peer.pipe(peer)).listen(where);
      await once(server, 'listening');
      const client = net.connect(where.path ? where : { port: server.address().port, host: where.host });
      client.setNoDelay(true).setKeepAlive(true, 1000);
      client.end('echo');
      const parts = [];
      for await (const part of client) parts.push(part);
      expect(String(Buffer.concat(parts)) === 'echo', 'the echo');
      server.close();
    }
    const fault = await once(net.connect(1, '127.0.0.1'), 'error').catch((error) => [error]);
    expect(fault[0].code === 'ECONNREFUSED', `a refused connection, not ${fault[0].code}`);
  },

  async timers() {
    const before = performance.now();
    await sleep(20);
    await new Promise(setImmediate);
    let ticks = 0;
    await new Promise((done) => { const t = setInterval(() => { if (++ticks === 3) { clearInterval(t); done(); } }, 5); });
    expect(performance.now() - before >= 20, 'time that passed');
  },

  async system() {
    os.cpus(); os.networkInterfaces(); os.freemem(); os.totalmem(); os.loadavg(); os.uptime(); os.hostname();
    os.userInfo(); os.availableParallelism(); os.getPriority(); os.version();
    os.setPriority(os.getPriority());
    process.memoryUsage(); process.resourceUsage(); process.cpuUsage(); process.hrtime.bigint();
    process.title = 'standin'; process.umask(process.umask()); process.chdir(process.cwd());
    [process.getuid(), process.geteuid(), process.getgid(), process.getgroups()].forEach(String);
    process.report.getReport(); process.constrainedMemory();
    require('node:v8').getHeapStatistics();
    require('node:tty').isatty(1);
  },

  async signals() {
    const caught = once(process, 'SIGUSR2');
    process.kill(process.pid, 'SIGUSR2');
    await caught;
    process.kill(process.pid, 0);
  },

  async wasm() {
    const empty = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0);
    await WebAssembly.instantiate(empty);
  },

  async memory() {
    const blocks = Array.from({ length: 16 }, () => Buffer.alloc(4 << 20, 1));
    expect(blocks.every((block) => block[4095] === 1), 'memory');
    const hot = Function('n', 'let s = 0; for (let i = 0; i < n; i++) s += i % 7; return s;');
    expect(hot(5e6) > 0, 'compiled code');
  },
};

async function selftest(request, response) {
  const results = {};
  for (const [name, test] of Object.entries(tests)) {
    const before = performance.now();
    try {
      const detail = await test();
      results[name] = { ok: true, ms: Math.round(performance.now() - before), ...(detail && { detail }) };
    } catch (fault) {
      results[name] = { ok: false, error: describe(fault) };
    }
  }
  const ok = Object.values(results).every((result) => result.ok);
  reply(response, ok ? 200 : 500, { ok, results });
}

function expect(condition, what) {
  if (!condition) throw new Error(`expected ${what}`);
}

const describe = (fault) => `${fault.code || fault.name}: ${fault.message}`;

function bound(socket) {
  try { return Boolean(socket.address().port); } catch { return false; }
}

function membership(socket) {
  // A network without a route has no multicast; being refused by a filter is another matter.
  try { socket.addMembership('239.255.255.250'); } catch (fault) {
    expect(!['EPERM', 'ENOSYS'].includes(fault.code), `addMembership is not refused: ${fault.code}`);
  }
}

function get(protocol, port, route, options = {}) {
  return new Promise((resolve, reject) => {
    protocol.get({ host: '127.0.0.1', port, path: route, ...options }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part)).on('error', reject);
      answer.on('end', () => resolve({ status: answer.statusCode, body: Buffer.concat(parts) }));
    }).on('error', reject);
  });
}

// A certificate of our own for the TLS port: X.509 (RFC 5280) in DER, made new at each start.
function selfSigned() {
  const { publicKey, privateKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const tlv = (tag, ...parts) => {
    const body = Buffer.concat(parts);
    const size = body.length < 128 ? [body.length] : [0x82, body.length >> 8, body.length & 255];
    return Buffer.concat([Buffer.from([tag, ...size]), body]);
  };
  const oid = (...bytes) => tlv(0x06, Buffer.from(bytes));
  const ecdsaSha256 = tlv(0x30, oid(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02));
  const name = tlv(0x30, tlv(0x31, tlv(0x30, oid(0x55, 0x04, 0x03), tlv(0x0c, Buffer.from('localhost')))));
  const time = (text) => tlv(0x17, Buffer.from(text));
  const body = tlv(0x30, tlv(0x02, Buffer.concat([Buffer.from([1]), crypto.randomBytes(8)])), ecdsaSha256, name,
    tlv(0x30, time('200101000000Z'), time('491231235959Z')), name,
    publicKey.export({ type: 'spki', format: 'der' }));
  const signature = crypto.sign('sha256', body, privateKey);
  const der = tlv(0x30, body, ecdsaSha256, tlv(0x03, Buffer.from([0]), signature));
  const cert = `-----BEGIN CERTIFICATE-----\n${der.toString('base64')}\n-----END CERTIFICATE-----\n`;
  return { cert, key: privateKey.export({ type: 'pkcs8', format: 'pem' }) };
}
