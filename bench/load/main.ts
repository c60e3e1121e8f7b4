import { readFileSync } from 'node:fs'
import { makeToken } from '../lib/tokens.ts'
import { prepareChurn } from './churn.ts'
import { type Prepared, prepareClosed } from './closed.ts'
import { prepareFlood } from './flood.ts'
import { type Idle, prepareIdle } from './idle.ts'
import type { Command, Job, Numbered, Report, Traffic, World } from './job.ts'
import { prepareOpen } from './open.ts'
import { type Requests, renderRequests, renderUpgrade } from './requests.ts'
import { prepareWebSocket } from './websocket.ts'

/** The load generator: a process of its own that takes one job after the other from its parent. */
const world = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as World

/** Rendered requests of the last traffic, for the next proxy gets the same. */
let kept: { readonly key: string; readonly requests: Requests } | null = null
let prepared: Prepared | Idle | null = null

process.on('message', ({ id, body }: Numbered<Command>) => {
  obey(body)
    .catch((error: unknown): Report => {
      const message = error instanceof Error ? error.message : String(error)
      return { type: 'failed', message }
    })
    .then(report => process.send?.({ id, body: report } satisfies Numbered<Report>))
})
process.on('disconnect', () => process.exit(0))

async function obey(command: Command): Promise<Report> {
  switch (command.type) {
    case 'prepare':
      prepared = await prepare(command.job)
      return { type: 'ready' }
    case 'go':
      if (prepared === null) throw new Error('nothing prepared')
      return { type: 'done', result: await prepared.run() }
    case 'release':
      if (prepared !== null && 'release' in prepared) prepared.release()
      return { type: 'ready' }
  }
}

async function prepare(job: Job): Promise<Prepared | Idle> {
  switch (job.kind) {
    case 'closed':
      return prepareClosed(job, requestsFor(job.traffic, false))
    case 'open':
      return prepareOpen(job, requestsFor(job.traffic, false))
    case 'churn':
      return prepareChurn(job, requestsFor(job.traffic, true))
    case 'idle':
      return prepareIdle(job, requestsFor(job.traffic, false))
    case 'flood':
      return prepareFlood(job)
    case 'websocket':
      return prepareWebSocket(job, handshakes(job.traffic))
  }
}

function requestsFor(traffic: Traffic, isLast: boolean): Requests {
  const key = JSON.stringify([traffic, isLast])
  if (kept?.key !== key || traffic.isFresh) {
    kept = null // lets go of the old ones before the new ones take as much memory
    kept = { key, requests: renderRequests(traffic, world, isLast) }
  }
  return kept.requests
}

function handshakes(traffic: Traffic): () => Buffer {
  const nowS = Math.floor(Date.now() / 1000)
  let user = 0
  return () => {
    const tenant = world.tenants[user++ % traffic.tenants]
    if (tenant === undefined) throw new Error('fewer tenants than the scenario needs')
    return renderUpgrade(traffic.path, makeToken(world.jwtSecret, tenant.id, user, nowS))
  }
}
