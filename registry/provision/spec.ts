import type { TenantKey } from '../tenant.ts'

/** What a tenant is made of, without secrets: a second run of the same key must ask for the same. */
export interface ProvisionSpec {
  readonly key: TenantKey
  readonly name: string | null
  readonly mode: 'shared' | 'dedicated'
  /** Name of the database host. */
  readonly host: string
  readonly database: string
  readonly role: string
  readonly poolMax: number | null
  readonly bucket: {
    readonly provider: string | null
    readonly endpoint: string | null
    readonly region: string | null
    readonly name: string
    readonly prefix: string | null
  } | null
  readonly admin: FirstUser | null
  /** Further columns of the tenant; absent where none was asked for. */
  readonly columns?: Readonly<Record<string, unknown>>
}

export interface FirstUser {
  readonly email: string
  readonly name: string
  readonly roleId: number
}

/** Secrets of a tenant that is to be made. From the first step on the Registry holds them, sealed. */
export interface ProvisionSecrets {
  /** null: those of the machine that the app runs on. */
  readonly bucket: { readonly accessKey: string; readonly secretKey: string } | null
  /** Of the first user; only its hash is kept. null: the one that was given before. */
  readonly password: string | null
}

export const STEPS = [
  'reserve',
  'role',
  'database',
  'bucket',
  'migrate',
  'admin',
  'activate',
] as const
export type StepName = (typeof STEPS)[number]

/** The steps that this tenant takes, in their order. */
export function stepsOf({ bucket, admin }: ProvisionSpec): readonly StepName[] {
  const left = { bucket: bucket === null, admin: admin === null } as const
  return STEPS.filter(step => !(left as Partial<Record<StepName, boolean>>)[step])
}

/** Names of database and role where none are given. */
export function standardName(key: string): string {
  return `tenant_${key.toLowerCase().replaceAll('-', '_')}`
}
