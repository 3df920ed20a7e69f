// As much of protobuf's bytes as the page reads and writes itself: the columns of 100,000 trials come as they are stored, and not as
// JSON. Numbers on the wire: protobuf.dev/programming-guides/encoding.

export type Value = number | Uint8Array;

// Field number and value of each field: a varint as a number, what has a length as its bytes. Others are passed over.
export function* fieldsOf(bytes: Uint8Array): Generator<[number, Value]> {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      if (byte === undefined) throw new Error("The answer is cut off.");
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const field = Math.floor(tag / 8), kind = tag & 7;
    if (kind === 0) yield [field, varint()];
    else if (kind === 2) {
      const size = varint();
      if (at + size > bytes.length) throw new Error("The answer is cut off.");
      yield [field, bytes.subarray(at, at += size)];
    } else if (kind === 1 || kind === 5) at += kind === 1 ? 8 : 4;
    else throw new Error(`The answer has a field of an unknown kind, ${kind}.`);
  }
}

// A message of texts and whole numbers that are not negative; empty ones are left out, as protobuf does.
export function messageOf(fields: [number, string | number][]): Uint8Array {
  const out: number[] = [];
  const varint = (value: number) => {
    for (; value >= 128; value = Math.floor(value / 128)) out.push((value % 128) | 128);
    out.push(value);
  };
  for (const [field, value] of fields) {
    if (!value) continue;
    varint(field * 8 + (typeof value === "string" ? 2 : 0));
    if (typeof value === "number") { varint(value); continue; }
    const text = new TextEncoder().encode(value);
    varint(text.length);
    out.push(...text);
  }
  return Uint8Array.from(out);
}

const utf8 = new TextDecoder();
export const textOf = (value: Value): string => utf8.decode(value as Uint8Array);
// Copied, and so aligned: protobuf packs without gaps.
const aligned = (value: Value): ArrayBuffer => (value as Uint8Array).slice().buffer as ArrayBuffer;
export const uint32s = (value: Value): Uint32Array => new Uint32Array(aligned(value));
export const floats = (value: Value): Float32Array => new Float32Array(aligned(value));
export const doubles = (value: Value): Float64Array => new Float64Array(aligned(value));
