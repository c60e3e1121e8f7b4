import { usageOfTree } from '../lib/proc.ts'
import { seededRandom } from '../lib/random.ts'
import { zipfSampler } from '../lib/zipf.ts'
import { type FleetDatabases, makeFleetDatabases } from './databases.ts'
import { startFleet } from './fleet.ts'
import { runFleetLoad } from './load.ts'
import { type Measured, renderRows } from './rows.ts'
import { watchConnections } from './watch.ts'

interface Plan {
  readonly tenants: number
  readonly replicas: number
  /** One after the other on the same processes. */
  readonly levels: readonly Level[]
}

/** By a number and not by time: both halves are asked the same by the same tenants. */
interface Level {
  readonly requests: number
  readonly concurrency: number
}

const WHOLE: Plan = {
  tenants: 300,
  replicas: 6,
  levels: [
    { requests: 2_000, concurrency: 8 },
    { requests: 4_000, concurrency: 32 },
    { requests: 8_000, concurrency: 128 },
  ],
}
const QUICK: Plan = {
  tenants: 40,
  replicas: 3,
  levels: [
    { requests: 300, concurrency: 8 },
    { requests: 1_000, concurrency: 32 },
  ],
}

const GATEWAYS = 2
/** TENANT_SPREAD and DB_POOL_MAX as they are by default. */
const K = 2
const POOL_MAX = 5
/** Connections of one replica: so many that the limit is never what is measured. */
const PER_REPLICA_MAX = 450
const ZIPF_EXPONENT = 1
const LOOK_PAUSE_MS = 100

/**
 * `npm run bench -- connections`: what the choice of replicas does to the connections that PostgreSQL
 * sees, counted there, beside the same fleet with requests passed to the replicas in turn.
 */
export async function benchConnections(
  isQuick: boolean,
  progress: (line: string) => void,
): Promise<string> {
  const plan = isQuick ? QUICK : WHOLE
  const { tenants, replicas } = plan
  progress(`making ${tenants} tenants, each with its database`)
  const connectionsMax = replicas * PER_REPLICA_MAX + 50
  const databases = await makeFleetDatabases({ tenants, connectionsMax })
  const onSignal = () => {
    databases.stop().finally(() => process.exit(130))
  }
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal)
  try {
    const measured = [
      ...(await measureHalf(plan, databases, 'pinned', `Doorman, k = ${K}`, progress)),
      ...(await measureHalf(plan, databases, 'round-robin', 'round robin', progress)),
    ]
    return (
      `${renderRows(measured)}\n` +
      `most that ${tenants} tenants can have: tenants × k × pool = ` +
      `${tenants} × ${K} × ${POOL_MAX} = ${tenants * K * POOL_MAX}; tenants × replicas × pool = ` +
      `${tenants} × ${replicas} × ${POOL_MAX} = ${tenants * replicas * POOL_MAX}\n`
    )
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
    await databases.stop()
  }
}

/** Fresh processes for each half: no pool of the one is left in the other. */
async function measureHalf(
  plan: Plan,
  databases: FleetDatabases,
  front: 'pinned' | 'round-robin',
  half: string,
  progress: (line: string) => void,
): Promise<Measured[]> {
  progress(`${half}: ${plan.replicas} app replicas and ${GATEWAYS} gateways start`)
  const fleet = await startFleet({
    databases,
    replicas: plan.replicas,
    gateways: GATEWAYS,
    workers: 1,
    spread: K,
    appEnv: {
      DB_POOL_MAX: String(POOL_MAX),
      DB_HOST_POOL_MAX: String(PER_REPLICA_MAX),
      DB_GLOBAL_POOL_MAX: String(PER_REPLICA_MAX),
    },
    front,
  })
  try {
    const watch = await watchConnections(databases, LOOK_PAUSE_MS)
    try {
      // The same tenants in the same order in both halves.
      const next = zipfSampler(plan.tenants, ZIPF_EXPONENT, seededRandom(1))
      const measured: Measured[] = []
      for (const { requests, concurrency } of plan.levels) {
        progress(`${half}: ${requests} requests, ${concurrency} at once`)
        let left = requests
        const load = await runFleetLoad({
          ...fleet,
          tenants: databases.tenants,
          next,
          concurrency,
          until: () => left-- <= 0,
        })
        const rssBytes = fleet.appPids.reduce((sum, pid) => sum + usageOfTree(pid).rssBytes, 0)
        measured.push({ half, concurrency, seen: watch.take(), load, rssBytes })
      }
      return measured
    } finally {
      await watch.stop()
    }
  } finally {
    await fleet.stop()
  }
}
