import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ListMultipartUploadsCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3'
import t from 'tap'
import { startTestPostgres } from '../../deploy/local/postgres.ts'
import { startS3 } from '../../deploy/local/s3.ts'
import { makeKeys, makeTenant, startApp, TestGateway, type TestTenant, until } from '../test-kit.ts'

const server = await startTestPostgres()
t.teardown(() => server.stop())
const dataDir = await mkdtemp(join(tmpdir(), 'doorman-test-s3-'))
t.teardown(() => rm(dataDir, { recursive: true, force: true }))
const s3 = await startS3({ dataDir, buckets: ['shared', 'own'] })
t.teardown(() => s3.stop())
const keys = makeKeys()
const gateway = new TestGateway(keys)
const credentials = { access_key: s3.accessKey, secret_key: s3.secretKey }
const place = { provider: 's3', endpoint: s3.endpoint, region: 'us-east-1', ...credentials }
const acme = await makeTenant(server, 'acme')
const acme2 = await makeTenant(server, 'acme2')
const plain = await makeTenant(server, 'plain')
acme.bucket = { ...place, name: 'shared', prefix: 'acme' }
acme2.bucket = { ...place, name: 'shared', prefix: 'acme2' }
const app = await startApp(keys, {
  BUCKET_NAME: 'shared',
  BUCKET_ENDPOINT: s3.endpoint,
  BUCKET_ACCESS_KEY: s3.accessKey,
  BUCKET_SECRET_KEY: s3.secretKey,
  FILE_BYTES_MAX: String(40 * 1024 * 1024),
})
t.teardown(() => app.stop())
const { port } = app
const client = new S3Client({
  endpoint: s3.endpoint,
  region: 'us-east-1',
  forcePathStyle: true,
  credentials: { accessKeyId: s3.accessKey, secretAccessKey: s3.secretKey },
})
t.teardown(() => client.destroy())

const keysOf = async (bucket: string) => {
  const { Contents } = await client.send(new ListObjectsV2Command({ Bucket: bucket }))
  return (Contents ?? []).map(({ Key }) => Key)
}
const put = (tenant: TestTenant, name: string, body: Buffer, headers: string[] = []) =>
  gateway.call(port, tenant, 'PUT', `/api/files/${name}`, { body, headers })

t.test('a file comes back as it was stored, with its type and length', async t => {
  const body = randomBytes(3 * 1024 * 1024)
  const stored = await put(acme, 'a%20b.bin', body, ['content-type', 'image/x-test'])
  t.equal(stored.status, 201)
  t.same(stored.json.result, { name: 'a b.bin', size: body.length })
  t.same(await keysOf('shared'), ['acme/a b.bin'])
  const head = await gateway.call(port, acme, 'HEAD', '/api/files/a%20b.bin')
  t.equal(head.status, 200)
  t.equal(head.headers['content-length'], String(body.length))
  const got = await download(acme, 'a%20b.bin')
  t.equal(got.headers['content-type'], 'image/x-test')
  t.equal(got.headers['content-length'], String(body.length))
  t.match(got.headers['content-security-policy'], /sandbox/)
  t.equal(got.sha256, createHash('sha256').update(body).digest('hex'))
  const empty = await put(acme, 'empty', Buffer.alloc(0))
  t.equal(empty.status, 201)
  t.equal(
    (await gateway.call(port, acme, 'GET', '/api/files/empty')).headers['content-length'],
    '0',
  )
})

t.test('tenants of one bucket do not meet', async t => {
  await put(acme2, 'theirs', Buffer.from('2'))
  await put(plain, 'mine', Buffer.from('p'))
  const names = async (tenant: TestTenant) =>
    (await gateway.call(port, tenant, 'GET', '/api/files')).json.result.items.map(
      (file: { name: string }) => file.name,
    )
  t.same(await names(acme), ['a b.bin', 'empty'])
  t.same(await names(acme2), ['theirs'])
  t.same(await names(plain), ['mine'])
  t.ok((await keysOf('shared')).includes(`${plain.id}/mine`), 'the default prefix is the tenant id')
  t.equal((await gateway.call(port, acme, 'GET', '/api/files/theirs')).status, 404)
  await gateway.call(port, acme, 'DELETE', '/api/files/theirs')
  t.same(await names(acme2), ['theirs'], 'nor delete each other’s')
  // A tenant whose prefix lies around others sees its own level only.
  const around = await makeTenant(server, 'around')
  around.bucket = { ...place, name: 'shared', prefix: '' }
  t.same(await names(around), [])
})

