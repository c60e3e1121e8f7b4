import type { Socket } from 'node:net'

/** A read of 64 KiB with a head in front of it. */
const SCRATCH_BYTES = 96 * 1024
/** Below it Buffer's own pool is as good, and a write that has to wait keeps little memory. */
const SMALL_BYTES = 4096

/**
 * One write for head, body bytes and chunk framing, copied together into memory that is used again
 * and again: bodies so cost one copy and no allocation, where a fresh buffer for each piece made the
 * garbage collector a fifth of the work (`npm run bench -- answer-100k --profile`).
 *
 * Memory is given to a socket for as long as it may still read it: where the kernel did not take a
 * write at once, the scratch stays with that write and a new one is made.
 */
export class WriteScratch {
  #scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES)

  /** @param chunk is read before this returns, and never after */
  write(socket: Socket, prefix: string, chunk: Buffer, suffix: string): void {
    const bodyStart = prefix.length
    const bodyEnd = bodyStart + chunk.length
    const length = bodyEnd + suffix.length
    // Behind other bytes it would wait for certain; and TLS never takes a write at once.
    const isShared =
      length > SMALL_BYTES &&
      length <= SCRATCH_BYTES &&
      socket.writableLength === 0 &&
      !('encrypted' in socket)
    const bytes = isShared ? this.#scratch.subarray(0, length) : Buffer.allocUnsafe(length)
    if (bodyStart > 0) bytes.write(prefix, 0, bodyStart, 'latin1')
    bytes.set(chunk, bodyStart)
    if (suffix !== '') bytes.write(suffix, bodyEnd, suffix.length, 'latin1')
    socket.write(bytes)
    if (isShared && socket.writableLength > 0) {
      this.#scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES)
    }
  }
}
