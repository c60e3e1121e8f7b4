import type { IncomingMessage } from 'node:http'
import S3rver from '@20minutes/s3rver'
import { isAllowed } from './s3-access.ts'
import { openBody } from './s3-body.ts'
import { authenticate, type Refusal, type S3Grant } from './s3-signature.ts'
import { putContent, withoutTransferCoding } from './s3-store.ts'

/**
 * The embedded S3 server, a process of its own: s3.ts sends it this message once, gets `S3Ready` or
 * `S3Failed` back, and it ends when the channel does, so it never outlives its parent.
 */
export interface S3Config {
  readonly directory: string
  readonly port: number
  readonly buckets: readonly string[]
  readonly grants: readonly S3Grant[]
}

export type S3Answer = { readonly port: number } | { readonly failed: string }

process.once('message', message => {
  serve(message as S3Config).then(
    port => process.send?.({ port } satisfies S3Answer),
    error => {
      process.send?.({ failed: String(error) } satisfies S3Answer)
      process.disconnect()
    },
  )
})
process.on('disconnect', () => process.exit(0))

/**
 * s3rver knows the protocol's words and keeps the files. In front of it stands what it lacks: a
 * signature check that covers the SDK's streamed uploads, several pairs of keys, and a fence
 * around each (it lets every unsigned request pass, and no unsigned one gets as far here).
 */
async function serve(config: S3Config): Promise<number> {
  const app = new S3rver({
    address: '127.0.0.1',
    port: config.port,
    silent: true,
    directory: config.directory,
    vhostBuckets: false,
    configureBuckets: config.buckets.map(name => ({ name })),
  })
  const { store } = app
  const putObject = store.putObject.bind(store)
  store.putContent = putContent
  store.putObject = object => {
    withoutTransferCoding(object.metadata)
    return putObject(object)
  }
  const grants = new Map(config.grants.map(grant => [grant.accessKey, grant]))
  app.middleware.unshift(async (ctx, next) => {
    const { req } = ctx.request
    const refusal = admit(req, grants)
    const body = refusal === null ? openBody(req) : null
    if (body === null) {
      ctx.status = refusal === null ? 501 : 403
      ctx.type = 'application/xml'
      const code = refusal ?? 'NotImplemented'
      ctx.body = `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code></Error>`
      return
    }
    ctx.req = body
    // Already checked; s3rver's own check knows neither our keys nor this kind of payload.
    delete req.headers.authorization
    delete req.headers['x-amz-content-sha256']
    await next()
    if (typeof ctx.body === 'string') ctx.body = escapedOnce(ctx.body)
  })
  // A client that leaves, mostly. s3rver answers; without a listener Koa prints a stack trace.
  app.on('error', () => {})
  const { port } = await app.run()
  app.httpServer.requestTimeout = 0
  return port
}

/**
 * s3rver 5.0.0 escapes texts and then lets its XML builder escape them again: a key with "&" would
 * be listed as "&amp;". Each "&" of the first pass begins one of these, so this undoes the second.
 */
function escapedOnce(xml: string): string {
  return xml.replace(/&amp;(amp|lt|gt|#x27|#39|#x60);/g, '&$1;')
}

function admit(req: IncomingMessage, grants: ReadonlyMap<string, S3Grant>): Refusal | null {
  const grant = authenticate(req, grants, Date.now())
  if (typeof grant === 'string') return grant
  return isAllowed(req, grant) ? null : 'AccessDenied'
}
