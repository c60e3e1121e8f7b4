import t from 'tap'
import { sendRevoking } from './logout.ts'
import type {
  UpstreamCall,
  UpstreamClient,
  UpstreamRequest,
  UpstreamSink,
} from './upstream/client.ts'

const REQUEST: UpstreamRequest = { method: 'GET', target: '/x', headers: [], body: null }

/** A replica whose answer the test writes, and a sink that notes what reaches it. */
function setUp() {
  const seen: string[] = []
  const acts: string[] = []
  let replica: UpstreamSink | null = null
  const client: UpstreamClient = {
    send(_origin, _request, sink) {
      replica = sink
      return {
        pause: () => acts.push('pause'),
        resume: () => acts.push('resume'),
        abort: () => acts.push('abort'),
        sentAt: 0,
      }
    },
    connectionCount: () => 0,
    queueLength: () => 0,
    closeIdle() {},
    close: async () => {},
  }
  const world = {
    seen,
    acts,
    revoked: 0,
    onBytes: (_call: UpstreamCall) => {},
    through: Promise.withResolvers<void>(),
  }
  const call = sendRevoking(
    client,
    'http://a',
    REQUEST,
    {
      onHead: status => seen.push(`head ${status}`),
      onBytes: chunk => {
        seen.push(`bytes ${chunk}`)
        world.onBytes(call)
      },
      onEnd: () => seen.push('end'),
      onFault: ({ kind }) => seen.push(`fault ${kind}`),
    },
    () => {
      world.revoked += 1
      return world.through.promise
    },
  )
  const release = async () => {
    world.through.resolve()
    await new Promise(resolve => setImmediate(resolve))
  }
  return { ...world, world, call, replica: replica as unknown as UpstreamSink, release }
}

t.test('an answer is held until the token is revoked, and then arrives as it came', async t => {
  const { seen, acts, world, replica, release } = setUp()
  const memory = Buffer.from('one')
  replica.onHead(200, [], 6, false)
  replica.onBytes(memory)
  // The engine reads into the same memory again.
  memory.write('two')
  replica.onBytes(memory)
  replica.onEnd()
  t.strictSame(seen, [])
  t.equal(world.revoked, 1)
  t.strictSame(acts, ['pause'])
  await release()
  t.strictSame(seen, ['head 200', 'bytes one', 'bytes two', 'end'])
})

t.test('what comes after the release flows, and a client that is slow stops it', async t => {
  const { seen, acts, world, replica, call, release } = setUp()
  world.onBytes = held => held.pause()
  replica.onHead(200, [], null, false)
  replica.onBytes(Buffer.from('a'))
  await release()
  t.strictSame(acts, ['pause', 'pause'], 'not let go while the client is behind')
  call.resume()
  t.equal(acts.at(-1), 'resume')
  replica.onBytes(Buffer.from('b'))
  replica.onEnd()
  t.strictSame(seen, ['head 200', 'bytes a', 'bytes b', 'end'])
})

t.test('a refusal is not held and revokes nothing', async t => {
  for (const status of [400, 401, 404, 500, 503]) {
    const { seen, acts, world, replica } = setUp()
    replica.onHead(status, [], 0, false)
    replica.onEnd()
    t.strictSame(seen, [`head ${status}`, 'end'])
    t.equal(world.revoked, 0)
    t.strictSame(acts, [])
  }
})

t.test('an answer that breaks off while it is held is told so, after its head', async t => {
  const { seen, replica, release } = setUp()
  replica.onHead(204, [], null, true)
  replica.onFault({ kind: 'reset', isUnsent: false, isReused: false, reason: 'x' })
  t.strictSame(seen, [])
  await release()
  t.strictSame(seen, ['head 204', 'fault reset'])
})

t.test('a failure before the answer is told at once, so that it can be retried', async t => {
  const { seen, world, replica } = setUp()
  replica.onFault({ kind: 'connect', isUnsent: true, isReused: false, reason: 'x' })
  t.strictSame(seen, ['fault connect'])
  t.equal(world.revoked, 0)
})

t.test('a client that leaves before the answer is signed out, whatever the app says', async t => {
  const { seen, world, call, replica, release } = setUp()
  call.abort()
  t.equal(world.revoked, 1)
  await release()
  t.strictSame(seen, [])
  const late = setUp()
  late.replica.onHead(403, [], 0, false)
  late.call.abort()
  t.equal(late.world.revoked, 0, 'it had heard that it was refused')
  const failed = setUp()
  failed.replica.onFault({ kind: 'connect', isUnsent: true, isReused: false, reason: 'x' })
  t.equal(failed.world.revoked, 0)
  replica.onFault({ kind: 'reset', isUnsent: false, isReused: false, reason: 'x' })
  t.equal(world.revoked, 1)
})

t.test('a client that leaves hears nothing more, and frees the replica at once', async t => {
  const { seen, acts, replica, call, release } = setUp()
  replica.onHead(200, [], 1, false)
  call.abort()
  t.strictSame(acts, ['pause', 'abort'])
  await release()
  t.strictSame(seen, [])
  t.equal(acts.includes('resume'), false)
  const early = setUp()
  early.world.onBytes = held => held.abort()
  early.replica.onHead(200, [], 2, false)
  early.replica.onBytes(Buffer.from('a'))
  early.replica.onBytes(Buffer.from('b'))
  early.replica.onEnd()
  await early.release()
  t.strictSame(early.seen, ['head 200', 'bytes a'], 'it left at the first byte')
})
