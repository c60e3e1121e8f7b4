import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { Fault } from '../../registry/lib/errors.ts'
import type { Routes } from '../handle.ts'
import { requireUser } from '../kit/tenant-kit.ts'
import type { TenantEvents } from './tenant-events.ts'

interface ProjectRow {
  readonly id: string
  readonly name: string
  readonly description: string | null
  readonly created_by: string | null
  readonly created_at: Date
  readonly updated_at: Date
}

const COLUMNS = 'id, name, description, created_by, created_at, updated_at'
const PAGE_MAX = 1_000_000
const LIMIT_MAX = 100

const idParams = z.object({ id: z.guid('must be a UUID') })
// PostgreSQL's text cannot hold NUL.
const text = (max: number) =>
  z
    .string()
    .max(max)
    .refine(value => !value.includes('\0'), 'must not contain NUL')
const name = text(200).refine(value => value.trim() !== '', 'must not be empty')
const description = text(10_000).nullable()
const createBody = z.object({ name, description: description.default(null) })
const changeBody = z
  .object({ name: name.optional(), description: description.optional() })
  .refine(body => Object.keys(body).length > 0, 'name or description is required')
const pageQuery = z.object({
  page: z.coerce.number().int().min(1).max(PAGE_MAX).default(1),
  limit: z.coerce.number().int().min(1).max(LIMIT_MAX).default(20),
})

export function projectRoutes(
  app: FastifyInstance,
  { reading, mutating }: Routes,
  events: TenantEvents,
) {
  app.post(
    '/api/projects',
    mutating(async (scope, request) => {
      const user = requireUser(scope.principal)
      const body = createBody.parse(request.body)
      const [project] = await scope.db.query<ProjectRow>(
        `INSERT INTO projects (name, description, created_by) VALUES ($1, $2, $3)
         RETURNING ${COLUMNS}`,
        [body.name, body.description, user.id],
      )
      scope.onCommit(() => events.publish(scope.tenant.id, 'project.created', project))
      return { status: 201, message: 'Project created.', result: project }
    }),
  )

  app.get(
    '/api/projects',
    reading(async (scope, request) => {
      requireUser(scope.principal)
      const { page, limit } = pageQuery.parse(request.query)
      // One statement, so that the total and the page are of one moment and one connection.
      const [row] = await scope.db.query<{ total: number; items: ProjectRow[] }>(
        `SELECT (SELECT count(*)::int FROM projects) AS total,
                coalesce((SELECT json_agg(p) FROM (
                  SELECT ${COLUMNS} FROM projects ORDER BY created_at DESC, id LIMIT $1 OFFSET $2
                ) p), '[]') AS items`,
        [limit, (page - 1) * limit],
      )
      return {
        message: 'Projects.',
        result: { items: row?.items ?? [], total: row?.total ?? 0, page, limit },
      }
    }),
  )

  app.get(
    '/api/projects/:id',
    reading(async (scope, request) => {
      requireUser(scope.principal)
      const { id } = idParams.parse(request.params)
      const rows = await scope.db.query<ProjectRow>(
        `SELECT ${COLUMNS} FROM projects WHERE id = $1`,
        [id],
      )
      return { message: 'Project.', result: only(rows) }
    }),
  )

  const change = mutating(async (scope, request) => {
    requireUser(scope.principal)
    const { id } = idParams.parse(request.params)
    const body = changeBody.parse(request.body)
    const project = only(
      await scope.db.query<ProjectRow>(
        `UPDATE projects SET
           name = coalesce($2, name),
           description = CASE WHEN $3 THEN $4 ELSE description END,
           updated_at = now()
         WHERE id = $1 RETURNING ${COLUMNS}`,
        [id, body.name ?? null, body.description !== undefined, body.description ?? null],
      ),
    )
    scope.onCommit(() => events.publish(scope.tenant.id, 'project.updated', project))
    return { message: 'Project changed.', result: project }
  })
  app.patch('/api/projects/:id', change)
  app.put('/api/projects/:id', change)

  app.delete(
    '/api/projects/:id',
    mutating(async (scope, request) => {
      requireUser(scope.principal)
      const { id } = idParams.parse(request.params)
      const removed = only(
        await scope.db.query<{ id: string }>('DELETE FROM projects WHERE id = $1 RETURNING id', [
          id,
        ]),
      )
      scope.onCommit(() => events.publish(scope.tenant.id, 'project.deleted', removed))
      return { message: 'Project deleted.', result: removed }
    }),
  )
}

function only<Row>(rows: readonly Row[]): Row {
  const [row] = rows
  if (row === undefined) throw new Fault('NOT_FOUND', 'no such project')
  return row
}
