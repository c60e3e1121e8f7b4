import { parseArgs } from 'node:util'

export const HELP = `npm start [-- OPTIONS]

Without TENANT_REGISTRY_DB_URL: the whole system on this machine. PostgreSQL and an S3 server from
npm, the Registry, demo tenants, the gateway and the app. Data and keys stay in .data
(DOORMAN_DATA_DIR) and the next start goes on with them. Ctrl-C stops everything.

With TENANT_REGISTRY_DB_URL: the gateway and the app against that Registry, with the environment
as it is (see .env.example; NODE_ENV is production unless set; APP_PORT and APP_ADMIN_PORT are the
app's PORT and ADMIN_PORT).

  --tenants N      at least this many demo tenants: acme, globex, demo-003, … (default 2, with --traffic 8)
  --traffic        users of the demo tenants that send some requests a second, for the console to show
  --data-dir DIR   instead of DOORMAN_DATA_DIR
  --free-ports     any free ports instead of 9090, 9091, 3000 and 3001
  --help           this text
`

export interface StartOptions {
  readonly isHelp: boolean
  readonly tenants: number
  /** Demo users send requests. */
  readonly hasTraffic: boolean
  readonly dataDir: string
  readonly isFreePorts: boolean
}

/** More would need more connections and time than a demo on one PostgreSQL has. */
const TENANTS_MAX = 1000

/** @throws Error with one line on what is wrong */
export function readOptions(args: readonly string[], env: NodeJS.ProcessEnv): StartOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      tenants: { type: 'string' },
      traffic: { type: 'boolean', default: false },
      'data-dir': { type: 'string' },
      'free-ports': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  const count = values.tenants ?? (values.traffic ? '8' : '2')
  const tenants = /^\d{1,4}$/.test(count) ? Number(count) : Number.NaN
  if (!(tenants >= 2 && tenants <= TENANTS_MAX)) {
    throw new Error(`--tenants must be a number from 2 to ${TENANTS_MAX}`)
  }
  return {
    isHelp: values.help,
    tenants,
    hasTraffic: values.traffic,
    dataDir: values['data-dir'] || env.DOORMAN_DATA_DIR || '.data',
    isFreePorts: values['free-ports'],
  }
}