t.test('names that mean more than a name are refused before the storage sees them', async t => {
  const before = await keysOf('shared')
  const bad = [
    '..',
    '%2e%2e',
    '..%2Facme2%2Ftheirs',
    '%2e%2e%2facme2%2ftheirs',
    '%252e%252e%252facme2%252ftheirs',
    '..%5Ctheirs',
    'a%2Fb',
    'a%00b',
    'a%0d%0ab',
    '.',
    'x'.repeat(256),
  ]
  for (const name of bad) {
    for (const method of ['GET', 'PUT', 'DELETE']) {
      const answer = await gateway.call(port, acme, method, `/api/files/${name}`, {
        ...(method === 'PUT' ? { body: Buffer.from('x') } : {}),
      })
      t.equal(answer.json.code, 'VALIDATION_FAILED', `${method} ${name.slice(0, 40)}`)
    }
  }
  const deeper = await gateway.call(port, acme, 'GET', '/api/files/a/b')
  t.equal(deeper.json.code, 'ROUTE_NOT_FOUND')
  t.same(await keysOf('shared'), before)
})

t.test('a file of unknown length goes up in parts, up to its bound', async t => {
  const bytes = 20 * 1024 * 1024
  t.equal((await uploadChunked(acme, 'parts', bytes)).status, 201)
  const head = await gateway.call(port, acme, 'HEAD', '/api/files/parts')
  t.equal(head.headers['content-length'], String(bytes))
  const tooBig = await uploadChunked(acme, 'too-big', 41 * 1024 * 1024)
  t.equal(tooBig.status, 413)
  t.equal(tooBig.code, 'BODY_TOO_LARGE')
  const declared = await gateway
    .call(port, acme, 'PUT', '/api/files/declared', {
      body: Buffer.alloc(41 * 1024 * 1024),
    })
    .catch(error => error)
  t.ok(declared instanceof Error || declared.status === 413, 'refused before it is read')
  const left = await keysOf('shared')
  t.notOk(left.includes('acme/too-big'))
  t.notOk(left.includes('acme/declared'))
})

t.test('an upload whose client leaves stores nothing and keeps no parts', async t => {
  for (const length of [20 * 1024 * 1024, null]) {
    const name = `left-${length}`
    await abandonUpload(acme, name, length)
    await until('the request is over', () =>
      app.lines.some(line => line.includes('"aborted":true') && line.includes('/api/files/:name')),
    )
    app.lines.length = 0
    t.notOk((await keysOf('shared')).includes(`acme/${name}`))
  }
  const uploads = await client
    .send(new ListMultipartUploadsCommand({ Bucket: 'shared' }))
    .catch(() => ({ Uploads: [] }))
  t.same(uploads.Uploads ?? [], [])
  t.equal((await put(acme, 'after', Buffer.from('x'))).status, 201)
})

t.test('a download whose client leaves gives its client back', async t => {
  await put(acme, 'large', randomBytes(24 * 1024 * 1024))
  const context = await gateway.sign(acme, 'GET', '/api/files/large')
  const headers = ['host', 'app', ...context]
  const options = { port, host: '127.0.0.1', path: '/api/files/large', agent: false, headers }
  await new Promise<void>((resolve, reject) => {
    request({ ...options })
      .on('error', reject)
      .on('response', response => {
        response.on('error', () => {})
        response.once('data', () => {
          t.equal(app.buckets.leases, 1)
          response.destroy()
          resolve()
        })
      })
      .end()
  })
  await until('no lease is held', () => app.buckets.leases === 0)
})

