import { hash } from 'node:crypto'

const BLOCK_BYTES = 64
const DIGEST_BYTES = 32
const INNER_PAD = 0x36
const OUTER_PAD = 0x5c
/** Texts up to this length are hashed from a buffer kept for it. */
const SCRATCH_TEXT_BYTES = 8192

const scratch = Buffer.alloc(BLOCK_BYTES + SCRATCH_TEXT_BYTES)

/**
 * HMAC-SHA256 (RFC 2104) with its key prepared once, for a tag per request: two one-shot hashes, where
 * node:crypto's createHmac makes a stream object and prepares the key for every tag.
 */
export class HmacSha256 {
  readonly #innerKey: Buffer
  /** The outer block with room for the inner digest behind it. */
  readonly #outer: Buffer

  /** @param key of at most 64 bytes; a longer one would have to be hashed first, and none is needed */
  constructor(key: Uint8Array) {
    if (key.length > BLOCK_BYTES) throw new Error('an HMAC key of at most 64 bytes is needed')
    this.#innerKey = Buffer.alloc(BLOCK_BYTES, INNER_PAD)
    this.#outer = Buffer.alloc(BLOCK_BYTES + DIGEST_BYTES, OUTER_PAD)
    for (const [i, byte] of key.entries()) {
      this.#innerKey[i] = byte ^ INNER_PAD
      this.#outer[i] = byte ^ OUTER_PAD
    }
  }

  /** The tag of `text` (its UTF-8 bytes) in base64url. */
  tag(text: string): string {
    // A UTF-16 unit takes three bytes of UTF-8 at most.
    const isShort = text.length * 3 <= SCRATCH_TEXT_BYTES
    const buffer = isShort ? scratch : Buffer.alloc(BLOCK_BYTES + Buffer.byteLength(text))
    this.#innerKey.copy(buffer)
    const end = BLOCK_BYTES + buffer.write(text, BLOCK_BYTES, 'utf8')
    // As a string of bytes: a Buffer of its own for the digest costs more than the hash.
    this.#outer.write(hash('sha256', buffer.subarray(0, end), 'binary'), BLOCK_BYTES, 'latin1')
    return hash('sha256', this.#outer, 'base64url')
  }
}
