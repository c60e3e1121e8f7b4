import type { BinaryPorts } from './binaries.ts'
import { DEMO_PASSWORD, type DemoTenant } from './demo-tenants.ts'

export interface SummaryOptions {
  readonly ports: BinaryPorts
  readonly tenants: readonly DemoTenant[]
  readonly dataDir: string
  /** Shown, for the admin API of the demo is of no use without it. */
  readonly adminApiKey: string
}

const TENANTS_SHOWN = 5

/** What a person needs first. The commands work as they stand, in bash and in zsh. */
export function summary({ ports, tenants, dataDir, adminApiKey }: SummaryOptions): string {
  const api = `http://127.0.0.1:${ports.gateway}`
  const admin = `http://127.0.0.1:${ports.gatewayAdmin}`
  const shown = tenants.slice(0, TENANTS_SHOWN)
  const [acme = { key: '', email: '' }] = tenants
  const login = JSON.stringify({
    tenant_key: acme.key,
    email: acme.email,
    password: DEMO_PASSWORD,
  })
  const logins = shown.map(({ key, email }) => `  ${key.padEnd(10)} ${email}  ${DEMO_PASSWORD}`)
  const more = tenants.length - shown.length
  return `
Doorman is ready.

  API       ${api}
  Console   ${admin}/admin/tenants   (sign in with the admin key)
  Admin     ${admin}/api/admin/tenants   (what there is: ${admin}/api/admin/openapi.json)
  Admin key ${adminApiKey}
  Internal  ${admin}/metrics   and ${admin}/readyz
  App       http://127.0.0.1:${ports.app}   (answers only to the gateway)
  Data      ${dataDir}

Demo logins (tenant, email, password):
${logins.join('\n')}${more > 0 ? `\n  … and ${more} more by the same pattern` : ''}

Try it:
  TOKEN=$(curl -s ${api}/api/auth/login -H 'content-type: application/json' -d '${login}' | node -pe 'JSON.parse(require("fs").readFileSync(0)).result.accessToken')
  curl -s ${api}/api/auth/profile -H "authorization: Bearer $TOKEN"

Look after the tenants:
  ADMIN_API_KEY=${adminApiKey}
  curl -s ${admin}/api/admin/tenants -H "authorization: Bearer $ADMIN_API_KEY"

Ctrl-C stops everything; the data stays.
`
}
