/** Options of the verbs that say where a tenant's data is, and what they mean as input. */
export interface DbFlags {
  readonly dbHost?: string
  readonly dbPort?: number
  readonly dbName?: string
  readonly dbUser?: string
  readonly dbSslMode?: string
  readonly dbPoolMax?: number
  readonly allowSharedDatabase?: boolean
}

export interface BucketFlags {
  readonly bucketProvider?: string
  readonly bucketEndpoint?: string
  readonly bucketRegion?: string
  readonly bucketName?: string
  readonly bucketPrefix?: string
}

/** What is asked for, in this order. */
export const DB_SECRETS = ['Database password']
export const BUCKET_SECRETS = ['Bucket access key', 'Bucket secret key']

export function dbOf(flags: DbFlags) {
  return {
    host: flags.dbHost,
    port: flags.dbPort,
    name: flags.dbName,
    user: flags.dbUser,
    ssl_mode: flags.dbSslMode,
    pool_max: flags.dbPoolMax,
  }
}

export function bucketOf(flags: BucketFlags) {
  return {
    provider: flags.bucketProvider,
    endpoint: flags.bucketEndpoint,
    region: flags.bucketRegion,
    name: flags.bucketName,
    prefix: flags.bucketPrefix,
  }
}
