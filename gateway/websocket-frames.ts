/** An unmasked Close frame with status 1001, "going away" (RFC 6455 sections 5.5.1 and 7.4.1). */
export const GOING_AWAY_FRAME: Buffer = Buffer.from([0x88, 0x02, 0x03, 0xe9])

/** Two bytes, eight of length and four of mask (RFC 6455 section 5.2). */
const HEAD_BYTES_MAX = 14

/**
 * Counts where the frames of one direction begin and end, and looks at nothing else. A control frame may
 * stand between any two frames, within a fragmented message too (RFC 6455 section 5.4).
 */
export class FrameBoundaries {
  readonly #head = Buffer.alloc(HEAD_BYTES_MAX)
  #headBytes = 0
  #payloadLeft = 0

  /** True where the last byte taken ended a frame, or none was taken. */
  get isBetweenFrames(): boolean {
    return this.#headBytes === 0 && this.#payloadLeft === 0
  }

  /** Takes all of `chunk`. */
  take(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length) at = this.#advance(chunk, at)
  }

  /** Takes `chunk` up to the first end of a frame in it. @returns how many bytes those are */
  takeFrame(chunk: Buffer): number {
    let at = 0
    while (at < chunk.length) {
      at = this.#advance(chunk, at)
      if (this.isBetweenFrames) break
    }
    return at
  }

  #advance(chunk: Buffer, at: number): number {
    if (this.#payloadLeft > 0) {
      const taken = Math.min(this.#payloadLeft, chunk.length - at)
      this.#payloadLeft -= taken
      return at + taken
    }
    const head = this.#head
    head[this.#headBytes++] = chunk[at] as number
    if (this.#headBytes === headLength(head, this.#headBytes)) {
      this.#payloadLeft = payloadLength(head)
      this.#headBytes = 0
    }
    return at + 1
  }
}

function headLength(head: Buffer, known: number): number {
  if (known < 2) return 2
  const second = head[1] as number
  const length = second & 0x7f
  return 2 + (length === 127 ? 8 : length === 126 ? 2 : 0) + ((second & 0x80) === 0 ? 0 : 4)
}

function payloadLength(head: Buffer): number {
  const length = (head[1] as number) & 0x7f
  if (length === 127) return Number(head.readBigUInt64BE(2))
  return length === 126 ? head.readUInt16BE(2) : length
}
