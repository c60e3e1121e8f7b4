import { lookup } from 'node:dns/promises'
import { makeContextMinter, makeContextVerifier } from '../context.ts'
import type { Tenant, TenantId, TenantKey } from '../tenant.ts'
import { type Finding, fail, ok, type Patient, warn } from './finding.ts'

const READY_MS = 3000
/** Of one entry of APP_UPSTREAMS. */
const ADDRESSES_MAX = 64

/** Whether the app opens what the gateway seals. A context is made and opened, as the two do it. */
export async function checkContext({ around }: Patient): Promise<readonly Finding[]> {
  const { signingKey, publicKeys, contentKeys } = around
  const name = 'context keys'
  if (signingKey === undefined || publicKeys === undefined || contentKeys.length === 0) {
    const all = 'TENANT_CONTEXT_SIGNING_KEY, _PUBLIC_KEYS and _ENCRYPTION_KEY'
    return [ok(name, `not checked: ${all} are not all given here`)]
  }
  try {
    const minter = await makeContextMinter(JSON.parse(signingKey), contentKeys)
    const verifier = await makeContextVerifier(JSON.parse(publicKeys), contentKeys)
    const now = Date.now()
    const { token } = await minter.mint(SAMPLE, { db: SAMPLE_DB, bucket: null }, now)
    await verifier.verify(token, now)
    return [ok(name, 'the app opens what the gateway seals')]
  } catch {
    // What could not be read is a secret, and a parser quotes it.
    const todo = 'make TENANT_CONTEXT_PUBLIC_KEYS of the signing key, as .env.example shows'
    return [fail(name, 'the app does not open what the gateway seals', todo)]
  }
}

/** Whether each replica says that it is ready. */
export async function checkUpstreams({ around }: Patient): Promise<readonly Finding[]> {
  if (around.upstreams.length === 0) {
    return [ok('replicas', 'not checked: APP_UPSTREAMS is not given here')]
  }
  return (await Promise.all(around.upstreams.map(entry => checkEntry(entry, around)))).flat()
}

async function checkEntry(entry: string, around: Patient['around']): Promise<readonly Finding[]> {
  const name = 'replicas'
  const url = URL.parse(entry.replace(/^dns:/, ''))
  if (url === null || !/^https?:$/.test(url.protocol)) {
    return [
      warn(name, `${entry}: not checked`, 'only http(s) origins and dns: names are looked at'),
    ]
  }
  try {
    const urls = entry.startsWith('dns:') ? await urlsOf(url) : [url]
    return await Promise.all(urls.map(one => checkReplica(one, around.healthPath)))
  } catch (error) {
    const text = `${entry}: ${(error as Error).message}`
    return [fail(name, text, 'see that the name is known where this runs')]
  }
}

/** A certificate is for the name, so that an https: name stays as it is. */
async function urlsOf(url: URL): Promise<readonly URL[]> {
  if (url.protocol === 'https:') return [url]
  const addresses = await lookup(url.hostname, { all: true })
  return addresses.slice(0, ADDRESSES_MAX).map(({ address, family }) => {
    const one = new URL(url)
    one.hostname = family === 6 ? `[${address}]` : address
    return one
  })
}

async function checkReplica(url: URL, healthPath: string): Promise<Finding> {
  const name = 'replicas'
  const todo = 'look at /readyz on its ADMIN_PORT, and at its log'
  try {
    const response = await fetch(new URL(healthPath, url), {
      redirect: 'manual',
      signal: AbortSignal.timeout(READY_MS),
    })
    await response.body?.cancel()
    if (response.ok) return ok(name, `${url.origin} is ready`)
    return fail(name, `${url.origin} is not ready (status ${response.status})`, todo)
  } catch (error) {
    const { cause, message } = error as Error
    const reason = (cause as { code?: string } | undefined)?.code ?? message
    return fail(name, `${url.origin} does not answer: ${reason}`, todo)
  }
}

const SAMPLE_DB = {
  ...{ host: 'h', port: 5432, name: 'n', user: 'u', password: 'p', ssl: null, pool_max: null },
}

/** Of no tenant. */
const SAMPLE: Tenant = {
  id: '00000000-0000-4000-8000-000000000000' as string as TenantId,
  key: 'doctor' as TenantKey,
  name: null,
  mode: 'shared',
  status: 'active',
  configVersion: 1,
  db: {
    host: 'h',
    port: 1,
    name: 'n',
    user: 'u',
    passwordEncrypted: '',
    sslMode: null,
    poolMax: 1,
  },
  bucket: null,
  appUrl: null,
  plan: null,
  limits: {},
  tokenIssuer: null,
  tokensValidAfterMs: null,
  schemaVersion: null,
  debugUntilMs: 0,
  createdAt: new Date(0),
  updatedAt: new Date(0),
}
