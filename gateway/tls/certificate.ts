import { constants, createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createSecureContext, type SecureContext } from 'node:tls'
import type { PairFiles } from './tls-files.ts'

/** A certificate that was found to be sound, ready for handshakes. */
export interface Certificate {
  readonly context: SecureContext
  /** Milliseconds since the epoch. */
  readonly notAfterMs: number
}

/**
 * For TLS 1.2 only what has forward secrecy and authenticated encryption (RFC 7525 section 4.2); TLS 1.3
 * has nothing else.
 */
const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':')

/** How long a client may resume. */
const SESSION_S = 3600

/**
 * Reads and checks a certificate and its key.
 *
 * @param host that it must be good for; null: it is the standard one. `*.example` stands for any one label
 * @param ticketKeys 48 bytes, the same in all processes that are to resume each other's sessions
 * @throws Error that says which file is at fault, and quotes nothing of it
 */
export function loadCertificate(
  { cert, key }: PairFiles,
  host: string | null,
  ticketKeys: Buffer,
): Certificate {
  const certPem = readText(cert)
  const keyPem = readText(key)
  const own = attempt(() => new X509Certificate(certPem), `${cert} holds no certificate in PEM`)
  const privateKey = attempt(
    () => createPrivateKey(keyPem),
    `${key} holds no private key in PEM, or one with a passphrase`,
  )
  if (!own.checkPrivateKey(privateKey)) throw new Error(`${key} is not the key of ${cert}`)
  if (host !== null && own.checkHost(host.replace('*', 'any')) === undefined) {
    throw new Error(`${cert} is not for ${host}`)
  }
  const context = attempt(
    () =>
      createSecureContext({
        cert: certPem,
        key: keyPem,
        minVersion: 'TLSv1.2',
        ciphers: CIPHERS,
        secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
        sessionIdContext: 'doorman',
        sessionTimeout: SESSION_S,
        ticketKeys,
      }),
    `${cert} or ${key} is refused by OpenSSL (a weak key, or a broken chain)`,
  )
  return { context, notAfterMs: own.validToDate.getTime() }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new Error(`${file} cannot be read: ${(error as NodeJS.ErrnoException).code}`)
  }
}

function attempt<T>(make: () => T, message: string): T {
  try {
    return make()
  } catch {
    // Not as the cause: OpenSSL's message may quote the file.
    throw new Error(message)
  }
}
