import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { S3Client } from '@aws-sdk/client-s3'
import type { AddressPolicy } from './address.ts'
import { Fault } from './errors.ts'
import { guardedLookup, requireAllowedLiteral } from './guarded-socket.ts'

/** Where a bucket is and what opens it. */
export interface BucketPlace {
  readonly endpoint: string | null
  readonly region: string | null
  readonly access_key: string | null
  readonly secret_key: string | null
}

export interface BucketClientOptions {
  readonly connectMs: number
  /** Longest silence of the storage. */
  readonly idleMs: number
  readonly socketsMax: number
  /** Checked on the address that is really connected to; null: every address goes. */
  readonly addressPolicy: AddressPolicy | null
}

/** A client of one storage. The caller destroys it. @throws Fault TENANT_CONFIG_INVALID */
export function makeBucketClient(place: BucketPlace, options: BucketClientOptions): S3Client {
  const { addressPolicy, socketsMax } = options
  const hasKeys = place.access_key !== null && place.secret_key !== null
  if (place.endpoint !== null) {
    const endpoint = URL.parse(place.endpoint)
    // The machine's own identity is for AWS itself, never for an endpoint that somebody typed.
    if (endpoint === null || !/^https?:$/.test(endpoint.protocol) || !hasKeys) {
      throw new Fault(
        'TENANT_CONFIG_INVALID',
        'bucket endpoint is no URL, or it comes without keys',
      )
    }
    if (addressPolicy !== null) requireAllowedLiteral(addressPolicy, endpoint.hostname)
  }
  const agentOptions = {
    keepAlive: true,
    maxSockets: socketsMax,
    ...(addressPolicy === null ? {} : { lookup: guardedLookup(addressPolicy) }),
  }
  return new S3Client({
    region: place.region ?? 'us-east-1',
    ...(place.endpoint === null ? {} : { endpoint: place.endpoint, forcePathStyle: true }),
    // Without keys of its own a bucket is read by the identity of the machine (IAM role).
    ...(place.access_key === null || place.secret_key === null
      ? {}
      : { credentials: { accessKeyId: place.access_key, secretAccessKey: place.secret_key } }),
    maxAttempts: 2,
    // Its warnings go to the console otherwise; what fails is in the access log with its reason.
    logger: { trace: quiet, debug: quiet, info: quiet, warn: quiet, error: quiet },
    // The default adds a checksum trailer in aws-chunked coding, which S3-like stores often refuse.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    followRegionRedirects: false,
    requestHandler: {
      connectionTimeout: options.connectMs,
      socketTimeout: options.idleMs,
      httpAgent: new HttpAgent(agentOptions),
      httpsAgent: new HttpsAgent(agentOptions),
    },
  })
}

function quiet(): void {}
