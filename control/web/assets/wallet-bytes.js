// Bytes as text: base64 as our server writes a transaction, base58 as Solana writes a signature. Pure.

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
// What stands before a text that a wallet signs as an off-chain message, in either of its layouts.
const DOMAIN = [0xff, ...new TextEncoder().encode("solana offchain")];
const SHORT_HEAD_BYTES = DOMAIN.length + 4;
const LONG_HEAD_BYTES = DOMAIN.length + 1 + 32 + 1 + 1 + 32 + 2;

// Returns the bytes that a base64 text stands for; throws where it is none.
export function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

// Writes bytes as base58, each leading zero byte as a 1.
export function toBase58(bytes) {
  let number = 0n;
  for (const byte of bytes) number = number * 256n + BigInt(byte);
  let text = "";
  for (; number > 0n; number /= 58n) text = ALPHABET[Number(number % 58n)] + text;
  const zeros = bytes.findIndex((byte) => byte !== 0);
  return "1".repeat(zeros < 0 ? bytes.length : zeros) + text;
}

// Returns the name of the envelope in which a wallet signed `text`, as the server calls it, or null where it signed something else.
export function envelopeOf(text, signedBytes) {
  const plain = new TextEncoder().encode(text);
  const head = signedBytes.length - plain.length;
  if (head < 0 || !plain.every((byte, place) => signedBytes[head + place] === byte)) return null;
  if (head === 0) return "plain";
  if (!DOMAIN.every((byte, place) => signedBytes[place] === byte)) return null;
  return { [SHORT_HEAD_BYTES]: "offchain_short", [LONG_HEAD_BYTES]: "offchain_long" }[head] ?? null;
}
