import t from 'tap'
import { FrameBoundaries, GOING_AWAY_FRAME } from './websocket-frames.ts'

/** A frame with `bytes` of payload, each of which would read as the head of another. */
function frameOf(bytes: number, isMasked = false): Buffer {
  const mask = isMasked ? 0x80 : 0
  const head = [0x82, mask | (bytes < 126 ? bytes : bytes < 65_536 ? 126 : 127)]
  const length = Buffer.alloc(bytes < 126 ? 0 : bytes < 65_536 ? 2 : 8)
  if (length.length === 2) length.writeUInt16BE(bytes)
  else if (length.length === 8) length.writeBigUInt64BE(BigInt(bytes))
  return Buffer.concat([
    Buffer.from(head),
    length,
    Buffer.alloc(isMasked ? 4 : 0),
    Buffer.alloc(bytes, 0x88),
  ])
}

t.test('the end of a frame is known, however its bytes are cut', async t => {
  const frames = [0, 1, 125, 126, 65_535, 65_536].flatMap(n => [frameOf(n), frameOf(n, true)])
  frames.push(GOING_AWAY_FRAME)
  const ends = new Set<number>([0])
  let end = 0
  for (const frame of frames) {
    end += frame.length
    ends.add(end)
  }
  const all = Buffer.concat(frames)
  for (const size of [1, 2, 3, 7, 1000, 65_537, all.length]) {
    const boundaries = new FrameBoundaries()
    const wrong: number[] = []
    for (let at = 0; at < all.length; at += size) {
      boundaries.take(all.subarray(at, at + size))
      const seen = Math.min(at + size, all.length)
      if (boundaries.isBetweenFrames !== ends.has(seen)) wrong.push(seen)
    }
    t.strictSame(wrong, [], `in pieces of ${size}`)
  }
})

t.test('what is taken up to the end of a frame leaves the rest untouched', async t => {
  const boundaries = new FrameBoundaries()
  const frame = frameOf(300)
  boundaries.take(frame.subarray(0, 100))
  t.notOk(boundaries.isBetweenFrames)
  const rest = Buffer.concat([frame.subarray(100), frameOf(5)])
  t.equal(boundaries.takeFrame(rest), frame.length - 100)
  t.ok(boundaries.isBetweenFrames)
  t.equal(boundaries.takeFrame(rest.subarray(frame.length - 100)), 7)
})
