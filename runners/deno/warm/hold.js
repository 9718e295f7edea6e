// Hold a booted Deno until its program arrives: preloaded before the main module is looked for, so that finding and
// running that is Deno's own.
const readExactly = (pipe, length) => {
  const buffer = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const count = pipe.readSync(buffer.subarray(at));
    if (count === null) Deno.exit(0); // the agent is gone
    at += count;
  }
  return buffer;
};

const lengthAt = (buffer, at) => new DataView(buffer.buffer, buffer.byteOffset).getUint32(at);

const unpack = (buffer) => {
  const parts = [];
  for (let at = 0; at < buffer.length; ) {
    const end = at + 4 + lengthAt(buffer, at);
    parts.push(buffer.subarray(at + 4, end));
    at = end;
  }
  return parts;
};

const text = (bytes) => new TextDecoder().decode(bytes);

const fd = Number(Deno.env.get("RUNYARD_HOLD_FD"));
Deno.env.delete("RUNYARD_HOLD_FD");
// Deno reads from and closes only what it has opened itself.
const pipe = Deno.openSync(`/proc/self/fd/${fd}`);
const libc = Deno.dlopen("libc.so.6", { close: { parameters: ["i32"], result: "i32" } });
libc.symbols.close(fd);
libc.close();
// The first part is arguments, of which there are none here: see boot_args in runner.toml.
const [, env] = unpack(readExactly(pipe, lengthAt(readExactly(pipe, 4), 0)));
pipe.close();
for (const pair of unpack(env).map(text)) {
  const at = pair.indexOf("=");
  Deno.env.set(pair.slice(0, at), pair.slice(at + 1));
}
