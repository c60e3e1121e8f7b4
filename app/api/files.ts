import type { FastifyInstance, FastifyReply } from 'fastify'
import { z } from 'zod'
import type { Routes } from '../handle.ts'
import type { StoredFile } from '../kit/tenant-bucket.ts'
import { requireUser } from '../kit/tenant-kit.ts'

const nameParams = z.object({ name: z.string() })
const listQuery = z.object({
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  cursor: z.string().min(1).max(2048).optional(),
})
/** RFC 9110 section 8.3.1, and short: it comes back as a header. */
const CONTENT_TYPE = /^[\w!#$&^.+-]{1,127}\/[\w!#$&^.+-]{1,127}(;[\t\x20-\x7e]{0,256})?$/

/** @param bytesMax of one file */
export function fileRoutes(app: FastifyInstance, { reading }: Routes, bytesMax: number) {
  app.get(
    '/api/files',
    reading(async (scope, request) => {
      requireUser(scope.principal)
      const { limit, cursor } = listQuery.parse(request.query)
      const page = await scope.bucket.list(limit, cursor ?? null)
      return { message: 'Files.', result: { items: page.files, cursor: page.cursor } }
    }),
  )

  app.get(
    '/api/files/:name',
    reading(async (scope, request, reply) => {
      requireUser(scope.principal)
      const { name } = nameParams.parse(request.params)
      const file = await scope.bucket.get(name)
      // A client that left while the storage was asked must not leave its answer hanging.
      if (reply.raw.destroyed) {
        file.body.destroy()
        return null
      }
      fileHeaders(reply, file).send(file.body)
      return null
    }),
  )

  app.head(
    '/api/files/:name',
    reading(async (scope, request, reply) => {
      requireUser(scope.principal)
      const { name } = nameParams.parse(request.params)
      fileHeaders(reply, await scope.bucket.head(name)).send()
      return null
    }),
  )

  app.delete(
    '/api/files/:name',
    reading(async (scope, request) => {
      requireUser(scope.principal)
      const { name } = nameParams.parse(request.params)
      await scope.bucket.remove(name)
      return { message: 'File deleted.', result: { name } }
    }),
  )

  // Within its own scope, bodies of every type stay streams, and the JSON limit does not count.
  app.register(async uploads => {
    uploads.removeAllContentTypeParsers()
    uploads.addContentTypeParser('*', (_request, _payload, done) => done(null))
    uploads.put(
      '/api/files/:name',
      reading(async (scope, request) => {
        requireUser(scope.principal)
        const { name } = nameParams.parse(request.params)
        const declared = request.headers['content-length']
        const { 'content-type': type = '', 'transfer-encoding': coding } = request.headers
        const { size } = await scope.bucket.put(name, request.raw, {
          length: coding === undefined ? Number(declared ?? 0) : null,
          contentType: CONTENT_TYPE.test(type) ? type : 'application/octet-stream',
          bytesMax,
        })
        return { status: 201, message: 'File stored.', result: { name, size } }
      }),
    )
  })
}

function fileHeaders(reply: FastifyReply, file: StoredFile): FastifyReply {
  reply.headers({
    'content-type': file.contentType,
    'content-length': String(file.size),
    // What a tenant's user uploads must not run as a page of the API's origin.
    'x-content-type-options': 'nosniff',
    'content-security-policy': "default-src 'none'; sandbox",
  })
  if (file.etag !== null) reply.header('etag', file.etag)
  if (file.modifiedAt !== null) reply.header('last-modified', file.modifiedAt.toUTCString())
  return reply
}
