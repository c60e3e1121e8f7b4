import { createHmac, generateKeyPairSync, type KeyObject, randomUUID, sign } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A key pair of an identity provider. */
export interface Signer {
  readonly kid: string
  readonly alg: 'RS256' | 'ES256' | 'EdDSA'
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
  /** The public half as it is published. */
  readonly jwk: Readonly<Record<string, unknown>>
}

export function makeSigner(alg: Signer['alg'], kid: string = randomUUID(), rsaBits = 2048): Signer {
  const { privateKey, publicKey } =
    alg === 'RS256'
      ? generateKeyPairSync('rsa', { modulusLength: rsaBits })
      : alg === 'ES256'
        ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
        : generateKeyPairSync('ed25519')
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid, alg, use: 'sig' }
  return { kid, alg, privateKey, publicKey, jwk }
}

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A token of `signer`; what `header` holds is put over the honest header. */
export function signToken(signer: Signer, claims: object, header: object = {}): string {
  const { alg, kid, privateKey } = signer
  const signed = `${encode({ alg, kid, typ: 'at+jwt', ...header })}.${encode(claims)}`
  const key =
    alg === 'ES256' ? ({ key: privateKey, dsaEncoding: 'ieee-p1363' } as const) : privateKey
  const signature = sign(alg === 'EdDSA' ? null : 'sha256', Buffer.from(signed), key)
  return `${signed}.${signature.toString('base64url')}`
}

/** A token with an HMAC of `secret`, whatever its header says. */
export function hmacToken(secret: string | Buffer, claims: object, header: object): string {
  const signed = `${encode(header)}.${encode(claims)}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}

/** A JWKS endpoint on a real socket. */
export interface Provider {
  readonly server: Server
  readonly origin: string
  readonly jwksUrl: string
  /** What it publishes. */
  keys: readonly unknown[]
  /** Requests that it got. */
  requests: number
  /** Replaces the answer; null: the keys. */
  respond: ((req: IncomingMessage, res: ServerResponse) => void) | null
  close(): Promise<void>
}

export async function startProvider(keys: readonly unknown[] = []): Promise<Provider> {
  const server = createServer((req, res) => {
    provider.requests++
    if (provider.respond !== null) return provider.respond(req, res)
    res.setHeader('content-type', 'application/json')
    res.end(JSON.stringify({ keys: provider.keys }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const provider: Provider = {
    server,
    origin,
    jwksUrl: `${origin}/keys`,
    keys,
    requests: 0,
    respond: null,
    async close() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
  return provider
}

/** The code of what `act` fails with. */
export async function codeOf(act: () => unknown): Promise<string> {
  try {
    await act()
    return 'nothing thrown'
  } catch (error) {
    return String((error as { code?: string }).code ?? error)
  }
}