t.test('storage that is down, keys that are wrong, no storage: each its own answer', async t => {
  const wrong = await makeTenant(server, 'wrong')
  wrong.bucket = { ...place, name: 'own', prefix: null, secret_key: 'x' }
  const refused = await gateway.call(port, wrong, 'GET', '/api/files')
  t.equal(refused.json.code, 'TENANT_BUCKET_UNAVAILABLE')
  t.notMatch(refused.text, /signature|key/i)
  wrong.bucket = { ...place, name: 'own', prefix: null, endpoint: 'http://127.0.0.1:1' }
  wrong.version += 1
  const down = await gateway.call(port, wrong, 'GET', '/api/files')
  t.equal(down.json.code, 'TENANT_BUCKET_UNAVAILABLE')
  t.equal(down.headers['retry-after'], '5')
  wrong.bucket = { ...place, name: 'own', prefix: null, access_key: null, secret_key: null }
  wrong.version += 1
  const keyless = await gateway.call(port, wrong, 'GET', '/api/files')
  t.equal(keyless.json.code, 'TENANT_CONFIG_INVALID', 'never the machine’s identity')

  const bare = await startApp(keys)
  t.teardown(() => bare.stop())
  const none = await gateway.call(bare.port, plain, 'GET', '/api/files')
  t.equal(none.json.code, 'TENANT_BUCKET_MISSING')
  const strict = await startApp(keys, { NODE_ENV: 'production' })
  t.teardown(() => strict.stop())
  const local = await gateway.call(strict.port, acme, 'GET', '/api/files')
  t.equal(local.json.code, 'TENANT_CONFIG_INVALID', 'loopback is refused in production')
})

async function download(tenant: TestTenant, name: string) {
  const target = `/api/files/${name}`
  const context = await gateway.sign(tenant, 'GET', target)
  return new Promise<{ headers: Record<string, unknown>; sha256: string }>((resolve, reject) => {
    request({ port, host: '127.0.0.1', path: target, headers: ['host', 'app', ...context] })
      .on('error', reject)
      .on('response', response => {
        const hash = createHash('sha256')
        response.on('data', chunk => hash.update(chunk))
        response.on('end', () => resolve({ headers: response.headers, sha256: hash.digest('hex') }))
      })
      .end()
  })
}

async function openUpload(tenant: TestTenant, name: string, length: number | null) {
  const target = `/api/files/${name}`
  const context = await gateway.sign(tenant, 'PUT', target)
  const framing =
    length === null ? ['transfer-encoding', 'chunked'] : ['content-length', String(length)]
  return request({
    port,
    host: '127.0.0.1',
    method: 'PUT',
    path: target,
    agent: false,
    headers: ['host', 'app', ...context, ...framing],
  })
}

async function uploadChunked(tenant: TestTenant, name: string, bytes: number) {
  const upload = await openUpload(tenant, name, null)
  const answered = new Promise<{ status: number; code: string | undefined }>((resolve, reject) => {
    upload.on('error', reject)
    upload.on('response', response => {
      let text = ''
      response.on('data', chunk => {
        text += chunk
      })
      response.on('error', () => {})
      response.on('end', () => {
        const { code } = JSON.parse(text)
        resolve({ status: response.statusCode ?? 0, code })
      })
    })
  })
  const chunk = randomBytes(256 * 1024)
  let isAnswered = false
  upload.on('response', () => {
    isAnswered = true
  })
  upload.setMaxListeners(0)
  for (let sent = 0; sent < bytes && !isAnswered && !upload.destroyed; sent += chunk.length) {
    if (!upload.write(chunk)) {
      await new Promise(resolve => {
        upload.once('drain', resolve)
        upload.once('response', resolve)
        upload.once('close', resolve)
      })
    }
  }
  if (!isAnswered) upload.end()
  return answered
}

async function abandonUpload(tenant: TestTenant, name: string, length: number | null) {
  const upload = await openUpload(tenant, name, length)
  upload.on('error', () => {})
  for (let i = 0; i < 40; i += 1) upload.write(randomBytes(256 * 1024))
  await new Promise(resolve => upload.once('drain', resolve))
  upload.destroy()
}
