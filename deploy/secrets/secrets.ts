import { randomBytes } from 'node:crypto'
import { type Keys, makeKeys, publicKeys } from '../local/keys.ts'

/** What gateway and app have to be given, as files by `folder/NAME`. Each call makes new ones. */
export function doormanSecrets(keys: Keys = makeKeys()): Map<string, string> {
  const both = {
    TENANT_CONTEXT_ENCRYPTION_KEY: keys.contextContent,
    JWT_SECRET_ACCESS_TOKEN: keys.jwtAccess,
    JWT_SECRET_REFRESH_TOKEN: keys.jwtRefresh,
  }
  const gateway = {
    ...both,
    MASTER_ENCRYPTION_KEY: keys.masterKey,
    TENANT_CONTEXT_SIGNING_KEY: JSON.stringify(keys.contextSigning),
    ADMIN_API_KEY: keys.adminApiKey,
  }
  const app = { ...both, TENANT_CONTEXT_PUBLIC_KEYS: publicKeys(keys) }
  return new Map([...inFolder('gateway', gateway), ...inFolder('app', app)])
}

/** The same with what the stores of deploy/compose need. */
export function composeSecrets(): Map<string, string> {
  const registryPassword = secret()
  const accessKey = randomBytes(10).toString('hex')
  const secretKey = secret()
  const identity = {
    name: 'doorman',
    credentials: [{ accessKey, secretKey }],
    actions: ['Admin', 'Read', 'Write', 'List', 'Tagging'],
  }
  return new Map([
    ...doormanSecrets(),
    [
      'gateway/TENANT_REGISTRY_DB_URL',
      `postgres://registry:${registryPassword}@postgres:5432/registry`,
    ],
    ...inFolder('stores', {
      postgres_password: secret(),
      registry_password: registryPassword,
      tenants_admin_password: secret(),
      's3.json': JSON.stringify({ identities: [identity] }),
      // The same, as commands read them: one line each.
      s3_keys: `${accessKey}\n${secretKey}\n`,
      grafana_password: secret(),
    }),
  ])
}

function secret(): string {
  return randomBytes(32).toString('base64url')
}

function inFolder(folder: string, values: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(values).map(([name, value]) => [`${folder}/${name}`, value])
}
