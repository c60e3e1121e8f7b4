import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import t from 'tap'
import { WriteScratch } from './write-scratch.ts'

async function pair() {
  const server = createServer({ pauseOnConnect: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [peer] = (await once(server, 'connection')) as [Socket]
  await once(client, 'connect')
  server.close()
  return { client, peer }
}

/** Reads all and returns its digest. */
async function digestOf(peer: Socket): Promise<string> {
  const hash = createHash('sha256')
  peer.on('data', chunk => hash.update(chunk))
  peer.resume()
  await once(peer, 'end')
  return hash.digest('hex')
}

t.test('bytes arrive as they were, though chunk and scratch are used again at once', async t => {
  const { client, peer } = await pair()
  const scratch = new WriteScratch()
  const expected = createHash('sha256')
  const source = Buffer.alloc(70_000)
  // Nobody reads at first, so most writes have to wait while source and scratch go on changing.
  for (let i = 0; i < 400; i++) {
    const length = [1, 100, 5000, 16_384, 65_536, 70_000][i % 6] as number
    const chunk = source.subarray(0, length)
    randomBytes(length).copy(chunk)
    const [prefix, suffix] = [`head ${i}\r\n\r\n`, i % 2 === 0 ? '' : '\r\n']
    expected.update(prefix).update(chunk).update(suffix)
    scratch.write(client, prefix, chunk, suffix)
    source.fill(0xee)
  }
  t.ok(client.writableLength > 1_000_000, 'writes did wait')
  client.end()
  t.equal(await digestOf(peer), expected.digest('hex'))
})

t.test('a socket that stalls never sees what is written to another', async t => {
  const scratch = new WriteScratch()
  const stalled = await pair()
  const others = await Promise.all([pair(), pair()])
  const expected = createHash('sha256')
  // Fills the kernel's buffers, so that a scratch is left with the stalled socket.
  while (stalled.client.writableLength === 0) {
    const chunk = Buffer.alloc(60_000, 's')
    expected.update(chunk)
    scratch.write(stalled.client, '', chunk, '')
  }
  const digests = others.map(({ peer }) => digestOf(peer))
  const hashes = others.map(() => createHash('sha256'))
  for (let i = 0; i < 50; i++) {
    for (const [n, { client }] of others.entries()) {
      const chunk = Buffer.alloc(20_000, `${n}${i}`)
      hashes[n]?.update(chunk)
      scratch.write(client, '', chunk, '')
      if (client.writableNeedDrain) await once(client, 'drain')
    }
  }
  for (const { client } of [...others, stalled]) client.end()
  t.strictSame(
    await Promise.all(digests),
    hashes.map(hash => hash.digest('hex')),
  )
  t.equal(await digestOf(stalled.peer), expected.digest('hex'))
})
