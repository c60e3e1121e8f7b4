import { Client } from 'undici'
import type { AddressPolicy } from '../../registry/lib/address.ts'
import { withDeadline } from '../../registry/lib/deadline.ts'
import { guardedLookup, requireAllowedLiteral } from '../../registry/lib/guarded-socket.ts'

export interface JwksFetchOptions {
  /** Name look-up, connect, TLS and the whole answer. */
  readonly deadlineMs: number
  readonly bytesMax: number
  /** Production: a key set that came in plain HTTP is anybody's. */
  readonly isHttpsRequired: boolean
  /** Checked on the address that is really connected to; null: anywhere. */
  readonly addressPolicy: AddressPolicy | null
}

/** An identity provider's key set is 1 to 5 KB; with certificates a few times that. */
export const JWKS_BYTES_MAX = 65_536
export const JWKS_DEADLINE_MS = 3000

/**
 * The text of a JWKS. A connection of its own for each fetch, for it is rare and nothing must be left
 * behind; no redirect is followed, as it would lead around the checks of the address.
 *
 * @throws Error whose message is fit for a log
 */
export async function fetchJwks(url: string, options: JwksFetchOptions): Promise<string> {
  const { protocol, origin, hostname, pathname, search, username } = new URL(url)
  if (protocol !== 'https:' && protocol !== 'http:') throw new Error('not an http(s) URL')
  if (username !== '') throw new Error('a URL with a user name')
  if (protocol === 'http:' && options.isHttpsRequired) throw new Error('https: is required')
  const { deadlineMs, bytesMax, addressPolicy } = options
  if (addressPolicy !== null) requireAllowedLiteral(addressPolicy, hostname)
  const client = new Client(origin, {
    connect: {
      timeout: deadlineMs,
      // Whatever NODE_TLS_REJECT_UNAUTHORIZED says: here a stranger's certificate is a stranger's keys.
      rejectUnauthorized: true,
      ...(addressPolicy !== null && { lookup: guardedLookup(addressPolicy) }),
    },
    headersTimeout: deadlineMs,
    bodyTimeout: deadlineMs,
    maxHeaderSize: 16_384,
    maxResponseSize: bytesMax,
    pipelining: 0,
    allowH2: false,
  })
  // An error after the deadline has nobody else to hear it.
  client.on('connectionError', () => {})
  try {
    return await withDeadline(
      read(client, `${pathname}${search}`),
      deadlineMs,
      () => new Error(`no complete answer within ${deadlineMs} ms`),
    )
  } finally {
    // Also ends what is still under way.
    await client.destroy()
  }
}

async function read(client: Client, path: string): Promise<string> {
  const { statusCode, headers, body } = await client.request({
    method: 'GET',
    path,
    headers: {
      accept: 'application/jwk-set+json, application/json',
      'accept-encoding': 'identity',
      'user-agent': 'doorman',
    },
  })
  if (statusCode !== 200) throw new Error(`status ${statusCode}`)
  // Never unpacked: a few bytes can become very many.
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') {
    throw new Error('a content-encoding was not asked for')
  }
  return body.text()
}
