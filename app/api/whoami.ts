import type { FastifyInstance } from 'fastify'
import type { Routes } from '../handle.ts'
import { requireUser } from '../kit/tenant-kit.ts'

/** Shows which tenant, user, replica and database a request reached. */
export function whoamiRoute(app: FastifyInstance, { reading }: Routes, replica: string) {
  app.get(
    '/api/whoami',
    reading(async ({ tenant, principal, requestId, db }) => {
      requireUser(principal)
      const [row] = await db.query<{ database: string }>('SELECT current_database() AS database')
      return {
        message: 'You are here.',
        result: { tenant, principal, replica, database: row?.database, request_id: requestId },
      }
    }),
  )
}
