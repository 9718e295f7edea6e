// The messages between this kernel and the worker (docs/kernels.md), and the descriptors.
"use strict";

const { Buffer } = require("node:buffer"); // a cell may replace the globals
const { spawnSync } = require("node:child_process");
const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const process = require("node:process");

// Node cannot duplicate a descriptor: start.sh has moved these two. Node has closed them to child processes.
const REQUESTS = 8;
const REPLIES = 9;
const requests = new net.Socket({ fd: REQUESTS, readable: true, writable: false });
const { write: writeSync, close, open } = { write: fs.writeSync, close: fs.closeSync, open: fs.openSync };
const { parse, stringify } = JSON;
let cells = 0;

// Call `handle` with each request, its parts as members of type Buffer, and `end` when the requests have ended.
function listen(handle, end) {
  let waiting = [];
  let size = 0;
  let needed = 4;
  requests.on("data", (part) => {
    waiting.push(part);
    size += part.length;
    while (size >= needed) {
      const data = waiting.length === 1 ? waiting[0] : Buffer.concat(waiting);
      const found = message(data);
      if (typeof found === "number") {
        waiting = [data];
        needed = found;
      } else {
        waiting = [data.subarray(found.size)];
        size -= found.size;
        needed = 4;
        handle(found.request);
      }
    }
  });
  requests.on("end", end);
  requests.on("error", end);
}

// Return the first message in the data, or the number of bytes that its next part takes to be known.
function message(data) {
  const start = 4 + data.readUInt32BE(0);
  if (data.length < start) return start;
  const header = parse(data.toString("utf8", 4, start));
  const parts = header.parts ?? [];
  const size = parts.reduce((sum, [, length]) => sum + length, start);
  if (data.length < size) return size;
  const request = { ...header };
  let at = start;
  for (const [name, length] of parts) request[name] = data.subarray(at, (at += length));
  return { request, size };
}

function reply(header, parts = {}) {
  const bodies = Object.entries(parts).map(([name, text]) => [name, Buffer.from(text)]);
  const named = bodies.length > 0 ? { ...header, parts: bodies.map(([name, body]) => [name, body.length]) } : header;
  const head = Buffer.from(stringify(named));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(head.length);
  writeAll(REPLIES, Buffer.concat([length, head, ...bodies.map(([, body]) => body)]));
}

// Wait until the replies have been read, so that output that follows is read after them. Node has no FIONREAD; bash
// finds out that a pipe is empty without reading from it. Only needed where a cell goes on after a reply.
const UNREAD = "for ((i = 0; i < 400; i++)); do read -t 0 -u 3 || exit 0; sleep 0.005; done";

function waitForReader() {
  let end;
  try {
    end = open(`/proc/self/fd/${REPLIES}`, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    spawnSync("/bin/bash", ["-c", UNREAD], { stdio: ["ignore", "ignore", "ignore", end], env: {}, timeout: 3000 });
  } catch {
    // Then the order is not certain.
  } finally {
    if (end !== undefined) close(end);
  }
}

function writeAll(fd, data) {
  for (let at = 0; at < data.length; ) {
    try {
      at += writeSync(fd, data, at, data.length - at);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

// Write to standard error, whatever a cell has done with `console` and `process.stderr`.
function complain(text) {
  try {
    writeAll(2, Buffer.from(text));
  } catch {
    // A cell has closed it.
  }
}

// Make descriptor 0 a file with these bytes. A descriptor that is opened gets the lowest number that is free.
function setStdin(bytes) {
  const file = path.join(os.tmpdir(), `.stdin-${process.pid}-${++cells}`);
  if (bytes.length > 0) fs.writeFileSync(file, bytes, { flag: "wx", mode: 0o600 });
  try {
    close(0);
  } catch {
    // A cell has closed it.
  }
  open(bytes.length > 0 ? file : "/dev/null", "r");
  if (bytes.length > 0) fs.unlinkSync(file);
  let stream;
  Object.defineProperty(process, "stdin", {
    configurable: true,
    enumerable: true,
    get: () => (stream ??= new fs.ReadStream(null, { fd: 0, autoClose: false })),
  });
}

module.exports = { complain, listen, reply, setStdin, waitForReader };
