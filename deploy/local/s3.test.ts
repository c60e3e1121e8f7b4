import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm } from 'node:fs/promises'

import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { Upload } from '@aws-sdk/lib-storage'
import t from 'tap'
import { startS3 } from './s3.ts'

const GLOBEX = { accessKey: 'GLOBEXKEY', secretKey: 'globex-secret' }

t.test('embedded S3', async t => {
  const home = await mkdtemp(join(tmpdir(), 'doorman-s3-test-'))
  t.teardown(() => rm(home, { recursive: true, force: true }))
  const options = {
    dataDir: join(home, 's3'),
    buckets: ['acme', 'shared'],
    accessKey: 'OWNER',
    secretKey: 'owner-secret',
    grants: [{ ...GLOBEX, buckets: ['shared'], prefix: 'globex/' }],
  }
  let server = await startS3(options)
  t.teardown(() => server.stop())
  const clients: S3Client[] = []
  t.teardown(() => {
    for (const client of clients) client.destroy()
  })
  const clientOf = (accessKeyId: string, secretAccessKey: string) => {
    const client = new S3Client({
      endpoint: server.endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      maxAttempts: 1,
      credentials: { accessKeyId, secretAccessKey },
    })
    clients.push(client)
    return client
  }
  const owner = clientOf('OWNER', 'owner-secret')
  const globex = clientOf(GLOBEX.accessKey, GLOBEX.secretKey)
  const put = (client: S3Client, bucket: string, key: string, body: Buffer | Readable | string) =>
    client.send(
      new PutObjectCommand({
        Bucket: bucket,
        Key: key,
        Body: body,
        ContentType: 'text/plain',
        ...(body instanceof Readable && { ContentLength: 300_000 }),
      }),
    )
  const get = async (client: S3Client, bucket: string, key: string) => {
    const got = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }))
    return { ...got, bytes: Buffer.from((await got.Body?.transformToByteArray()) ?? []) }
  }

  await t.test('what is put comes back, from a buffer and from a stream', async t => {
    await put(owner, 'acme', "a b/ü+&'<amp;.txt", 'hello')
    const got = await get(owner, 'acme', "a b/ü+&'<amp;.txt")
    t.equal(got.bytes.toString(), 'hello')
    t.equal(got.ContentType, 'text/plain')
    const bytes = randomBytes(300_000)
    const chunks = [bytes.subarray(0, 7), bytes.subarray(7, 70_000), bytes.subarray(70_000)]
    await put(owner, 'acme', 'streamed', Readable.from(chunks))
    const streamed = await get(owner, 'acme', 'streamed')
    t.ok(streamed.bytes.equals(bytes), 'aws-chunked with a trailer is decoded')
    t.equal(streamed.ContentEncoding, undefined)
    const part = await owner.send(
      new GetObjectCommand({ Bucket: 'acme', Key: 'streamed', Range: 'bytes=10-19' }),
    )
    t.equal((await part.Body?.transformToByteArray())?.length, 10)
  })

  await t.test('20 MiB go up in parts', async t => {
    const block = randomBytes(1024 * 1024)
    const hash = createHash('sha256')
    const source = async function* () {
      for (let i = 0; i < 20; i++) {
        hash.update(block)
        yield block
      }
    }
    const params = { Bucket: 'acme', Key: 'big', Body: Readable.from(source()) }
    await new Upload({ client: owner, params }).done()
    const got = await owner.send(new GetObjectCommand({ Bucket: 'acme', Key: 'big' }))
    const have = createHash('sha256')
    for await (const chunk of got.Body as Readable) have.update(chunk)
    t.equal(have.digest('hex'), hash.digest('hex'))
    t.equal(got.ContentLength, 20 * 1024 * 1024)
  })

  await t.test('lists by prefix and deletes', async t => {
    const list = async () => {
      const found = await owner.send(new ListObjectsV2Command({ Bucket: 'acme', Prefix: 'a b/' }))
      return found.Contents?.map(object => object.Key) ?? []
    }
    t.same(await list(), ["a b/ü+&'<amp;.txt"])
    await owner.send(new DeleteObjectCommand({ Bucket: 'acme', Key: "a b/ü+&'<amp;.txt" }))
    t.same(await list(), [])
    await t.rejects(get(owner, 'acme', "a b/ü+&'<amp;.txt"), { name: 'NoSuchKey' })
  })

  await t.test('a pair of keys opens its bucket and prefix and nothing else', async t => {
    await put(globex, 'shared', 'globex/mine', 'mine')
    t.equal((await get(globex, 'shared', 'globex/mine')).bytes.toString(), 'mine')
    await put(owner, 'shared', 'other/theirs', 'theirs')
    const denied = { name: 'AccessDenied' }
    await t.rejects(get(globex, 'shared', 'other/theirs'), denied)
    await t.rejects(put(globex, 'shared', 'globex/../other/theirs', 'x'), denied)
    await t.rejects(get(globex, 'acme', 'streamed'), denied)
    await t.rejects(globex.send(new ListObjectsV2Command({ Bucket: 'shared' })), denied)
    const own = await globex.send(new ListObjectsV2Command({ Bucket: 'shared', Prefix: 'globex/' }))
    t.same(
      own.Contents?.map(object => object.Key),
      ['globex/mine'],
    )
    await t.rejects(get(clientOf('OWNER', 'wrong'), 'acme', 'streamed'), {
      name: 'SignatureDoesNotMatch',
    })
    await t.rejects(get(clientOf('NOBODY', 'wrong'), 'acme', 'streamed'), {
      name: 'InvalidAccessKeyId',
    })
    t.equal((await fetch(`${server.endpoint}/acme/streamed`)).status, 403, 'unsigned')
  })

  await t.test('an upload cut short leaves the old object', async t => {
    await put(owner, 'acme', 'kept', 'old')
    const stalled = new Readable({ read() {} })
    stalled.push(randomBytes(100_000))
    const leaves = new AbortController()
    const params = { Bucket: 'acme', Key: 'kept', Body: stalled, ContentLength: 300_000 }
    const sent = owner.send(new PutObjectCommand(params), { abortSignal: leaves.signal })
    sent.catch(() => {})
    const partials = async () =>
      (await readdir(join(home, 's3', 'acme'))).filter(name => name.endsWith('.partial')).length
    await until(async () => (await partials()) === 1)
    leaves.abort()
    await t.rejects(sent, { name: 'AbortError' })
    await until(async () => (await partials()) === 0)
    t.equal((await get(owner, 'acme', 'kept')).bytes.toString(), 'old')
  })

  await t.test('data outlives the server, and the port closes with it', async t => {
    const { endpoint } = server
    await server.stop()
    await t.rejects(fetch(endpoint))
    server = await startS3(options)
    const again = clientOf('OWNER', 'owner-secret')
    t.equal((await get(again, 'acme', 'kept')).bytes.toString(), 'old')
    await t.rejects(startS3({ ...options, port: server.port }), /EADDRINUSE/)
  })
})

async function until(isTrue: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 5000
  while (!(await isTrue())) {
    if (Date.now() > deadline) throw new Error('not within 5 s')
    await delay(20)
  }
}
