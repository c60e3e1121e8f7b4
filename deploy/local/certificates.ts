import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { isIPv4 } from 'node:net'

/** A certificate and its key, both in PEM. */
export interface Issued {
  readonly cert: string
  readonly key: string
}

export interface IssueOptions {
  /** DNS names or IPv4 addresses of the subject; the first is its common name as well. */
  readonly names: readonly string[]
  readonly notBefore?: Date
  /** Default: in 90 days. */
  readonly notAfter?: Date
}

/** A certificate authority that lives as long as its process. */
export interface CertificateAuthority {
  /** PEM, for those who are to trust it. */
  readonly cert: string
  issue(options: IssueOptions): Issued
}

const DAY_MS = 86_400_000

/**
 * Makes a CA for tests and demos. Node reads X.509 and cannot issue it; the little DER (X.690) that a
 * P-256 certificate takes (RFC 5280 section 4.1) is written here, so that no test needs a tool or a file.
 */
export function makeCertificateAuthority(name = 'Doorman test CA'): CertificateAuthority {
  const keys = makeKeys()
  const self = { subject: name, issuer: name, keys, signer: keys.privateKey }
  const cert = certificate({ ...self, ...lifeOf({}), extensions: [CA_ONLY] })
  return {
    cert,
    issue(options) {
      const own = makeKeys()
      const subject = options.names[0] ?? 'nobody'
      const extensions = [subjectAltName(options.names)]
      const parts = { subject, issuer: name, keys: own, signer: keys.privateKey, extensions }
      return {
        cert: certificate({ ...parts, ...lifeOf(options) }),
        key: own.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
      }
    },
  }
}

interface Keys {
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
}

interface Parts {
  readonly subject: string
  readonly issuer: string
  readonly keys: Keys
  readonly signer: KeyObject
  readonly notBefore: Date
  readonly notAfter: Date
  readonly extensions: readonly Buffer[]
}

function makeKeys(): Keys {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' })
}

function lifeOf({ notBefore, notAfter }: Partial<IssueOptions>) {
  return {
    notBefore: notBefore ?? new Date(Date.now() - DAY_MS),
    notAfter: notAfter ?? new Date(Date.now() + 90 * DAY_MS),
  }
}

function certificate(parts: Parts): string {
  const { subject, issuer, keys, signer, notBefore, notAfter, extensions } = parts
  const body = sequence(
    der(0xa0, integer(Buffer.from([2]))),
    integer(Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    ECDSA_SHA256,
    commonName(issuer),
    sequence(utcTime(notBefore), utcTime(notAfter)),
    commonName(subject),
    keys.publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...extensions)),
  )
  const signed = sequence(body, ECDSA_SHA256, bits(sign('sha256', body, signer)))
  const lines = signed.toString('base64').replace(/.{64}(?=.)/g, '$&\n')
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`
}

function subjectAltName(names: readonly string[]): Buffer {
  const entries = names.map(name =>
    isIPv4(name) ? der(0x87, Buffer.from(name.split('.').map(Number))) : der(0x82, ascii(name)),
  )
  return sequence(oid(0x55, 0x1d, 0x11), der(0x04, sequence(...entries)))
}

function commonName(text: string): Buffer {
  return sequence(der(0x31, sequence(oid(0x55, 0x04, 0x03), der(0x0c, Buffer.from(text)))))
}

/** A tag, the length, the content. */
function der(tag: number, content: Buffer): Buffer {
  const { length } = content
  const size =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...size]), content])
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts))
}

function integer(bytes: Buffer): Buffer {
  return der(0x02, bytes)
}

function oid(...bytes: readonly number[]): Buffer {
  return der(0x06, Buffer.from(bytes))
}

function bits(bytes: Buffer): Buffer {
  return der(0x03, Buffer.concat([Buffer.from([0]), bytes]))
}

function ascii(text: string): Buffer {
  return Buffer.from(text, 'latin1')
}

/** YYMMDDhhmmssZ: good until 2049, as RFC 5280 section 4.1.2.5 wants it. */
function utcTime(date: Date): Buffer {
  return der(0x17, ascii(`${date.toISOString().replace(/\D/g, '').slice(2, 14)}Z`))
}

/** 1.2.840.10045.4.3.2 */
const ECDSA_SHA256 = sequence(oid(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02))
/** basicConstraints, critical: a CA. */
const CA_ONLY = sequence(
  oid(0x55, 0x1d, 0x13),
  der(0x01, Buffer.from([0xff])),
  der(0x04, sequence(der(0x01, Buffer.from([0xff])))),
)
