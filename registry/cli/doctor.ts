import { z } from 'zod'
import { examine } from '../doctor/doctor.ts'
import type { Finding, Surroundings } from '../doctor/finding.ts'
import { readPem } from '../lib/ca.ts'
import { int, list, parsed, readEnv, url } from '../lib/env.ts'
import { EXIT, type ExitCode } from './failure.ts'
import type { Session } from './session.ts'
import type { Streams } from './streams.ts'

/** Those of gateway and app, where they are at hand; each with its default there. */
const ENV = {
  TENANT_REGISTRY_DB_URL: url('postgres:', 'postgresql:'),
  REGISTRY_DB_SSL_CA: parsed(z.string(), readPem).optional(),
  TENANT_CONTEXT_SIGNING_KEY: z.string().optional(),
  TENANT_CONTEXT_PUBLIC_KEYS: z.string().optional(),
  TENANT_CONTEXT_ENCRYPTION_KEY: list(),
  APP_UPSTREAMS: list(),
  HEALTH_PATH: z.string().default('/readyz'),
  TENANT_SPREAD: int(1, 64, 2),
  DB_POOL_MAX: int(1, 1000, 5),
}

/** Exit code 1 where something is broken; warnings alone are 0. */
export async function doctor(
  session: Session,
  flags: { readonly quick?: boolean; readonly json?: boolean },
  env: NodeJS.ProcessEnv,
  { output }: Streams,
): Promise<ExitCode> {
  const patient = { deps: session, around: readSurroundings(env), isQuick: flags.quick ?? false }
  const findings: Finding[] = []
  for await (const finding of examine(patient)) {
    findings.push(finding)
    if (!flags.json) output.write(inWords(finding))
  }
  const count = (level: Finding['level']) => findings.filter(one => one.level === level).length
  const failed = count('fail')
  if (flags.json) output.write(`${JSON.stringify({ ok: failed === 0, findings }, null, 2)}\n`)
  else output.write(`${count('ok')} ok, ${count('warn')} to look at, ${failed} broken\n`)
  return failed === 0 ? EXIT.ok : EXIT.failure
}

function inWords({ check, level, text, todo }: Finding): string {
  return `${level.padEnd(4)}  ${check}: ${text}\n${todo === null ? '' : `      → ${todo}\n`}`
}

function readSurroundings(env: NodeJS.ProcessEnv): Surroundings {
  const read = readEnv(ENV, env)
  return {
    registryUrl: read.TENANT_REGISTRY_DB_URL,
    registryCa: read.REGISTRY_DB_SSL_CA,
    signingKey: read.TENANT_CONTEXT_SIGNING_KEY,
    publicKeys: read.TENANT_CONTEXT_PUBLIC_KEYS,
    contentKeys: read.TENANT_CONTEXT_ENCRYPTION_KEY,
    upstreams: read.APP_UPSTREAMS,
    healthPath: read.HEALTH_PATH === 'off' ? '/' : read.HEALTH_PATH,
    spread: read.TENANT_SPREAD,
    poolMax: read.DB_POOL_MAX,
  }
}
