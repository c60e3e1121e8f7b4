import { z } from 'zod'
import { type ErrorCode, errorSpec } from '../../lib/errors.ts'
import type { Operation } from './operation.ts'

type Json = Readonly<Record<string, unknown>>

/** Failures that any operation may answer; the document tells those of the API, by status. */
const FAILURES: readonly ErrorCode[] = [
  ...(['VALIDATION_FAILED', 'ADMIN_KEY_INVALID', 'ADMIN_SCOPE_TOO_NARROW'] as const),
  ...(['NOT_FOUND', 'CONFLICT', 'PRECONDITION_FAILED', 'BODY_TOO_LARGE'] as const),
  ...(['BODY_TYPE_UNSUPPORTED', 'CONNECTION_TEST_FAILED', 'ADMIN_LIMITED'] as const),
  ...(['REGISTRY_UNAVAILABLE', 'OVERLOADED', 'SHUTTING_DOWN'] as const),
]

/** What an Idempotency-Key keeps from being made twice. */
const ONCE_PATHS = ['/tenants', '/tenants/:id/credits']

/** The OpenAPI 3.1 document of `operations`. */
export function openApiDocument(base: string, operations: readonly Operation[]): Json {
  const paths: Record<string, Record<string, Json>> = {}
  for (const operation of operations) {
    const path = operation.path.replace(/:(\w+)/g, '{$1}')
    paths[path] = { ...paths[path], [operation.method.toLowerCase()]: describe(operation) }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Doorman admin API',
      version: '1',
      description:
        'Answers are {"status": true, "message", "result"}; failures are {"status": false, "message", ' +
        '"result": null, "code", "request_id"}, and with VALIDATION_FAILED "fields": what is wrong with each, ' +
        'by its name. Secrets are written and never read. Scopes of keys: ' +
        'read < operate < own.',
    },
    servers: [{ url: base }],
    security: [{ bearer: [] }, { header: [] }],
    paths,
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer' },
        header: { type: 'apiKey', in: 'header', name: 'x-admin-api-key' },
      },
      schemas: { Failure: failureSchema() },
    },
  }
}

function describe(operation: Operation): Json {
  const { name, summary, scope, query, body, result, status, isVersioned, path, accepted } =
    operation
  const isChange = operation.method !== 'GET'
  const parameters = [
    ...(path.includes(':id')
      ? [parameter('path', 'id', { type: 'string', format: 'uuid' }, true)]
      : []),
    ...(path.includes(':name') ? [parameter('path', 'name', { type: 'string' }, true)] : []),
    ...(status !== 200 && operation.method === 'POST' && ONCE_PATHS.includes(path)
      ? [parameter('header', 'Idempotency-Key', { type: 'string' }, false)]
      : []),
    ...(path.includes(':code') ? [parameter('path', 'code', { type: 'string' }, true)] : []),
    ...(query === null ? [] : queryParameters(query)),
    ...(operation.isStream && operation.method === 'GET'
      ? [parameter('header', 'Last-Event-ID', { type: 'string' }, false)]
      : []),
    ...(isVersioned && isChange && status === 200
      ? [parameter('header', 'If-Match', { type: 'string' }, false)]
      : []),
  ]
  const schema = body === null ? null : schemaOf(body, 'input')
  return {
    operationId: name,
    summary,
    description: `Scope: ${scope}.`,
    parameters,
    ...(schema !== null && {
      requestBody: {
        required: schema.default === undefined,
        content: { 'application/json': { schema } },
      },
    }),
    responses: {
      [status]: {
        description: 'Done.',
        ...(isVersioned && {
          headers: {
            ETag: { description: 'Its version, for If-Match', schema: { type: 'string' } },
          },
        }),
        content: operation.isStream
          ? { 'text/event-stream': { schema: schemaOf(result, 'output') } }
          : { 'application/json': { schema: envelope(schemaOf(result, 'output')) } },
      },
      ...(accepted !== undefined && {
        202: {
          description: 'Begun; Location says where to look.',
          content: { 'application/json': { schema: envelope(schemaOf(accepted, 'output')) } },
        },
      }),
      ...failures(),
    },
  }
}

function queryParameters(query: z.ZodType): Json[] {
  const { properties = {} } = schemaOf(query, 'input') as { properties?: Record<string, Json> }
  return Object.entries(properties).map(([name, schema]) => parameter('query', name, schema, false))
}

function parameter(place: string, name: string, schema: Json, required: boolean): Json {
  return { name, in: place, required, schema }
}

function failures(): Json {
  const byStatus = new Map<number, string[]>()
  for (const code of FAILURES) {
    const { status } = errorSpec(code)
    byStatus.set(status, [...(byStatus.get(status) ?? []), code])
  }
  const schema = { $ref: '#/components/schemas/Failure' }
  return Object.fromEntries(
    [...byStatus].map(([status, codes]) => [
      status,
      { description: codes.join(', '), content: { 'application/json': { schema } } },
    ]),
  )
}

function envelope(result: Json): Json {
  return object({ status: { const: true }, message: { type: 'string' }, result })
}

function failureSchema(): Json {
  const always = object({
    status: { const: false },
    message: { type: 'string' },
    result: { type: 'null' },
    code: { type: 'string' },
    request_id: { type: 'string' },
  })
  const fields = { type: 'object', additionalProperties: { type: 'string' } }
  return { ...always, properties: { ...(always.properties as Json), fields } }
}

function object(properties: Readonly<Record<string, Json>>): Json {
  return { type: 'object', properties, required: Object.keys(properties) }
}

function schemaOf(schema: z.ZodType, io: 'input' | 'output'): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: 'any' })
  return rest
}
