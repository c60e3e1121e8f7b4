import type { Socket } from 'node:net'

/** Masked client frames of at most 125 bytes of payload come back unmasked (RFC 6455 section 5.2). */
const HEADER_BYTES = 6

export function echoFrames(socket: Socket): void {
  let left: Buffer = Buffer.alloc(0)
  socket.on('data', chunk => {
    const bytes = left.length === 0 ? chunk : Buffer.concat([left, chunk])
    let at = 0
    while (bytes.length - at >= HEADER_BYTES) {
      const length = (bytes[at + 1] as number) & 0x7f
      const end = at + HEADER_BYTES + length
      if (length > 125 || ((bytes[at] as number) & 0x0f) === 8) {
        socket.end()
        return
      }
      if (end > bytes.length) break
      socket.write(unmask(bytes, at, length))
      at = end
    }
    left = bytes.subarray(at)
  })
}

function unmask(bytes: Buffer, at: number, length: number): Buffer {
  const frame = Buffer.allocUnsafe(2 + length)
  frame[0] = bytes[at] as number
  frame[1] = length
  for (let i = 0; i < length; i++) {
    frame[2 + i] = (bytes[at + 6 + i] as number) ^ (bytes[at + 2 + (i & 3)] as number)
  }
  return frame
}
