import { compactDecrypt, decodeJwt } from 'jose'
import type { DemoTenant } from '../local/demo-tenants.ts'
import { derivePassword, type Keys } from '../local/keys.ts'
import type { Called } from './call.ts'
import type { LeakWatch } from './leak-watch.ts'
import type { Recorder } from './recorder.ts'

/** Members of a JSON body that hold a secret of the client's. */
const SECRET_MEMBER = /password|token|otp|secret|access_key/i
const SECRET_FIELDS = ['cookie', 'x-admin-api-key']
/** Of both the part behind the last dot is the tag. */
const TAGGED_FIELDS = ['authorization', 'x-tenant-context', 'x-tenant-request']

/** Takes the secrets out of a request and its answer, and notes what others can read of the answer. */
export function harvest(watch: LeakWatch, { method, path, options, answer }: Called): void {
  const { token, json, headers = {} } = options
  const where = `${method} ${path.split('?', 1)[0]}`
  watch.plantToken('a bearer token', token)
  for (const [name, value] of Object.entries(headers)) {
    const field = name.toLowerCase().replaceAll('_', '-')
    if (TAGGED_FIELDS.includes(field)) watch.plantToken(field, String(value))
    else if (SECRET_FIELDS.includes(field)) watch.plant(field, String(value), 'its client')
  }
  harvestJson(watch, json)
  harvestJson(watch, answer.json)
  const isGood = answer.status < 400
  watch.note(`fields of the answer to ${where}`, answer.rawHeaders.join('\n'))
  watch.note(`answer ${answer.status} to ${where}`, answer.text, isGood ? 'good body' : 'output')
}

/** Secret members at any depth; those of one value only, for lists hold other people's data. */
export function harvestJson(watch: LeakWatch, json: unknown, audience?: 'nobody'): void {
  if (typeof json !== 'object' || json === null) return
  for (const [name, value] of Object.entries(json)) {
    if (typeof value === 'object') harvestJson(watch, value, audience)
    else if (typeof value !== 'string' || !SECRET_MEMBER.test(name)) continue
    else if (/token/i.test(name)) watch.plantToken(`a member ${name}`, value)
    else watch.plant(`a member ${name}`, value, audience ?? 'its client')
  }
}

/** What the operator gave the world. */
export function plantKeys(leaks: LeakWatch, keys: Keys, tenants: readonly DemoTenant[]): void {
  leaks.plant('MASTER_ENCRYPTION_KEY', keys.masterKey)
  leaks.plant('bytes of MASTER_ENCRYPTION_KEY', Buffer.from(keys.masterKey, 'hex'))
  const { d: signing = '' } = keys.contextSigning
  const encoded = {
    ...{ JWT_SECRET_ACCESS_TOKEN: keys.jwtAccess, JWT_SECRET_REFRESH_TOKEN: keys.jwtRefresh },
    ...{ TENANT_CONTEXT_ENCRYPTION_KEY: keys.contextContent, TENANT_CONTEXT_SIGNING_KEY: signing },
    ...{ ADMIN_API_KEY: keys.adminApiKey, 'seed of all passwords': keys.seed },
    'password of the Registry': derivePassword(keys, 'registry'),
  }
  for (const [name, value] of Object.entries(encoded)) {
    leaks.plant(name, value)
    leaks.plant(`bytes of ${name}`, Buffer.from(value, 'base64url'))
  }
  for (const { key, password, bucketKeys } of tenants) {
    leaks.plant(`database password of ${key}`, password)
    leaks.plant(`bucket secret of ${key}`, bucketKeys.secretKey)
    leaks.plant(`bucket access key of ${key}`, bucketKeys.accessKey)
  }
}

/** Secrets reach the command line on standard input alone: JSON lines, or one secret a line. */
export function plantInput(leaks: LeakWatch, input: string): void {
  for (const line of input.split('\n')) {
    if (line.startsWith('{')) harvestJson(leaks, JSON.parse(line), 'nobody')
    else leaks.plant('a line of standard input', line)
  }
}

/** The contexts that the gateway really sent: their text, their mac, and the tags made with it. */
export async function plantContexts(
  leaks: LeakWatch,
  { seen }: Recorder,
  keys: Keys,
): Promise<void> {
  const known = new Set<string>()
  for (const { headers } of seen) {
    const { 'x-tenant-context': context = '', 'x-tenant-request': request } = headers
    leaks.plantToken('an x-tenant-request', request)
    if (context === '' || known.has(context)) continue
    known.add(context)
    leaks.plantToken('an x-tenant-context', context)
    const content = Buffer.from(keys.contextContent, 'base64url')
    // A gateway that a test gave another key: the text has to do.
    const opened = await compactDecrypt(context, content).catch(() => null)
    if (opened === null) continue
    const mac = String(decodeJwt(new TextDecoder().decode(opened.plaintext)).mac)
    leaks.plant('mac of a context', mac)
    leaks.plant('bytes of the mac of a context', Buffer.from(mac, 'base64url'))
  }
}
